"""Did the training take, for ``04_scaling.ipynb``: manipulation check, English scores, runs that learned nothing."""

from __future__ import annotations

import pandas as pd

from xlscale.core.format import interval, listing, percent, signed
from xlscale.experiment.conditions import NONE, SHUFFLED
from xlscale.report.labels import POINTS, direction, key, label, layers, title
from xlscale.report.numbers import Numbers
from xlscale.report.sections.results import doubled, means_table
from xlscale.stats import agreement, groups, slopes

_DOSE = (
    "is larger at the largest rung than at the smallest",
    "is smaller at the largest rung than at the smallest",
    "does not detectably differ between the smallest and the largest rung",
    "cannot be compared between the smallest and the largest rung",
)


def add_manipulation(numbers: Numbers, cells: pd.DataFrame) -> None:
    """The table ``learned`` (English score of phase 2 on held-out rows), and per set what it learned above its control:
    ``learned_<set>_smallest``, ``_largest``, and ``learned_<set>_change``, how the two differ, with its interval."""
    second = cells[(cells["phase"] == "intermediate") & (cells["intermediate"] != NONE)]
    done = second[(second["status"] == "complete") & second["value"].notna()]
    found, rungs = groups.means(done, slopes.KEYS), sorted({int(k) for k in second["layers"]})
    names = [name for name in slopes.conditions(cells) if name != NONE]
    numbers.table("learned", *means_table(found, names, rungs))
    strata = groups.variances(found, "layers")
    smallest, largest = (rungs[0], rungs[-1]) if rungs else (None, None)
    for name in names:
        if name.endswith(SHUFFLED):
            continue
        own = f"learned_{key(name)}"
        for end, rung in (("smallest", smallest), ("largest", largest)):
            above = _contrast(found, strata, _above(name, rung, 1.0))
            numbers.add(f"{own}_{end}", above.estimate, signed(above.estimate), POINTS)
        weights = _above(name, largest, 1.0) | _above(name, smallest, -1.0)
        change = _contrast(found, strata, weights if len(rungs) > 1 else {})
        numbers.add(f"{own}_change", change.estimate, signed(change.estimate), POINTS)
        numbers.words(f"{own}_change_interval", interval(change.low, change.high), POINTS)
        numbers.words(f"{own}_change_word", direction(change.low, change.high, _DOSE))


def _above(name: str, rung: int | None, sign: float) -> dict[tuple[str, int | None], float]:
    """Weights of a set minus its shuffled control at one rung."""
    return {(name, rung): sign, (name + SHUFFLED, rung): -sign}


def _contrast(means: pd.DataFrame, strata: pd.DataFrame, weights: dict) -> groups.Estimate:
    """The contrast, missing where one of its groups has no run."""
    if not weights or not set(weights) <= set(means.index):
        return groups.MISSING
    index = pd.MultiIndex.from_tuples(weights, names=slopes.KEYS)
    return groups.contrast(means, pd.Series(list(weights.values()), index=index), strata)


def add_english(numbers: Numbers, cells: pd.DataFrame) -> None:
    """A table ``english_<target>`` of English scores for every target that has them, and the list of these targets."""
    names = []
    for target in slopes.targets(cells):
        own = groups.completed(cells, target).dropna(subset=["english"])
        if own.empty:
            continue
        names.append(target)
        found = groups.means(own.assign(value=own["english"]), slopes.KEYS)
        rows = cells[(cells["phase"] == "target") & (cells["target"] == target)]
        table = means_table(found, slopes.conditions(rows), slopes.rungs_of(cells, target), doubled(rows))
        numbers.table(f"english_{target}", *table)
    numbers.add("english_targets", " ".join(names), listing(map(title, names)))


def add_collapsed(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Runs with target training that learned nothing: their *English* score is within groups.NEAR_CHANCE of chance.

    ``collapsed`` of ``collapsed_of`` complete ones, and ``collapsed_where``: rungs and conditions.
    """
    done = groups.completed(cells).dropna(subset=["english"])
    found = done[agreement.collapsed(done)]
    numbers.count("collapsed", len(found), "runs")
    numbers.count("collapsed_of", len(done), "runs")
    numbers.add("near_chance", groups.NEAR_CHANCE, percent(groups.NEAR_CHANCE, 0), POINTS)
    where = found.groupby(["layers", "condition"]).size()
    texts = (f"{count} at {layers(k)} after {label(name)}" for (k, name), count in where.items())
    numbers.words("collapsed_where", listing(texts))

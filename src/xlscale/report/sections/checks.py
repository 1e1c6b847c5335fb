"""How the runs were set up, and whether the intermediate training took: tuning, manipulation check, English scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from xlscale.cards.catalogue import data_card
from xlscale.experiment.cells import NONE, SHUFFLED
from xlscale.report.describe import (
    direction,
    doubled,
    interval,
    label,
    layers,
    listing,
    means_table,
    percent,
    rate,
    signed,
    slug,
    title,
)
from xlscale.stats import groups as g
from xlscale.stats import slopes

if TYPE_CHECKING:
    from xlscale.experiment.studies import Study
    from xlscale.report.typeset import Numbers

NEAR_CHANCE = 0.05
_DOSE = (
    "is larger at the largest rung than at the smallest",
    "is smaller at the largest rung than at the smallest",
    "does not detectably differ between the smallest and the largest rung",
    "cannot be compared between the smallest and the largest rung",
)


def add_tuning(numbers: Numbers, study: Study | None) -> None:
    """How the study's learning rates were chosen: the table ``tuning`` and the counts that the text names."""
    tuning = study.tuning if study else None
    rows, best, single = [], 0, 0
    for phase, rungs in tuning.tried.items() if tuning else ():
        name = getattr(tuning, phase)
        recipe = study.intermediate_recipe if phase == "intermediate" else study.target_recipes[name]
        for k, values in rungs.items():
            scores = dict(zip(values, tuning.scores[phase][k], strict=True))
            used = recipe.at(next(iter(study.models)), k, phase, study.name)[0]["learning_rate"]
            best += scores.get(used) == max(scores.values())
            single += len(scores) == 1
            tried = ", ".join(f"{rate(value)} ({percent(score)})" for value, score in scores.items())
            rows.append([title(name), str(k), f"{tuning.examples[k]:,}", tried, rate(used)])
    numbers.table("tuning", ["Data set", "Layers", "Examples", "Tried (score)", "Used"], rows)
    most = max((len(values) for rungs in tuning.tried.values() for values in rungs.values()) if tuning else (0,))
    for key, value in {"choices": len(rows), "single": single, "not_best": len(rows) - best, "most": most}.items():
        numbers.add(f"tuning_{key}", value, str(value))
    numbers.add("tuning_seed", tuning.seed if tuning else None, str(tuning.seed) if tuning else "not recorded")
    numbers.add("tuning_note", None, tuning.note if tuning else "")
    for phase in ("intermediate", "target"):
        name = getattr(tuning, phase) if tuning else None
        numbers.add(f"tuning_{phase}", name, title(name) if name else "not recorded")


def learned(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[str], list[int]]:
    """Held-out English score of phase 2: groups (``groups.means`` by condition and layers), conditions, rungs."""
    second = cells[(cells["phase"] == "intermediate") & (cells["intermediate"] != NONE)]
    done = second[(second["status"] == "complete") & second["value"].notna()]
    names = [name for name in slopes.conditions(cells) if name != NONE]
    return g.means(done, slopes.KEYS), names, sorted({int(k) for k in second["layers"]})


def add_manipulation(numbers: Numbers, cells: pd.DataFrame) -> None:
    """The table ``learned``, and per set what it learned above its control: ``learned_<set>_smallest``, ``_largest``,
    and how they differ, ``learned_<set>_change`` (a difference of differences, with its interval)."""
    found, names, rungs = learned(cells)
    numbers.table("learned", *means_table(found, names, rungs))
    strata = g.variances(found, "layers")
    for name in names:
        if name.endswith(SHUFFLED):
            continue
        ends = {"smallest": rungs[0], "largest": rungs[-1]} if rungs else {}
        for end in ("smallest", "largest"):
            above = _contrast(found, strata, _above(name, ends.get(end), 1.0))
            numbers.add(f"learned_{slug(name)}_{end}", above.estimate, signed(above.estimate), "percentage points")
        weights = _above(name, ends.get("largest"), 1.0) | _above(name, ends.get("smallest"), -1.0)
        change = _contrast(found, strata, weights if len(rungs) > 1 else {})
        key = f"learned_{slug(name)}_change"
        numbers.add(key, change.estimate, signed(change.estimate), "percentage points")
        numbers.add(f"{key}_interval", None, interval(change.low, change.high), "percentage points")
        numbers.add(f"{key}_word", None, direction(change.low, change.high, _DOSE))


def _above(name: str, rung: int | None, sign: float) -> dict[tuple[str, int | None], float]:
    return {(name, rung): sign, (name + SHUFFLED, rung): -sign}


def _contrast(groups: pd.DataFrame, strata: pd.DataFrame, weights: dict) -> g.Estimate:
    """The contrast, missing where one of its groups has no run."""
    if not weights or not set(weights) <= set(groups.index):
        return g.MISSING
    index = pd.MultiIndex.from_tuples(weights, names=slopes.KEYS)
    return g.contrast(groups, pd.Series(list(weights.values()), index=index), strata)


def add_english(numbers: Numbers, cells: pd.DataFrame) -> None:
    """A table ``english_<target>`` of English scores for every target that has them, and the list of these targets."""
    names = []
    for target in slopes.targets(cells):
        own = g.completed(cells, target).dropna(subset=["english"])
        if own.empty:
            continue
        names.append(target)
        found = g.means(own.assign(value=own["english"]), slopes.KEYS)
        asked = cells[(cells["phase"] == "target") & (cells["target"] == target)]
        table = means_table(found, slopes.conditions(asked), slopes.rungs_of(cells, target), doubled(asked))
        numbers.table(f"english_{target}", *table)
    numbers.add("english_targets", " ".join(names), listing(map(title, names)))


def collapsed(cells: pd.DataFrame) -> pd.DataFrame:
    """Complete runs of a trained target whose *English* score is within NEAR_CHANCE of chance: they learned nothing."""
    done = g.completed(cells)
    done = done[done["english"].notna()]
    chance = done["target"].map({name: data_card(name).chance for name in done["target"].unique()}).astype(float)
    return done[done["english"] <= chance + NEAR_CHANCE]


def add_collapsed(numbers: Numbers, cells: pd.DataFrame) -> None:
    """``collapsed`` of ``collapsed_of`` trained target runs, and ``collapsed_where``: rungs and conditions."""
    found, done = collapsed(cells), g.completed(cells)
    numbers.add("collapsed", len(found), str(len(found)), "runs")
    numbers.add("collapsed_of", int(done["english"].notna().sum()), str(int(done["english"].notna().sum())), "runs")
    numbers.add("near_chance", NEAR_CHANCE, percent(NEAR_CHANCE, 0), "percentage points")
    places = found.groupby(["layers", "condition"]).size()
    texts = [
        f"{count} at {layers(count_of_layers)} after {label(name)}" for (count_of_layers, name), count in places.items()
    ]
    numbers.add("collapsed_where", None, listing(texts) if texts else "none")


def seed_sd(cells: pd.DataFrame, target: str, rungs: list[int]) -> list[str]:
    """Standard deviation between seeds at each rung, pooled over conditions, in percent; "none" without repetition."""
    found = slopes.Ladder(cells, target).variances
    values = [found["variance"].get(k, float("nan")) ** 0.5 for k in rungs]
    return ["none" if pd.isna(value) else percent(value, 2) for value in values]

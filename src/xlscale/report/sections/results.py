"""What the paper prints about the statistics: keys, texts and tables, put into a ``paper.Numbers``.

Units: percentage points, and percentage points per factor of ten in non-embedding parameters. No text here knows the
direction of a result before it is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from xlscale.experiment.cells import SHUFFLED
from xlscale.report.describe import (
    design,
    direction,
    interval,
    label,
    layers,
    metric,
    percent,
    probability,
    results_table,
    share,
    signed,
    slug,
    title,
)
from xlscale.report.sections import checks
from xlscale.stats import agreement, groups, slopes

if TYPE_CHECKING:
    from xlscale.report.typeset import Numbers

POINTS = "percentage points"
PER_TEN = "percentage points per factor of ten in non-embedding parameters"
_CHANGE = ("an increase with size", "a decrease with size", "no detectable change with size", "not estimable")
_GAIN = (
    "the gain rises with size",
    "the gain falls with size",
    "no detectable change of the gain with size",
    "not estimable from these cells",
)
_EFFECT = ("rose", "fell", "did not detectably change", "cannot be compared")
_CONTRAST = ("larger with domain data", "smaller with domain data", "not detectably different", "not estimable")
_KINDS = {
    "slope": ("value", _CHANGE),
    "gainslope": ("gain over none", _GAIN),
    "gainslope_shuffled": ("gain over shuffled labels", _GAIN),
}
INTERVAL = f"{share(groups.LEVEL)} interval"
_HEADER = ("Estimate", INTERVAL, "Detectable", "p (Holm)", "Rungs")


def add_design(numbers: Numbers, cells: pd.DataFrame, languages: pd.DataFrame) -> None:
    """What was run: targets, sets, ladder, seeds, languages, recipes, cost; cells complete, failed and missing."""
    for key, (value, text, unit) in design(cells, languages).items():
        numbers.add(key, value, text, unit)
    for key, value in {"level": groups.LEVEL, "power": groups.POWER, "alpha": 1 - groups.LEVEL}.items():
        numbers.add(key, round(value, 6), share(round(value, 6)))


def add_results(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Mean value per target, condition and rung (``<target>_<condition>_k<layers>``), and a table per target."""
    for target in slopes.targets(cells):
        header, rows = results_table(cells, target)
        numbers.table(f"results_{target}", header, rows)
        found = slopes.Ladder(cells, target).groups["mean"]
        own = cells[(cells["phase"] == "target") & (cells["target"] == target)]
        for condition in slopes.conditions(own):
            for k in slopes.rungs_of(cells, target):
                mean = found.get((condition, k), float("nan"))
                numbers.add(f"{target}_{slug(condition)}_k{k}", mean, percent(mean), "%")


def add_gains(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Gain over none at both ends of the ladder asked for: ``gain_<target>_<condition>_smallest`` and ``_largest``."""
    for (target, condition), rows in slopes.gains(cells).groupby(["target", "condition"]):
        for end, row in (("smallest", rows.iloc[0]), ("largest", rows.iloc[-1])):
            key = f"gain_{target}_{slug(condition)}_{end}"
            _add(numbers, key, row, POINTS, _EFFECT)


def add_slopes(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Slopes of the value and of the gains, gamma, the tables ``slopes_<target>``, ``gamma`` and ``logit``."""
    table, contrast = slopes.slopes(cells), slopes.gamma(cells)
    own_control = slopes.gamma(cells, "shuffled")
    for kind, (quantity, words) in _KINDS.items():
        for _, row in table[table["quantity"] == quantity].iterrows():
            _add(numbers, f"{kind}_{row['target']}_{slug(row['condition'])}", row, PER_TEN, words)
    for kind, frame in (("gamma", contrast), ("gamma_shuffled", own_control)):
        for _, row in frame.iterrows():
            _add(numbers, f"{kind}_{row['target']}", row, PER_TEN, _CONTRAST)
    numbers.add("gamma_note", None, " ".join(contrast["note"].unique()))
    adjusted = holm_family(table, contrast)
    computed = int(adjusted.notna().sum())
    numbers.add("family", computed, str(computed), "tests")
    for target, own in table.groupby("target"):
        numbers.table(f"slopes_{target}", *slopes_table(own, adjusted))
    numbers.table("gamma", *gamma_table(contrast, own_control, adjusted))
    numbers.table("logit", *logit_table(cells))


def _add(numbers: Numbers, key: str, row: pd.Series, unit: str, words: tuple[str, str, str, str]) -> None:
    """An estimate, its interval, what it would have detected, what it says in words, and a summary of these.

    The words follow the interval, so they are not adjusted for the number of tests.
    """
    numbers.add(key, row["estimate"], signed(row["estimate"]), unit)
    numbers.add(f"{key}_interval", None, interval(row["low"], row["high"]), unit)
    numbers.add(f"{key}_detectable", row["detectable"], percent(row["detectable"]), unit)
    word = direction(row["low"], row["high"], words)
    numbers.add(f"{key}_word", None, word)
    parts = [] if word == words[3] else [f"{signed(row['estimate'])} points"]
    # Without a finding the reader has to know what could have been found.
    parts += [word] + ([f"detectable: {percent(row['detectable'])}"] if word == words[2] else [])
    summary = ", ".join(parts)
    numbers.add(f"{key}_summary", None, summary)


def holm_family(table: pd.DataFrame, contrast: pd.DataFrame) -> pd.Series:
    """Holm-adjusted p of the primary tests: slope of the gain over none of every real set and target, every gamma.

    A set that holds data of a target's own is no test on that target. Indexed by (target, condition), with "gamma" for
    the contrast; NaN where a test could not be computed, which does not count. Primary is what was asked first, no
    claim that a p value here confirms anything.
    """
    real = table[(table["quantity"] == "gain over none") & ~table["condition"].str.endswith(SHUFFLED)]
    real = real[~real["doubles"].astype(bool)]
    gammas = contrast.assign(condition="gamma")
    return slopes.holm(pd.concat([rows.set_index(["target", "condition"])["p"] for rows in (real, gammas)]))


def slopes_table(table: pd.DataFrame, adjusted: pd.Series) -> tuple[list[str], list[list[str]]]:
    """Slope of the gain over none and over the own shuffled control, a row per condition and baseline, in points."""
    rows = []
    for quantity, baseline in (("gain over none", "none"), ("gain over shuffled labels", "shuffled")):
        for _, row in table[table["quantity"] == quantity].iterrows():
            key = (row["target"], row["condition"]) if baseline == "none" else None
            rows.append([label(row["condition"], row["doubles"]), baseline, *_cells(row), *_rest(row, adjusted, key)])
    return ["Intermediate training", "Over", *_HEADER], rows


def gamma_table(
    contrast: pd.DataFrame, own_control: pd.DataFrame, adjusted: pd.Series
) -> tuple[list[str], list[list[str]]]:
    """Gamma per target: over none, and with every set taken relative to its own shuffled control."""
    rows = []
    for baseline, frame in (("none", contrast), ("shuffled", own_control)):
        for _, row in frame.iterrows():
            key = (row["target"], "gamma") if baseline == "none" else None
            rows.append([title(row["target"]), baseline, *_cells(row), *_rest(row, adjusted, key)])
    return ["Target", "Over", *_HEADER], rows


def logit_table(cells: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Sensitivity: the slopes of the gain over none and gamma in log odds instead of points."""
    table = slopes.slopes(cells, "logit")
    rows = []
    for _, row in table[table["quantity"] == "gain over none"].iterrows():
        rows.append([title(row["target"]), label(row["condition"], row["doubles"]), *_cells(row, 2, 1), _rungs(row)])
    for _, row in slopes.gamma(cells, scale="logit").iterrows():
        rows.append([title(row["target"]), "γ", *_cells(row, 2, 1), _rungs(row)])
    return ["Target", "Intermediate training", "Slope (log odds)", INTERVAL, "Rungs"], rows


def _cells(row: pd.Series, digits: int = 1, factor: float = 100) -> list[str]:
    return [signed(row["estimate"], digits, factor), interval(row["low"], row["high"], digits, factor)]


def _rest(row: pd.Series, adjusted: pd.Series, key: tuple[str, str] | None) -> list[str]:
    """Detectable effect, adjusted p (a dash for what is no primary test), rungs."""
    p = probability(adjusted[key]) if key in adjusted.index else "–"
    return [percent(row["detectable"]), p, _rungs(row)]


def _rungs(row: pd.Series) -> str:
    """The rungs that a slope rests on, or would if they were enough."""
    return ", ".join(map(str, row["rungs"])) or "none"


def add_tolerances(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Seed standard deviation, per rung and pooled, and the tolerance for one recomputed cell and for all of them.

    All are the complete cells of every phase, as many as ``agreement.compare`` counts when all are recomputed.
    """
    done = cells[(cells["status"] == "complete") & cells["value"].notna()]
    one, every = agreement.tolerances(done, 1), agreement.tolerances(done, max(len(done), 1))
    rungs = sorted({k for target in slopes.targets(cells) for k in slopes.rungs_of(cells, target)})
    rows, spread = [], []
    for name, row in one.iterrows():
        limit = every.loc[name, "tolerance"]
        numbers.add(f"sd_{name}", row["sd"], percent(row["sd"], 2), POINTS)
        numbers.add(f"df_{name}", int(row["df"]), str(int(row["df"])))
        numbers.add(f"tolerance_{name}", limit, percent(limit), POINTS)
        limits = [percent(row["tolerance"]), percent(limit)]
        rows.append([title(name), metric(name), percent(row["sd"], 2), str(int(row["df"])), *limits])
    for target in slopes.targets(cells):
        spread.append([title(target), *checks.seed_sd(cells, target, rungs)])
    numbers.add("tolerance_cells", len(done), str(len(done)), "cells")
    numbers.add("coverage", agreement.COVERAGE, share(agreement.COVERAGE))
    header = ["Data set", "Metric", "Seed SD", "Degrees of freedom", "Tolerance, one cell", f"{len(done)} cells"]
    numbers.table("tolerances", header, rows)
    numbers.table("seed_sd", ["Target", *map(layers, rungs)], spread)


def unfinished(cells: pd.DataFrame) -> pd.DataFrame:
    """Failed and missing cells with the reason: what figures and tables show as missing."""
    return cells.loc[cells["status"] != "complete", ["cell", "status", "reason"]].reset_index(drop=True)

"""What the paper prints about the statistics: keys, texts and tables, put into a ``paper.Numbers``.

Units: percentage points, and percentage points per factor of ten in non-embedding parameters. No text here knows the
direction of a result before it is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from xlscale.stats import agreement
from xlscale.stats import groups as g
from xlscale.stats import slopes as sl
from xlscale.stats.describe import (
    design,
    direction,
    interval,
    label,
    listing,
    percent,
    probability,
    results_table,
    rungs_of,
    signed,
    slug,
    title,
)

if TYPE_CHECKING:
    from xlscale.paper import Numbers

POINTS = "percentage points"
PER_TEN = "percentage points per factor of ten in non-embedding parameters"
_CHANGE = ("an increase", "a decrease", "no detectable change", "not estimable from these cells")
_EFFECT = ("raised", "lowered", "did not detectably change", "cannot be said to have changed")
_CONTRAST = ("larger with domain data", "smaller with domain data", "not detectably different", "not estimable")


def add_design(numbers: Numbers, cells: pd.DataFrame, languages: pd.DataFrame) -> None:
    """What was run: targets, sets, ladder, seeds, languages, recipes, cost; cells complete, failed and missing."""
    for key, (value, text, unit) in design(cells, languages).items():
        numbers.add(key, value, text, unit)


def add_results(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Mean value per target, condition and rung (``<target>_<condition>_k<layers>``), and a table per target."""
    for target in sl.targets(cells):
        header, rows = results_table(cells, target)
        numbers.table(f"results_{target}", header, rows)
        found = sl.Ladder(cells, target).groups["mean"]
        own = cells[(cells["phase"] == "target") & (cells["target"] == target)]
        for condition in sl.conditions(own):
            for layers in rungs_of(cells, target):
                mean = found.get((condition, layers), float("nan"))
                numbers.add(f"{target}_{slug(condition)}_k{layers}", mean, percent(mean), "%")


def add_gains(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Gain over none at both ends of the ladder: ``gain_<target>_<condition>_smallest`` and ``_largest``."""
    for (target, condition), rows in sl.gains(cells).groupby(["target", "condition"]):
        for end, row in (("smallest", rows.iloc[0]), ("largest", rows.iloc[-1])):
            key = f"gain_{target}_{slug(condition)}_{end}"
            _add(numbers, key, row, POINTS, _EFFECT)


def add_slopes(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Slopes of the value and of the gains, gamma, the tables ``slopes_<target>``, ``gamma`` and ``logit``."""
    table, contrast = sl.slopes(cells), sl.gamma(cells)
    own_control = sl.gamma(cells, "shuffled")
    for kind, quantity in _KINDS.items():
        for _, row in table[table["quantity"] == quantity].iterrows():
            _add(numbers, f"{kind}_{row['target']}_{slug(row['condition'])}", row, PER_TEN, _CHANGE)
    for kind, frame in (("gamma", contrast), ("gamma_shuffled", own_control)):
        for _, row in frame.iterrows():
            _add(numbers, f"{kind}_{row['target']}", row, PER_TEN, _CONTRAST)
    numbers.add("gamma_note", None, " ".join(contrast["note"].unique()))
    family = confirmatory(table, contrast)
    numbers.add("rungs_used", None, rungs_used(table[table["quantity"] == "gain over none"]))
    numbers.add("family", len(family), str(len(family)), "tests")
    for target, own in table.groupby("target"):
        numbers.table(f"slopes_{target}", *slopes_table(own, family))
    numbers.table("gamma", *gamma_table(contrast, own_control, family))
    numbers.table("logit", *logit_table(cells))


_KINDS = {
    "slope": "value",
    "gainslope": "gain over none",
    "gainslope_shuffled": "gain over shuffled labels",
}


def _add(numbers: Numbers, key: str, row: pd.Series, unit: str, words: tuple[str, str, str, str]) -> None:
    """An estimate, its interval, its smallest detectable effect, and what it says in words."""
    numbers.add(key, row["estimate"], signed(row["estimate"]), unit)
    numbers.add(f"{key}_interval", None, interval(row["low"], row["high"]), unit)
    numbers.add(f"{key}_detectable", row["detectable"], percent(row["detectable"]), unit)
    numbers.add(f"{key}_word", None, direction(row["low"], row["high"], words))


def confirmatory(table: pd.DataFrame, contrast: pd.DataFrame) -> pd.Series:
    """Holm-adjusted p of the family: slope of the gain over none of every real set and target, and every gamma.

    Indexed by (target, condition), with "gamma" for the contrast.
    """
    real = table[(table["quantity"] == "gain over none") & ~table["condition"].str.endswith(sl.SHUFFLED)]
    p = pd.concat([real.set_index(["target", "condition"])["p"], _gamma_p(contrast)])
    return sl.holm(p)


def _gamma_p(contrast: pd.DataFrame) -> pd.Series:
    return contrast.assign(condition="gamma").set_index(["target", "condition"])["p"]


def slopes_table(table: pd.DataFrame, family: pd.Series) -> tuple[list[str], list[list[str]]]:
    """Slope of the gain over none and over the own shuffled control, per condition of one target, in points."""
    rows = []
    over_none = table[table["quantity"] == "gain over none"]
    control = table[table["quantity"] == "gain over shuffled labels"].set_index(["target", "condition"])
    for _, row in over_none.iterrows():
        key = (row["target"], row["condition"])
        own = control.loc[key] if key in control.index else None
        rows.append(
            [
                label(row["condition"]),
                *_cells(row),
                percent(row["detectable"]),
                probability(family[key]) if key in family.index else "–",
                *(["–", "–"] if own is None else _cells(own)),
            ]
        )
    return [
        "Intermediate training",
        *_GAIN,
        "Detectable",
        "p (Holm)",
        "Over shuffled",
        "95% interval",
    ], rows


_GAIN = ("Slope of gain", "95% interval")


def _cells(row: pd.Series, digits: int = 1, factor: float = 100) -> list[str]:
    return [signed(row["estimate"], digits, factor), interval(row["low"], row["high"], digits, factor)]


def gamma_table(
    contrast: pd.DataFrame, own_control: pd.DataFrame, family: pd.Series
) -> tuple[list[str], list[list[str]]]:
    """Gamma per target: over none, and with every set taken relative to its own shuffled control."""
    rows = []
    for (_, row), (_, other) in zip(contrast.iterrows(), own_control.iterrows(), strict=True):
        adjusted = probability(family[(row["target"], "gamma")])
        rows.append([title(row["target"]), *_cells(row), percent(row["detectable"]), adjusted, *_cells(other)])
    return ["Target", "γ", "95% interval", "Detectable", "p (Holm)", "γ over shuffled", "95% interval"], rows


def logit_table(cells: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Sensitivity: the slopes of the gain over none and gamma in log odds instead of points."""
    table = sl.slopes(cells, "logit")
    rows = []
    for _, row in table[table["quantity"] == "gain over none"].iterrows():
        rows.append([title(row["target"]), label(row["condition"]), *_cells(row, 2, 1)])
    for _, row in sl.gamma(cells, scale="logit").iterrows():
        rows.append([title(row["target"]), "γ", *_cells(row, 2, 1)])
    return ["Target", "Intermediate training", "Slope (log odds)", "95% interval"], rows


def add_tolerances(numbers: Numbers, cells: pd.DataFrame) -> None:
    """Seed standard deviation and df per target, and the tolerance for one recomputed cell and for all of them."""
    done = g.completed(cells)
    one, every = agreement.tolerances(done, 1), agreement.tolerances(done, max(len(done), 1))
    rows = []
    for target, row in one.iterrows():
        numbers.add(f"sd_{target}", row["sd"], percent(row["sd"], 2), POINTS)
        numbers.add(f"df_{target}", int(row["df"]), str(int(row["df"])))
        numbers.add(
            f"tolerance_{target}", every.loc[target, "tolerance"], percent(every.loc[target, "tolerance"]), POINTS
        )
        limits = [percent(row["tolerance"]), percent(every.loc[target, "tolerance"])]
        rows.append([title(target), percent(row["sd"], 2), str(int(row["df"])), *limits])
    numbers.add("tolerance_cells", len(done), str(len(done)), "cells")
    header = ["Target", "Seed SD", "Degrees of freedom", "Tolerance, one cell", f"Tolerance, {len(done)} cells"]
    numbers.table("tolerances", header, rows)


def unfinished(cells: pd.DataFrame) -> pd.DataFrame:
    """Failed and missing cells with the reason: what figures and tables show as missing."""
    return cells.loc[cells["status"] != "complete", ["cell", "status", "reason"]].reset_index(drop=True)


def rungs_used(table: pd.DataFrame) -> str:
    """The rungs that the slopes rest on, in words."""
    return listing(sorted({layers for rungs in table["rungs"] for layers in rungs}))

"""How the gain of a series changes from the smallest to the largest size, on three scales, and over groups of series.

A change is paired: the same tasks and languages at both sizes. Every scale is taken of a task's mean over languages.
The interval is a Student t interval over tasks; for a single task it is over its languages, by the jackknife (Tukey
1958), which of a mean is the same t interval. Over several series the unit is a family in a study: series count within.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from xlscale.published import scale, scales
from xlscale.published.gains import SERIES, balanced
from xlscale.published.scales import DEPENDS, GROWS, NOT_KNOWN, SCALES, SHRINKS, direction
from xlscale.stats.groups import LEVEL
from xlscale.stats.slopes import benjamini_hochberg, holm

GROUP = ["data_language", "data_breadth"]


def changes(pairs: pd.DataFrame, window: bool = True) -> pd.DataFrame:
    """A row per series with two sizes over the same tasks and languages; ``window``: of the 7B to 70B classes.

    Columns: SERIES; smallest, largest (parameters); unit, units, tasks, languages (numbers); base_small, base_large
    (mean base scores, 0..1); for every scale of SCALES ``<scale>_small`` and ``<scale>_large`` (the mean gain at that
    size), ``<scale>`` (their difference) and ``<scale>_low``, ``<scale>_high`` (its interval, NaN without one);
    direction (of ``scales``); clear (bool: it grows or shrinks, and the intervals of all scales exclude zero).

    ``pairs`` is that of ``gains.estimable``.
    """
    found = [
        dict(zip(SERIES, key, strict=True)) | _change(own)
        for key, own in ends(pairs, window).groupby(SERIES, sort=True, dropna=False)
    ]
    parts = [f"{name}{part}" for name in SCALES for part in ("_small", "_large", "", "_low", "_high")]
    about = ["smallest", "largest", "unit", "units", "tasks", "languages", "base_small", "base_large"]
    return pd.DataFrame(found, columns=[*SERIES, *about, *parts, "direction", "clear"])


def ends(pairs: pd.DataFrame, window: bool = True) -> pd.DataFrame:
    """The rows that ``changes`` rests on: smallest and largest size of each series, over the tasks and languages of
    both."""
    rows = scale.inside(pairs, SERIES) if window else pairs
    sizes = rows.groupby(SERIES, dropna=False)["size"]
    two = rows[(rows["size"] == sizes.transform("min")) | (rows["size"] == sizes.transform("max"))]
    two = two[two.groupby(SERIES, dropna=False)["size"].transform("nunique") == 2]
    even = balanced(two, SERIES)
    return even[even["balanced"]]


def _change(own: pd.DataFrame) -> dict[str, Any]:
    """What ``changes`` says of one series, given its rows at two sizes."""
    cells = means(own)
    small, large = sorted(cells["size"].unique())
    at = scales.add(cells.groupby(["size", "task"])[[*_MEANS]].mean())
    found: dict[str, Any] = {"smallest": small, "largest": large} | estimates(cells, _change_by_task)
    found |= {"base_small": at.loc[small, "base_score"].mean(), "base_large": at.loc[large, "base_score"].mean()}
    for name in SCALES:
        found |= {f"{name}_small": at.loc[small, name].mean(), f"{name}_large": at.loc[large, name].mean()}
    said = direction(found)
    apart = all(found[f"{name}_low"] > 0 or found[f"{name}_high"] < 0 for name in SCALES)
    return found | {"direction": said, "clear": bool(apart and said in (GROWS, SHRINKS))}


_MEANS = ("base_score", "score", "gain")


def means(own: pd.DataFrame) -> pd.DataFrame:
    """Means of one series over the subjects of a test: a row per size, task and language."""
    return own.groupby(["size", "task", "language"], dropna=False)[[*_MEANS]].mean().reset_index()


def _change_by_task(cells: pd.DataFrame) -> pd.DataFrame:
    """The change of means over languages from the smaller to the larger of two sizes, on SCALES, by task."""
    at = scales.add(cells.groupby(["size", "task"])[[*_MEANS]].mean())
    small, large = at.index.levels[0]
    return at.loc[large] - at.loc[small]


def by_task(cells: pd.DataFrame) -> pd.DataFrame:
    """SCALES of means over languages at one size, by task."""
    return scales.add(cells.groupby("task")[[*_MEANS]].mean())


def estimates(cells: pd.DataFrame, of: Callable[[pd.DataFrame], pd.DataFrame]) -> dict[str, Any]:
    """Means over tasks of what ``of`` says of ``means``: unit, units, tasks, languages, and ``<scale>``,
    ``<scale>_low``, ``<scale>_high`` for SCALES; over the languages of a single task by the jackknife."""
    unit, found = scale.unit_of(cells), of(cells)
    about = {
        "unit": unit,
        "units": cells[unit].nunique(),
        "tasks": len(found),
        "languages": cells["language"].nunique(),
    }
    without = _without_each(cells, of) if unit == "language" else None
    for name in SCALES:
        estimate = scale.mean_with_interval(found[name]) if without is None else _jackknife(found, without, name)
        about |= dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))
    return about


def _without_each(cells: pd.DataFrame, of: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """What ``of`` says of a single task without one of its languages, a row per language; none where these are few."""
    names = cells["language"].unique()
    if len(names) < scale.FEWEST_UNITS:
        return pd.DataFrame()
    return pd.concat([of(cells[cells["language"] != one]) for one in names])


def _jackknife(found: pd.DataFrame, without: pd.DataFrame, name: str) -> tuple[float, float, float]:
    """The value of a single task on one scale, with its interval over languages."""
    whole, count = float(found[name].iloc[0]), len(without)
    if not count:
        return whole, float("nan"), float("nan")
    mean, low, high = scale.mean_with_interval(count * whole - (count - 1) * without[name])
    return whole, whole + low - mean, whole + high - mean


def tested(table: pd.DataFrame) -> pd.DataFrame:
    """``changes`` with p, holm and bh (NaN without an interval on every scale): is the change real on all scales?

    ``p`` is the largest of the two-sided p values of SCALES where all agree in sign, and 1 where they do not: each
    scale has to reject (an intersection-union test). ``holm`` (Holm 1979) and ``bh`` (Benjamini and Hochberg 1995) are
    adjusted over all series that have one.
    """
    p = pd.DataFrame({name: _p_values(table, name) for name in SCALES})
    known = p.notna().all(axis=1)
    largest = p.max(axis=1).where(table["direction"].isin([GROWS, SHRINKS]), 1.0).where(known)
    return table.assign(p=largest, holm=holm(largest), bh=benjamini_hochberg(largest))


def _p_values(table: pd.DataFrame, name: str) -> pd.Series:
    """Two-sided p values of t intervals that ``estimates`` gave."""
    df = (table["units"] - 1).astype(float).where(table[f"{name}_low"].notna())
    se = (table[f"{name}_high"] - table[f"{name}_low"]) / 2 / stats.t.ppf((1 + LEVEL) / 2, df)
    return 2 * stats.t.sf((table[name] / se.where(se > 0)).abs(), df) + 0 * se


def grouped(table: pd.DataFrame, by: list[str] = GROUP) -> pd.DataFrame:
    """Means of ``changes`` over series, within families and studies first.

    Columns: ``by``; series, families, studies, units (families in a study; numbers); for every scale ``<scale>`` and
    its t interval over units (NaN with fewer than ``scale.FEWEST_UNITS``); grows, shrinks, depends, not_known (numbers
    of series).
    """
    found = []
    for key, own in table.groupby(by, sort=True):
        row: dict[str, Any] = dict(zip(by, key, strict=True))
        units = own.groupby(["study", "family"])[[*SCALES]].mean()
        row |= {"series": len(own), "families": own["family"].nunique(), "studies": own["study"].nunique()}
        for name in SCALES:
            known = units[name].dropna()
            row[name], row[f"{name}_low"], row[f"{name}_high"] = scale.mean_with_interval(known)
        counts = own["direction"].value_counts()
        said = {"grows": GROWS, "shrinks": SHRINKS, "depends": DEPENDS, "not_known": NOT_KNOWN}
        found.append(row | {"units": len(units)} | {name: int(counts.get(word, 0)) for name, word in said.items()})
    parts = [f"{name}{part}" for name in SCALES for part in ("", "_low", "_high")]
    counts = ["grows", "shrinks", "depends", "not_known"]
    return pd.DataFrame(found, columns=[*by, "series", "families", "studies", "units", *parts, *counts])


def without_a_study(table: pd.DataFrame, by: list[str] = GROUP) -> pd.DataFrame:
    """Groups of ``grouped`` whose mean change in points has another sign without one study: ``by``, left_out, gain
    (the mean without it), whole (with it), series, studies and units (left)."""
    whole = grouped(table, by)[[*by, "gain"]].rename(columns={"gain": "whole"})
    found = [
        grouped(table[table["study"] != study], by).assign(left_out=study).merge(whole, on=by)
        for study in sorted(table["study"].unique())
    ]
    columns = [*by, "left_out", "gain", "whole", "series", "studies", "units"]
    rows = pd.concat([part[columns] for part in found]) if found else pd.DataFrame(columns=columns)
    return rows[np.sign(rows["gain"]) != np.sign(rows["whole"])].reset_index(drop=True)


def with_base(table: pd.DataFrame) -> dict[str, float]:
    """How the change in points goes with the base's score at the smallest size: series (number) and r (Pearson's) over
    them, units (families in a study) and r_units over their means, studies (number). NaN with fewer than three.

    Noise in that base score raises the change as much as it raises the score, so by itself it would make r positive.
    """
    known = table.dropna(subset=["base_small", "gain"])
    units = known.groupby(["study", "family"])[["base_small", "gain"]].mean()
    found = {"series": len(known), "units": len(units), "studies": known["study"].nunique()}
    for name, rows in (("r", known), ("r_units", units)):
        found[name] = float(rows["base_small"].corr(rows["gain"])) if len(rows) >= 3 else float("nan")
    return found

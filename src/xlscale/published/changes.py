"""How the gain of a series changes from the smallest to the largest size, on three scales, and over groups of series.

A change is paired: the same tasks and languages at both sizes. Every scale is taken of a task's mean over languages.
The interval is a Student t interval over tasks; for a single task it is over its languages, by the jackknife (Tukey
1958), which of a mean is the same t interval. Over several series the unit is a family in a study: series count within.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from xlscale.published import scale, scales
from xlscale.published.gains import SERIES, balanced
from xlscale.published.scales import DEPENDS, GROWS, NOT_KNOWN, SCALES, SHRINKS, direction

GROUP = ["data_language", "data_breadth"]


def changes(pairs: pd.DataFrame, window: bool = True) -> pd.DataFrame:
    """A row per series with two sizes over the same tasks and languages; ``window``: of the 7B to 70B classes.

    Columns: SERIES; smallest, largest (parameters); unit, units, tasks, languages (numbers); base_small, base_large
    (mean base scores, 0..1); for every scale of SCALES ``<scale>_small`` and ``<scale>_large`` (the mean gain at that
    size), ``<scale>`` (their difference) and ``<scale>_low``, ``<scale>_high`` (its interval, NaN without one);
    direction (of ``scales``); clear (bool: it grows or shrinks, and the intervals of all scales exclude zero).

    ``pairs`` is that of ``gains.estimable``.
    """
    rows = scale.inside(pairs, SERIES) if window else pairs
    sizes = rows.groupby(SERIES, dropna=False)["size"]
    ends = rows[(rows["size"] == sizes.transform("min")) | (rows["size"] == sizes.transform("max"))]
    ends = ends[ends.groupby(SERIES, dropna=False)["size"].transform("nunique") == 2]
    even = balanced(ends, SERIES)
    found = [
        dict(zip(SERIES, key, strict=True)) | _change(own)
        for key, own in even[even["balanced"]].groupby(SERIES, sort=True, dropna=False)
    ]
    parts = [f"{name}{part}" for name in SCALES for part in ("_small", "_large", "", "_low", "_high")]
    about = ["smallest", "largest", "unit", "units", "tasks", "languages", "base_small", "base_large"]
    return pd.DataFrame(found, columns=[*SERIES, *about, *parts, "direction", "clear"])


def _change(own: pd.DataFrame) -> dict[str, Any]:
    """What ``changes`` says of one series, given its rows at two sizes."""
    unit = scale.unit_of(own)
    cells = own.groupby(["size", "task", "language"], dropna=False)[[*_MEANS]].mean().reset_index()
    small, large = sorted(cells["size"].unique())
    at, change = _by_task(cells)
    found: dict[str, Any] = {"smallest": small, "largest": large, "unit": unit}
    found |= {"units": cells[unit].nunique(), "tasks": len(change), "languages": cells["language"].nunique()}
    found |= {"base_small": at.loc[small, "base_score"].mean(), "base_large": at.loc[large, "base_score"].mean()}
    for name in SCALES:
        mean, low, high = _jackknife(cells, name) if unit == "language" else scale.mean_with_interval(change[name])
        found |= {f"{name}_small": at.loc[small, name].mean(), f"{name}_large": at.loc[large, name].mean()}
        found |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    said = direction(found)
    apart = all(found[f"{name}_low"] > 0 or found[f"{name}_high"] < 0 for name in SCALES)
    return found | {"direction": said, "clear": bool(apart and said in (GROWS, SHRINKS))}


_MEANS = ("base_score", "score", "gain")


def _by_task(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SCALES of means over languages: by size and task, and the change of each by task."""
    at = scales.add(cells.groupby(["size", "task"])[[*_MEANS]].mean())
    small, large = at.index.levels[0]
    return at, at.loc[large] - at.loc[small]


def _jackknife(cells: pd.DataFrame, name: str) -> tuple[float, float, float]:
    """The change of a single task on one scale, with its interval over languages."""
    names = cells["language"].unique()
    whole = float(_by_task(cells)[1][name].iloc[0])
    if len(names) < scale.FEWEST_TASKS:
        return whole, float("nan"), float("nan")
    without = pd.Series([float(_by_task(cells[cells["language"] != one])[1][name].iloc[0]) for one in names])
    mean, low, high = scale.mean_with_interval(len(names) * whole - (len(names) - 1) * without)
    return whole, whole + low - mean, whole + high - mean


def grouped(table: pd.DataFrame, by: list[str] = GROUP) -> pd.DataFrame:
    """Means of ``changes`` over series, within families and studies first.

    Columns: ``by``; series, families, studies, units (families in a study; numbers); for every scale ``<scale>`` and
    its t interval over units (NaN with fewer than ``scale.FEWEST_TASKS``); grows, shrinks, depends, not_known (numbers
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

"""Slopes on log10 parameters within one series: least squares through the sizes, a slope per task, a mean over tasks.

The unit is the one of ``gains``: languages within their task, tasks within their series. The interval of the mean is a
t interval over tasks, so it speaks about other tasks of this kind for this series, not about other families. A series
of a single task has one over the languages of that task instead, and says so. Two sizes give a difference per factor of
ten, which is what "slope" then means.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from xlscale.published import scores as sc
from xlscale.published.gains import balanced
from xlscale.stats.groups import LEVEL

LEVELS = ["study", "family", "training", "type", "route", "regime", "protocol", "group", "panel", "order", "secondary"]
# Units (tasks, languages, families in studies) for an interval. Three normal values have a standard deviation anywhere
# from 0.16 to 1.92 times the true one (95%), five from 0.35 to 1.67 times; and three kinds of task are no sample.
FEWEST_UNITS = 5
WIDE = 2.5  # least ratio of a series' largest size to its smallest at which it says something about 7B to 70B


def levels(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores themselves, not gains, of every model with a known size.

    A row per LEVELS, model, size and ITEM of ``gains``, with task_title, metric and corrected. Averages are left out
    where there are languages.
    """
    rows = sc.usable(scores)
    rows = rows[(rows["measure"] != "difference") & rows["size"].notna()]
    return sc.one_per_language(rows, LEVELS).reset_index(drop=True)


def _slope(rows: pd.DataFrame, value: str) -> float:
    """Least-squares slope of ``value`` on log10 size."""
    x = np.log10(rows["size"])
    return float(np.polyfit(x - x.mean(), rows[value], 1)[0])


def slopes(rows: pd.DataFrame, series: list[str], value: str, window: bool = False) -> pd.DataFrame:
    """A row per series with at least two sizes over the same tasks and languages.

    Columns: ``series``; slope (mean over tasks, per factor of ten), low and high (its t interval, NaN with fewer than
    FEWEST_UNITS units); unit ("task", or "language" for a single task in several languages) and units (number); tasks
    and sizes (numbers), smallest and largest (parameters). ``rows`` has ``size``, ITEM of ``gains``, ``task_title`` and
    ``value`` (chance-corrected, 0..1). ``window``: only sizes of the 7B to 70B classes, and only series whose sizes
    there differ by a factor of WIDE.
    """
    rows = inside(rows, series) if window else rows
    rows = rows[rows.groupby(series, dropna=False)["size"].transform("nunique") >= 2]
    even = balanced(rows, series)
    found = []
    for key, own in even[even["balanced"]].groupby(series, sort=True, dropna=False):
        unit = unit_of(own)
        per = by_unit(own, unit, value).groupby(unit).apply(_slope, value, include_groups=False)
        sizes = own["size"]
        about = (unit, len(per), own["task"].nunique(), sizes.nunique(), sizes.min(), sizes.max())
        found.append((*key, *mean_with_interval(per), *about))
    columns = ["slope", "low", "high", "unit", "units", "tasks", "sizes", "smallest", "largest"]
    return pd.DataFrame(found, columns=[*series, *columns])


def last_step(rows: pd.DataFrame, series: list[str]) -> pd.DataFrame:
    """The rows of the two largest sizes of every series: does a slope over all sizes hold at the largest ones?"""
    ranks = rows.groupby(series, dropna=False)["size"].rank(method="dense", ascending=False)
    return rows[ranks <= 2]


def inside(rows: pd.DataFrame, series: list[str]) -> pd.DataFrame:
    """The rows of the 7B to 70B classes, of series whose sizes there differ by a factor of WIDE."""
    rows = rows[sc.in_window(rows["size"])]
    sizes = rows.groupby(series, dropna=False)["size"]
    return rows[sizes.transform("max") >= WIDE * sizes.transform("min")]


def unit_of(rows: pd.DataFrame) -> str:
    """What the interval of one series is over: its tasks, or the languages of its only one where there are several."""
    return "language" if rows["task"].nunique() == 1 and rows["language"].nunique() > 1 else "task"


def by_unit(rows: pd.DataFrame, unit: str, value: str) -> pd.DataFrame:
    """Means of one series: a row per size and unit, with ``value``. Subjects count within languages, these within
    tasks."""
    single = rows.groupby(["size", "task", "language"])[value].mean().reset_index()
    return single.groupby(["size", unit])[value].mean().reset_index()


def mean_with_interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean over units, and its Student t interval: mean, low, high (NaN with fewer than FEWEST_UNITS)."""
    count, mean, half = len(values), float(values.mean()), float("nan")
    if count >= FEWEST_UNITS:
        half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * float(values.std(ddof=1)) / count**0.5
    return mean, mean - half, mean + half


def by_task_and_series(rows: pd.DataFrame, series: list[str], value: str) -> pd.DataFrame:
    """For a funnel: slope per series and task with its standard error from the spread of its languages.

    Columns: series (which must include "regime"), task, slope, se, languages, distance (slope less the mean of its
    regime, weighted by 1 / se^2). Only tasks with FEWEST_UNITS languages at all sizes, in regimes with two such slopes.
    """
    even = balanced(rows[rows.groupby(series, dropna=False)["size"].transform("nunique") >= 2], series)
    found = []
    for key, own in even[even["balanced"]].groupby([*series, "task"], sort=True, dropna=False):
        one = by_unit(own, "language", value).groupby("language").apply(_slope, value, include_groups=False)
        if len(one) >= FEWEST_UNITS and (se := float(one.std(ddof=1)) / len(one) ** 0.5) > 0:
            found.append((*key, float(one.mean()), se, len(one)))
    table = pd.DataFrame(found, columns=[*series, "task", "slope", "se", "languages"])
    table = table[table.groupby("regime")["slope"].transform("size") >= 2]
    weight = table["se"] ** -2.0
    regime = table["regime"]
    mean = (weight * table["slope"]).groupby(regime).transform("sum") / weight.groupby(regime).transform("sum")
    return table.assign(distance=table["slope"] - mean).reset_index(drop=True)

"""Slopes on log10 parameters within one series: least squares through the sizes, a slope per task, a mean over tasks.

The task is the unit: its slope is that of its mean over languages. The interval of the mean is a t interval over
tasks, so it speaks about other tasks of this kind for this series, not about other families. Two sizes give a
difference per factor of ten, which is what "slope" then means.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from xlscale.published import scores as sc
from xlscale.published.gains import balanced, by_task
from xlscale.stats.groups import LEVEL

LEVELS = ["study", "family", "training", "type", "route", "regime", "protocol", "group", "panel", "order", "secondary"]
FEWEST_TASKS = 3  # for an interval over tasks
WIDE = 2.5  # least ratio of a series' largest size to its smallest at which it says something about 7B to 70B


def levels(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores themselves, not gains, of every model with a known size.

    A row per LEVELS, model, size, task and language, with task_title, metric and corrected. Averages are left out where
    there are languages.
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
    FEWEST_TASKS); tasks and sizes (numbers), smallest and largest (parameters). ``rows`` has ``size``, ``task``,
    ``task_title``, ``language`` and ``value`` (chance-corrected, 0..1). ``window``: only sizes of the 7B to 70B
    classes, and only series whose sizes there differ by a factor of WIDE.
    """
    if window:
        rows = rows[sc.in_window(rows["size"])]
        sizes = rows.groupby(series, dropna=False)["size"]
        rows = rows[sizes.transform("max") >= WIDE * sizes.transform("min")]
    rows = rows[rows.groupby(series, dropna=False)["size"].transform("nunique") >= 2]
    even = balanced(rows, series)
    tasks = by_task(even[even["balanced"]], series, value)
    found = []
    for key, own in tasks.groupby(series, sort=True, dropna=False):
        per_task = own.groupby("task").apply(_slope, value, include_groups=False)
        count, mean, half = len(per_task), float(per_task.mean()), float("nan")
        if count >= FEWEST_TASKS:
            half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * float(per_task.std(ddof=1)) / count**0.5
        sizes = own["size"]
        found.append((*key, mean, mean - half, mean + half, count, sizes.nunique(), sizes.min(), sizes.max()))
    return pd.DataFrame(found, columns=[*series, "slope", "low", "high", "tasks", "sizes", "smallest", "largest"])


def by_task_and_series(rows: pd.DataFrame, series: list[str], value: str) -> pd.DataFrame:
    """For a funnel: slope per series and task with its standard error from the spread of its languages.

    Columns: series (which must include "regime"), task, slope, se, languages, distance (slope less the mean of its
    regime, weighted by 1 / se^2). Only tasks with FEWEST_TASKS languages at all sizes, in regimes with two such slopes.
    """
    even = balanced(rows[rows.groupby(series, dropna=False)["size"].transform("nunique") >= 2], series)
    found = []
    for key, own in even[even["balanced"]].groupby([*series, "task"], sort=True, dropna=False):
        one = own.groupby("language").apply(_slope, value, include_groups=False)
        if len(one) >= FEWEST_TASKS and (se := float(one.std(ddof=1)) / len(one) ** 0.5) > 0:
            found.append((*key, float(one.mean()), se, len(one)))
    table = pd.DataFrame(found, columns=[*series, "task", "slope", "se", "languages"])
    table = table[table.groupby("regime")["slope"].transform("size") >= 2]
    weight = table["se"] ** -2.0
    regime = table["regime"]
    mean = (weight * table["slope"]).groupby(regime).transform("sum") / weight.groupby(regime).transform("sum")
    return table.assign(distance=table["slope"] - mean).reset_index(drop=True)

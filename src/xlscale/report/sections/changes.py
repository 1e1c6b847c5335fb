"""What the paper says of how published gains change from 7B to 70B, on three scales: keys, texts and tables.

"Grows" and "shrinks" are said only of what does so on all scales. Points are percentage points of the chance-corrected
score, shares are percentage points of the error that the base left, log odds are natural.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from xlscale.core.format import DASH, interval, percent, signed, size_range
from xlscale.published.scales import DEPENDS, GROWS, NOT_KNOWN, SHRINKS
from xlscale.report.figures.window import place
from xlscale.report.labels import POINTS
from xlscale.report.numbers import Numbers
from xlscale.report.sections.published import keys_of, marked, over, units_of
from xlscale.report.sections.results import INTERVAL

_WORDS = {"grow": GROWS, "shrink": SHRINKS, "depend": DEPENDS, "not_known": NOT_KNOWN}


def add_changes(numbers: Numbers, table: pd.DataFrame, studies: list[str], name: str = "window") -> None:
    """A table of ``changes.changes``, a row per series, and counts under ``published_gains_<name>_``: series, families,
    studies, grow, shrink, depend, not_known, intervals, and clear_grow, clear_shrink (intervals on all scales exclude
    zero). In the window also ``published_series_intervals``, ``_rising`` and ``_falling``: of the series with an
    interval in points, those that grow or shrink on all scales with an interval in points that excludes zero; and per
    series ``published_change_<family>_<training>_<protocol>_<study>``: ``_summary``, ``_interval`` and ``_says``.
    """
    own = f"published_gains_{name}"
    for key, count in (("series", len(table)), ("families", table["family"].nunique())):
        numbers.count(f"{own}_{key}", count, key)
    numbers.count(f"{own}_studies", table["study"].nunique(), "studies")
    for key, word in _WORDS.items():
        numbers.count(f"{own}_{key}", (table["direction"] == word).sum(), "series")
    for key, word in (("clear_grow", GROWS), ("clear_shrink", SHRINKS)):
        numbers.count(f"{own}_{key}", (table["clear"] & (table["direction"] == word)).sum(), "series")
    known = table.dropna(subset=["gain_low"])
    numbers.count(f"{own}_intervals", len(known), "series")
    if name == "window":
        _add_window(numbers, table, known, studies)
    rows = []
    for row in table.sort_values(["data_language", "data_breadth", "base_small", "study"]).itertuples():
        data = f"{row.data_language}, {row.data_breadth}"
        about = [f"{marked(row.family, row.secondary)}, {row.training}", data, row.protocol]
        base = [size_range(row.smallest, row.largest), percent(row.base_small, missing=DASH)]
        ends = [signed(row.gain_small), signed(row.gain_large), signed(row.gain)]
        sure = [interval(row.gain_low, row.gain_high), over(row, row.gain_low)]
        others = [signed(row.share), signed(row.log_odds, 2, factor=1), row.direction]
        rows.append([*about, *base, *ends, *sure, *others])
    header = ["Model and training", "Data", "Regime", "Parameters", "Base", "First", "Last", "Change", INTERVAL, "Over"]
    header += ["Share", "Log odds", "The gain"]
    numbers.table(f"published_changes_{name}", header, rows)


def _add_window(numbers: Numbers, table: pd.DataFrame, known: pd.DataFrame, studies: list[str]) -> None:
    rising = (known["direction"] == GROWS) & (known["gain_low"] > 0)
    falling = (known["direction"] == SHRINKS) & (known["gain_high"] < 0)
    for key, count in (("intervals", len(known)), ("rising", rising.sum()), ("falling", falling.sum())):
        numbers.count(f"published_series_{key}", count, "series")
    for row, keys in zip(table.itertuples(), keys_of(table, ["family", "training", "protocol"], studies), strict=True):
        for key in keys:
            numbers.words(f"published_change_{key}_summary", _summary(row))
            numbers.words(f"published_change_{key}_interval", interval(row.gain_low, row.gain_high), POINTS)
            numbers.words(f"published_change_{key}_says", row.direction)


def _summary(row: Any) -> str:
    """Sizes, unit, and the gain at both ends on every scale that is known."""
    text = f"{size_range(row.smallest, row.largest)}, over {units_of(row)}: "
    text += f"{signed(row.gain_small)} to {signed(row.gain_large)} points above chance"
    if row.direction == NOT_KNOWN:
        return f"{text}, on the other scales not known"
    shares = f"{signed(row.share_small, 0)} to {signed(row.share_large, 0)}% of the remaining error"
    odds = " to ".join(signed(value, 2, factor=1) for value in (row.log_odds_small, row.log_odds_large))
    return f"{text}, {shares}, {odds} in log odds"


def add_groups(numbers: Numbers, table: pd.DataFrame, name: str = "window") -> None:
    """The table of ``changes.grouped``: mean change by language and breadth of the data, on three scales; in the order
    of the figure."""
    rows = []
    for row in sorted(table.itertuples(), key=lambda row: place(row.data_language, row.data_breadth)):
        counts = [str(row.series), str(row.families), str(row.studies), str(row.units)]
        means = [signed(row.gain), interval(row.gain_low, row.gain_high), signed(row.share)]
        said = [str(row.grows), str(row.shrinks), str(row.depends), str(row.not_known)]
        rows.append([row.data_language, row.data_breadth, *counts, *means, signed(row.log_odds, 2, factor=1), *said])
    header = ["Data", "Breadth", "Series", "Families", "Studies", "Units", "Change", INTERVAL, "Share", "Log odds"]
    numbers.table(f"published_groups_{name}", [*header, "Grows", "Shrinks", "Depends", "Not known"], rows)

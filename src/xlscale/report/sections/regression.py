"""What the paper says of the meta-regressions of published scores and gains: a table, counts, and one study less.

Slopes are points above chance per factor of ten in parameters.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from xlscale.core.format import DASH, interval, percent, signed
from xlscale.published import regression
from xlscale.report.numbers import Numbers
from xlscale.report.sections.published import NONE, count, count_intervals, counted, marked
from xlscale.report.sections.results import INTERVAL


def add_regressions(numbers: Numbers, responses: dict[str, tuple[pd.DataFrame, str]]) -> None:
    """The table of meta-regressions: ``responses`` maps a name ("score", "gain") to the rows and the column of
    ``regression.regressions``.

    Keys: ``published_regression_<response>_intervals``, ``_above``, ``_below`` (numbers of regimes), ``_series``,
    ``_studies``.
    """
    rows = []
    for response, (used, value) in responses.items():
        table = regression.regressions(used, value)
        counted(numbers, f"regression_{response}", regression.several_sizes(used), [*regression.SERIES, "regime"])
        for row in table.itertuples():
            about = [response, marked(_regime(row), row.secondary)]
            counts = [str(row.studies), str(row.families), f"{row.rows:,}"]
            slope = [signed(row.slope, factor=1), interval(row.low, row.high, factor=1)]
            rows.append([*about, *counts, *slope, percent(row.sd_slope / 100, missing=DASH)])
        own = f"regression_{response}"
        count(numbers, f"{own}_regimes", table["slope"].notna().sum(), "regimes")
        count_intervals(numbers, (f"{own}_intervals", f"{own}_above", f"{own}_below"), table, "regimes")
    header = ["Response", "Regime", "Studies", "Families", "Scores", "Slope", INTERVAL, "SD of slopes"]
    numbers.table("published_regression", header, rows)


def _regime(row: Any) -> str:
    return row.protocol if row.route in (NONE, "fine-tuning") else f"{row.protocol}, {row.route}"


def leave_out_tables(responses: dict[str, tuple[pd.DataFrame, str]], titles: dict[str, str]) -> pd.DataFrame:
    """Rows of the influence figure: label, whole (bool), slope, low, high, in points.

    ``responses`` maps a name to the rows and the column of ``regression.leave_one_out``; ``titles`` names studies.
    Regimes of one source, which cannot be left out, are not among them.
    """
    found = []
    for response, (rows, value) in responses.items():
        # Studies count only where they have a series with several sizes: the rest takes part in no fit.
        used = regression.several_sizes(rows)
        several = used.groupby(["route", "regime"])["study"].transform("nunique") > 1
        table = regression.leave_one_out(used[several], value)
        table = table[table["slope"].notna()]
        whole = table["left_out"] == ""
        named = pd.Series([f"{response}, {_regime(row)}" for row in table.itertuples()], table.index, dtype=str)
        label = named.where(whole, "without " + table["left_out"].map(titles))
        found.append(table.assign(label=label, whole=whole))
    return pd.concat(found, ignore_index=True)[["label", "whole", "slope", "low", "high"]]

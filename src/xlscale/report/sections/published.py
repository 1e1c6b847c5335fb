"""What the paper prints about the published layer: keys, texts and tables, put into a ``paper.Numbers``.

Units are percentage points of the chance-corrected score, and points per factor of ten in parameters. Families, tasks
and regimes come from the data: what is added there appears here. Secondary transcriptions carry MARK in every table.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from xlscale.published import gains, regression, scale, sources
from xlscale.published import scores as sc
from xlscale.published.tables import Layer
from xlscale.report.describe import interval, listing, percent, signed
from xlscale.report.figures.published import size_range
from xlscale.report.sections.results import INTERVAL

if TYPE_CHECKING:
    from xlscale.report.typeset import Numbers

MARK = " †"
NONE = "none"
_PLURALS = {"source_key": "sources", "study": "studies", "family": "families"}
PER_TEN = "percentage points per factor of ten in parameters"
POINTS = "percentage points"


def slug(*words: str) -> str:
    """Words as a part of a key: "Llama-2", "Basque (v1)" is "llama_2_basque_v1"."""
    return re.sub(r"[^a-z0-9]+", "_", " ".join(words).lower()).strip("_")


def marked(text: str, secondary: bool) -> str:
    """``text`` with the mark of a secondary transcription where it is one."""
    return text + MARK if secondary else text


def _count(numbers: Numbers, key: str, value: int, unit: str = "") -> None:
    numbers.add(f"published_{key}", int(value), f"{int(value):,}", unit)


def add_sources(numbers: Numbers, layer: Layer, scores: pd.DataFrame) -> None:
    """The table of sources, and counts: scores, sources, studies, regimes, families, languages, secondary ones."""
    rows = []
    for key, own in scores.groupby("source_key", sort=True):
        source = layer.sources.set_index("source_key").loc[key]
        sizes = own["size"].dropna()
        span = size_range(sizes.min(), sizes.max()) if len(sizes) else "not stated"
        groups = listing(dict.fromkeys(own.sort_values("order")["protocol"]))
        quality = marked(source["quality"], source["quality"] == "secondary")
        rows.append([source["title"], groups, span, str(own["task"].nunique()), f"{len(own):,}", quality])
    header = ["Source", "Regimes", "Parameters", "Tasks", "Scores", "Quality"]
    numbers.table("published_sources", header, rows)
    for name in ("source_key", "study", "regime", "family", "task", "language"):
        _count(numbers, _PLURALS.get(name, f"{name}s"), scores[name].nunique())
    _count(numbers, "scores", len(scores), "scores")
    _count(numbers, "secondary", scores["secondary"].sum(), "scores")
    sizes = scores["size"].dropna()
    for end, size in (("smallest", sizes.min()), ("largest", sizes.max())):
        numbers.add(f"published_{end}", size, size_range(size, size), "parameters")
    unknown = sorted(set(scores["regime"]) - set(layer.regimes["regime"]))
    numbers.add("published_unknown_regimes", len(unknown), listing(unknown))
    guessed = sorted(scores.loc[~scores["chance_known"], "task"].unique())
    numbers.add("published_unknown_chance", len(guessed), listing(guessed))


def add_checks(numbers: Numbers, scores: pd.DataFrame) -> None:
    """Scores given twice, the table of those that contradict each other, and averages that are none."""
    repeated, averages = sources.repeated(scores), sources.averages(scores)
    wrong = repeated[~repeated["agree"]]
    _count(numbers, "repeated", len(repeated), "scores")
    _count(numbers, "contradictions", len(wrong), "scores")
    _count(numbers, "wrong_averages", len(averages), "averages")
    titles = scores.drop_duplicates("task").set_index("task")["task_title"]
    second = set(scores.loc[scores["secondary"], "source_key"])
    rows = [
        [
            row.model,
            f"{titles[row.task]}, {row.metric}, {row.language}",
            _marked_sources(row.sources, second),
            percent(row.low),
            percent(row.high),
        ]
        for row in wrong.itertuples()
    ]
    rows += [
        [
            row.model,
            f"{titles[row.task]}, {row.language} of {row.languages} languages",
            marked(row.source_key, row.source_key in second),
        ]
        + [percent(value) for value in sorted((row.printed, row.mean))]
        for row in averages.itertuples()
    ]
    numbers.table("published_contradictions", ["Model", "Score", "Sources", "Lowest", "Highest"], rows)


def _marked_sources(keys: str, secondary: set[str]) -> str:
    return ", ".join(marked(key, key in secondary) for key in keys.split(", "))


def add_finetuned(numbers: Numbers, levels: pd.DataFrame) -> None:
    """Slopes of fine-tuned families without intermediate training, and whether any reaches through the window."""
    own = levels[(levels["group"] == "finetuned") & (levels["type"] == "none")]
    found = scale.slopes(own, scale.LEVELS, "corrected")
    rows = [[_named(row), *_slope_cells(row)] for row in found.itertuples()]
    numbers.table("published_finetuned", ["Family", "Parameters", "Sizes", "Tasks", "Slope", INTERVAL], rows)
    inside = own[sc.in_window(own["size"])].groupby(["study", "family"])["size"].nunique()
    _count(numbers, "finetuned_inside", int((inside >= 2).sum()), "families")
    largest = own["size"].max()
    numbers.add("published_finetuned_largest", largest, size_range(largest, largest), "parameters")
    numbers.add("published_finetuned_families", len(found), listing(found["family"].drop_duplicates()))
    for row, key in zip(found.itertuples(), _keys(found, ["family"]), strict=True):
        _add_slope(numbers, f"published_finetuned_{key}", row)


def _keys(table: pd.DataFrame, names: list[str]) -> list[str]:
    """A key per row from these columns, with its study where two rows would share one."""
    short = [slug(*words) for words in table[names].itertuples(index=False, name=None)]
    return [slug(key, study) if short.count(key) > 1 else key for key, study in zip(short, table["study"], strict=True)]


def _named(row: Any) -> str:
    return marked(row.family, row.secondary)


def _slope_cells(row: Any) -> list[str]:
    span = [size_range(row.smallest, row.largest), str(row.sizes), str(row.tasks)]
    return [*span, signed(row.slope), interval(row.low, row.high)]


def _add_slope(numbers: Numbers, key: str, row: Any) -> None:
    numbers.add(f"{key}_slope", row.slope, signed(row.slope), PER_TEN)
    numbers.add(f"{key}_interval", None, interval(row.low, row.high), PER_TEN)


def add_gains(numbers: Numbers, pairs: pd.DataFrame) -> None:
    """Gain against size of every series with several sizes (table and keys), and of the kinds of data in the window.

    Keys: ``published_gain_<family>_<training>_<protocol>_summary`` (the gain at every size), ``_slope``, ``_interval``.
    """
    even = gains.balanced(pairs, gains.SERIES)
    points = gains.points(gains.by_task(even, gains.SERIES), gains.SERIES)
    slopes = scale.slopes(pairs, gains.SERIES, "gain").sort_values(["order", "route", "study", "family", "training"])
    rows = []
    for row, slugged in zip(slopes.itertuples(), _keys(slopes, ["family", "training", "protocol"]), strict=True):
        own = points[(points[gains.SERIES] == [getattr(row, name) for name in gains.SERIES]).all(axis=1)]
        own = own.sort_values("size")
        ends = [signed(own["gain"].iloc[0]), signed(own["gain"].iloc[-1])]
        about = [_named(row), f"{row.training} ({row.type})", row.protocol, size_range(row.smallest, row.largest)]
        rows.append([*about, str(row.tasks), *ends, signed(row.slope), interval(row.low, row.high)])
        key = f"published_gain_{slugged}"
        at = [
            f"{signed(gain)} at {size_range(size, size)}" for size, gain in zip(own["size"], own["gain"], strict=True)
        ]
        numbers.add(f"{key}_summary", None, listing(at), POINTS)
        _add_slope(numbers, key, row)
    header = ["Family", "Training (type)", "Regime", "Parameters", "Tasks", "First", "Last", "Slope", INTERVAL]
    numbers.table("published_gains", header, rows)
    known = slopes.dropna(subset=["low"])
    for name, part in (("series", slopes), ("series_intervals", known), ("series_rising", known[known["low"] > 0]),
                       ("series_falling", known[known["high"] < 0])):  # fmt: skip
        _count(numbers, name, len(part), "series")
    _add_types(numbers, pairs)
    _add_harnesses(numbers, gains.harnesses(pairs), set(pairs.loc[pairs["secondary"], "study"]))


def _add_types(numbers: Numbers, pairs: pd.DataFrame) -> None:
    """Mean gain by kind of data inside the window, each series with equal weight."""
    own = pairs[sc.in_window(pairs["size"])]
    keys = ["order", "panel", "route", "type", "study", "family", "training", "regime", "size"]
    per = own.groupby([*keys, "secondary", "task"])["gain"].mean().groupby([*keys, "secondary"]).mean()
    series = per.groupby([name for name in [*keys, "secondary"] if name != "size"]).mean().reset_index()
    rows = []
    for (_, panel, route, kind), part in series.groupby(["order", "panel", "route", "type"], sort=True):
        families = part["family"].nunique()
        regime = marked(panel.removeprefix(gains.PUBLISHED), part["secondary"].all())
        spread = f"{signed(part['gain'].min())} to {signed(part['gain'].max())}" if len(part) > 1 else NONE
        alone = " (one family)" if families == 1 else ""
        rows.append([route, regime, kind, str(len(part)), f"{families}{alone}", signed(part["gain"].mean()), spread])
    header = ["Route", "Regime", "Data", "Series", "Families", "Mean gain", "Range over series"]
    numbers.table("published_types", header, rows)


def _add_harnesses(numbers: Numbers, table: pd.DataFrame, secondary: set[str]) -> None:
    """What two studies make of one pair of models: the table, and the case with the largest difference in words."""
    case = ["family", "training", "size", "protocol"]
    rows = [
        [
            row.family,
            row.training,
            size_range(row.size, row.size),
            row.protocol,
            str(row.tasks),
            marked(row.study, row.study in secondary),
            signed(row.gain),
        ]
        for row in table.itertuples()
    ]
    header = ["Family", "Training", "Parameters", "Regime", "Tasks", "Study", "Gain"]
    numbers.table("published_harnesses", header, rows)
    spread = table.groupby(case)["gain"].agg(lambda gain: gain.max() - gain.min())
    widest = spread.idxmax() if len(spread) else None
    text = "no pair of models was evaluated by two studies in one regime"
    if widest is not None:
        own = table.set_index(case).loc[[widest]]
        gains_ = listing(f"{signed(row.gain)} ({row.study})" for row in own.itertuples())
        text = f"{widest[0]} after {widest[1]} at {size_range(widest[2], widest[2])}: {gains_}"
    numbers.add("published_harness_widest", spread.max() if len(spread) else None, text, POINTS)


def add_scale(numbers: Numbers, window: pd.DataFrame) -> None:
    """Slopes from 7B to 70B within families, without further training: counts, and how many intervals exclude zero."""
    known = window.dropna(subset=["low"])
    _count(numbers, "window_series", len(window), "series")
    _count(numbers, "window_families", window["family"].nunique(), "families")
    _count(numbers, "window_positive", int((window["slope"] > 0).sum()), "series")
    _count(numbers, "window_intervals", len(known), "series")
    _count(numbers, "window_above", int((known["low"] > 0).sum()), "series")
    _count(numbers, "window_below", int((known["high"] < 0).sum()), "series")
    for end, value in (("smallest", window["slope"].min()), ("largest", window["slope"].max())):
        numbers.add(f"published_window_{end}", value, signed(value), PER_TEN)
    rows = [[_named(row), row.protocol, *_slope_cells(row)] for row in window.sort_values("order").itertuples()]
    header = ["Family", "Regime", "Parameters", "Sizes", "Tasks", "Slope", INTERVAL]
    numbers.table("published_window", header, rows)


def add_regressions(numbers: Numbers, fits: dict[str, pd.DataFrame]) -> None:
    """The table of meta-regressions: ``fits`` maps a response ("score", "gain") to ``regression.regressions``.

    Keys: ``published_regression_<response>_intervals``, ``_above``, ``_below`` (numbers of regimes).
    """
    rows = []
    for response, table in fits.items():
        for row in table.itertuples():
            spread = "–" if pd.isna(row.sd_slope) else percent(row.sd_slope / 100)
            regime = row.protocol if row.route in (NONE, "fine-tuning") else f"{row.protocol}, {row.route}"
            about = [response, marked(regime, row.secondary)]
            counts = [str(row.studies), str(row.families), f"{row.rows:,}"]
            slope = [signed(row.slope, factor=1), interval(row.low, row.high, factor=1)]
            rows.append([*about, *counts, *slope, spread])
        known = table.dropna(subset=["low"])
        _count(numbers, f"regression_{response}_regimes", int(table["slope"].notna().sum()), "regimes")
        _count(numbers, f"regression_{response}_intervals", len(known), "regimes")
        _count(numbers, f"regression_{response}_above", int((known["low"] > 0).sum()), "regimes")
        _count(numbers, f"regression_{response}_below", int((known["high"] < 0).sum()), "regimes")
    header = ["Response", "Regime", "Studies", "Families", "Scores", "Slope", INTERVAL, "SD of slopes"]
    numbers.table("published_regression", header, rows)
    _count(numbers, "fewest_families", regression.FEWEST_FAMILIES)


def leave_out_tables(responses: dict[str, tuple[pd.DataFrame, str]], titles: dict[str, str]) -> pd.DataFrame:
    """Rows of the influence figure: label, whole (bool), slope, low, high, in points.

    ``responses`` maps a name to the rows and the column of ``regression.leave_one_out``; ``titles`` names studies.
    Regimes of one source, which cannot be left out, are not there.
    """
    found = []
    for response, (rows, value) in responses.items():
        # Studies count only where they have a series with several sizes: the rest takes part in no fit.
        used = regression.several_sizes(rows)
        several = used.groupby(["route", "regime"])["study"].transform("nunique") > 1
        table = regression.leave_one_out(used[several], value)
        table = table[table["slope"].notna()]
        whole = table["left_out"] == ""
        label = (response + ", " + table["protocol"]).where(whole, "without " + table["left_out"].map(titles))
        found.append(table.assign(label=label, whole=whole))
    return pd.concat(found, ignore_index=True)[["label", "whole", "slope", "low", "high"]]

"""What the paper says about the published layer: keys, texts and tables of ``06_published.ipynb``.

Units are percentage points of the chance-corrected score, and points per factor of ten in parameters. Families, tasks
and regimes come from the data: what is added there appears here. Secondary transcriptions carry MARK in every table.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from xlscale.core.format import DASH, interval, listing, percent, signed, size_range, slug
from xlscale.published import coding, gains, scale, sources
from xlscale.published import scores as sc
from xlscale.published.tables import Layer
from xlscale.report.labels import POINTS
from xlscale.report.numbers import Numbers
from xlscale.report.sections.results import INTERVAL

MARK = " †"
NONE = "none"
UNVERIFIED, UNVERIFIED_MARK = "not verified", " ‡"  # a licence of sources.csv, and how tables show that
UNSTATED = "none stated"
PER_TEN = "percentage points per factor of ten in parameters"
_PLURALS = {"source_key": "sources", "study": "studies", "family": "families"}


def marked(text: str, secondary: bool) -> str:
    """``text`` with the mark of a secondary transcription where it is one."""
    return text + MARK if secondary else text


def count(numbers: Numbers, key: str, value: int, unit: str = "") -> None:
    """Record a whole number under ``published_<key>``."""
    numbers.count(f"published_{key}", value, unit)


def counted(numbers: Numbers, key: str, table: pd.DataFrame, series: list[str]) -> None:
    """``published_<key>_series`` and ``_studies``: how many ``series`` (columns) a table has, of how many studies."""
    count(numbers, f"{key}_series", table.groupby(series, dropna=False).ngroups, "series")
    count(numbers, f"{key}_studies", table["study"].nunique(), "studies")


def in_studies(row: Any) -> str:
    """The series and studies that a row counts: "23 series in 7 studies"."""
    return f"{row['series']} series in {row['studies']} {'study' if row['studies'] == 1 else 'studies'}"


def count_intervals(numbers: Numbers, keys: tuple[str, str, str], table: pd.DataFrame, unit: str) -> None:
    """How many rows have an interval, and how many of these lie above and below zero, under these three keys."""
    known = table.dropna(subset=["low"])
    for key, rows in zip(keys, (known, known[known["low"] > 0], known[known["high"] < 0]), strict=True):
        count(numbers, key, len(rows), unit)


def _size(numbers: Numbers, key: str, size: float) -> None:
    numbers.add(f"published_{key}", size, size_range(size, size), "parameters")


def add_sources(numbers: Numbers, layer: Layer, scores: pd.DataFrame) -> None:
    """The table of sources, and counts: scores, sources, studies, regimes, families, languages, secondary ones."""
    rows = []
    for key, own in scores.groupby("source_key", sort=True):
        source = layer.sources.set_index("source_key").loc[key]
        sizes = own["size"].dropna()
        span = size_range(sizes.min(), sizes.max()) if len(sizes) else "not stated"
        regimes = listing(dict.fromkeys(own.sort_values("order")["protocol"]))
        quality = marked(source["quality"], source["quality"] == "secondary")
        about = [source["title"], source["study"], regimes, span, str(own["task"].nunique()), f"{len(own):,}"]
        licence = source["licence"]
        rows.append([*about, licence + UNVERIFIED_MARK if licence == UNVERIFIED else licence, quality])
    header = ["Source", "Study", "Regimes", "Parameters", "Tasks", "Scores", "Licence", "Quality"]
    numbers.table("published_sources", header, rows)
    for name in ("source_key", "study", "regime", "family", "task", "language"):
        count(numbers, _PLURALS.get(name, f"{name}s"), scores[name].nunique())
    count(numbers, "scores", len(scores), "scores")
    count(numbers, "secondary", scores["secondary"].sum(), "scores")
    _size(numbers, "smallest", scores["size"].min())
    _size(numbers, "largest", scores["size"].max())
    read = layer.sources["source_key"].isin(scores["source_key"])
    licences = layer.sources.loc[read, "licence"]
    for key, word in (("unverified", UNVERIFIED), ("unstated", UNSTATED)):
        count(numbers, f"{key}_licences", licences.str.startswith(word).sum(), "sources")
    count(numbers, "fewest_units", scale.FEWEST_UNITS, "units")
    unknown = sorted(set(scores["regime"]) - set(layer.regimes["regime"]))
    numbers.add("published_unknown_regimes", len(unknown), listing(unknown))
    guessed = sorted(scores.loc[~scores["chance_known"], "task"].unique())
    numbers.add("published_unknown_chance", len(guessed), listing(guessed))


def add_flow(numbers: Numbers, table: pd.DataFrame) -> None:
    """The table of ``selection.flow``, a row per criterion."""
    rows = []
    for row in table.itertuples():
        series = DASH if pd.isna(row.series) else f"{row.series:.0f}"
        rows.append([row.step, f"{row.left_out:,}", f"{row.scores:,}", str(row.studies), series])
    numbers.table("published_flow", ["Scores that are ...", "Left out", "Left", "Studies", "Series"], rows)


def add_coding(numbers: Numbers, layer: Layer) -> None:
    """How far the two codings of what intermediate data are agree: a table, and keys ``published_coding_labels``,
    ``_raw_<field>`` (percent) and ``_kappa_<field>``."""
    found = coding.agreement(layer.coding)
    rows = []
    for row in found.itertuples():
        raw, kappa = percent(row.raw, 0), f"{row.kappa:.2f}"
        numbers.add(f"published_coding_raw_{row.field}", row.raw, raw, "percent")
        numbers.add(f"published_coding_kappa_{row.field}", row.kappa, kappa)
        rows.append([row.field, str(row.labels), str(row.same), raw, kappa])
    numbers.table("published_coding", ["Field", "Labels", "Same", "Agreement (%)", "Kappa"], rows)
    count(numbers, "coding_labels", found["labels"].max(), "labels")


def add_checks(numbers: Numbers, scores: pd.DataFrame) -> None:
    """Scores given twice, the table of those that contradict each other, and averages that are not averages."""
    repeated, averages = sources.repeated(scores), sources.averages(scores)
    contradictions = repeated[~repeated["agree"]]
    count(numbers, "repeated", len(repeated), "scores")
    count(numbers, "contradictions", len(contradictions), "scores")
    count(numbers, "wrong_averages", len(averages), "averages")
    titles = scores.drop_duplicates("task").set_index("task")["task_title"]
    of = scores.drop_duplicates("source_key").set_index("source_key")
    names = {key: marked(title, of["secondary"][key]) for key, title in of["title"].items()}
    rows = []
    for row in contradictions.itertuples():
        from_ = "; ".join(names[key] for key in row.sources.split(", "))
        what = f"{titles[row.task]}, {row.metric}, {row.language}"
        rows.append([row.model, what, from_, percent(row.low), percent(row.high)])
    for row in averages.itertuples():
        what = f"{titles[row.task]}, {row.language} of {row.languages} languages"
        values = map(percent, sorted((row.printed, row.mean)))
        rows.append([row.model, what, names[row.source_key], *values])
    numbers.table("published_contradictions", ["Model", "Score", "Sources", "Lowest", "Highest"], rows)


def add_finetuned(numbers: Numbers, levels: pd.DataFrame, studies: list[str]) -> None:
    """Slopes of fine-tuned families without intermediate training, and whether any has two sizes in the window.
    ``studies``: all of them in the order of their sources."""
    own = levels[(levels["group"] == "finetuned") & (levels["type"] == "none")]
    found = scale.slopes(own, scale.LEVELS, "corrected")
    last = scale.slopes(scale.last_step(own, scale.LEVELS), scale.LEVELS, "corrected")
    found = found.merge(last, on=scale.LEVELS, suffixes=("", "_last"))
    header = ["Family", "Parameters", "Sizes", "Tasks", "Slope", INTERVAL, "From", "Slope from there", INTERVAL]
    rows = [
        [_named(row), *_slope_cells(row), size_range(row.smallest_last, row.smallest_last), signed(row.slope_last),
         interval(row.low_last, row.high_last)]
        for row in found.itertuples()
    ]  # fmt: skip
    numbers.table("published_finetuned", header, rows)
    counted(numbers, "finetuned", found, scale.LEVELS)
    inside = own[sc.in_window(own["size"])].groupby(["study", "family"])["size"].nunique()
    count(numbers, "finetuned_inside", (inside >= 2).sum(), "families")
    _size(numbers, "finetuned_largest", own["size"].max())
    numbers.add("published_finetuned_families", len(found), listing(found["family"].drop_duplicates()))
    for row, keys in zip(found.itertuples(), keys_of(found, ["family"], studies), strict=True):
        for key in keys:
            _add_slope(numbers, f"published_finetuned_{key}", row)
            last = {name: getattr(row, f"{name}_last") for name in ("slope", "low", "high")}
            _add_slope(numbers, f"published_finetuned_{key}_last", SimpleNamespace(**last))
            _size(numbers, f"finetuned_{key}_last_from", row.smallest_last)
            _size(numbers, f"finetuned_{key}_smallest", row.smallest)
            _size(numbers, f"finetuned_{key}_largest", row.largest)
            count(numbers, f"finetuned_{key}_tasks", row.tasks, "tasks")


def keys_of(table: pd.DataFrame, names: list[str], studies: list[str]) -> list[list[str]]:
    """The keys of each row: these columns and its study, and also without the study in the first of ``studies`` that
    has such a row. A source that is added later comes last, so it changes no key that is there.

    Rows of one study that differ in the language of their data alone have that in their keys.
    """
    words = [list(row) for row in table[names].itertuples(index=False, name=None)]
    own = list(zip(map(tuple, words), table["study"], strict=True))
    tested = table.get("data_language", table["study"])
    full = [
        (*key, text) if own.count((key, study)) > 1 else key for (key, study), text in zip(own, tested, strict=True)
    ]
    order = {study: at for at, study in enumerate(studies)}
    first: dict[tuple[str, ...], str] = {}
    for key, study in sorted(zip(full, table["study"], strict=True), key=lambda item: order[item[1]]):
        first.setdefault(key, study)
    rows = zip(full, table["study"], strict=True)
    return [[slug(*key, study), *([slug(*key)] if first[key] == study else [])] for key, study in rows]


def _named(row: Any) -> str:
    return marked(row.family, row.secondary)


def _slope_cells(row: Any) -> list[str]:
    span = [size_range(row.smallest, row.largest), str(row.sizes), str(row.tasks)]
    return [*span, signed(row.slope), interval(row.low, row.high)]


def _add_slope(numbers: Numbers, key: str, row: Any) -> None:
    numbers.add(f"{key}_slope", row.slope, signed(row.slope), PER_TEN)
    numbers.words(f"{key}_interval", interval(row.low, row.high), PER_TEN)


def add_bases(numbers: Numbers, bases: pd.DataFrame) -> None:
    """How many tuned models there are, and how many of them have no base and so no gain; ``bases`` is that of
    ``gains.bases``."""
    count(numbers, "tuned_models", len(bases), "models")
    count(numbers, "without_base", (bases["base"] == "").sum(), "models")


def add_gains(numbers: Numbers, pairs: pd.DataFrame, studies: list[str]) -> None:
    """Gain against size of every series with several sizes (table and keys), and of the kinds of data in the window.

    ``pairs`` is that of ``gains.pairs``; those whose base is near chance are counted and take part in nothing else.
    ``studies``: all of them in the order of their sources.
    Keys: ``published_gain_<family>_<training>_<protocol>_<study>_summary`` (the gain at every size), ``_slope``,
    ``_interval``; see ``keys_of``.
    """
    count(numbers, "near_chance", pairs["near_chance"].sum(), "gains")
    count(numbers, "paired", len(pairs), "gains")
    numbers.add("published_floor", gains.FLOOR, percent(gains.FLOOR, 0), "percentage points")
    pairs = gains.estimable(pairs)
    even = gains.balanced(pairs, gains.SERIES)
    points = gains.points(gains.by_task(even, gains.SERIES), gains.SERIES)
    slopes = scale.slopes(pairs, gains.SERIES, "gain").sort_values(["order", "route", "study", "family", "training"])
    rows = []
    keys = keys_of(slopes, ["family", "training", "protocol"], studies)
    for row, slugged in zip(slopes.itertuples(), keys, strict=True):
        own = points[(points[gains.SERIES] == [getattr(row, name) for name in gains.SERIES]).all(axis=1)]
        own = own.sort_values("size")
        ends = [signed(own["gain"].iloc[0]), signed(own["gain"].iloc[-1])]
        about = [_named(row), f"{row.training} ({row.type})", row.protocol, size_range(row.smallest, row.largest)]
        rows.append([*about, str(row.tasks), *ends, signed(row.slope), interval(row.low, row.high), over(row, row.low)])
        at = listing(f"{signed(gain)} at {size_range(size, size)}" for size, gain in own[["size", "gain"]].to_numpy())
        for key in slugged:
            numbers.words(f"published_gain_{key}_summary", at, POINTS)
            _add_slope(numbers, f"published_gain_{key}", row)
    header = ["Family", "Training (type)", "Regime", "Parameters", "Tasks", "First", "Last", "Slope", INTERVAL, "Over"]
    numbers.table("published_gains", header, rows)
    count(numbers, "series", len(slopes), "series")
    _add_types(numbers, pairs)
    _add_harnesses(numbers, gains.harnesses(pairs), set(pairs.loc[pairs["secondary"], "study"]))


def over(row: Any, low: float) -> str:
    """What the interval of a row, from ``low``, is over: "10 languages"; a dash where it has none."""
    return DASH if pd.isna(low) else units_of(row)


def units_of(row: Any) -> str:
    """What a row is a mean over: "10 languages", "1 task"."""
    return f"{row.units} {row.unit}{'s' if row.units > 1 else ''}"


def _add_types(numbers: Numbers, pairs: pd.DataFrame) -> None:
    """Mean gain inside the window by language and breadth of the data: series within families and studies first."""
    own = pairs[sc.in_window(pairs["size"])]
    tasks = gains.by_task(own.assign(balanced=False), gains.SERIES)
    size = tasks.groupby([*gains.SERIES, "size"])["gain"].mean()
    series = size.groupby(gains.SERIES).mean().reset_index()
    by = ["order", "panel", "route", "data_language", "data_breadth"]
    rows = []
    for (_, panel, route, language, breadth), part in series.groupby(by, sort=True):
        units = part.groupby(["study", "family"])["gain"].mean()
        families = part["family"].nunique()
        regime = marked(panel.removeprefix(gains.PUBLISHED), part["secondary"].all())
        spread = f"{signed(units.min())} to {signed(units.max())}" if len(units) > 1 else NONE
        alone = " (one family)" if families == 1 else ""
        counts = [str(len(part)), f"{families}{alone}", str(part["study"].nunique())]
        rows.append([route, regime, language, breadth, *counts, signed(units.mean()), spread])
    header = ["Route", "Regime", "Data", "Breadth", "Series", "Families", "Studies", "Mean gain", "Range over families"]
    numbers.table("published_types", header, rows)


def _add_harnesses(numbers: Numbers, table: pd.DataFrame, secondary: set[str]) -> None:
    """How two studies rate one pair of models: the table, and the case with the largest difference in words."""
    case = ["family", "training", "size", "protocol"]
    rows = []
    for row in table.itertuples():
        about = [row.family, row.training, size_range(row.size, row.size), row.protocol, str(row.tasks)]
        rows.append([*about, marked(row.study, row.study in secondary), signed(row.gain)])
    header = ["Family", "Training", "Parameters", "Regime", "Tasks", "Study", "Gain"]
    numbers.table("published_harnesses", header, rows)
    spread = table.groupby(case)["gain"].agg(lambda gain: gain.max() - gain.min())
    count(numbers, "harness_pairs", len(spread), "pairs of models")
    count(numbers, "harness_studies", table["study"].nunique(), "studies")
    if spread.empty:
        text = "no pair of models was evaluated by two studies in one regime"
        numbers.words("published_harness_widest", text, POINTS)
        return
    family, training, size, _ = widest = spread.idxmax()
    own = table.set_index(case).loc[[widest]]
    differing = listing(f"{signed(row.gain)} ({row.study})" for row in own.itertuples())
    tasks = units_of(SimpleNamespace(units=own["tasks"].iloc[0], unit="task"))
    text = f"{family} after {training} at {size_range(size, size)}, over {tasks}: {differing}"
    numbers.add("published_harness_widest", spread.max(), text, POINTS)


def add_scale(numbers: Numbers, window: pd.DataFrame) -> None:
    """Slopes from 7B to 70B within families, without further training: counts, and how many intervals exclude zero."""
    counted(numbers, "window", window, scale.LEVELS)
    count(numbers, "window_families", window["family"].nunique(), "families")
    count(numbers, "window_positive", (window["slope"] > 0).sum(), "series")
    count_intervals(numbers, ("window_intervals", "window_above", "window_below"), window, "series")
    for end, value in (("smallest", window["slope"].min()), ("largest", window["slope"].max())):
        numbers.add(f"published_window_{end}", value, signed(value), PER_TEN)
    rows = [[_named(row), row.protocol, *_slope_cells(row)] for row in window.sort_values("order").itertuples()]
    header = ["Family", "Regime", "Parameters", "Sizes", "Tasks", "Slope", INTERVAL]
    numbers.table("published_window", header, rows)

"""What the paper says of published gains from 7B to 70B as a whole: its answer, several tests at once, one study less,
data compared within one base, and the multilevel model.

Points are percentage points of the chance-corrected score. "Grows" and "shrinks" need all three scales.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from xlscale.core.format import interval, signed, size_range, slug
from xlscale.published import coding, multilevel
from xlscale.published.gains import SERIES
from xlscale.published.scales import GROWS, SCALES, SHRINKS
from xlscale.report.labels import POINTS
from xlscale.report.numbers import Numbers
from xlscale.report.sections.published import PER_TEN, counted, in_studies, marked, over, units_of
from xlscale.report.sections.results import INTERVAL

ALPHA = 0.05
_SCALED = {"gain": (1, 100.0), "share": (1, 100.0), "log_odds": (2, 1.0)}  # digits and factor of a printed change
_UNITS = {
    "gain": "points",
    "share": "share of the error",
    "log_odds": "log odds",
    multilevel.BY_LANGUAGE: "points, by language",
}


def group_keys(numbers: Numbers, table: pd.DataFrame, by: list[str]) -> None:
    """A table of ``changes.grouped``, in keys ``published_group_<language>[_<breadth>]_``: series, families, studies,
    units, grows, shrinks, depends, not_known, for SCALES ``<scale>`` and ``<scale>_interval``, and ``says``: all of it
    in words."""
    for row in table.itertuples():
        own = f"published_group_{slug(*(getattr(row, name) for name in by))}"
        for name in ("series", "families", "studies", "units", "grows", "shrinks", "depends", "not_known"):
            numbers.count(f"{own}_{name}", getattr(row, name))
        for name, (digits, factor) in _SCALED.items():
            numbers.words(f"{own}_{name}", signed(getattr(row, name), digits, factor))
            ends = (getattr(row, f"{name}_{end}") for end in ("low", "high"))
            numbers.words(f"{own}_{name}_interval", interval(*ends, digits, factor))
        numbers.words(f"{own}_says", _group(row._asdict()))


def _group(row: Any) -> str:
    text = f"{in_studies(row)}, the gain grows in {row['grows']} and shrinks in {row['shrinks']} on all three scales; "
    values = [signed(row[name], digits, factor) for name, (digits, factor) in _SCALED.items()]
    ends = [interval(row[f"{name}_low"], row[f"{name}_high"], *of) for name, of in _SCALED.items()]
    about = zip(values, ("points above chance", "percent of the error left", "in log odds"), ends, strict=True)
    text += "mean change " + ", ".join(f"{value} {unit} ({end})" for value, unit, end in about)
    return f"{text}, over {_families(row['units'])}"


# What the window says, in a word that the paper has a sentence for: see ``direction`` and ``breadth``.
OPEN, MORE, LESS, UNKNOWN = "open", "more", "less", "unknown"
_SURE = {GROWS: GROWS, SHRINKS: SHRINKS, OPEN: "shows no direction that is clear of zero"}
_DIFFER = {
    MORE: "it grows more after data of one domain than after general data",
    LESS: "it grows less after data of one domain than after general data",
    OPEN: "no clear difference is seen between data of one domain and general data",
}


def add_answer(
    numbers: Numbers, table: pd.DataFrame, languages: pd.DataFrame, groups: pd.DataFrame, fits: pd.DataFrame
) -> None:
    """``published_answer``: what the title's question gets from the published scores, in one sentence, and
    ``published_answer_breadths``, the estimates for data of one domain and for general data; in a word,
    ``published_verdict`` (of ``direction``) and ``published_breadth_verdict`` (of ``breadth``).

    ``table`` is ``changes.changes``, ``languages`` and ``groups`` are ``changes.grouped`` of it by language and by
    language and breadth, ``fits`` is that of ``multilevel.fits``: ``published_multilevel_other_sign`` counts the kinds
    of data whose slope in points has another sign there than their mean change has.
    """
    english = languages[languages["data_language"] == coding.ENGLISH]
    numbers.words("published_breadth_verdict", breadth(groups, fits))
    numbers.count("published_multilevel_other_sign", _other_sign(groups, fits), "kinds")
    if english.empty:
        numbers.words("published_verdict", UNKNOWN)
        numbers.words("published_answer", "no published series from 7B to 70B was trained on English data")
        numbers.words("published_answer_breadths", "there is nothing to compare")
        return
    row = english.iloc[0]
    numbers.words("published_verdict", direction(row))
    tuned = ((table["group"] == "finetuned") & (table["data_language"] == coding.ENGLISH)).sum()
    models = f"models, {tuned} series of them fine-tuned," if tuned else "prompted models"
    text = f"from 7B to 70B, the gain of {models} from further training on English data {_SURE[direction(row)]} "
    text += f"({in_studies(row)}: on all three scales it grows in {row['grows']} and shrinks in {row['shrinks']}; "
    text += f"mean change {_change(row)}), and "
    numbers.words("published_answer", text + _differ(groups, fits), POINTS)
    numbers.words("published_answer_breadths", _breadths(groups, fits), POINTS)


def _other_sign(groups: pd.DataFrame, fits: pd.DataFrame) -> int:
    kinds = groups["data_language"] + ", " + groups["data_breadth"]
    rows = [(_term(fits, "gain", kind), gain) for kind, gain in zip(kinds, groups["gain"], strict=True)]
    return sum(row is not None and row.value * gain < 0 for row, gain in rows)


def _families(count: int) -> str:
    return f"{count} families in studies" if count != 1 else "one family in a study"


def direction(row: Any) -> str:
    """GROWS or SHRINKS where the intervals of a group are clear of zero, with one sign, on all scales; else OPEN."""
    if all(row[f"{name}_low"] > 0 for name in SCALES):
        return GROWS
    return SHRINKS if all(row[f"{name}_high"] < 0 for name in SCALES) else OPEN


def _change(row: Any) -> str:
    ends = "without an interval" if pd.isna(row["gain_low"]) else interval(row["gain_low"], row["gain_high"])
    return f"{signed(row['gain'])} points above chance, {ends} over {_families(row['units'])}"


def _english(groups: pd.DataFrame) -> pd.DataFrame:
    return groups[groups["data_language"] == coding.ENGLISH].set_index("data_breadth")


def breadth(groups: pd.DataFrame, fits: pd.DataFrame) -> str:
    """Whether the gain grows MORE or LESS after data of one domain than after general data, which needs the intervals
    of all scales; else OPEN, or UNKNOWN where there is no interval."""
    found = [_term(fits, name, multilevel.ONE_LESS_MANY) for name in SCALES]
    if not {"one", "many"} <= {*_english(groups).index} or any(row is None or pd.isna(row.low) for row in found):
        return UNKNOWN
    if all(row.low > 0 for row in found):
        return MORE
    return LESS if all(row.high < 0 for row in found) else OPEN


def _differ(groups: pd.DataFrame, fits: pd.DataFrame) -> str:
    own, said = _english(groups), breadth(groups, fits)
    if said == UNKNOWN:
        return "whether it matters that the data are of one domain cannot be said"
    return f"{_DIFFER[said]} ({in_studies(own.loc['one'])}, and {in_studies(own.loc['many'])})"


def _breadths(groups: pd.DataFrame, fits: pd.DataFrame) -> str:
    own = _english(groups)
    titles = {"one": "data of one domain", "many": "general data"}
    items = [
        f"after {title} by {_change(own.loc[name])} ({in_studies(own.loc[name])})"
        for name, title in titles.items()
        if name in own.index
    ]
    text = f"from 7B to 70B the gain changes {'; '.join(items)}"
    found = _term(fits, "gain", multilevel.ONE_LESS_MANY)
    if found is None:
        return text
    text += (
        f"; the slope after the first less that after the second is {_slope(found)} points above chance per factor of "
    )
    of = f"{in_studies(found._asdict())}, of each kind {_families(found.units)} or more"
    return f"{text}ten in the model of all series below ({of})"


def _term(fits: pd.DataFrame, model: str, term: str) -> Any:
    rows = fits[(fits["model"] == model) & (fits["left_out"] == "") & (fits["term"] == term)]
    return next(rows.itertuples(), None)


def _slope(row: Any, digits: int = 1) -> str:
    return f"{signed(row.value, digits, 1)} ({interval(row.low, row.high, digits, 1)})"


def add_tests(numbers: Numbers, table: pd.DataFrame) -> None:
    """Several tests at once, of ``changes.tested``: ``published_tests`` (series), ``_studies``, ``_unadjusted``,
    ``_holm``, ``_bh`` (numbers of series whose change is real on all scales at ALPHA), ``_smallest`` (p of Holm)."""
    known = table.dropna(subset=["p"])
    numbers.count("published_tests", len(known), "series")
    numbers.count("published_tests_studies", known["study"].nunique(), "studies")
    for key, name in (("unadjusted", "p"), ("holm", "holm"), ("bh", "bh")):
        numbers.count(f"published_tests_{key}", (known[name] < ALPHA).sum(), "series")
    numbers.add("published_tests_smallest", known["holm"].min(), f"{known['holm'].min():.2f}")


def add_left_out(numbers: Numbers, table: pd.DataFrame, titles: dict[str, str]) -> None:
    """``published_groups_without``: which mean changes have another sign without one study, in words; ``table`` is
    ``changes.without_a_study`` by language and breadth."""
    items = [
        f"{row.data_language}, {row.data_breadth}: {signed(row.whole)} with all, {signed(row.gain)} without "
        f"{titles.get(row.left_out, row.left_out)} (left: {in_studies(row._asdict())}, {_families(row.units)})"
        for row in table.itertuples()
    ]
    numbers.add("published_groups_without", len(items), "; ".join(items) or "none")


def add_base(numbers: Numbers, found: dict[str, float]) -> None:
    """The correlation of ``changes.with_base``, and in ``published_base_says`` whether both units agree on its sign."""
    for name in ("series", "units", "studies"):
        numbers.count(f"published_base_{name}", found[name])
    for name in ("r", "r_units"):
        numbers.add(f"published_base_{name}", found[name], signed(found[name], 2, 1))
    same = found["r"] * found["r_units"] > 0
    numbers.words("published_base_says", "of one sign over both" if same else "no relation that both units show")


def add_within(numbers: Numbers, breadth: pd.DataFrame, language: pd.DataFrame, table: pd.DataFrame) -> None:
    """Two kinds of data on one base: ``within.levels`` of both contrasts in the window as tables, and what
    ``changes.changes`` says of the contrast of breadths (``table``) in ``published_within_changes`` and counts."""
    for name, found in (("within", breadth), ("within_languages", language)):
        _add_contrasts(numbers, f"published_{name}", found)
    items = []
    for row in table.itertuples():
        ends = f"{signed(row.gain_small)} at {size_range(row.smallest, row.smallest)}"
        ends += f" and {signed(row.gain_large)} at {size_range(row.largest, row.largest)}"
        sure = (
            f", change {signed(row.gain)} ({interval(row.gain_low, row.gain_high)})" if pd.notna(row.gain_low) else ""
        )
        items.append(f"{row.family}, {row.training} ({row.protocol}, {units_of(row)}): {ends}{sure}, {row.direction}")
    numbers.words("published_within_changes", "; ".join(items) or "none", POINTS)
    counted(numbers, "within", table, SERIES)
    counted(numbers, "within_languages", language, SERIES)
    for key, word in (("grow", GROWS), ("shrink", SHRINKS)):
        numbers.count(f"published_within_{key}", (table["direction"] == word).sum(), "series")
    own = language.dropna(subset=["gain_low"])
    numbers.count("published_within_languages", len(language), "contrasts")
    numbers.count("published_within_languages_below", (own["gain_high"] < 0).sum(), "contrasts")
    numbers.count("published_within_languages_above", (own["gain_low"] > 0).sum(), "contrasts")


def _add_contrasts(numbers: Numbers, name: str, table: pd.DataFrame) -> None:
    rows = []
    for row in table.itertuples():
        what = f"{marked(row.family, row.secondary)} {size_range(row.size, row.size)}, {row.training}"
        sure = [interval(row.gain_low, row.gain_high), over(row, row.gain_low)]
        values = [signed(row.gain), *sure, signed(row.share), signed(row.log_odds, 2, 1)]
        rows.append([what, row.other, row.protocol, *values])
    header = ["Model and training", "Minus the mean of", "Regime", "Points", INTERVAL, "Over", "Share", "Log odds"]
    numbers.table(name, header, rows)


def add_recipes(numbers: Numbers, table: pd.DataFrame) -> None:
    """``within.recipes``: how far recipes differ on one base, beside how far size moves the gain."""
    rows = []
    for row in table.itertuples():
        data = f"{row.data_language}, {row.data_breadth}"
        span = size_range(row.smallest, row.largest)
        values = [str(row.trainings), signed(row.between), signed(row.across)]
        rows.append([row.family, row.protocol, data, span, *values])
    header = ["Family", "Regime", "Data", "Parameters", "Recipes", "Range over recipes", "Mean change with size"]
    numbers.table("published_recipes", header, rows)
    numbers.count("published_recipes_cases", len(table), "cases")
    numbers.count("published_recipes_wider", (table["between"] > table["across"]).sum(), "cases")
    numbers.count("published_recipes_studies", table["study"].nunique(), "studies")
    numbers.count("published_recipes_series", table["trainings"].sum(), "series")


def add_multilevel(numbers: Numbers, fits: pd.DataFrame, titles: dict[str, str]) -> None:
    """The table of ``multilevel.fits``, and ``published_multilevel_``: rows, known (kinds of data whose slope has an
    interval on all scales), clear (those where it excludes zero on all), contrast (ONE_LESS_MANY on each scale), base
    (per point of the base's score), fitted, notes, and without (slopes whose sign a study changes)."""
    whole = fits[fits["left_out"] == ""]
    rows = []
    for row in whole.itertuples():
        log_odds = row.model == "log_odds"
        digits = 3 if row.term == "base" else 2 if log_odds else 1
        about = [
            _UNITS[row.model],
            "the base's score" if row.term == "base" else row.term,
            *map(str, (row.series, row.studies, row.units)),
            f"{row.rows:,}",
        ]
        rows.append([*about, signed(row.value, digits, 1), interval(row.low, row.high, digits, 1)])
    header = ["Scale", "Slope after data", "Series", "Studies", "Families in studies", "Rows", "Slope", INTERVAL]
    numbers.table("published_multilevel", header, rows)
    own = "published_multilevel"
    slopes = whole[~whole["term"].isin(["base", multilevel.ONE_LESS_MANY]) & whole["model"].isin(SCALES)]
    sure = slopes.assign(up=slopes["low"] > 0, down=slopes["high"] < 0).groupby("term")[["up", "down"]].all()
    numbers.count(f"{own}_kinds", len(sure), "kinds")
    numbers.count(f"{own}_known", slopes["low"].notna().groupby(slopes["term"]).all().sum(), "kinds")
    numbers.count(f"{own}_clear", sure.any(axis=1).sum(), "kinds")
    counts = whole.groupby("model")["rows"].max()
    for name in (*SCALES, multilevel.BY_LANGUAGE):
        digits = _SCALED.get(name, (1, 0))[0]
        for key, term in (("contrast", multilevel.ONE_LESS_MANY), ("base", "base")):
            row = _term(fits, name, term)
            text = "missing" if row is None else _slope(row, 3 if key == "base" else digits)
            numbers.words(
                f"{own}_{key}_{slug(name)}", text, PER_TEN if name in ("gain", multilevel.BY_LANGUAGE) else ""
            )
        numbers.count(f"{own}_rows_{slug(name)}", counts.get(name, 0), "rows")
    for key, term in (("", "base"), ("_contrast", multilevel.ONE_LESS_MANY)):
        row = _term(fits, "gain", term)
        for name in ("series", "studies", "units"):
            numbers.count(f"{own}{key}_{name}", 0 if row is None else getattr(row, name), name)
    fitted = [f"{_UNITS[name]}: {part['fitted'].iloc[0]}" for name, part in whole.groupby("model", sort=False)]
    numbers.words(f"{own}_fitted", "; ".join(fitted) or "nothing")
    notes = [
        f"{_UNITS[name]}: {note}" for name, note in whole.groupby("model", sort=False)["note"].first().items() if note
    ]
    numbers.words(f"{own}_notes", "; ".join(notes) or "none")
    numbers.words(f"{own}_without", _changed(fits, titles))


def _changed(fits: pd.DataFrame, titles: dict[str, str]) -> str:
    """Slopes in points that have another sign without one study."""
    own = fits[(fits["model"] == "gain") & (fits["term"] != "base")]
    before = own[own["left_out"] == ""].set_index("term")["value"]
    items = []
    for row in own[own["left_out"] != ""].itertuples():
        if before[row.term] * row.value < 0:
            ends = f"{signed(before[row.term], 1, 1)} with all, {signed(row.value, 1, 1)}"
            title = titles.get(row.left_out, row.left_out)
            items.append(f"{row.term}: {ends} without {title} (left: {in_studies(row._asdict())})")
    return "; ".join(items) or "none"

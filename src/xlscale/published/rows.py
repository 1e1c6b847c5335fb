"""Checks of the rows of a new source: what is wrong with them, line by line. Nothing here changes a file."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from xlscale.cards.languages import ENGLISH, checked
from xlscale.core.files import XlscaleError, read_text
from xlscale.core.strict import SHORT
from xlscale.published.tables import (
    COLUMNS,
    KEY,
    MEASURES,
    OPTIONAL,
    PER_UNIT,
    QUALITIES,
    Layer,
    parameters,
    parsed,
    plain,
    unclear,
)

Size = tuple[float, bool] | str | None

_SOURCE = re.compile(r"[a-z0-9][a-z0-9._-]*")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
REQUIRED = ("source_key", "table", "model_family", "model", "intermediate_task", "regime", "task", "metric", "language",
            "value", "where_read", "quality")  # fmt: skip
# Texts by which rows are grouped: what looks like one of them and is another makes a group of its own.
NAMES = ("table", "model_family", "model", "base_model", "intermediate_task", "regime", "task", "metric", "language")
MOST = 50_000  # rows of a file
_LIKE_LATIN = "АВЕЅІЈКМНОРСТУҮХаеѕіјорсухһүԁԍԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧνορϳ"  # Cyrillic and Greek
_LIKE_ASCII = "−‘’‚‛“”„‟′″ʼʹˈ∕⁄∶…ıȷɑɡ"  # signs, and letters without their dot or of phonetics
# What the names of letters begin with that a word may have beside Latin ones, or nobody takes for them.
_BESIDE_LATIN = {"LATIN", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "MICRO", "MODIFIER"}
_FEW = 3  # values of a column that suffice to conclude that they are fractions


def read(path: Path, given: Collection[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """The rows of a .csv or .csv.gz file as (line, text by column), empty texts where the file lacks a column of
    OPTIONAL or one that is ``given``.

    Raises XlscaleError when it is no such file or has more than MOST rows, with a line per row whose number of fields
    is not the header's.
    """
    path = Path(path)
    if not path.exists():
        raise XlscaleError(f"{path}: not found, expected a .csv or .csv.gz file")
    try:
        text = read_text(path)
    except XlscaleError as error:
        raise XlscaleError(f"{path}: not a readable CSV file in UTF-8 ({error})") from None
    header, lines = parsed(path, text, lambda found: _check_header(path, found, given))
    if len(lines) > MOST:
        raise XlscaleError(f"{path}: expected at most {MOST:,} rows, got {len(lines):,}")
    empty = dict.fromkeys((*OPTIONAL, *given), "")
    return [(n, empty | {name: text.strip() for name, text in zip(header, row, strict=True)}) for n, row in lines]


def _check_header(path: Path, header: list[str], given: Collection[str]) -> None:
    needed = [name for name in COLUMNS if name not in given]
    if sorted(header) != sorted({*needed, *(name for name in (*COLUMNS, *OPTIONAL) if name in header)}):
        missing = [name for name in needed if name not in header]
        more = [name for name in header if name not in (*COLUMNS, *OPTIONAL)]
        wrong = [f"{what} {_few(names)}" for what, names in (("missing", missing), ("unknown", more)) if names]
        got = "; ".join(wrong) or "a column twice"
        raise XlscaleError(f"{path}:1: header: expected the columns {','.join(COLUMNS)}, got {got}")


def _few(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(name[:30] for name in names[:3]) + rest


def faults(lines: list[tuple[int, dict[str, str]]], layer: Layer) -> list[tuple[int, str]]:
    """Everything that is wrong with the rows of a file that is to be added to ``layer``, in order of lines.

    Each is (line, one line that names field and expected value).
    """
    found = [(n, fault) for n, row in lines for fault in _row(row, layer)]
    broken = {n for n, _ in found}
    whole = [(n, row) for n, row in lines if n not in broken]
    found += [*_fractions(whole, layer), *_twice(lines, layer), *_of_sources(whole, layer)]
    return sorted(found)


def _row(row: dict[str, str], layer: Layer) -> Iterator[str]:
    for name in REQUIRED:
        if not row[name]:
            yield f"{name}: expected a text, got nothing"
    for name, text in row.items():
        if fault := unclear(text):
            yield f"{name}: {fault}"
    for name in NAMES:
        if fault := mixed(row[name]):
            yield f"{name}: {fault}"
    for name in ("source_key", "study"):
        if row[name] and not _SOURCE.fullmatch(row[name]):
            yield f"{name}: expected lower-case letters, digits, '.', '_' and '-', got {SHORT.repr(row[name])}"
    if row["quality"] and row["quality"] not in QUALITIES:
        yield f"quality: expected one of {', '.join(QUALITIES)}, got {SHORT.repr(row['quality'])}"
    if row["language"] and (fault := _language(row["language"])):
        yield f"language: {fault}, or 'avg...', or 'mixed', got {SHORT.repr(row['language'])}"
    try:
        parameters(row["params"])
    except ValueError:
        yield f"params: expected a count such as 560M, 7.1B or 57B-A14B, or nothing, got {SHORT.repr(row['params'])}"
    if row["metric"]:
        metric = layer.metric(row["metric"])
        yield from _metric(row["metric"], metric)
        yield from _value(row, metric)


@cache
def mixed(text: str) -> str:
    """Why a name could be taken for another one: a word with letters of another alphabet that look like Latin ones,
    whether some of it or all, or signs and forms of letters that look like those of ASCII; nothing if it could not."""
    if odd := next(filter(_odd, text), ""):
        return f"expected characters that look like no others, got {_called(odd)} in {SHORT.repr(text)}"
    for word in re.findall(r"\w+", text):
        scripts = {one: _named(one).split(" ")[0] for one in word if one.isalpha()}
        foreign = [one for one, script in scripts.items() if script not in _BESIDE_LATIN]
        if foreign and "LATIN" in scripts.values():
            return f"expected words of one alphabet, got {_called(foreign[0])} in {SHORT.repr(word)}"
        if foreign and {*foreign} <= {*_LIKE_LATIN}:
            return f"expected characters that look like no others, got {_called(foreign[0])} in {SHORT.repr(word)}"
    return ""


def _odd(one: str) -> bool:
    """Whether a character looks like one of ASCII and is another: dashes, quotes, other forms of a sign or letter."""
    if one.isascii():
        return False
    kind, _, same = unicodedata.decomposition(one).partition(" ")
    form = kind in ("<wide>", "<font>", "<compat>", "<noBreak>") and all(int(code, 16) < 128 for code in same.split())
    return form or unicodedata.category(one) == "Pd" or one in _LIKE_ASCII or "LETTER SMALL CAPITAL" in _named(one)


def _named(one: str) -> str:
    return unicodedata.name(one, "")


def _called(one: str) -> str:
    return f"{unicodedata.name(one, 'a character')} (U+{ord(one):04X})"


def _language(text: str) -> str:
    """What is wrong with the language of a score; nothing if it is the code of one, as elsewhere, so that English is
    never taken for another and none counts twice, or of several. A code and "-en" is a language mixed with English."""
    if text == "mixed" or text.startswith("avg"):
        return ""
    try:
        code = checked(text.removesuffix(f"-{ENGLISH}"))
    except ValueError as error:
        return str(error)
    return f"expected another language before -{ENGLISH}" if code == ENGLISH != text else ""


def _metric(text: str, metric: dict[str, str]) -> Iterator[str]:
    """A name that says another unit or measure than metrics.csv has for it: its values would count for what they are
    not, fractions for a hundredth of themselves."""
    for word, known in (("fraction", metric["unit"] == "fraction"), ("delta", metric["measure"] == "difference")):
        if word in text.lower() and not known:
            told = "'(fraction', in lower case and without DELTA," if word == "fraction" else "'DELTA', in capitals,"
            read = f"{metric['unit']}, {metric['measure']}"
            yield f"metric: expected {told} as in the patterns of metrics.csv, got {SHORT.repr(text)}, read as {read}"


def _value(row: dict[str, str], metric: dict[str, str]) -> Iterator[str]:
    low, high = (PER_UNIT[metric["unit"]] * limit for limit in MEASURES[metric["measure"]])
    value = number(row["value"])
    if not row["value"]:
        pass  # told already
    elif math.isnan(value):
        yield f"value: expected a number, got {SHORT.repr(row['value'])}"
    elif not low <= value <= high:
        yield f"value: expected {low:g} to {high:g} ({metric['unit']}, {metric['measure']}), got {value:.10g}"
    if row["stderr"] and not 0 <= number(row["stderr"]) <= high:
        yield f"stderr: expected a number from 0 to {high:g}, or nothing, got {SHORT.repr(row['stderr'])}"


def number(text: str) -> float:
    """A decimal number as text, with or without a sign; NaN for anything else, infinities included."""
    return float(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else float("nan")


def _columns(lines: list[tuple[int, dict[str, str]]], layer: Layer) -> Iterator[tuple[int, list[float]]]:
    """(first line, values) of each column of percent, but of differences, whose values all lie in -1 to 1."""
    columns: dict[tuple[str, ...], list[tuple[int, float]]] = {}
    for n, row in lines:
        metric = layer.metric(row["metric"])
        if metric["unit"] == "percent" and metric["measure"] != "difference":
            key = tuple(row[name] for name in ("source_key", "table", "regime", "task", "metric"))
            columns.setdefault(key, []).append((n, number(row["value"])))
    for column in columns.values():
        values = [value for _, value in column]
        if 0 < max(map(abs, values)) <= 1:
            yield column[0][0], values


def _fractions(lines: list[tuple[int, dict[str, str]]], layer: Layer) -> Iterator[tuple[int, str]]:
    """Columns that must be fractions but do not say so: taken for percent they would be a hundred times too small."""
    for n, values in _columns(lines, layer):
        if len(values) >= _FEW:
            span = f"{0 if min(values) >= 0 else -1} to 1"
            fault = f"metric: expected 'fraction' in it, as all {len(values)} values of this column lie in {span}"
            yield n, f"{fault}: without the word they are read as percent"


def _twice(lines: list[tuple[int, dict[str, str]]], layer: Layer) -> Iterator[tuple[int, str]]:
    before: dict[tuple[str, ...], list[tuple[Size, str, float]]] = {}
    for row in layer.results[[*KEY, "value"]].to_dict("records"):
        before.setdefault(_key(row), []).append((_size(row), "a row that is there already", row["value"]))
    for n, row in lines:
        size, known = _size(row), before.setdefault(_key(row), [])
        # A model whose size one row leaves open is not another one.
        if found := next((one for one in known if size in (one[0], None) or one[0] is None), None):
            _, where, value = found
            same = "the same" if value == number(row["value"]) else "another"
            yield n, f"value: expected every score once, got {same} value as {where} ({value:g})"
        else:
            known.append((size, f"line {n}", number(row["value"])))


def _key(row: dict[str, str]) -> tuple[str, ...]:
    """What a score is of but for the size, by which it is told from others: see ``_size``."""
    return tuple(plain(row[name]) if name == "model_family" else row[name] for name in KEY if name != "params")


def _size(row: dict[str, str]) -> Size:
    """The size of a row's model in one spelling: its parameters, and whether a part of them is used; None: unknown."""
    text = row["params"]
    try:
        count, sparse = parameters(text)
    except ValueError:  # told already
        return text
    return (count, sparse) if count == count else (text if sparse else None)


def _of_sources(lines: list[tuple[int, dict[str, str]]], layer: Layer) -> Iterator[tuple[int, str]]:
    """Rows that say of their source what the rest of it does not: its quality, or its study."""
    for name in ("quality", "study"):
        known = dict(zip(layer.sources["source_key"], layer.sources[name], strict=True))
        for n, row in lines:
            expected = known.setdefault(row["source_key"], row[name])
            if row[name] != expected and (name == "quality" or row[name]):
                yield n, f"{name}: expected {expected!r} as in the rest of its source, got {SHORT.repr(row[name])}"


def unknown(lines: list[tuple[int, dict[str, str]]], layer: Layer) -> list[str]:
    """Regimes, tasks and kinds of training that no table knows, and units that are not plain. They are accepted; a line
    each says what is assumed."""
    regimes, kinds = set(layer.regimes["regime"]), set(layer.training["intermediate_task"])
    found: dict[str, Any] = {}
    for n, row in lines:
        if row["regime"] not in regimes:
            found.setdefault(f"regime {row['regime']!r}: not in regimes.csv; it is shown in a panel of its own", n)
        if row["intermediate_task"] not in kinds:
            found.setdefault(
                f"intermediate_task {row['intermediate_task']!r}: not in training.csv; it is shown as unclassified", n
            )
        if layer.task(row["task"]) is None:
            found.setdefault(f"task {row['task']!r}: no chance level in tasks.csv; 0 is used, and marked", n)
    for n, values in _columns(lines, layer):  # too few to conclude anything
        found.setdefault(f"value {values[0]:g}: read as percent, as its metric does not say that it is a fraction", n)
    return [f"line {n}: {text}" for text, n in found.items()]

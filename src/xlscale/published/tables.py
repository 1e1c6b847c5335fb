"""The files of ``data_manifest/published/``: results, sources, and the small tables that say what their labels mean.

Labels are looked up by shell patterns (``fnmatch``); the first match counts. A label without a match is not an error:
it gets defaults and a warning, so that new families, tasks, languages and regimes need no code. The order of patterns
matters, then: one that can never count is refused, as a file that was sorted by its patterns has.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xlscale.core.files import MANIFEST, XlscaleError, read_text, relative
from xlscale.core.strict import SHORT, unseen
from xlscale.published import coding

FOLDER = MANIFEST / "published"
COLUMNS = (
    "source_key", "paper_arxiv", "table", "model_family", "model", "params", "intermediate_task", "regime", "task",
    "metric", "language", "value", "where_read", "quality",
)  # fmt: skip
OPTIONAL = ("study", "base_model", "stderr")  # what a file may have beside these
# Two rows that agree in these are the same score given twice.
KEY = ("source_key", "table", "model_family", "model", "params", "intermediate_task", "regime", "task", "metric",
       "language")  # fmt: skip
QUALITIES = ("primary", "full-text copy", "secondary")
# One quality and study per source: they are in sources.csv. The last two are stored where any row has them.
STORED = (*(name for name in COLUMNS if name != "quality"), "base_model", "stderr")
UNKNOWN_ORDER = 99
LONGEST = 500  # characters of a field
HEADERS = {
    "sources": ("source_key", "study", "title", "quality", "licence", "limits"),
    "regimes": ("regime", "group", "order", "title", "protocol"),
    "tasks": ("pattern", "task", "title", "chance", "xtreme_r", "note"),
    "metrics": ("pattern", "unit", "measure", "rank", "note"),
    "training": ("intermediate_task", "training", "type", "focus", "route", "why"),
    "coding": ("intermediate_task", "coder", *coding.FIELDS, "why"),
    "models": ("source_key", "model", "base_model", "family", "params", "skip", "note"),
}
TYPES = ("none", "general", "domain", "mixed", "unclassified")
MEASURES = {"score": (0.0, 1.0), "difference": (-1.0, 1.0), "corrected": (-1.0, 1.0), "similarity": (-1.0, 1.0),
            "translation": (0.0, 1.0)}  # fmt: skip
PER_UNIT = {"percent": 100.0, "fraction": 1.0}
_NUMBER = r"(?:0|[1-9]\d{0,5})(?:\.\d{1,6})?"
_COUNT = re.compile(rf"({_NUMBER})([MB])(?:-A({_NUMBER})B)?(?: \(.*\))?", re.ASCII)
_SPARSE = re.compile(rf"\d{{1,6}}x{_NUMBER}B", re.ASCII)
_FACTOR = {"M": 1e6, "B": 1e9}


@dataclass(frozen=True)
class Layer:
    """All tables of one folder.

    ``results`` has the columns STORED, all text but ``value`` and ``stderr`` (float64, in the unit of their source;
    NaN: not known); the other tables are text, with the columns of HEADERS.
    """

    results: pd.DataFrame
    sources: pd.DataFrame
    regimes: pd.DataFrame
    tasks: pd.DataFrame
    metrics: pd.DataFrame
    training: pd.DataFrame
    coding: pd.DataFrame
    models: pd.DataFrame

    def task(self, label: str) -> dict[str, str] | None:
        """The row of tasks.csv for a label; None where no pattern matches."""
        return self._first("tasks", label)

    def metric(self, label: str) -> dict[str, str]:
        """The row of metrics.csv for a label; its last pattern matches everything."""
        found = self._first("metrics", label)
        if found is None:
            raise XlscaleError(f"metrics.csv: no pattern fits {label!r}: expected a last row with the pattern '*'")
        return found

    def model(self, source: str, name: str) -> dict[str, str]:
        """The row of models.csv for a model of a source; empty texts where there is none."""
        for row in self._patterns["models"]:
            if fnmatchcase(source, row["source_key"]) and fnmatchcase(name, row["model"]):
                return row
        return dict.fromkeys(HEADERS["models"], "")

    @cached_property
    def _patterns(self) -> dict[str, list[dict[str, str]]]:
        return {name: getattr(self, name).to_dict("records") for name in ("tasks", "metrics", "models")}

    @cached_property
    def _found(self) -> dict[tuple[str, str], dict[str, str] | None]:
        return {}

    def _first(self, name: str, label: str) -> dict[str, str] | None:
        if (name, label) not in self._found:
            rows = self._patterns[name]
            self._found[name, label] = next((row for row in rows if fnmatchcase(label, row["pattern"])), None)
        return self._found[name, label]


def plain(family: str) -> str:
    """A family's name without what its spellings differ in, case and punctuation: "Llama-2", "Llama2", "Llama 2"."""
    return re.sub(r"[^\w.]|_", "", family.lower())


def load(folder: Path = FOLDER) -> Layer:
    """Read and check the layer in ``folder``. Without a results file there are no results yet.

    Raises XlscaleError naming the file that cannot be read, lacks a column, has a text that looks like another, an
    unknown type or unit, or a pattern that never counts, and for results of a source that is not in sources.csv.
    """
    folder = Path(folder)
    small = {name: _read(folder / f"{name}.csv", header) for name, header in HEADERS.items()}
    _check_words(folder, small)
    _check_patterns(folder, small)
    small = {name: table.reset_index(drop=True) for name, table in small.items()}
    coding.check(small["coding"])
    layer = Layer(results=read_results(folder / "results.parquet"), **small)
    lost = sorted(set(layer.results["source_key"]) - set(layer.sources["source_key"]))
    if lost:
        raise XlscaleError(f"{relative(folder / 'sources.csv')}: source_key: expected a row for {lost[0]!r}")
    return layer


def read_results(path: Path) -> pd.DataFrame:
    """``results.parquet`` with the columns STORED, empty where there is none. Raises XlscaleError if unreadable."""
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=float if name in _NUMBERS else str) for name in STORED})
    try:
        found = pq.read_table(path).to_pandas()
        found = found.assign(**{name: empty for name, empty in _SOMETIMES.items() if name not in found})
        return found[[*STORED]].astype(dict.fromkeys(_TEXT, str))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise XlscaleError(
            f"{relative(path)}: not a readable table of results ({' '.join(str(error).split())})"
        ) from None


_NUMBERS = ("value", "stderr")
_TEXT = [name for name in STORED if name not in _NUMBERS]
_SOMETIMES = {"base_model": "", "stderr": float("nan")}


def write_results(results: pd.DataFrame, path: Path) -> None:
    """Write ``results.parquet``: its bytes depend on the rows and on the version of pyarrow alone."""
    used = [name for name in STORED if name not in _SOMETIMES or not results[name].isin([_SOMETIMES[name]]).all()]
    schema = pa.schema([(name, pa.float64() if name in _NUMBERS else pa.string()) for name in used])
    table = pa.Table.from_pandas(results[used], schema=schema, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd", compression_level=19)


def parsed(
    path: Path | str, text: str, check: Callable[[list[str]], None]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV file and its rows as (line, fields), without empty lines. ``check`` sees the header first.

    Raises XlscaleError when it is no such file, with a line per row whose number of fields is not the header's.
    """
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        check(header)
        lines = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise XlscaleError(f"{path}: not a readable CSV file ({error})") from None
    expected = f"expected {len(header)} fields"
    ragged = [f"{path}:{n}: {expected}, got {len(row)}" for n, row in lines if len(row) != len(header)]
    if ragged:
        raise XlscaleError("\n".join(ragged))
    return header, lines


def unclear(text: str) -> str:
    """What is wrong with a text that could look like another one and be another's twice, or is no line of text; nothing
    if all is well."""
    if fault := unseen(text):
        return fault
    if not text.isprintable() or len(text) > LONGEST:
        return f"expected at most {LONGEST} characters that print, got {SHORT.repr(text)}"
    if text != text.strip() or "  " in text or not unicodedata.is_normalized("NFC", text):
        return f"expected single spaces between words and composed characters (NFC), got {SHORT.repr(text)}"
    return ""


def _read(path: Path, header: tuple[str, ...]) -> pd.DataFrame:
    """A small table, its index the lines of the file."""
    where = relative(path)

    def check(found: list[str]) -> None:
        if tuple(found) != header:
            raise XlscaleError(f"{where}: header: expected {','.join(header)}, got {','.join(found)}")

    _, lines = parsed(where, read_text(path), check)
    for number, row in lines:
        for column, value in zip(header, row, strict=True):
            if fault := unclear(value):
                raise XlscaleError(f"{where}: line {number}: {column}: {fault}")
    return pd.DataFrame([row for _, row in lines], index=[n for n, _ in lines], columns=[*header], dtype=str)


def _check_words(folder: Path, small: dict[str, pd.DataFrame]) -> None:
    """Raise XlscaleError naming file, line and column of a word or number that is none, or of a key that is twice."""
    for (name, column), (right, expected) in _FORMS.items():
        values = small[name][column]
        if len(wrong := values.index[[not right(text) for text in values]]):
            where = f"{relative(folder / name)}.csv: line {wrong[0]}"
            raise XlscaleError(f"{where}: {column}: expected {expected}, got {SHORT.repr(values[wrong[0]])}")
    for name, column in _KEYS.items():
        keys = small[name][column]
        if len(twice := keys.index[keys.duplicated()]):
            where = f"{relative(folder / name)}.csv: line {twice[0]}"
            raise XlscaleError(f"{where}: {column}: expected every one once, got {SHORT.repr(keys[twice[0]])} again")


def _check_patterns(folder: Path, small: dict[str, pd.DataFrame]) -> None:
    """Raise XlscaleError naming file and lines of a pattern that never counts, as one above it matches all of it."""
    for name, columns in _PATTERNS.items():
        rows = [*small[name][[*columns]].itertuples(name=None)]
        for index, (line, *patterns) in enumerate(rows):
            for first, *others in rows[:index]:
                if all(map(_covers, others, patterns)):
                    where = f"{relative(folder / name)}.csv: line {line}: {columns[-1]}"
                    expected = f"a pattern that line {first} ({SHORT.repr(others[-1])}) does not match wholly"
                    raise XlscaleError(f"{where}: expected {expected}, got {SHORT.repr(patterns[-1])}")


def _covers(first: str, then: str) -> bool:
    """Whether ``first`` matches every label that ``then`` does. Of a pattern with "[" that is known only where ``then``
    is a single label, or the same."""
    one = _ONE.sub("\0", then)  # a character that no pattern has: only a wildcard matches it
    if "[" in first and (one != then or "*" in then):
        return first == then
    return all(fnmatchcase(one.replace("*", some), first) for some in ("", "\0", "\0\0"))


_ONE = re.compile(r"\[!?\]?[^]]*\]|\?")  # what stands for one character
_PATTERNS = {"tasks": ("pattern",), "metrics": ("pattern",), "models": ("source_key", "model")}


def _one_of(*words: str) -> tuple[Callable[[str], object], str]:
    return words.__contains__, f"one of {', '.join(words)}"


def _is_count(text: str) -> bool:
    try:
        parameters(text)
    except ValueError:
        return False
    return True


def _are_languages(text: str) -> bool:
    try:
        coding.languages(text)
    except ValueError:
        return False
    return True


# Of the columns whose texts label or group what is estimated, those that always have one.
_FILLED = {
    "sources": ("source_key", "study"),
    "regimes": ("regime", "group", "title", "protocol"),
    "tasks": ("pattern",),
    "metrics": ("pattern",),
    "training": ("intermediate_task", "training", "route"),
    "models": ("source_key", "model"),
}
# What columns of the small tables hold: whether a text is right, and what is expected.
_FORMS: dict[tuple[str, str], tuple[Callable[[str], object], str]] = {
    **{(name, column): (bool, "a text") for name, columns in _FILLED.items() for column in columns},
    ("training", "type"): _one_of(*TYPES),
    ("coding", "coder"): _one_of(*coding.CODERS, coding.AGREED),
    ("coding", "languages"): (_are_languages, "one or two codes of languages, 'several' or 'unknown'"),
    ("coding", "kind"): _one_of(*coding.KINDS),
    ("coding", "breadth"): _one_of(*coding.BREADTHS),
    ("coding", "disclosed"): _one_of("yes", "no"),
    ("metrics", "unit"): _one_of(*PER_UNIT),
    ("metrics", "measure"): _one_of(*MEASURES),
    ("metrics", "rank"): (re.compile("[0-9]{0,4}").fullmatch, "nothing or a whole number"),
    ("models", "params"): (_is_count, "nothing or a count such as 560M"),
    ("regimes", "order"): (re.compile("[0-9]{1,4}").fullmatch, "a whole number"),
    ("sources", "quality"): _one_of(*QUALITIES),
    ("tasks", "chance"): (re.compile(r"(0(\.[0-9]+)?)?").fullmatch, "nothing or a number from 0 to below 1"),
    ("tasks", "xtreme_r"): _one_of("yes", "no"),
}
_KEYS = {"sources": "source_key", "regimes": "regime", "training": "intermediate_task"}


def parameters(text: str) -> tuple[float, bool]:
    """A count such as "7.1B", "560M" or "57B-A14B" as (total parameters, sparse); NaN for "", "unknown" and "8x7B".

    Sparse models use only a part of their parameters for a token: the second of two counts is not the larger one.
    Raises ValueError for anything else.
    """
    if text in ("", "unknown"):
        return float("nan"), False
    if _SPARSE.fullmatch(text):
        return float("nan"), True
    found = _COUNT.fullmatch(text)
    if not found or float(found[1]) == 0 or (found[3] and not 0 < float(found[3]) * 1e9 <= _total(found)):
        raise ValueError(text)
    return _total(found), found[3] is not None


def _total(count: re.Match[str]) -> float:
    return float(count[1]) * _FACTOR[count[2]]

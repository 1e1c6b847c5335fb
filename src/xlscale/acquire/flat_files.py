"""Rows of a flat file that a user has: CSV, TSV, JSON lines, Parquet, or a word and its tag per line.

Belongs here: from bytes to rows with their places, and the list of all that is wrong with them. What a row means:
``flat_rows``. Text is kept as it is: nothing in it is a number, a missing value, a formula or mark-up.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from xlscale.acquire.external import readers
from xlscale.core.files import XlscaleError, expect_plain, one_line, read_text
from xlscale.core.json_text import parsed
from xlscale.core.strict import SHORT
from xlscale.data.schema import SPLITS

Row = dict[str, Any]
DELIMITED = (".csv", ".tsv")
SUFFIXES = (*DELIMITED, ".jsonl", ".parquet", ".conll")
ROWS = 2_000_000  # of a packed file; each takes some hundred bytes here, however little it took there
MOST = 10_000  # faults that are looked for: of a file of another form every row has some
_NAMED = re.compile(rf"({'|'.join(SPLITS)})-([A-Za-z0-9_-]+)")  # a file of a folder, without what its name ends in


class Place(NamedTuple):
    """A row of a file: ``where`` is "mine.csv:12" or "mine.parquet: row 3"; ``row`` what it says, by column."""

    where: str
    row: Row


class Faults:
    """All that is wrong with a file, a line each that names the place, the field and what was expected there."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, where: str, fault: str) -> None:
        """Note a fault. Raises XlscaleError with all of them where there are too many to go on."""
        self.found.append((where, fault))
        if len(self.found) >= MOST:
            self.end()

    def end(self) -> None:
        """Raise XlscaleError with all faults in the order of files and lines, if there are any."""
        if self.found:
            lines = [f"{where}: {fault}" for where, fault in sorted(self.found, key=_in_order)]
            raise XlscaleError("\n".join([*dict.fromkeys(lines), "nothing was written"]))


def _in_order(found: tuple[str, str]) -> tuple[str, int]:
    file, number = re.fullmatch(r"(.*?)(?:: ?(?:row )?([0-9]+))?", found[0], re.DOTALL).groups()
    return file, int(number or 0)


def read(path: Path, given: Row, faults: Faults) -> tuple[list[Place], list[str]]:
    """The rows of a file, or of the files of a folder, which are called <split>-<language>.<end>; and the names of all
    columns, those that are ``given`` among them. ``given``: what the files do not say, by column.

    Raises XlscaleError where it cannot be read at all.
    """
    places: list[Place] = []
    columns: dict[str, None] = {}
    for one, told in _files(path, faults):
        names, rows = _reader(one)(one, faults)
        columns |= dict.fromkeys([*names, *given, *told])
        for place in rows:
            places.append(Place(place.where, _completed(place, given | told, faults)))
    return places, [*columns]


def _files(path: Path, faults: Faults) -> Iterator[tuple[Path, Row]]:
    """Files with what their names say."""
    if not path.is_dir():
        yield path, {}
        return
    found = sorted(one for one in path.iterdir() if one.name[0] != ".")
    if not found:
        raise XlscaleError(f"{path}: expected files such as train-en.csv and test-de.csv, got an empty folder")
    known: dict[str, str] = {}
    for one in found:
        if (named := _NAMED.fullmatch(one.stem)) and one.suffix in SUFFIXES:
            if (before := known.setdefault(one.stem, one.name)) != one.name:
                faults.add(str(one), f"expected one file of this split and language, got {before} too")
            yield one, {"split": named[1], "language": named[2]}
        else:
            faults.add(str(one), f"expected a name such as train-en.csv, which ends in {', '.join(SUFFIXES)}")


def _completed(place: Place, given: Row, faults: Faults) -> Row:
    """A row with what the file's name, or the user, says beside it."""
    for name, value in given.items():
        if (here := place.row.get(name)) not in (None, value):
            faults.add(place.where, f"{name}: expected {value!r} as stated for the whole file, got {SHORT.repr(here)}")
    return place.row | given


Rows = tuple[list[str], list[Place]]  # the names of columns, and the rows


def _reader(path: Path) -> Callable[[Path, Faults], Rows]:
    known = {".csv": _delimited, ".tsv": _delimited, ".jsonl": _objects, ".parquet": _parquet, ".conll": _tagged}
    if path.suffix not in known:
        raise XlscaleError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}, or a folder of such files")
    return known[path.suffix]


def _text(path: Path) -> str:
    text = read_text(path, readers.LARGEST)
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise XlscaleError(f"{path}:{line}: expected text without the character U+0000, which no text has")
    return text


@contextmanager
def _long_fields() -> Iterator[None]:
    """The library stops at fields of 131,072 characters."""
    before = csv.field_size_limit(readers.LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimited(path: Path, faults: Faults) -> Rows:
    """A header and rows, quoted as spreadsheets and pandas do it; an empty field is no value. The line of a row is
    where it begins: a quoted text may go over several."""
    text, places = _text(path), []
    head = text.partition("\n")[0]
    # Spreadsheets of many countries put semicolons into what they call CSV.
    delimiter = "\t" if path.suffix == ".tsv" else ";" if ";" in head and "," not in head else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    with _long_fields():
        try:
            header = [name.strip() for name in next(reader, [])]
            _check_header(f"{path}:1", header)
            line = reader.line_num + 1
            for fields in reader:
                if len(fields) == len(header):
                    places.append(Place(f"{path}:{line}", {n: v or None for n, v in zip(header, fields, strict=True)}))
                elif fields:
                    faults.add(f"{path}:{line}", f"expected {len(header)} fields as in the header, got {len(fields)}")
                line = reader.line_num + 1
        except csv.Error as error:
            expected = f"fields with {delimiter!r} between, quotes closed and doubled"
            faults.add(f"{path}:{line}", f"expected {expected} ({one_line(error)})")
    return header, places


def _check_header(where: str, header: list[str]) -> None:
    if not any(header):
        raise XlscaleError(f"{where}: header: expected the names of columns, got none")
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise XlscaleError(f"{where}: header: expected each column once, got {SHORT.repr(twice)} again")


def _objects(path: Path, faults: Faults) -> Rows:
    """A JSON object per line; null is no value."""
    places: list[Place] = []
    names: dict[str, None] = {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        where = f"{path}:{number}"
        try:
            value = parsed(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            faults.add(where, f"expected JSON ({one_line(error)})")
            continue
        if isinstance(value, dict):
            names |= dict.fromkeys(value)
            places.append(Place(where, value))
        elif line.strip():
            faults.add(where, f"expected a JSON object, got {SHORT.repr(value)}")
    return [*names], places


def _parquet(path: Path, faults: Faults) -> Rows:
    """The rows of a table, whatever types pandas, polars or others gave its columns."""
    expect_plain(path)
    with readers.expecting(path, "a whole Parquet file"):
        rows = _unpacked(path)
    _check_header(f"{path}", rows.column_names)
    with readers.expecting(path, "columns of texts, numbers and lists of them"):
        values = rows.to_pylist()
    missing = {name for name in rows.column_names if pa.types.is_floating(rows.schema.field(name).type)}
    for row in values:  # what pandas writes for no value in a column of numbers
        row.update({name: None for name in missing if row[name] is not None and math.isnan(row[name])})
    return rows.column_names, [Place(f"{path}: row {number}", row) for number, row in enumerate(values, 1)]


def _unpacked(path: Path) -> pa.Table:
    """A whole table. What is packed well may be any size unpacked, so it is measured a few rows at a time."""
    file = pq.ParquetFile(path)
    if (found := file.metadata.num_rows) > ROWS:
        raise XlscaleError(f"{path}: expected at most {ROWS:,} rows, got {found:,}")
    parts, size = [], 0
    for part in file.iter_batches(256):
        values = [one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in part.columns]
        parts.append(pa.RecordBatch.from_arrays(values, part.schema.names))
        if (size := size + parts[-1].nbytes) > readers.LARGEST:
            raise XlscaleError(f"{path}: expected at most {readers.LARGEST:,} bytes, unpacked there are more")
    return pa.Table.from_batches(parts) if parts else file.read()


def _tagged(path: Path, faults: Faults) -> Rows:
    """Sentences: a word, a tab and its tag per line, an empty line between two. The line of a row is its first one."""
    places: list[Place] = []
    first, tokens, tags = 0, [], []
    for number, line in enumerate([*_text(path).split("\n"), ""], 1):
        word, _, tag = (part.strip() for part in line.rstrip("\r").partition("\t"))
        if word and tag and "\t" not in tag:
            first = first or number
            tokens.append(word)
            tags.append(tag)
        elif line.strip():
            faults.add(f"{path}:{number}", f"tags: expected a word, a tab and its tag, got {SHORT.repr(line)}")
        elif tokens:
            places.append(Place(f"{path}:{first}", {"tokens": tokens, "tags": tags}))
            first, tokens, tags = 0, [], []
    return ["tokens", "tags"], places

"""Bundled Parquet: the columns of every task family, and files whose bytes depend on their rows alone.

The bytes also depend on the version of pyarrow, which ``requirements.lock`` pins.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from xlscale.core.files import XlscaleError, atomic, one_line, relative

SPLITS = ("train", "dev", "test")

_COMMON = [("split", pa.string()), ("language", pa.string()), ("item", pa.string()), ("group", pa.string())]
COLUMNS: dict[str, pa.Schema] = {
    "classification": pa.schema([*_COMMON, ("text", pa.string()), ("label", pa.string())]),
    "multiple_choice": pa.schema(
        [*_COMMON, ("text", pa.string()), ("choices", pa.list_(pa.string())), ("answer", pa.int64())]
    ),
    "lexicon": pa.schema([*_COMMON, ("source", pa.string()), ("text", pa.string())]),
    "mining": pa.schema([*_COMMON, ("text", pa.string()), ("pool", pa.string())]),
    "ranking": pa.schema(
        [
            *_COMMON,
            ("text", pa.string()),
            ("role", pa.string()),  # query, candidate, or pair: a query with the text of its relevant candidate
            ("second", pa.string()),  # of a pair: that text
            ("relevant", pa.list_(pa.string())),  # of a candidate: groups of the queries that it answers
        ]
    ),
    "retrieval": pa.schema([*_COMMON, ("text", pa.string())]),
    "span_qa": pa.schema(
        [
            *_COMMON,
            ("question", pa.string()),
            ("context", pa.string()),
            ("answers", pa.list_(pa.string())),
            ("answer_starts", pa.list_(pa.int64())),
            ("article", pa.string()),
        ]
    ),
    "tagging": pa.schema(
        [*_COMMON, ("text", pa.string()), ("tokens", pa.list_(pa.string())), ("tags", pa.list_(pa.string()))]
    ),
    "text": pa.schema([*_COMMON, ("register", pa.string()), ("text", pa.string())]),
}
TEXT = dict.fromkeys(COLUMNS, "text") | {"span_qa": "context"}  # the column that is measured and compared
# The English text that a row translates, where the bundle holds no English row of the same group.
ORIGINAL = pa.field("original", pa.string())
# Columns that a set may have besides: the second text of a pair (classification); the pool whose English rows are a
# query's candidates, where not all are (retrieval).
OPTIONAL = {"classification": [pa.field("second", pa.string())], "retrieval": [pa.field("pool", pa.string())]}

Row = Mapping[str, Any]
Item = TypeVar("Item")


def shuffled(items: Iterable[Item], seed: str, key: Callable[[Item], str] = str) -> list[Item]:
    """``items`` in an order that only ``seed`` and their keys decide, the same on every machine and version."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed}\n{key(item)}".encode()).digest())


def sampled(name: str, seed: str, fraction: float) -> bool:
    """Whether ``name`` is in a random ``fraction`` of all names; it and ``seed`` alone decide, on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:4]) < fraction * 2**32


def table(family: str, rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table in the family's schema, sorted by split, language and the order given.

    Raises XlscaleError when an item occurs twice in a language.
    """
    rows = sorted(rows, key=lambda row: (SPLITS.index(row["split"]), row["language"]))
    twice = [key for key, n in Counter((row["language"], row["item"]) for row in rows).items() if n > 1]
    if twice:
        raise XlscaleError(f"item: {twice[0][1]!r} occurs more than once in language {twice[0][0]!r}, expected once")
    schema = COLUMNS[family]
    if any("original" in row for row in rows):
        schema = schema.append(ORIGINAL)
    return pa.Table.from_pylist(rows, schema=schema)


def write(rows: pa.Table, path: Path, canary: str | None = None, level: int = 19, group: int | None = None) -> None:
    """Write a bundle atomically: zstd, no metadata but the canary string that has to travel along.

    ``level`` is that of the compression, ``group`` the rows of a row group (None: there is one).
    """
    rows = rows.replace_schema_metadata(None)
    options = {"compression": "zstd", "compression_level": level, "version": "2.6", "store_schema": False}
    with atomic(path) as temporary, pq.ParquetWriter(temporary, rows.schema, **options) as writer:
        if canary:
            writer.add_key_value_metadata({"canary": canary})
        writer.write_table(rows, row_group_size=group or max(1, len(rows)))


def read(path: Path) -> pa.Table:
    """Read a bundle. Raises XlscaleError naming the file when it is not whole Parquet."""
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise XlscaleError(f"{relative(path)}: expected a whole Parquet file ({one_line(error)})") from None


def counts(rows: pa.Table) -> dict[str, dict[str, int]]:
    """Rows per split and language, as in a card's ``splits``."""
    pairs = Counter(zip(rows["split"].to_pylist(), rows["language"].to_pylist(), strict=True))
    return {
        split: {language: n for (s, language), n in sorted(pairs.items()) if s == split}
        for split in SPLITS
        if any(s == split for s, _ in pairs)
    }

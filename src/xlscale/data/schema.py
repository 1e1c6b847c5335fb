"""Bundled Parquet: the columns of every task family, and files whose bytes depend on their rows alone.

The bytes also depend on the version of pyarrow, which ``requirements.lock`` pins.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xlscale.cards.schema import NEAR
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
# Family -> the column with a row's class or classes, and the one that tells what is right; of ranking and mining it is
# not one column.
LABELS = {"classification": "label", "multiple_choice": "answer", "tagging": "tags"}
GOLD = LABELS | {"lexicon": "source", "retrieval": "group", "span_qa": "answers"}
# The English text that a row translates, where the bundle holds no English row of the same group.
ORIGINAL = pa.field("original", pa.string())
# Columns that a set may have besides: the second text of a pair (classification); the pool whose English rows are a
# query's candidates, where not all are (retrieval).
OPTIONAL = {"classification": [pa.field("second", pa.string())], "retrieval": [pa.field("pool", pa.string())]}

# Texts that a model reads whole: with a character at least that is neither white space, control nor format.
READ = {"text", "second", "source", "question", "context", "choices", "answers"}
WITHOUT = "text without the character U+0000, which no text has"
VISIBLE = r"[^\s\pZ\pC]"
LISTS = {"choices", "tokens", "tags"}  # that are never empty
# An item as files hold it, one in a line or with tabs between, those of a ranking with spaces between.
IDENTIFIER, RANKED = r"^[^\x00-\x1f\x7f]+$", r"^[^\s\x00-\x1f\x7f]+$"

Row = Mapping[str, Any]
Item = TypeVar("Item")


def shuffled(items: Iterable[Item], seed: str, key: Callable[[Item], str] = str) -> list[Item]:
    """``items`` in an order that only ``seed`` and their keys decide, the same on every machine and version."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed}\n{key(item)}".encode()).digest())


def sampled(name: str, seed: str, fraction: float) -> bool:
    """Whether ``name`` is in a random ``fraction`` of all names; it and ``seed`` alone decide, on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:4]) < fraction * 2**32


def is_control(name: str) -> bool:
    """Whether an English name of a lexicon is kept apart in all languages, to be asked and never trained on: a tenth
    is."""
    return sampled(name.casefold(), "lexical 1", 0.1)


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


def fault(family: str, rows: pa.Table) -> tuple[int, str] | None:
    """Index of the first row with an empty or missing value, and what was expected there; None where there is none.

    ``rows`` have columns of the family's types. Not needed are ``original``, ``article``, answers (the card says
    whether a question has some) and, in a ranking, ``relevant`` and the ``second`` text of what is no pair.
    """
    found = []
    for name in (name for name in rows.column_names if name not in ("original", "article")):
        values = rows[name].combine_chunks()
        if (family, name) == ("ranking", "second"):
            values = pc.if_else(pc.equal(rows["role"].combine_chunks(), "pair"), values, "none")
        expected, owner, lacking, nul = "a value", np.arange(len(rows)), np.empty(0, np.int64), ()
        if pa.types.is_list(values.type):
            least = int(name in LISTS)
            expected = "at least one, none of them empty" if least else "a list without empty values"
            lacking = np.flatnonzero(pc.less(pc.fill_null(pc.list_value_length(values), -1), least))
            owner, values = pc.list_parent_indices(values).to_numpy(), pc.list_flatten(values)
        elif pa.types.is_string(values.type):
            expected = "a text that is not empty"
        if pa.types.is_string(values.type):
            nul = owner[np.flatnonzero(pc.fill_null(pc.match_substring(values, "\0"), False))]
            # The text of a tagging set is its tokens.
            pattern = VISIBLE if name in READ and family != "tagging" else "(?s)."
            if name == "item":
                pattern = RANKED if family == "ranking" else IDENTIFIER
                expected = "an id without control characters" + (" and spaces" if family == "ranking" else "")
            values = pc.if_else(pc.match_substring_regex(values, pattern), values, None)
        empty = np.concatenate([lacking, owner[np.flatnonzero(pc.is_null(values))]])
        for row, wanted in [*((row, expected) for row in empty[:1]), *((row, WITHOUT) for row in nul[:1])]:
            got = repr(rows[name][row].as_py())
            found.append((int(row), f"{name}: expected {wanted}, got {got if len(got) < 60 else f'{got[:57]}...'}"))
    return min(found, default=None)


def unanswered(family: str, rows: pa.Table) -> tuple[int, str] | None:
    """Index of the first query that no row of its split and pool answers, and what was expected; None where all are.

    In retrieval an English row answers its group; in a ranking a candidate those to which it is relevant, and a pair
    its own. Other families have no queries.
    """
    groups = rows["group"].to_pylist()
    if family == "retrieval":
        expected = "that of an English row (lines are counted from 0)"
        asking = pc.not_equal(rows["language"], "en").to_pylist()
        answered = [[] if asks else [group] for asks, group in zip(asking, groups, strict=True)]
    elif family == "ranking":
        expected = "one to which a candidate is relevant"
        asking = pc.not_equal(rows["role"], "candidate").to_pylist()
        columns = zip(rows["role"].to_pylist(), groups, rows["relevant"].to_pylist(), strict=True)
        answered = [[group] if role == "pair" else relevant or [] for role, group, relevant in columns]
    else:
        return None
    within = [*zip(*(rows[name].to_pylist() for name in ("split", "pool") if name in rows.column_names), strict=True)]
    known = {(place, group) for place, several in zip(within, answered, strict=True) for group in several}
    for row, (place, group, asks) in enumerate(zip(within, groups, asking, strict=True)):
        if asks and (place, group) not in known:
            return row, f"group: expected {expected}, got {group[:60]!r}"
    return None


def other_chance(stated: float, rows: pa.Table) -> str | None:
    """What is wrong with the level of chance that a card states for rows of multiple choice; None where it is that of
    one of the choices of a row, on average."""
    sizes = pc.list_value_length(rows["choices"]).to_numpy()
    given = float(np.mean(1 / sizes)) if len(sizes) else stated
    near = np.isclose(stated, given, rtol=NEAR)
    return None if near else f"chance: expected {given:.4g}, that of one of a row's choices on average, got {stated}"


def write(
    rows: pa.Table,
    path: Path,
    canary: str | None = None,
    level: int = 19,
    group: int | None = None,
    dictionary: bool = True,
) -> None:
    """Write a bundle atomically: zstd, no metadata but the canary string that has to travel along.

    ``level`` is that of the compression, ``group`` the rows of a row group (None: there is one), ``dictionary`` whether
    values that come again are written once, which takes more room where hardly any does.
    """
    rows = rows.replace_schema_metadata(None)
    options = {"compression": "zstd", "compression_level": level, "version": "2.6", "store_schema": False}
    options["use_dictionary"] = dictionary
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

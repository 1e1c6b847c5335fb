"""From a card's source to the one Parquet file that everything else reads, and the lock that pins it.

The first conversion writes the lock: hashes of what was read, hash and numbers of rows of what was made. Every later
one, on any machine, has to agree with it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from xlscale import cards
from xlscale.cards import DataCard
from xlscale.data import bundles
from xlscale.data.sources import columns, places, readers
from xlscale.files import CACHE, XlscaleError, atomic, relative, sha256_file, write_json
from xlscale.origins import Lock, Part

CHUNK = 10_000  # rows that are plain Python at a time
ROW_GROUP = 50_000


def ensure(card: DataCard) -> Path:
    """The Parquet file of a locked card, made now if it is not there. Raises XlscaleError without a lock."""
    cards.locked(card.name)
    if not (card.path.exists() and sha256_file(card.path) == card.sha256):
        make(card)
    return card.path


def make(card: DataCard, revisions: dict[str, str | None] | None = None) -> Lock:
    """Convert what is on this machine, and return the lock, which is written if there was none.

    ``revisions``: the commits that repositories were fetched at. Raises XlscaleError when a file is missing, is not the
    one that the lock pins, has not the records that the card expects, or gives other rows than those locked.
    """
    folder = CACHE / "data"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{card.name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        seen, table = hashes(card), rows(card)
        made = folder / f"{card.name}.parquet"
        with atomic(made) as temporary:
            _write(table, temporary, card.canary)
            found = _locked(card, table, sha256_file(temporary), revisions, seen)
        made.replace(cards.data_card(card.name).path)
    return found


def _locked(card: DataCard, table: pa.Table, sha256: str, revisions: dict | None, seen: dict) -> Lock:
    """The lock: the one that is there, if it agrees, else a new one, written."""
    where = cards.lock_path(card.name)
    if known := cards.lock(card.name):
        if known.sha256 != sha256:
            raise XlscaleError(
                f"{card.name}: sha256: expected {known.sha256} as in {relative(where)}, made {sha256}; the bytes "
                f"depend on pyarrow's version, on the card and on the files it names"
            )
        return known
    hubs = {origin.repository: origin.revision for origin in card.source.origins.values() if origin.repository}
    found = Lock(
        card=card.name,
        sha256=sha256,
        splits=bundles.counts(table),
        labels=_labels(card, table),
        revisions=hubs | (revisions or {}),
        files=seen,
    )
    write_json(where, found.model_dump())
    cards.forget()
    return found


def files(card: DataCard) -> Iterator[tuple[str, Path]]:
    """Name in the lock and path of every file that a card's rows are made of, on this machine. Raises XlscaleError."""
    for part in card.source.parts:
        for code in part.named():
            place, paths = places.first(card.source.origins, part, code)
            yield from ((places.key(card.source.origins[place.origin], path), path) for path in paths)
            if beside := places.labels(place, code, part.named()[code]):
                yield places.label_key(beside), beside


def hashes(card: DataCard) -> dict[str, tuple[int, str]]:
    """Bytes and sha256 of the files. Raises XlscaleError when one is not what the lock pins."""
    known = cards.lock(card.name)
    found: dict[str, tuple[int, str]] = {}
    for key, path in tqdm(
        sorted(set(files(card))), desc=f"{card.name}: hashes", unit="file", mininterval=5, disable=None
    ):
        found[key] = path.stat().st_size, sha256_file(path)
        pinned = known.files.get(key) if known else None
        if pinned and pinned != found[key]:
            raise XlscaleError(
                f"{relative(path)}: sha256: expected {pinned[1]} as in {relative(cards.lock_path(card.name))}, "
                f"got {found[key][1]}"
            )
    return found


def rows(card: DataCard) -> pa.Table:
    """All rows, in the schema of the family, by split and language. Raises XlscaleError naming file and field."""
    schema = _schema(card)
    progress = iter(tqdm(_rows(card), desc=f"{card.name}: rows", unit="row", mininterval=5, disable=None))
    chunks = []
    while chunk := list(islice(progress, CHUNK)):
        chunks.append(_table(card, chunk, schema))
    table = pa.concat_tables(chunks) if chunks else schema.empty_table()
    place = pc.index_in(table["split"], pa.array(bundles.SPLITS))
    table = table.take(
        pc.sort_indices(table.append_column("place", place), [("place", "ascending"), ("language", "ascending")])
    )
    counted = table.group_by(["language", "item"]).aggregate([([], "count_all")])
    twice = counted.filter(pc.greater(counted["count_all"], 1))
    if len(twice):
        one = twice.slice(0, 1).to_pylist()[0]
        raise XlscaleError(
            f"{card.name}: item: {one['item']!r} occurs more than once in language {one['language']!r}, expected once"
        )
    if missing := [code for code in card.languages if code not in bundles.counts(table).get("test", {})]:
        raise XlscaleError(f"{card.name}: language {missing[0]!r} is missing from split test")
    return table


def _table(card: DataCard, chunk: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    try:
        return pa.Table.from_pylist(chunk, schema=schema)
    except (pa.ArrowException, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise XlscaleError(
            f"{card.name}: columns: expected values of the types of family {card.family} ({reason})"
        ) from None


def _schema(card: DataCard) -> pa.Schema:
    given = {name for part in card.source.parts for place in part.places for name in place.columns}
    given |= set(card.source.columns)
    schema = bundles.COLUMNS[card.family]
    for field in bundles.OPTIONAL.get(card.family, []):
        schema = schema.append(field) if field.name in given else schema
    return schema


def _rows(card: DataCard) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(card.source.parts):
        for code in part.named():
            yield from _part(card, part, code, number)


def _part(card: DataCard, part: Part, code: str, number: int) -> Iterator[dict[str, Any]]:
    """The rows of one language of one part."""
    place, paths = places.first(card.source.origins, part, code)
    name = part.named()[code]
    specs = {"item": "{@part}-{@row}", "group": "{@part}-{@row}"} | card.source.columns | place.columns
    records = readers.read(place.reader, paths, places.labels(place, code, name))
    for count, record in enumerate(records):
        record |= {"@code": code, "@language": name, "@row": count, "@part": number}
        try:
            if columns.kept(place.where, record) and _on_this_side(card, part, record):
                language = columns.filled(part.language, record) if part.language else code
                row = {column: columns.make(spec, record) for column, spec in specs.items() if spec != "-"}
                yield _finished(card, row | {"split": part.split, "language": language})
        except XlscaleError as error:
            raise XlscaleError(f"{card.name}: {relative(paths[0])}, record {count + 1}: {error}") from None


def _on_this_side(card: DataCard, part: Part, record: dict[str, Any]) -> bool:
    """Whether a record is in train, or in dev, where both are dealt from one split of the source."""
    if part.held_out is None:
        return True
    value = str(columns.field(record, part.held_out.field))
    return bundles.drawn(value, card.name, part.held_out.share) == (part.split == "dev")


def _finished(card: DataCard, row: dict[str, Any]) -> dict[str, Any]:
    """A row in the family's own terms. Raises XlscaleError where it cannot be one."""
    row["item"], row["group"] = str(row["item"]), str(row["group"])
    if card.family == "multiple_choice":
        if "wrong" in row:
            dealt = bundles.shuffled([row["right"], *row.pop("wrong")], row["item"])
            row |= {"choices": dealt, "answer": dealt.index(row.pop("right"))}
        if not str(row["answer"]).isdigit():
            raise XlscaleError(f"answer: expected the place of a choice, got {row['answer']!r}")
        row["answer"] = int(row["answer"])
        if len(row["choices"]) < 2 or not 0 <= row["answer"] < len(row["choices"]):
            raise XlscaleError(
                f"answer: expected the place of one of {len(row['choices'])} choices, got {row['answer']}"
            )
    elif card.family == "tagging":
        if len(row["tokens"]) != len(row["tags"]):
            raise XlscaleError(f"tags: expected {len(row['tokens'])}, one per token, got {len(row['tags'])}")
        known = set(card.labels or row["tags"]) | {f"{p}-{label}" for label in card.labels or [] for p in "BI"} | {"O"}
        if unknown := set(row["tags"]) - known:
            raise XlscaleError(f"tags: expected one of {', '.join(sorted(known))}, got {min(unknown)!r}")
    elif card.family == "classification" and card.labels and row["label"] not in card.labels:
        raise XlscaleError(f"label: expected one of {', '.join(card.labels)}, got {row['label']!r}")
    elif card.family == "span_qa":
        _check_answers(card, row)
    return row


def _check_answers(card: DataCard, row: dict[str, Any]) -> None:
    if not row["answers"] and not card.unanswerable:
        raise XlscaleError("answers: expected at least one")
    row["article"] = row.get("article") or ""
    for answer, start in zip(row["answers"], row["answer_starts"], strict=True):
        if row["context"][start : start + len(answer)] != answer:
            raise XlscaleError(f"answer_starts: expected {answer!r} at character {start} of the context")


def _labels(card: DataCard, table: pa.Table) -> list[str] | None:
    """The classes of a set whose card lists none: those of its training split, sorted, as the first lock has them."""
    if known := cards.lock(card.name):
        return known.labels
    if card.labels or card.family not in ("classification", "tagging"):
        return None
    column = table.filter(pc.equal(table["split"], "train"))["label" if card.family == "classification" else "tags"]
    values = pc.list_flatten(column) if card.family == "tagging" else column
    return sorted(pc.unique(values).to_pylist())


def _write(table: pa.Table, path: Path, canary: str | None) -> None:
    """As ``bundles.write`` does, in row groups: these files may be large."""
    options = {"compression": "zstd", "version": "2.6", "store_schema": False}
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        if canary:
            writer.add_key_value_metadata({"canary": canary})
        writer.write_table(table, row_group_size=ROW_GROUP)

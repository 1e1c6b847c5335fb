"""From a card's source to the one Parquet file that everything else reads, and the lock that pins it.

The first conversion writes the lock: hashes of what was read, hash and numbers of rows of what was made. Every later
one, on any machine, has to agree with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from xlscale.acquire.datasets import current
from xlscale.acquire.external import bucc, columns, conllu, inputs, lareqa, mewslix, readers, tatoeba
from xlscale.cards import catalogue, places
from xlscale.cards.languages import canonical
from xlscale.cards.schema import LABEL, DataCard, is_label
from xlscale.cards.sources import Lock, Repository, SplitSource
from xlscale.core.files import CACHE, XlscaleError, atomic, one_line, relative, sha256_file
from xlscale.core.progress import bar
from xlscale.core.strict import parse
from xlscale.data import schema, words

CHUNK = 10_000  # rows that are plain Python at a time
ROW_GROUP, LEVEL = 50_000, 1  # of the Parquet file and its compression: these files may be large
READERS = {
    "parquet": readers.parquet,
    "jsonl": readers.jsonl,
    "tsv": readers.tsv,
    "tags": readers.tags,
    "squad": readers.squad,
    "lines": readers.lines,
    "conllu": conllu.read,
    "bucc": bucc.read,
    "lareqa": lareqa.read,
    "mewslix": mewslix.read,
    "tatoeba": tatoeba.read,
}
WHERE = "@where"  # of a row that is plain Python: the file and record that it was made of
ENOUGH = 50  # rows of one language that are not all labelled alike, unless their labels were taken out
MOST_DROPPED = 0.05  # of a set's rows: more, and it is not the set that the card describes


def ensure(card: DataCard) -> Path:
    """The Parquet file of a locked card, made now if it is not there. Raises XlscaleError without a lock."""
    catalogue.locked(card.name)
    places.origins(card)  # raises where the lock is not of the card's commits
    if not current(card):
        with _alone(card):
            if not current(card):
                try:
                    _make(card, {})
                except places.Missing as error:
                    raise XlscaleError(f"{card.name}: {error}; run `make data-fetch CARD={card.name}`") from None
    return card.path


def make(card: DataCard, commits: dict[str, str] | None = None) -> Lock:
    """Convert what is on this machine, and return the lock, which is written if there was none.

    ``commits``: of the repositories that were downloaded. Raises XlscaleError when a file is missing, is not the one
    that the lock pins, has not the records that the card expects, or gives other rows than those locked.
    """
    with _alone(card):
        return _make(card, commits or {})


def _alone(card: DataCard) -> FileLock:
    """For one process at a time to make a card's file."""
    folder = CACHE / "data"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{card.name}.lock")


def _make(card: DataCard, commits: dict[str, str]) -> Lock:
    here, dropped = places.at(card, commits), []
    seen, table = inputs.hashes(here), rows(here, dropped)
    if other := dict(seen.items() ^ inputs.hashes(here).items()):
        raise XlscaleError(f"{card.name}: {min(other)}: expected the same bytes before and after it was read")
    made = CACHE / "data" / f"{card.name}.parquet"
    with atomic(made) as temporary:
        schema.write(table, temporary, card.canary, LEVEL, ROW_GROUP)
        values = {
            "card": card.name,
            "sha256": sha256_file(temporary),
            "splits": schema.counts(table),
            "labels": _labels(card, table),
            "dropped": len(dropped),
            "revisions": {o.address: None for o in card.source.origins.values() if o.address} | commits,
            "files": seen,
        }
        found = _agreed(parse(Lock, values, card.name))
    made.replace(catalogue.data_card(card.name).path)
    return found


def _agreed(found: Lock) -> Lock:
    """The lock: the one that is there, if ``found`` agrees with it, else ``found``, written."""
    where = catalogue.lock_path(found.card)
    if known := catalogue.lock(found.card):
        if known.sha256 != found.sha256:
            raise XlscaleError(
                f"{found.card}: sha256: expected {known.sha256[:16]} as in {relative(where)}, made {found.sha256}; "
                f"the bytes depend on pyarrow's version, on the card and on its files"
            )
        return known
    return catalogue.write_lock(found)


def rows(card: DataCard, dropped: list[str] | None = None) -> pa.Table:
    """All rows, in the schema of the family, by split and language. Raises XlscaleError naming file and field.

    Rows whose answers are not in their context are left out; ``dropped`` gets a line for each.
    """
    types = _types(card)
    dropped = [] if dropped is None else dropped
    progress = iter(bar(_rows(card, dropped), desc=f"{card.name}: rows", unit="row"))
    chunks = []
    while chunk := list(islice(progress, CHUNK)):
        chunks.append(_table(card, chunk, types))
    table = pa.concat_tables(chunks) if chunks else types.empty_table()
    if len(dropped) > MOST_DROPPED * (len(table) + len(dropped)):
        raise XlscaleError(
            f"{dropped[0]}; expected at most {MOST_DROPPED:.0%} of rows like that, got {len(dropped)} of "
            f"{len(table) + len(dropped)}"
        )
    rank = pc.index_in(table["split"], pa.array(schema.SPLITS))
    table = table.take(
        pc.sort_indices(table.append_column("rank", rank), [("rank", "ascending"), ("language", "ascending")])
    )
    # Splits are read apart from each other, and may share items: XQuAD's are questions of SQuAD's development set.
    counted = table.group_by(["split", "language", "item"]).aggregate([([], "count_all")])
    twice = counted.filter(pc.greater(counted["count_all"], 1))
    if len(twice):
        one = twice.slice(0, 1).to_pylist()[0]
        raise XlscaleError(
            f"{card.name}: item: {one['item']!r} occurs more than once in split {one['split']}, language "
            f"{one['language']!r}, expected once"
        )
    if fault := schema.unanswered(card.family, table):
        raise XlscaleError(f"{card.name}: item {table['item'][fault[0]].as_py()!r}: {fault[1]}")
    if card.family == "multiple_choice" and (fault := schema.other_chance(card.chance, table)):
        raise XlscaleError(f"card {card.name}: {fault}")
    _check_labelled(card, table)
    if missing := [code for code in card.languages if code not in schema.counts(table).get("test", {})]:
        raise XlscaleError(f"{card.name}: language {missing[0]!r} is missing from split test")
    return table


def _check_labelled(card: DataCard, table: pa.Table) -> None:
    """Raise XlscaleError where all rows of a split and language have one label, as in test files of benchmarks that
    keep the labels apart and leave a 0 or an empty class behind."""
    if (name := schema.LABELS.get(card.family)) is None:
        return
    found = table.select(["split", "language", name])
    if card.family == "tagging":
        parents, values = pc.list_parent_indices(table[name]), pc.list_flatten(table[name])
        found = found.select(["split", "language"]).take(parents).append_column(name, values)
    counted = found.group_by(["split", "language"]).aggregate(
        [(name, "count_distinct"), (name, "count"), (name, "min")]
    )
    for one in counted.filter(pc.equal(counted[f"{name}_count_distinct"], 1)).to_pylist():
        if one[f"{name}_count"] >= ENOUGH:
            raise XlscaleError(
                f"{card.name}: {name}: expected labels in split {one['split']}, language {one['language']!r}, got "
                f"{one[f'{name}_min']!r} in all {one[f'{name}_count']} of them: a file whose labels were taken out"
            )


def _table(card: DataCard, chunk: list[dict[str, Any]], types: pa.Schema) -> pa.Table:
    """The rows in the types of the family, none with an empty text. Raises XlscaleError naming file and record."""
    try:
        table = pa.Table.from_pylist(chunk, schema=types)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        for row in chunk if len(chunk) > 1 else ():
            _table(card, [row], types)
        expected = f"values of the types of family {card.family}"
        raise XlscaleError(f"{chunk[0][WHERE]}: columns: expected {expected} ({one_line(error)})") from None
    if fault := schema.fault(card.family, table):
        raise XlscaleError(f"{chunk[fault[0]][WHERE]}: {fault[1]}")
    return table


def _types(card: DataCard) -> pa.Schema:
    """The columns of the card's family, and those optional ones that its source gives."""
    given = {name for part in card.source.parts for place in part.places for name in place.columns}
    given |= set(card.source.columns)
    optional = [field for field in schema.OPTIONAL.get(card.family, []) if field.name in given]
    return pa.schema([*schema.COLUMNS[card.family], *optional])


def _rows(card: DataCard, dropped: list[str]) -> Iterator[dict[str, Any]]:
    origins = places.origins(card)
    for number, part in enumerate(card.source.parts):
        for code in part.named():
            yield from _part(card, origins, part, code, number, dropped)


def _part(
    card: DataCard, origins: dict[str, Repository], part: SplitSource, code: str, number: int, dropped: list[str]
) -> Iterator[dict[str, Any]]:
    """The rows of one language of one part; a line into ``dropped`` for each that is left out."""
    place, paths = places.first(origins, part, code)
    name = part.named()[code]
    specs = {"item": "{@part}-{@row}", "group": "{@part}-{@row}"} | card.source.columns | place.columns
    records = read(place.reader, paths, places.labels(origins, place, code, name))
    for count, record in enumerate(records):
        record |= {"@code": code, "@language": name, "@row": count, "@part": number}
        where = f"{card.name}: {relative(paths[0])}, record {count + 1}"
        try:
            if columns.matches(place.where, record) and _on_this_side(card, part, record):
                language = _language(columns.filled(part.language, record)) if part.language else code
                row = {column: columns.make(spec, record) for column, spec in specs.items()}
                yield _finished(card, row | {"split": part.split, "language": language}) | {WHERE: where}
        except columns.Misplaced as error:
            dropped.append(f"{where}: {error}")
        except XlscaleError as error:
            raise XlscaleError(f"{where}: {error}") from None
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            expected = f"values of the types of family {card.family}"
            raise XlscaleError(f"{where}: columns: expected {expected} ({one_line(error)})") from None


def _language(code: str) -> str:
    """Our code of a language that a record names."""
    try:
        return canonical(code)
    except ValueError as error:
        raise XlscaleError(f"language: {error}, got {one_line(repr(code), 40)}") from None


def read(reader: str, paths: Sequence[Path], labels: Path | None = None) -> Iterator[readers.Record]:
    """The records of all ``paths``, in their order; ``labels`` is a file with their labels, where they lie apart."""
    for path in paths:
        with readers.expecting(path, f"what the reader {reader!r} reads"):
            yield from READERS[reader](path, labels) if labels else READERS[reader](path)


def _on_this_side(card: DataCard, part: SplitSource, record: dict[str, Any]) -> bool:
    """Whether a record is in train, or in dev, where both are dealt from one split of the source."""
    if part.held_out is None:
        return True
    value = columns.as_text(record, part.held_out.field)
    return schema.sampled(value, card.name, part.held_out.share) == (part.split == "dev")


def _finished(card: DataCard, row: dict[str, Any]) -> dict[str, Any]:
    """A row in the family's own terms. Raises XlscaleError where it cannot be one."""
    for name in ("item", "group"):
        row[name] = columns.filled(f"{{{name}}}", row)
    for name in (schema.LISTS | {"relevant"}) & row.keys():  # of a text, Arrow would take the characters
        if not isinstance(row[name], list):
            raise XlscaleError(f"{name}: expected a list, got {one_line(repr(row[name]), 60)}")
    if card.family == "multiple_choice":
        if "wrong" in row:
            dealt = schema.shuffled([row["right"], *row.pop("wrong")], row["item"])
            row |= {"choices": dealt, "answer": dealt.index(row.pop("right"))}
        if not re.fullmatch("0|[1-9][0-9]{0,8}", str(row["answer"])):
            raise XlscaleError(f"answer: expected the index of a choice, got {row['answer']!r}")
        row["answer"] = int(row["answer"])
        if len(row["choices"]) < 2 or not 0 <= row["answer"] < len(row["choices"]):
            raise XlscaleError(
                f"answer: expected the index of one of {len(row['choices'])} choices, got {row['answer']}"
            )
    elif card.family == "tagging":
        try:
            words.starts(row["text"], row["tokens"])
        except (TypeError, ValueError, AttributeError) as error:
            raise XlscaleError(f"tokens: expected words of the text, one after another ({one_line(error)})") from None
        if len(row["tokens"]) != len(row["tags"]):
            raise XlscaleError(f"tags: expected {len(row['tokens'])}, one per token, got {len(row['tags'])}")
        known = {*(card.labels or row["tags"])}
        if card.tags == "bio" and card.labels:
            known = {*words.bio(card.labels)}
        if unknown := set(row["tags"]) - known:
            raise XlscaleError(f"tags: expected one of {', '.join(sorted(known))}, got {min(unknown)!r}")
    elif card.family == "classification" and card.labels and row["label"] not in card.labels:
        raise XlscaleError(f"label: expected one of {', '.join(card.labels)}, got {row['label']!r}")
    elif card.family == "span_qa":
        _place_answers(card, row)
    return row


def _place_answers(card: DataCard, row: dict[str, Any]) -> None:
    """Move every answer to where it stands. Raises columns.Misplaced where one is not there."""
    answers, starts = row["answers"], row["answer_starts"]
    if not isinstance(answers, list) or not isinstance(starts, list):
        raise XlscaleError("answers, answer_starts: expected a list each")
    context = row["context"]
    if not isinstance(context, str) or not any(one.isprintable() and one != " " for one in context):
        raise XlscaleError(f"context: expected a text that is not empty, got {one_line(repr(context), 60)}")
    if len(answers) != len(starts):
        raise XlscaleError(f"answer_starts: expected {len(answers)}, one per answer, got {len(starts)}")
    if not answers and not card.unanswerable:
        raise XlscaleError("answers: expected at least one")
    row["article"] = row.get("article") or ""
    found = [columns.located(context, text, start) for text, start in zip(answers, starts, strict=True)]
    row["answers"], row["answer_starts"] = [text for text, _ in found], [start for _, start in found]


def _labels(card: DataCard, table: pa.Table) -> list[str] | None:
    """The classes of a set whose card lists none: those of its training split, sorted, as the first lock has them."""
    if known := catalogue.lock(card.name):
        return known.labels
    if card.labels or card.family not in ("classification", "tagging"):
        return None
    found = _values(card, table.filter(pc.equal(table["split"], "train")))
    for split in card.splits:
        if unknown := {*_values(card, table.filter(pc.equal(table["split"], split)))} - {*found}:
            raise XlscaleError(f"{card.name}: labels: {split}: expected those of train, got {min(unknown)!r}")
    if odd := [label for label in found if not is_label(card.family, card.tags, label)]:
        raise XlscaleError(f"{card.name}: labels: expected {LABEL}, got {odd[0]!r}")
    return found


def _values(card: DataCard, table: pa.Table) -> list[str]:
    column = table[schema.LABELS[card.family]]
    return sorted(pc.unique(pc.list_flatten(column) if card.family == "tagging" else column).to_pylist())

"""Records from files, one reader per format. A record is a dictionary; what its fields mean is the card's business.

A reader takes a file, and perhaps one with its labels, and raises XlscaleError naming file and line. Formats that
belong to one data set have a module of their own: ``bucc``, ``conllu``, ``lareqa``, ``mewslix``. ``convert`` finds them
by name.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from xlscale.core.files import XlscaleError, expect_plain, one_line, plain, read_text, relative
from xlscale.core.json_text import is_integer, parsed

Record = dict[str, Any]
LONGEST = 2**24  # characters of a line
LARGEST = 2**30  # bytes of a file that is read whole
EMPTIED = "; XTREME's download takes labels out of test files, here they have to be there"


# What libraries raise about a file of another form. OverflowError: of times that Python's types do not hold.
_OTHER_FORM = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


@contextmanager
def expecting(path: Path, what: str) -> Iterator[None]:
    """Turn what reading a file of another form raises into one line: the file, ``what`` it was expected to be, why."""
    try:
        yield
    except (*_OTHER_FORM, pa.ArrowException) as error:
        raise XlscaleError(f"{relative(path)}: expected {what} ({one_line(error)})") from None


def parquet(path: Path) -> Iterator[Record]:
    """The rows of a Parquet file, a batch at a time."""
    expect_plain(path)
    with expecting(path, "a whole Parquet file"), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=2048):
            yield from batch.to_pylist()


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file as ``make score`` reads them: without byte-order mark and line ends, and without the
    blank lines after the last other one."""
    blank: list[str] = []
    with expecting(path, "UTF-8 text"), open(path, encoding="utf-8-sig", newline="\n", opener=plain) as file:
        for line in (line.rstrip("\r\n") for line in iter(partial(_line, file), "")):
            blank.append(line)
            if line.strip():
                yield from blank
                blank.clear()


def _line(file: TextIO) -> str:
    """The next line, "" at the end. Raises ValueError for one that is too long to be held."""
    if len(line := file.readline(LONGEST + 1)) > LONGEST:
        raise ValueError(f"a line of more than {LONGEST:,} characters")
    return line


def lines(path: Path, labels: Path | None = None) -> Iterator[Record]:
    """``text`` of every line, and its ``label`` from the other file."""
    yield from _labelled(path, ({"text": line} for line in text_lines(path)), labels)


def tsv(path: Path, labels: Path | None = None) -> Iterator[Record]:
    """Fields ``c0``, ``c1``, ... of every line, and ``label`` from the other file.

    Quoted as Python's csv writes it, which is how XTREME's files are made: a field with a quote is in quotes, and no
    field goes over the end of a line. Raises XlscaleError for a quote that is not closed in its line.
    """
    fields = (_fields(path, number, line) for number, line in enumerate(text_lines(path), 1))
    yield from _labelled(path, fields, labels)


def _labelled(path: Path, records: Iterator[Record], labels: Path | None) -> Iterator[Record]:
    """The records, each with the ``label`` of its line in the other file if there is one: that of its line, or where
    that file begins with the names of columns, that of its row in the column ``label``."""
    return (one | {"label": label} for one, label in beside(path, records, labels)) if labels else records


def _labels(path: Path) -> Iterator[str]:
    lines = text_lines(path)
    head = [*islice(lines, 1)]
    names = head[0].split("\t") if head else []
    if len(names) < 2 or "label" not in names:
        yield from chain(head, lines)
        return
    for number, line in enumerate(lines, 2):
        fields = line.split("\t")
        if len(fields) != len(names):
            raise XlscaleError(f"{relative(path)}, line {number}: expected {len(names)} fields, got {len(fields)}")
        yield fields[names.index("label")]


def _fields(path: Path, number: int, line: str) -> Record:
    try:
        return {f"c{i}": value for i, value in enumerate(next(csv.reader([line], delimiter="\t", strict=True)))}
    except csv.Error as error:
        raise XlscaleError(
            f"{relative(path)}, line {number}: expected fields with tabs between, quotes closed and doubled ({error})"
        ) from None


def jsonl(path: Path, labels: Path | None = None) -> Iterator[Record]:
    """A JSON object per line; ``label`` is that of the other file: of the same ``idx`` where both have one, else of the
    same line. Raises XlscaleError where not every line of both has one and they do not go up: lines then stand in
    another order than what they belong to."""
    if labels is None:
        yield from objects(path)
        return
    rows, given = [*objects(path)], [*objects(labels)]
    if number := next((i for i, one in enumerate(given, 1) if "label" not in one), None):
        raise XlscaleError(f"{relative(labels)}, line {number}: expected a label")
    if all(isinstance(idx := one.get("idx"), str) or is_integer(idx) for one in (*rows, *given)):
        known = {one["idx"]: one["label"] for one in given}
        if len(known) < len(given):
            raise XlscaleError(f"{relative(labels)}: idx: expected another one in every line")
        for row in rows:
            if row["idx"] not in known:
                raise XlscaleError(f"{relative(labels)}: expected a label for idx {row['idx']!r}")
            yield row | {"label": known[row["idx"]]}
    else:
        for file, several in ((path, rows), (labels, given)):
            known = [one["idx"] for one in several if "idx" in one]
            if not all(map(is_integer, known)) or known != sorted(known):
                raise XlscaleError(
                    f"{relative(file)}: idx: expected one in every line of both files, or ascending numbers"
                )
        if len(rows) != len(given):
            raise XlscaleError(
                f"{relative(labels)}: expected {len(rows)} lines as in {relative(path)}, got {len(given)}"
            )
        yield from (row | {"label": one["label"]} for row, one in zip(rows, given, strict=True))


def objects(path: Path) -> Iterator[Record]:
    """The JSON object of every line."""
    for number, line in enumerate(text_lines(path), 1):
        try:
            record = parsed(line)
        except (ValueError, RecursionError) as error:
            raise XlscaleError(f"{relative(path)}, line {number}: not valid JSON ({error})") from None
        if not isinstance(record, dict):
            raise XlscaleError(f"{relative(path)}, line {number}: expected a JSON object, got {line[:40]}")
        yield record


def position(value: Any) -> int:
    """A place in a text, as JSON states it. Raises ValueError for anything else; as an index, true would be 1."""
    if not is_integer(value):
        raise ValueError(f"expected the position of a character, got {one_line(repr(value), 60)}")
    return value


def beside(path: Path, rows: Iterator[Any], labels: Path) -> Iterator[tuple[Any, str]]:
    """Rows with the lines of ``labels``, without the blanks around them. Raises XlscaleError when there are more of one
    than of the other."""
    for number, (row, label) in enumerate(zip_longest(rows, _labels(labels)), 1):
        if row is None or label is None:
            raise XlscaleError(f"{relative(labels)}, line {number}: expected a line for each of {relative(path)}")
        yield row, label.strip()


def tags(path: Path, labels: Path | None = None) -> Iterator[Record]:
    """``tokens`` and ``tags`` of every sentence: a word and its tag per line, an empty line between sentences.

    Raises XlscaleError for a line that has a word or a tag alone; white space is no word.
    """
    sentence: list[tuple[str, str]] = []
    # Of a word, tab and tag, or of a word alone and of the other file's tag.
    rows = (line.partition("\t")[::2] for line in text_lines(path))
    if labels is not None:
        rows = ((word, tag) for (word, _), tag in beside(path, rows, labels))
    for number, (word, tag) in enumerate(rows, 1):
        if word.strip() and tag.strip():
            sentence.append((word.strip(), tag.strip()))
        elif word.strip():
            where = f"{relative(labels or path)}, line {number}"
            raise XlscaleError(f"{where}: expected a tag{'' if labels else ' after a tab'}, got none{EMPTIED}")
        elif word or tag:
            raise XlscaleError(f"{relative(path)}, line {number}: expected a word, got {word!r} with tag {tag!r}")
        elif sentence:
            yield _sentence(sentence)
            sentence = []
    if sentence:
        yield _sentence(sentence)


def _sentence(pairs: Sequence[tuple[str, str]]) -> Record:
    return {"tokens": [word for word, _ in pairs], "tags": [tag for _, tag in pairs]}


def squad(path: Path) -> Iterator[Record]:
    """A record per question of SQuAD's JSON: id, title, question, context, answers {text, answer_start}, without empty
    ones; and the paragraph's document_id, where it has one. Raises XlscaleError for a question that has no others."""
    with expecting(path, "SQuAD's JSON"):
        for article, paragraph in paragraphs(path):
            for question in paragraph["qas"]:
                given = question.get("answers", [])
                answers = [answer for answer in given if answer["text"].strip()]
                if given and not answers:
                    raise XlscaleError(f"{relative(path)}: id {question['id']!r}: no true answer{EMPTIED}")
                yield {
                    "id": question["id"],
                    "title": article.get("title", ""),
                    "question": question["question"],
                    "context": paragraph["context"],
                    "document_id": paragraph.get("document_id"),
                    "answers": {name: [answer[name] for answer in answers] for name in ("text", "answer_start")},
                }


def paragraphs(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every paragraph of SQuAD's JSON, or of its list ``data`` alone, after its article."""
    value = parsed(read_text(path, LARGEST))
    for article in value["data"] if isinstance(value, dict) else value:
        yield from ((article, paragraph) for paragraph in article["paragraphs"])

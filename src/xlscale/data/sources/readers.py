"""Records from files, one reader per format. A record is a dictionary; what its fields mean is the card's business.

``read(name, paths, labels)`` is all that others call. A reader raises XlscaleError naming file and line. Formats that
belong to one data set have a module of their own: ``bucc``, ``conllu``, ``lareqa``, ``mewslix``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xlscale.files import XlscaleError, relative

Record = dict[str, Any]
EMPTIED = "; XTREME's download takes labels out of test files, here they have to be there"


def read(reader: str, paths: Sequence[Path], labels: Path | None = None) -> Iterator[Record]:
    """The records of all ``paths``, in their order; ``labels`` is a file with their labels, where they lie apart."""
    from xlscale.data.sources import bucc, conllu, lareqa, mewslix

    readers = {
        "parquet": parquet,
        "jsonl": jsonl,
        "tsv": tsv,
        "tags": tags,
        "conllu": conllu.read,
        "squad": squad,
        "bucc": bucc.read,
        "lines": lines,
        "lareqa": lareqa.read,
        "mewslix": mewslix.read,
    }
    for path in paths:
        yield from readers[reader](path, labels) if labels else readers[reader](path)


def parquet(path: Path) -> Iterator[Record]:
    """The rows of a Parquet file, a batch at a time."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=2048):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise XlscaleError(f"{relative(path)}: expected a whole Parquet file ({_line(error)})") from None


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without their ends."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            yield from (line.rstrip("\r\n") for line in file)
    except (UnicodeDecodeError, OSError) as error:
        raise XlscaleError(f"{relative(path)}: expected UTF-8 text ({_line(error)})") from None


def lines(path: Path, labels: Path | None = None) -> Iterator[Record]:
    """``text`` of every line, and its ``label`` from the other file."""
    if labels is None:
        yield from ({"text": line} for line in text_lines(path))
    else:
        yield from ({"text": text, "label": label} for text, label in beside(path, text_lines(path), labels))


def tsv(path: Path, labels: Path | None = None) -> Iterator[Record]:
    """Fields ``c0``, ``c1``, ... of every row, quoted as Python's csv does, and ``label`` from the other file."""
    rows = csv.reader(text_lines(path), delimiter="\t")
    fields = ({f"c{i}": value for i, value in enumerate(row)} for row in rows)
    if labels is None:
        yield from fields
    else:
        yield from (row | {"label": label} for row, label in beside(path, fields, labels))


def jsonl(path: Path, labels: Path | None = None) -> Iterator[Record]:
    """A JSON object per line; ``label`` is that of the other file, matched by ``idx``."""
    known = {row["idx"]: row["label"] for row in jsonl(labels)} if labels else {}
    for number, line in enumerate(text_lines(path), 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise XlscaleError(f"{relative(path)}, line {number}: not valid JSON ({error})") from None
        if labels and record.get("idx") not in known:
            raise XlscaleError(f"{relative(labels)}: expected a label for idx {record.get('idx')!r}")
        yield record | ({"label": known[record["idx"]]} if labels else {})


def beside(path: Path, rows: Iterator[Any], labels: Path) -> Iterator[tuple[Any, str]]:
    """Rows with the lines of ``labels``. Raises XlscaleError when there are more of one than of the other."""
    for number, (row, label) in enumerate(zip_longest(rows, text_lines(labels)), 1):
        if row is None or label is None:
            raise XlscaleError(f"{relative(labels)}, line {number}: expected a line for each of {relative(path)}")
        yield row, label


def tags(path: Path, labels: Path | None = None) -> Iterator[Record]:
    """``tokens`` and ``tags`` of every sentence: a word and its tag per line, an empty line between sentences."""
    sentence: list[tuple[str, str]] = []
    rows = ((line.partition("\t")[0], line.partition("\t")[2].strip()) for line in text_lines(path))
    if labels is not None:
        rows = ((word, tag) for (word, _), tag in beside(path, rows, labels))
    for number, (word, tag) in enumerate(rows, 1):
        if word.strip():
            if not tag:
                raise XlscaleError(f"{relative(path)}, line {number}: expected a tag after a tab, got none{EMPTIED}")
            sentence.append((word.strip(), tag))
        elif sentence:
            yield _sentence(sentence)
            sentence = []
    if sentence:
        yield _sentence(sentence)


def _sentence(pairs: Sequence[tuple[str, str]]) -> Record:
    return {"tokens": [word for word, _ in pairs], "tags": [tag for _, tag in pairs]}


def squad(path: Path) -> Iterator[Record]:
    """A record per question of SQuAD's JSON: id, title, question, context, answers {text, answer_start}."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = question.get("answers", [])
                    if any(not answer["text"] for answer in answers):
                        raise XlscaleError(f"{relative(path)}: id {question['id']!r}: no true answer{EMPTIED}")
                    yield {
                        "id": question["id"],
                        "title": article.get("title", ""),
                        "question": question["question"],
                        "context": paragraph["context"],
                        "answers": {name: [answer[name] for answer in answers] for name in ("text", "answer_start")},
                    }
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise XlscaleError(f"{relative(path)}: expected SQuAD's JSON ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]

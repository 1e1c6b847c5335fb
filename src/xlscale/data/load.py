"""Data sets as the rest of the package sees them: a card in, checked rows out, and no network.

Belongs here: opening the file whose sha256 a card states, and checking that it holds what the card says. How the file
comes to this machine: ``acquire``.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from datasets.table import InMemoryTable

from xlscale.cards import catalogue, places
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError, relative, verify
from xlscale.data import schema, words


def splits(card: DataCard) -> DatasetDict:
    """The splits of a data set (those of train, dev, test that it has), columns as ``schema.COLUMNS`` says.

    A set may also have ``original`` (str or None): the English text that a row translates, for multiple_choice the
    text and the correct choice on lines of their own.
    Rows come in the order of the file. Raises XlscaleError as ``table`` does.
    """
    rows = table(card)
    return DatasetDict(
        {split: Dataset(InMemoryTable(rows.filter(pc.equal(rows["split"], split)))) for split in card.splits}
    )


def table(card: DataCard) -> pa.Table:
    """The checked rows of all splits as one Arrow table.

    Raises XlscaleError for a file that is not on this machine, naming the command that gets it, a wrong sha256, a
    truncated file, a missing column or language, numbers of rows that are not the card's, an item twice, an empty text,
    a label that the card does not list, or an answer that is none of its choices.
    """
    rows, where = schema.read(_file(card)), relative(card.path)
    for field in schema.COLUMNS[card.family]:
        if field.name not in rows.column_names:
            raise XlscaleError(f"{where}: column {field.name!r} is missing, expected by family {card.family}")
        if (found := rows.schema.field(field.name).type) != field.type:
            raise XlscaleError(f"{where}: column {field.name!r}: expected type {field.type}, got {found}")
    if card.source:  # checked row by row when it was made, and the same since, by its sha256
        return rows
    if found := schema.fault(card.family, rows) or schema.unanswered(card.family, rows):
        raise XlscaleError(f"{where}: row {found[0] + 1}: {found[1]}")
    _check_counts(card, schema.counts(rows), where)
    _check_items(card, rows, where)
    if card.family == "tagging":
        _check_tags(card, rows, where)
    elif card.family == "span_qa":
        _check_answers(card, rows, where)
    elif card.family == "multiple_choice":
        _check_choices(rows, where)
        if fault := schema.other_chance(card.chance, rows):
            raise XlscaleError(f"card {card.name}: {fault}")
    elif card.labels and (unknown := set(rows["label"].to_pylist()) - set(card.labels)):
        raise XlscaleError(f"{where}: label: expected one of {', '.join(card.labels)}, got {min(unknown, key=str)!r}")
    return rows


def _file(card: DataCard) -> Path:
    """The path of the card's file, whose sha256 is that of the card, or of the lock of a card with a source."""
    what = f"data set {card.name} version {card.version}"
    if card.bundled:
        return verify(card.path, card.sha256, what)
    if card.source:
        catalogue.locked(card.name)
        places.origins(card)  # raises where the lock is not of the card's commits
    try:
        return verify(card.path, card.sha256, what)
    except XlscaleError as error:
        raise XlscaleError(f"{error}; run `make data-fetch CARD={card.name}`") from None


def _check_counts(card: DataCard, counts: dict[str, dict[str, int]], where: str) -> None:
    """Every language of the card is tested, and every split and language has the card's number of rows."""
    for language in card.languages:
        if language not in counts.get("test", {}):
            raise XlscaleError(f"{where}: language {language!r} is missing from split test of card {card.name}")
    if counts != card.splits:
        wrong = [
            (split, language)
            for split, expected in card.splits.items()
            for language in expected
            if counts.get(split, {}).get(language) != expected[language]
        ]
        raise XlscaleError(
            f"{where}: splits: rows are not those of card {card.name}, first at "
            f"{wrong[0] if wrong else 'a split or language that the card lacks'}"
        )


def _check_items(card: DataCard, rows: pa.Table, where: str) -> None:
    """Every item stands once in a language of a split."""
    counted = rows.group_by(["split", "language", "item"]).aggregate([([], "count_all")])
    for item in counted.filter(pc.greater(counted["count_all"], 1))["item"][:1].to_pylist():
        raise XlscaleError(f"{where}: item: expected each once in a language, got {item!r} again")


def _check_tags(card: DataCard, rows: pa.Table, where: str) -> None:
    """Tokens that stand in the text one after another, each with a tag: one of the card's where they are plain, else O,
    B- or I- with one of the card's types, I- only within a span of its type."""
    plain = card.tags == "plain"
    known = {*(card.labels if plain else words.bio(card.labels))}
    columns = (rows[name].to_pylist() for name in ("item", "text", "tokens", "tags"))
    for item, text, tokens, tags in zip(*columns, strict=True):
        try:
            words.starts(text, tokens)
        except ValueError as error:
            raise XlscaleError(f"{where}: tokens: item {item!r}: {error}") from None
        if len(tokens) != len(tags):
            raise XlscaleError(f"{where}: tags: item {item!r}: expected {len(tokens)}, one per token, got {len(tags)}")
        for before, tag in zip([words.OUTSIDE, *tags], tags, strict=False):
            if tag not in known:
                raise XlscaleError(f"{where}: tags: expected one of {', '.join(sorted(known))}, got {tag!r}")
            if not plain and tag[0] == "I" and before[1:] != tag[1:]:
                raise XlscaleError(f"{where}: tags: item {item!r}: expected {tag!r} to follow B- or I-, got {before!r}")


def _check_answers(card: DataCard, rows: pa.Table, where: str) -> None:
    """Every answer stands in its context where its start says, and only the questions of some cards have none."""
    columns = (rows[name].to_pylist() for name in ("item", "context", "answers", "answer_starts"))
    for item, context, answers, starts in zip(*columns, strict=True):
        if len(answers) != len(starts) or not (answers or card.unanswerable):
            expected = "as many, and some where the card does not say unanswerable"
            raise XlscaleError(f"{where}: answers, answer_starts: item {item!r}: expected {expected}")
        for text, start in zip(answers, starts, strict=True):
            if start < 0 or context[start : start + len(text)] != text:
                raise XlscaleError(
                    f"{where}: answer_starts: item {item!r}: expected {text[:60]!r} at character {start}"
                )


def _check_choices(rows: pa.Table, where: str) -> None:
    """Two choices or more in every row, and the answer is the index of one of them."""
    for item, choices, answer in zip(*(rows[name].to_pylist() for name in ("item", "choices", "answer")), strict=True):
        if len(choices) < 2:
            raise XlscaleError(f"{where}: choices: item {item!r}: expected two texts or more, got {choices}")
        if not 0 <= answer < len(choices):
            expected = f"0 to {len(choices) - 1}, the index of one of the choices"
            raise XlscaleError(f"{where}: answer: item {item!r}: expected {expected}, got {answer}")

"""Data sets as the rest of the package sees them: a card in, a checked ``datasets.DatasetDict`` out, no network."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from datasets.table import InMemoryTable

from xlscale.acquire import datasets
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError, relative, verify
from xlscale.data import overlap, schema, words

TEXT = dict.fromkeys(schema.COLUMNS, "text") | {"span_qa": "context"}  # the column that is measured


def load(card: DataCard) -> DatasetDict:
    """The splits of a data set (those of train, dev, test that it has), columns as ``bundles.COLUMNS`` says.

    A set may also have ``original`` (str or None): the English text that a row translates, for multiple_choice the
    text and the right choice on lines of their own.
    Rows come in the order of the file. Raises XlscaleError for a wrong sha256, a truncated file, a missing column or
    language, numbers of rows that are not the card's, a label that the card does not list, or an answer that is none of
    its choices.
    """
    rows = table(card)
    return DatasetDict(
        {split: Dataset(InMemoryTable(rows.filter(pc.equal(rows["split"], split)))) for split in card.splits}
    )


def table(card: DataCard) -> pa.Table:
    """The checked rows of all splits as one Arrow table; raises as ``load`` does."""
    if card.bundled:
        verify(card.path, card.sha256, f"data set {card.name} version {card.version}")
    else:  # which compares the hash itself
        datasets.ensure(card)
    rows, where = schema.read(card.path), relative(card.path)
    for field in schema.COLUMNS[card.family]:
        if field.name not in rows.column_names:
            raise XlscaleError(f"{where}: column {field.name!r} is missing, expected by family {card.family}")
        if rows.schema.field(field.name).type != field.type:
            found = rows.schema.field(field.name).type
            raise XlscaleError(f"{where}: column {field.name!r}: expected type {field.type}, got {found}")
    if card.source:  # checked row by row when it was made, and the same since, by its sha256
        return rows
    counts = schema.counts(rows)
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
    if card.family == "tagging":
        _check_tags(card, rows, where)
    elif card.family == "multiple_choice":
        _check_choices(rows, where)
    elif card.labels and (unknown := set(rows["label"].to_pylist()) - set(card.labels)):
        raise XlscaleError(f"{where}: label: expected one of {', '.join(card.labels)}, got {min(unknown, key=str)!r}")
    return rows


def _check_tags(card: DataCard, rows: pa.Table, where: str) -> None:
    """Tokens that stand in the text one after another, each with a tag: O, B- or I- with one of the card's types, I-
    only within a span of its type."""
    known = {words.OUTSIDE, *(f"{position}-{label}" for label in card.labels for position in "BI")}
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
            if tag[0] == "I" and before[1:] != tag[1:]:
                raise XlscaleError(f"{where}: tags: item {item!r}: expected {tag!r} to follow B- or I-, got {before!r}")


def _check_choices(rows: pa.Table, where: str) -> None:
    """Two choices or more in every row, none of them missing, and the answer is the place of one of them."""
    for item, choices, answer in zip(*(rows[name].to_pylist() for name in ("item", "choices", "answer")), strict=True):
        if choices is None or len(choices) < 2 or None in choices:
            raise XlscaleError(f"{where}: choices: item {item!r}: expected two texts or more, got {choices}")
        if answer is None or not 0 <= answer < len(choices):
            expected = f"0 to {len(choices) - 1}, the place of one of the choices"
            raise XlscaleError(f"{where}: answer: item {item!r}: expected {expected}, got {answer}")


def describe(card: DataCard) -> pd.DataFrame:
    """What is in a data set: a row per split and language.

    Columns: split, language, rows, groups, texts (distinct), mean_characters, max_characters, mean_words (split at
    white space), same_as_english (share of rows whose text equals its English original; NaN where there is none),
    majority_share (of the most frequent label; NaN without labels), articles (span_qa; NaN elsewhere). Characters and
    words are those of the text, for span_qa of the distinct contexts, for multiple_choice of the text and its choices
    together; there ``original`` is a translated text and right choice, majority_share is that of the place where most
    right choices stand, and word_overlap and character_overlap say how far matching strings solves it (``overlap``).
    """
    rows = table(card).to_pandas()
    if card.family == "retrieval":
        english = rows[rows["language"] == "en"].set_index("group")["text"]
        rows["original"] = rows["group"].map(english).where(rows["language"] != "en")
    if card.family == "multiple_choice":
        right = [choices[answer] for choices, answer in zip(rows["choices"], rows["answer"], strict=True)]
        rows = rows.assign(told=rows["text"] + "\n" + right, label=rows["answer"].astype(str))
        rows["all"] = rows["text"] + "\n" + rows["choices"].str.join("\n")
    return pd.DataFrame(
        [
            _summary(card, split, language, part)
            for (split, language), part in rows.groupby(["split", "language"], sort=False)
        ]
    )


def _summary(card: DataCard, split: str, language: str, part: pd.DataFrame) -> dict[str, object]:
    text = part[TEXT[card.family]]
    measured = text.drop_duplicates() if card.family == "span_qa" else part.get("all", text)
    original = part["original"] if "original" in part else pd.Series(None, index=part.index, dtype=object)
    known = original.notna()
    return {
        "split": split,
        "language": language,
        "rows": len(part),
        "groups": part["group"].nunique(),
        "texts": text.nunique(),
        "mean_characters": measured.str.len().mean(),
        "max_characters": int(measured.str.len().max()),
        "mean_words": measured.str.split().str.len().mean(),
        "same_as_english": (part.get("told", text) == original)[known].mean() if known.any() else float("nan"),
        "majority_share": part["label"].value_counts(normalize=True).max() if "label" in part else float("nan"),
        "articles": part["article"].nunique() if "article" in part else float("nan"),
    } | (overlap.accuracy(part) if card.family == "multiple_choice" else {})


def gold(card: DataCard) -> pd.DataFrame:
    """What the test split asks for: language, item, group, gold, a row per test row.

    gold is the label (classification), the English item of the same group (retrieval), the list of accepted answers
    (span_qa), the place of the right choice as a string (multiple_choice), or the tags joined by single spaces
    (tagging).
    """
    rows = table(card).to_pandas()
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    if card.family == "retrieval":
        english = rows[rows["language"] == "en"].set_index("group")["item"]
        rows["gold"] = rows["group"].map(english)
    elif card.family == "tagging":
        rows["gold"] = rows["tags"].str.join(" ")
    elif card.family == "multiple_choice":
        rows["gold"] = rows["answer"].astype(str)
    else:
        rows["gold"] = rows["label" if card.family == "classification" else "answers"]
    return rows[["language", "item", "group", "gold"]]

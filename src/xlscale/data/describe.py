"""What is in a data set, in numbers: a row per split and language, for the notebooks."""

from __future__ import annotations

import pandas as pd

from xlscale.cards.schema import DataCard
from xlscale.data import load, overlap
from xlscale.data.schema import TEXT


def describe(card: DataCard) -> pd.DataFrame:
    """What is in a data set: a row per split and language.

    Columns: split, language, rows, groups, texts (distinct), mean_characters, max_characters, mean_words (split at
    white space), same_as_english (share of rows whose text equals its English original; NaN where there is none),
    majority_share (of the most frequent label; NaN without labels), articles (span_qa; NaN elsewhere). Characters and
    words are those of the text, for span_qa of the distinct contexts, for multiple_choice of the text and its choices
    together; there ``original`` is a translated text and correct choice, majority_share is that of the index where most
    correct choices stand, and word_overlap and character_overlap say how far matching strings solves it (``overlap``).
    """
    rows = load.table(card).to_pandas()
    if card.family == "retrieval":
        english = rows[rows["language"] == "en"].set_index("group")["text"]
        rows["original"] = rows["group"].map(english).where(rows["language"] != "en")
    if card.family == "multiple_choice":
        correct = [choices[answer] for choices, answer in zip(rows["choices"], rows["answer"], strict=True)]
        rows = rows.assign(translated=rows["text"] + "\n" + correct, label=rows["answer"].astype(str))
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
    same = (part.get("translated", text) == original)[known]
    return {
        "split": split,
        "language": language,
        "rows": len(part),
        "groups": part["group"].nunique(),
        "texts": text.nunique(),
        "mean_characters": measured.str.len().mean(),
        "max_characters": int(measured.str.len().max()),
        "mean_words": measured.str.split().str.len().mean(),
        "same_as_english": same.mean() if known.any() else float("nan"),
        "majority_share": part["label"].value_counts(normalize=True).max() if "label" in part else float("nan"),
        "articles": part["article"].nunique() if "article" in part else float("nan"),
    } | (overlap.accuracy(part) if card.family == "multiple_choice" else {})

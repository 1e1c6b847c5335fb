"""The prediction table of a cell, one row per item: its columns, its hash, and the mean that a cell is judged by."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pyarrow as pa

from xlscale.core.files import canonical_json

# ``score`` is the model's confidence (its unit depends on the family), ``correct`` 0 or 1. Span QA adds ``f1``, tagging
# ``spans`` and ``matches``: the gold and predicted spans of an item, and how many of them the other side has too;
# mining the same of pairs; ranking ``average_precision``.
COLUMNS = ["language", "item", "group", "gold", "prediction", "score", "correct"]
SCORES = ["correct", "f1", "matches", "spans", "average_precision"]  # those of them that the task has
# How the value of a language follows from its items: the sum of one score over that of another, or over their number.
VALUE = {
    "accuracy": ("correct", None),
    "p_at_1": ("correct", None),
    "f1": ("f1", None),
    "span_f1": ("matches", "spans"),
    "token_accuracy": ("matches", "spans"),  # of plain tags: every word is a span
    "mining_f1": ("matches", "spans"),  # pairs that are found and right, twice, over those found and those to be found
    "map_at_20": ("average_precision", None),
}


def zero_shot_mean(values: dict[str, float]) -> float:
    """Mean over the languages other than English, each with equal weight; over English where there is no other."""
    others = [value for language, value in values.items() if language != "en"]
    return float(np.mean(others or list(values.values())))


def by_language(metric: str, items: pa.Table) -> dict[str, float]:
    """The value of ``metric`` (a card's) in every language of a table with the columns ``language``, as a dictionary
    of strings, and those of SCORES that VALUE names; 0 where the sum to divide by is 0. Raises ValueError naming a
    column that is missing."""
    above, below = VALUE[metric]
    if missing := {above, below} - {None, *items.column_names}:
        raise ValueError(f"column {min(missing)!r} is missing, expected by the metric {metric}")
    language = items["language"].combine_chunks()
    codes, size = language.indices.to_numpy(), len(language.dictionary)
    part = np.bincount(codes, items[above].to_numpy(), size)
    whole = np.bincount(codes, None if below is None else items[below].to_numpy(), size)
    shares = np.divide(part, whole, out=np.zeros(size), where=whole > 0)
    return dict(zip(language.dictionary.to_pylist(), shares.tolist(), strict=True))


def digest(predictions: pd.DataFrame | pa.Table) -> str:
    """Hex sha256 of a table's (language, item, prediction, and those of SCORES that it has), sorted by item: equal
    exactly if the predictions and what they score are.

    What is hashed is ``canonical_json`` of its rows as lists, each distinct value being turned into text once. Raises
    ValueError where a value is missing.
    """
    there = predictions.column_names if isinstance(predictions, pa.Table) else predictions.columns
    names = ["language", "item", "prediction", *(name for name in SCORES if name in there or name == "correct")]
    if not isinstance(predictions, pa.Table):
        predictions = pa.Table.from_pandas(predictions[names], preserve_index=False)
    columns = [predictions[name].combine_chunks() for name in names]
    if missing := [name for name, column in zip(names, columns, strict=True) if column.null_count]:
        raise ValueError(f"{missing[0]}: expected a value in every row")
    columns = [c if pa.types.is_dictionary(c.type) else c.dictionary_encode() for c in columns]
    values = [column.dictionary.to_pylist() for column in columns]
    codes = [column.indices.to_numpy() for column in columns]
    ranks = [np.argsort(np.argsort(np.array(values[key], dtype=object)))[codes[key]] for key in (1, 0)]
    order = np.lexsort(ranks)  # by language, then by item
    texts = [np.array([*map(canonical_json, v)], dtype=object)[c[order]] for v, c in zip(values, codes, strict=True)]
    rows = "],[".join(map(",".join, zip(*texts, strict=True)))
    return hashlib.sha256(f"[[{rows}]]".encode()).hexdigest()

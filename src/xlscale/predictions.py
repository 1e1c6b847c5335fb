"""The prediction table of a cell, one row per item: its columns, its hash, and the mean that a cell is judged by."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pyarrow as pa

from xlscale.files import canonical_json

# ``score`` is the model's confidence (its unit depends on the family), ``correct`` 0 or 1; span QA adds ``f1``.
COLUMNS = ["language", "item", "group", "gold", "prediction", "score", "correct"]


def zero_shot_mean(values: dict[str, float]) -> float:
    """Mean over the languages other than English, each with equal weight; over English where there is no other."""
    others = [value for language, value in values.items() if language != "en"]
    return float(np.mean(others or list(values.values())))


def digest(predictions: pd.DataFrame | pa.Table) -> str:
    """Hex sha256 of a table's (language, item, prediction, correct, and F1 where there is one), sorted by item: equal
    exactly if the predictions and what they score are.

    What is hashed is ``canonical_json`` of its rows as lists, each distinct value being turned into text once. Raises
    ValueError where a value is missing.
    """
    there = predictions.column_names if isinstance(predictions, pa.Table) else predictions.columns
    names = ["language", "item", "prediction", "correct", *(["f1"] if "f1" in there else [])]
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

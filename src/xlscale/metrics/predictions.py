"""The prediction table of a cell, one row per item: its columns, its hash, and the values that follow from it."""

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
    "mining_f1": ("matches", "spans"),  # correct pairs, twice, over those found and those to be found
    "map_at_20": ("average_precision", None),
}
# Means that are taken, and recorded, in the single precision of their column: double would differ in the 8th digit.
SINGLE = {"p_at_1", "f1", "map_at_20"}


def zero_shot_mean(values: dict[str, float]) -> float:
    """Mean over the languages other than English, each with equal weight; over English where there is no other."""
    others = [value for language, value in values.items() if language != "en"]
    return float(np.mean(others or list(values.values())))


def by_language(metric: str, items: pd.DataFrame | pa.Table) -> dict[str, float]:
    """The value of ``metric`` (a card's), 0 to 1, in every language of a table with the columns ``language`` and those
    of SCORES that VALUE names; 0 where the sum to divide by is 0. Raises ValueError naming a column that is missing."""
    above, below = VALUE[metric]
    items = _columns(items, ["language", above, below])
    if missing := {above, below} - {None, *items.column_names}:
        raise ValueError(f"column {min(missing)!r} is missing, expected by the metric {metric}")
    codes, languages = _codes(items["language"])
    if metric in SINGLE:
        values = items[above].to_numpy()
        return {language: float(values[codes == code].mean()) for code, language in enumerate(languages)}
    part = np.bincount(codes, items[above].to_numpy(), len(languages))
    whole = np.bincount(codes, None if below is None else items[below].to_numpy(), len(languages))
    shares = np.divide(part, whole, out=np.zeros(len(languages)), where=whole > 0)
    return dict(zip(languages, shares.tolist(), strict=True))


def digest(predictions: pd.DataFrame | pa.Table) -> str:
    """Hex sha256 of a table's (language, item, prediction, and those of SCORES that it has), sorted by item: equal
    exactly if the predictions and what they score are.

    What is hashed is ``canonical_json`` of its rows as lists, each distinct value being turned into text once. Raises
    ValueError where a value is missing.
    """
    table = _columns(predictions, ["language", "item", "prediction", *SCORES])
    if missing := [name for name in table.column_names if table[name].null_count]:
        raise ValueError(f"{missing[0]}: expected a value in every row")
    codes, values = zip(*map(_codes, table.columns), strict=True)
    ranks = [np.argsort(np.argsort(np.array(values[key], dtype=object)))[codes[key]] for key in (1, 0)]
    order = np.lexsort(ranks)  # by language, then by item
    texts = [np.array([*map(canonical_json, v)], dtype=object)[c[order]] for v, c in zip(values, codes, strict=True)]
    rows = "],[".join(map(",".join, zip(*texts, strict=True)))
    return hashlib.sha256(f"[[{rows}]]".encode()).hexdigest()


def _columns(items: pd.DataFrame | pa.Table, names: list[str | None]) -> pa.Table:
    """Those of the columns ``names`` that there are."""
    if isinstance(items, pd.DataFrame):
        return pa.Table.from_pandas(items[[name for name in names if name in items]], preserve_index=False)
    return items.select([name for name in names if name in items.column_names])


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list]:
    """What each entry is, as an index into the distinct values, and these."""
    column = column.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.indices.to_numpy(), column.dictionary.to_pylist()

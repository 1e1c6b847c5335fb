"""Sums over the test predictions of the target cells, by language and by group of parallel items, for a record of any
size. Cells that were evaluated on development rows, to choose hyperparameters, are left out.

The predictions are the source of truth: ``record.check`` holds every value in a result to what its predictions score.
Their files are read one at a time, only the columns needed, so time grows with the items and memory with the rows of
the table: one per cell and language, or per cell and group. For 100 million items that is under a minute and 1 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from xlscale.cards.catalogue import data_card
from xlscale.core.files import RESULTS, XlscaleError, relative
from xlscale.experiment.results import Result
from xlscale.metrics.predictions import SCORES
from xlscale.record import store

Codes = Callable[[Result, pa.Table], np.ndarray]  # the place among the levels of each of a cell's items


def by_language(folder: Path = RESULTS, target: str | None = None) -> pd.DataFrame:
    """One row per complete target cell (of one ``target``) and language, sorted by both.

    Columns: ``cell`` and ``language`` (categories), ``n`` items (int32), the sums of SCORES over them (float64; NaN
    where the task has no such score); ``predictions.VALUE`` says which of them make a metric. Raises XlscaleError with
    one line for a file of predictions that is missing, truncated, lacks a column, or holds a language that the result
    does not.
    """
    chosen = _chosen(folder, target)
    levels = sorted({language for result in chosen for language in result.languages})
    places = {language: place for place, language in enumerate(levels)}

    def codes(result: Result, items: pa.Table) -> np.ndarray:
        column = items["language"].combine_chunks()
        names = column.dictionary.to_pylist()
        if unknown := set(names) - result.languages.keys():
            raise XlscaleError(f"language: expected one of {', '.join(result.languages)}, got {min(unknown, key=str)}")
        return np.array([places[name] for name in names], np.int32)[column.indices.to_numpy()]

    return _sums(chosen, folder, "language", levels, ["language"], codes)


def by_group(folder: Path = RESULTS, target: str | None = None) -> pd.DataFrame:
    """One row per complete target cell (of one ``target``) and group of parallel items, sorted by both.

    Columns as in ``by_language``, with ``group`` in place of ``language``: for bootstraps and mixed models over items.
    Groups come from the data sets. Raises XlscaleError as ``by_language`` does, and for an item that is not in the
    test split of its data set.
    """
    chosen = _chosen(folder, target)
    splits = {name: _test_split(name) for name in sorted({result.parameters["target"] for result in chosen})}
    levels = sorted({group for rows in splits.values() for group in pc.unique(rows["group"]).to_pylist()})
    groups = {name: _Groups(rows, levels) for name, rows in splits.items()}

    def codes(result: Result, items: pa.Table) -> np.ndarray:
        return groups[result.parameters["target"]].codes(items)

    return _sums(chosen, folder, "group", levels, ["language", "item"], codes)


def _chosen(folder: Path, target: str | None) -> list[Result]:
    found = (one for one in store.results(folder).values() if one.phase == "target" and one.status == "complete")
    tested = (one for one in found if one.parameters.get("split", "test") == "test")
    return [one for one in tested if target in (None, one.parameters["target"])]


def _test_split(name: str) -> pa.Table:
    from xlscale.data import load  # imports datasets, which takes a second

    rows = load.table(data_card(name))
    return rows.filter(pc.equal(rows["split"], "test")).select(["language", "item", "group"])


class _Groups:
    """Finds the groups of a data set's items. Cells of one target mostly hold the same items: then that is known."""

    def __init__(self, rows: pa.Table, levels: list[str]):
        self._keys = _keys(rows)
        self._groups = pc.index_in(rows["group"].combine_chunks(), pa.array(levels)).to_numpy()
        self._items: pa.Table | None = None
        self._codes = self._groups

    def codes(self, items: pa.Table) -> np.ndarray:
        items = items.select(["language", "item"])
        if self._items is None or not items.equals(self._items):
            rows = pc.index_in(_keys(items), self._keys)
            if rows.null_count:
                item = items.slice(pc.index(pc.is_null(rows), True).as_py(), 1).to_pylist()[0]
                raise XlscaleError(f"item: expected one of the data set's test split, got {item}")
            self._items, self._codes = items, self._groups[rows.to_numpy()]
        return self._codes


def _keys(rows: pa.Table) -> pa.Array:
    """Language and item as one string: an item occurs once in a language."""
    parts = [rows[name].combine_chunks().cast(pa.string()) for name in ("language", "item")]
    return pc.binary_join_element_wise(*parts, "\n")


def _sums(
    chosen: list[Result], folder: Path, key: str, levels: list[str], columns: list[str], codes: Codes
) -> pd.DataFrame:
    parts = [list(part) for part in zip(*_parts(chosen, folder, levels, columns, codes), strict=True)]
    counts, found, n, *sums = parts or [[] for _ in range(3 + len(SCORES))]
    cells = np.repeat(np.arange(len(chosen), dtype=np.int32), counts)
    table = {
        "cell": pd.Categorical.from_codes(cells, pd.Index([result.id for result in chosen], dtype=object)),
        key: pd.Categorical.from_codes(_joined(found, np.int32), pd.Index(levels, dtype=object)),
        "n": _joined(n, np.int32),
    }
    table |= {name: _joined(part, np.float64) for name, part in zip(SCORES, sums, strict=True)}
    return pd.DataFrame(table, copy=False)


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    """The parts as one array; they are given up, so that the memory of both is not held for long."""
    whole = np.concatenate([np.empty(0, dtype), *parts])
    parts.clear()
    return whole


def _parts(
    chosen: list[Result], folder: Path, levels: list[str], columns: list[str], codes: Codes
) -> Iterator[tuple[int | np.ndarray, ...]]:
    """For each cell: how many levels it has, which ones, their numbers of items and sums of SCORES."""
    for result in chosen:
        path = Path(folder) / "predictions" / f"{result.id}.parquet"
        items = store.read_predictions(path, columns, SCORES)
        try:
            own = codes(result, items)
        except XlscaleError as error:
            raise XlscaleError(f"{relative(path)}: {error}") from None
        n = np.bincount(own, minlength=len(levels))
        present = np.flatnonzero(n)
        sums = [
            np.bincount(own, items[name].to_numpy(), len(levels))[present]
            if name in items.column_names
            else np.full(len(present), np.nan)
            for name in SCORES
        ]
        yield len(present), present.astype(np.int32), n[present].astype(np.int32), *sums

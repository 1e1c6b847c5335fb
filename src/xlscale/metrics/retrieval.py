"""Exact nearest neighbours by inner product, in blocks: memory depends on a block, not on how many there are.

One process, plain matrix products. For a million candidates that is a matter of minutes, and there is nothing to tune.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUERIES, CANDIDATES = 1024, 16_384  # rows of a block


def top_k(
    queries: Sequence[np.ndarray],
    candidates: Sequence[np.ndarray],
    k: int,
    blocks: tuple[int, int] = (QUERIES, CANDIDATES),
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` candidates with the largest inner product for each query, best first; ties go to the first candidate.

    ``queries`` and ``candidates`` are sequences of float32 vectors (width,), or matrices (rows, width). Returns places
    int64 (queries, k) and products float32 (queries, k); ``k`` is cut to the number of candidates. Besides what it is
    given and returns it holds a block of products and two blocks of vectors.
    """
    k = min(k, len(candidates))
    places = np.zeros((len(queries), k), np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    for column in range(0, len(candidates), blocks[1]):
        block = np.stack(candidates[column : column + blocks[1]])  # stacked once, the queries again and again
        for row in range(0, len(queries), blocks[0]):
            part = slice(row, row + blocks[0])
            products = np.stack(queries[part]) @ block.T
            _merge(places[part], scores[part], products, column)
    return places, scores


class Chosen:
    """Some of a list's arrays, sliced without copying all of them: a sequence for ``top_k``."""

    def __init__(self, arrays: Sequence[np.ndarray], index: np.ndarray):
        self.arrays, self.index = arrays, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: slice) -> list[np.ndarray]:
        return [self.arrays[i] for i in self.index[part]]


def _merge(places: np.ndarray, scores: np.ndarray, products: np.ndarray, first: int) -> None:
    """Take the products of a block, whose candidates are counted from ``first``, into the best so far, in place."""
    k = places.shape[1]
    # What is below the k-th of its block, or of those found so far, cannot be among the k best.
    least = np.partition(products, -k, axis=1)[:, -k] if products.shape[1] > k else np.full(len(products), -np.inf)
    row, column = _at_least(products, np.maximum(least, scores[:, -1]), k)
    found = np.isfinite(scores)  # at the start there are none
    value = np.concatenate([scores[found], products[row, column]])
    row = np.concatenate([np.nonzero(found)[0], row])
    place = np.concatenate([places[found], column + first])
    order = np.lexsort((place, -value, row))
    row = row[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = rank < k
    places[row[kept], rank[kept]] = place[order][kept]
    scores[row[kept], rank[kept]] = value[order][kept]


def _at_least(products: np.ndarray, least: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the products above their row's ``least``, at most ``k`` each, and of the first ``k`` equal.

    Equal ones are cut here, and copied, so that the rest is let go: where many vectors are the same, as of a collapsed
    encoder, the places of all of them would take many times the memory of the products.
    """
    above = np.nonzero(products > least[:, None])
    equal = [np.flatnonzero(line == value)[:k].copy() for line, value in zip(products, least, strict=True)]
    row = np.repeat(np.arange(len(products)), [len(one) for one in equal])
    return np.concatenate([above[0], row]), np.concatenate([above[1], *equal])

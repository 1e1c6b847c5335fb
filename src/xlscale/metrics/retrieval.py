"""Retrieval: exact nearest neighbours, the precision of a ranking, and the threshold above which pairs are kept.

Neighbours are found by plain matrix products in blocks, in one process: memory depends on a block, not on how many
candidates there are. For a million of them that is a matter of minutes, and there is nothing to tune.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from xlscale.core.files import XlscaleError

QUERIES, CANDIDATES = 1024, 16_384  # rows of a block


def top_k(
    queries: Sequence[np.ndarray],
    candidates: Sequence[np.ndarray],
    k: int,
    blocks: tuple[int, int] = (QUERIES, CANDIDATES),
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` candidates with the largest inner product for each query, best first; ties go to the first candidate.

    ``queries`` and ``candidates`` are sequences of float32 vectors (width,), or matrices (rows, width). Returns indices
    int64 (queries, k) and products float32 (queries, k); ``k`` is cut to the number of candidates. Besides what it is
    given and returns it holds a block of products and two blocks of vectors. Raises XlscaleError naming two vectors,
    counted from 0, whose product is not finite.
    """
    k = min(k, len(candidates))
    indices = np.zeros((len(queries), k), np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    for column in range(0, len(candidates), blocks[1]):
        block = np.stack(candidates[column : column + blocks[1]])  # stacked once, the queries again and again
        for row in range(0, len(queries), blocks[0]):
            part = slice(row, row + blocks[0])
            with np.errstate(invalid="ignore", over="ignore"):  # looked for here
                products = np.stack(queries[part]) @ block.T
            if not np.isfinite(products).all():
                query, candidate = np.argwhere(~np.isfinite(products))[0]
                raise XlscaleError(
                    f"query {row + query}, candidate {column + candidate}: expected vectors with a finite product, "
                    f"got {products[query, candidate]}"
                )
            _merge(indices[part], scores[part], products, column)
    return indices, scores


class Subset:
    """Some of a list's arrays, sliced without copying all of them: a sequence for ``top_k``."""

    def __init__(self, arrays: Sequence[np.ndarray], index: np.ndarray):
        self.arrays, self.index = arrays, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: slice) -> list[np.ndarray]:
        return [self.arrays[i] for i in self.index[part]]


def _merge(indices: np.ndarray, scores: np.ndarray, products: np.ndarray, first: int) -> None:
    """Take the products of a block, whose candidates are counted from ``first``, into the best so far, in place."""
    k = indices.shape[1]
    # What is below the k-th of its block, or of those found so far, cannot be among the k best.
    least = np.partition(products, -k, axis=1)[:, -k] if products.shape[1] > k else np.full(len(products), -np.inf)
    row, column = _at_least(products, np.maximum(least, scores[:, -1]), k)
    found = np.isfinite(scores)  # at the start there are none
    value = np.concatenate([scores[found], products[row, column]])
    row = np.concatenate([np.nonzero(found)[0], row])
    candidate = np.concatenate([indices[found], column + first])
    order = np.lexsort((candidate, -value, row))
    row = row[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = rank < k
    indices[row[kept], rank[kept]] = candidate[order][kept]
    scores[row[kept], rank[kept]] = value[order][kept]


def _at_least(products: np.ndarray, least: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the products above their row's ``least``, at most ``k`` each, and of the first ``k`` equal.

    Equal ones are cut here, and copied, so that the rest is let go: where many vectors are the same, as of a collapsed
    encoder, the indices of all of them would take many times the memory of the products.
    """
    above = np.nonzero(products > least[:, None])
    equal = [np.flatnonzero(line == value)[:k].copy() for line, value in zip(products, least, strict=True)]
    row = np.repeat(np.arange(len(products)), [len(one) for one in equal])
    return np.concatenate([above[0], row]), np.concatenate([above[1], *equal])


def average_precision(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Average precision at ``k``, 0 to 1: precisions at the ranks of relevant candidates, over min(k, their number).

    With one relevant candidate that is its reciprocal rank, 0 beyond ``k`` (Roy et al. 2020, LAReQA, section 5).
    """
    hits, total = 0, 0.0
    for rank, candidate in enumerate(ranked[:k], 1):
        if candidate in relevant:
            hits += 1
            total += hits / rank
    return total / min(k, len(relevant))


def best_threshold(scores: np.ndarray, correct: np.ndarray, wanted: int) -> float:
    """The threshold whose candidates (score at or above it) have the best F1; the highest one of several.

    ``scores`` float64 (n,), ``correct`` bool (n,), ``wanted`` the number of true pairs. It lies midway between the last
    score taken and the next one, and at the last score itself if all are taken; equal scores are never parted. No
    correct candidate at all: +inf, so that nothing is taken.
    """
    if not correct.any():
        return math.inf
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # the last index of each run of equal scores
    f1 = 2 * np.cumsum(correct[order])[last] / (last + 1 + wanted)
    index = last[np.argmax(f1)]
    return float(scores[index] if index == len(scores) - 1 else (scores[index] + scores[index + 1]) / 2)

"""Pairs of words as vectors: how alike the two of a pair are, compared with others, and whether one finds the other."""

from __future__ import annotations

from itertools import product
from typing import Literal, get_args

import numpy as np

from xlscale.metrics.retrieval import top_k

Pooling = Literal["all", "words"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
LAYERS = ("trained", "last")
WHEN = ("before", "after")
MEASURES = ("cosine", "unrelated", "p_at_1")


def measure(what: str, layer: str, pooling: str, when: str) -> str:
    """What a number is called in a result: one of MEASURES, in one of LAYERS, pooled by one of POOLINGS, before or
    after training."""
    return f"{what}_{layer}_{pooling}_{when}"


NAMES = [measure(*one) for one in product(MEASURES, LAYERS, POOLINGS, WHEN)]


def compare(vectors: np.ndarray, language: np.ndarray) -> dict[str, np.ndarray]:
    """MEASURES of every pair, float (pairs,): the cosine of its two words; that of the word and the English name of the
    next pair of its ``language``; and whether no English name of the language is nearer than its own.

    ``vectors`` float32 (2 * pairs, width) are of unit length, names before words.
    """
    other, right = np.empty(len(language), np.int64), np.empty(len(language))
    for one in np.unique(language):
        pairs = np.flatnonzero(language == one)
        other[pairs] = np.roll(pairs, 1)
        right[pairs] = nearest_name(vectors, pairs) == np.arange(len(pairs))
    names, words = vectors[::2], vectors[1::2]
    return dict(zip(MEASURES, ((words * names).sum(1), (words * names[other]).sum(1), right), strict=True))


def nearest_name(vectors: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """For each of ``pairs``, the index among them of the English name that is nearest to its word, by cosine.
    ``vectors`` float32 (2 * all pairs, width) are of unit length, names before words."""
    return top_k(vectors[2 * pairs + 1], vectors[2 * pairs], 1)[0][:, 0]

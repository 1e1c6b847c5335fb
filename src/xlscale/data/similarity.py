"""Near-duplicates: shared word shingles, counted exactly, and the sparse matrices that shared parts are counted with.

The measure is containment: the shingles that two texts share, divided by the number of shingles of the one that has
fewer. Unlike the Jaccard index it also finds a short text quoted inside a long one, and long templates filled
differently.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

WIDTH = 4  # words per shingle
# Containment from which two texts count as near-duplicates.
NEAR = 0.3

# Scripts written without spaces: every character is a word (Thai to Myanmar, Khmer, kana, Han).
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")


@lru_cache(maxsize=1 << 16)  # every text is compared with several splits
def normal(text: str) -> str:
    """A text's words, NFKC, case-folded and joined by single spaces: equal for texts that differ in layout only."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


@lru_cache(maxsize=1 << 16)
def shingles(text: str) -> frozenset[str]:
    """Every run of ``WIDTH`` consecutive words in a text; a shorter text is one shingle, an empty one has none."""
    words = normal(text).split()
    if not words:
        return frozenset()
    return frozenset(" ".join(words[i : i + WIDTH]) for i in range(max(1, len(words) - WIDTH + 1)))


def incidence(texts: Iterable[Collection[str]], known: dict[str, int]) -> csr_matrix:
    """Which text (row) has which part (column), as 0 and 1: float32, shape (texts, len(known)).

    ``known`` numbers the parts and grows; a matrix that was made before it grew has to be widened with ``resize``.
    """
    rows = [[known.setdefault(part, len(known)) for part in parts] for parts in texts]
    starts = np.cumsum([0, *map(len, rows)])
    columns = np.fromiter((part for row in rows for part in row), np.int64, starts[-1])
    return csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(rows), len(known)))


def contained(left: csr_matrix, right: csr_matrix) -> coo_matrix:
    """Containment, in (0, 1], of every two rows of incidence matrices of equal width that share a column."""
    shared = (left @ right.T).tocoo()
    smaller = np.minimum(np.diff(left.indptr)[shared.row], np.diff(right.indptr)[shared.col])
    return coo_matrix((shared.data / smaller, (shared.row, shared.col)), shape=shared.shape)


def containment(left: Sequence[str], right: Sequence[str]) -> csr_matrix:
    """Containment of every pair that shares a shingle: sparse, shape (len(left), len(right)), values in (0, 1]."""
    known: dict[str, int] = {}
    x, y = (incidence(map(shingles, side), known) for side in (left, right))
    x.resize(len(left), len(known))
    return contained(x, y).tocsr()


def nearest(left: Sequence[str], right: Sequence[str]) -> np.ndarray:
    """For every text of ``left`` its largest containment with any text of ``right``: shape (len(left),), 0 to 1."""
    if not len(left) or not len(right):
        return np.zeros(len(left))
    return containment(left, right).max(axis=1).toarray().ravel()

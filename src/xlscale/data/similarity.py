"""Near-duplicates: shared word shingles, counted exactly.

The measure is containment: the shingles that two texts share, divided by the number of shingles of the one that has
fewer. Unlike the Jaccard index it also finds a short text quoted inside a long one, and long templates filled
differently.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_matrix

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


def containment(left: Sequence[str], right: Sequence[str]) -> csr_matrix:
    """Containment of every pair that shares a shingle: sparse, shape (len(left), len(right)), values in (0, 1]."""
    known: dict[str, int] = {}
    a, b = (
        [[known.setdefault(s, len(known)) for s in sorted(shingles(text))] for text in side] for side in (left, right)
    )
    x, y = _incidence(a, len(known)), _incidence(b, len(known))
    shared = (x @ y.T).tocoo()
    smaller = np.minimum(np.diff(x.indptr)[shared.row], np.diff(y.indptr)[shared.col])
    return csr_matrix((shared.data / smaller, (shared.row, shared.col)), shape=shared.shape)


def nearest(left: Sequence[str], right: Sequence[str]) -> np.ndarray:
    """For every text of ``left`` its largest containment with any text of ``right``: shape (len(left),), 0 to 1."""
    if not len(left) or not len(right):
        return np.zeros(len(left))
    return containment(left, right).max(axis=1).toarray().ravel()


def _incidence(rows: Iterable[Sequence[int]], columns: int) -> csr_matrix:
    """Which text (row) holds which shingle (column), as 0 and 1."""
    rows = list(rows)
    starts = np.cumsum([0, *map(len, rows)])
    indices = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]) if rows else np.empty(0, np.int64)
    return csr_matrix((np.ones(len(indices), dtype=np.float64), indices, starts), shape=(len(rows), columns))

"""How much of one text recurs in another: what a reader who matches strings, and understands nothing, can use.

Weights are integers, so that choices that are made by them are the same on every machine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from xlscale.data.similarity import incidence, normal

WIDTH = 4  # characters of a run; in scripts without spaces, where every character is a word, these are two characters


def runs(text: str) -> frozenset[str]:
    """Every run of ``WIDTH`` characters of the text's words, each word with a space around it."""
    padded = f" {normal(text)} "
    return frozenset(padded[i : i + WIDTH] for i in range(max(1, len(padded) - WIDTH + 1)))


def words(text: str) -> frozenset[str]:
    """The different words of a text; in scripts without spaces its characters."""
    return frozenset(normal(text).split())


def shared(left: Sequence[frozenset[str]], right: Sequence[frozenset[str]], weigh: bool = True) -> csr_matrix:
    """Weight of the parts that left[i] shares with right[j]: int64, shape (len(left), len(right)).

    A part weighs the more, the fewer entries of ``right`` have it: 1,000 ln((n + 1) / (entries + 0.5)), rounded;
    1 without ``weigh``.
    """
    entries, known = Counter(part for parts in right for part in parts), {}
    b, a = (incidence(side, known).astype(np.int64) for side in (right, left))
    b.resize(len(right), len(known))
    weights = np.array([_weight(entries[part], len(right)) if weigh else 1 for part in known], np.int64)
    a.data = weights[a.indices]
    return a @ b.T


def own_share(texts: Sequence[frozenset[str]], others: Sequence[frozenset[str]]) -> np.ndarray:
    """For every i the share, by weight, of the parts of texts[i] that others[i] has too: float64, 0 to 1.

    Weights as in ``shared``; a part that no entry of ``others`` has weighs as much as one that would be in none.
    """
    entries = Counter(part for parts in others for part in parts)
    weights = [{part: _weight(entries[part], len(others)) for part in parts} for parts in texts]
    both = [
        sum(w for part, w in weight.items() if part in other) for weight, other in zip(weights, others, strict=True)
    ]
    return np.array([found / (sum(weight.values()) or 1) for found, weight in zip(both, weights, strict=True)])


def accuracy(rows: pd.DataFrame) -> dict[str, float]:
    """How often the choice that shares most with the text is the correct one, 0 to 1; of n equal choices each gets 1/n.

    ``rows`` has the columns of a multiple-choice set. Two ways to share: ``word_overlap``, the number of different
    words; ``character_overlap``, runs of characters weighed by how few of the rows' choices have them.
    """
    found = {}
    for name, parts, weigh in (("word_overlap", words, False), ("character_overlap", runs, True)):
        texts = list(dict.fromkeys(choice for choices in rows["choices"] for choice in choices))
        index = {text: i for i, text in enumerate(texts)}
        table = shared([parts(text) for text in rows["text"]], [parts(text) for text in texts], weigh).toarray()
        points = []
        for i, (choices, answer) in enumerate(zip(rows["choices"], rows["answer"], strict=True)):
            values = table[i, [index[choice] for choice in choices]]
            best = values == values.max()
            points.append(best[answer] / best.sum())
        found[name] = float(np.mean(points))
    return found


def _weight(entries: int, total: int) -> int:
    return round(1000 * math.log((total + 1) / (entries + 0.5)))

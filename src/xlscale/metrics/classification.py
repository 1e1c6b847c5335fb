"""Labels against labels, and the F1 that follows from counts of hits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accuracy(predicted: Sequence, gold: Sequence) -> float:
    """Share of equal entries, 0 to 1."""
    return float(np.mean(np.asarray(predicted) == np.asarray(gold)))


def macro_f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Unweighted mean of the F1 of the labels that occur in ``gold`` or ``predicted``, 0 to 1."""
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    scores = []
    for label in np.union1d(predicted, gold):
        found, wanted = predicted == label, gold == label
        scores.append(f1_precision_recall(np.sum(found & wanted), np.sum(found), np.sum(wanted))[0])
    return float(np.mean(scores))


def f1_precision_recall(hits: int, found: int, wanted: int, scale: float = 1) -> tuple[float, float, float]:
    """F1, precision and recall, 0 to ``scale``, of ``hits`` among ``found`` predictions and ``wanted`` true ones.

    0/0 counts as 0.
    """
    pairs = ((2 * hits, found + wanted), (hits, found), (hits, wanted))
    return tuple(float(scale * part / whole) if whole else 0.0 for part, whole in pairs)

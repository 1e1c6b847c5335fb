"""What single items add to a task's score, for comparing two predictions of the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xlscale.xtreme.benchmark import Task


@dataclass(frozen=True)
class Items:
    """The items of a language: ``ids``, and float64 (items, metrics) for the metrics that make the task's score, each
    of which is 100 times the sum of ``above`` over that of ``below``."""

    ids: list[str]
    above: np.ndarray
    below: np.ndarray

    @classmethod
    def of(cls, ids: Sequence[object], above: Sequence[np.ndarray], below: Sequence[np.ndarray] | None = None) -> Items:
        """Of an array (items,) per metric; without ``below`` metrics are means."""
        above = np.stack(above, 1).astype(np.float64)
        below = np.ones_like(above) if below is None else np.stack(below, 1).astype(np.float64)
        return cls([*map(str, ids)], above, below)

    @classmethod
    def counted(cls, task: Task, ids: Sequence[object], counts: Sequence[np.ndarray]) -> Items:
        """Of the numbers (items,) of hits, of what was found and of what was to be found, for a score of ``f1``,
        ``precision`` or ``recall``."""
        hits, found, wanted = counts
        parts = {"f1": (2 * hits, found + wanted), "precision": (hits, found), "recall": (hits, wanted)}
        return cls.of(ids, *zip(*(parts[name] for name in task.score), strict=True))


def score(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A task's score, 0 to 100, float64 (...,), from the sums (..., metrics) of ``Items``; 0/0 counts as 0."""
    return 100 * np.divide(above, below, out=np.zeros_like(above), where=below != 0).mean(-1)

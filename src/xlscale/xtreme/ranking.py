"""Ranked candidates for queries: Mewsli-X and LAReQA.

Predictions are a JSON object from query id to candidate ids, best first; labels one from query id to the ids of all
candidates that are right. Candidates may be in any language. Fewer of them than the metric's k are allowed, and can
only lower the score.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from xlscale.xtreme.benchmark import Task
from xlscale.xtreme.source import Source, line_of, same_ids, shortened


def average_precision(ranked: Sequence[str], right: Collection[str], k: int) -> float:
    """Average precision at ``k``, 0 to 1: precisions at the ranks of right candidates, over min(k, number right).

    With one right candidate that is its reciprocal rank, 0 beyond ``k`` (Roy et al. 2020, LAReQA, section 5).
    """
    hits, total = 0, 0.0
    for rank, candidate in enumerate(ranked[:k], 1):
        if candidate in right:
            hits += 1
            total += hits / rank
    return total / min(k, len(right))


def score_ranking(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """Mean average precision at each k of the task's metrics, 0 to 100.

    Raises XlscaleError for broken JSON, a query without prediction or without label, a candidate twice, no candidate.
    """
    gold, given = read_lists(labels), read_lists(predictions)
    same_ids(predictions, given, labels, gold)
    found = {}
    for metric in task.metrics:
        k = int(metric.removeprefix("map@"))
        found[metric] = 100 * sum(average_precision(given[key], right, k) for key, right in gold.items()) / len(gold)
    return found


def read_lists(source: Source) -> dict[str, list[str]]:
    """Lists of ids by id. Raises XlscaleError naming id and line of what is no list, is empty, or has an id twice."""
    found = source.mapping()
    if not found:
        raise source.fault("expected at least one query")
    for key, value in found.items():
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
            message = f"id {key!r}: expected a list of ids, got {shortened(value)}"
        elif len(set(value)) < len(value):
            twice = next(one for place, one in enumerate(value) if one in value[:place])
            message = f"id {key!r}: duplicate candidate {twice!r}"
        else:
            continue
        raise source.fault(message, line_of(source.text(), key))
    return found

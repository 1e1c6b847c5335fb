"""Ranked candidates for queries: Mewsli-X and LAReQA.

Predictions are a JSON object from query id to candidate ids, best first; labels one from query id to the ids of all
relevant candidates. Candidates may be in any language. Fewer of them than the metric's k are allowed, and can only
lower the score.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xlscale.core.json_text import twice
from xlscale.metrics.retrieval import average_precision
from xlscale.xtreme.benchmark import Task
from xlscale.xtreme.items import Items
from xlscale.xtreme.source import Source, same_ids, shortened


def score_ranking(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """Mean average precision at each k of the task's metrics, 0 to 100.

    Raises XlscaleError for broken JSON, a query without prediction or without label, a candidate twice, no candidate,
    and where no candidate of any query is one that the labels know.
    """
    gold, ranked = _read(predictions, labels)
    return {metric: 100 * sum(_precisions(metric, ranked, gold)) / len(gold) for metric in task.metrics}


def ranking_items(task: Task, predictions: Source, labels: Source) -> Items:
    """What each query adds to the score; an id is the query's without its language. Raises as ``score_ranking``."""
    gold, ranked = _read(predictions, labels)
    ids = [key.removesuffix(f"_{labels.language}") for key in gold]
    return Items.of(ids, [np.array(_precisions(metric, ranked, gold)) for metric in task.score])


def _precisions(metric: str, ranked: dict[str, list[str]], gold: dict[str, list[str]]) -> list[float]:
    k = int(metric.removeprefix("map@"))
    return [average_precision(ranked[key], one, k) for key, one in gold.items()]


def _read(predictions: Source, labels: Source) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Relevant and ranked candidates, by query."""
    gold, ranked = read_lists(labels), read_lists(predictions)
    same_ids(predictions, ranked, labels, gold)
    relevant = {candidate for one in gold.values() for candidate in one}
    if relevant.isdisjoint(candidate for one in ranked.values() for candidate in one):
        expected = f"expected candidates of which {labels.path} has some, such as {shortened(min(relevant))}"
        raise predictions.fault(f"{expected}, got none, first {shortened(next(iter(ranked.values()))[0])}")
    return gold, ranked


def read_lists(source: Source) -> dict[str, list[str]]:
    """Lists of ids by id. Raises XlscaleError naming id and line of what is no list, is empty, or has an id twice."""
    found = source.mapping(_fault)
    if not found:
        raise source.fault("expected at least one query")
    return found


def _fault(value: Any) -> str | None:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        return f"expected a list of ids, got {shortened(value)}"
    if len(set(value)) < len(value):
        return f"duplicate candidate {twice(value)!r}"
    return None

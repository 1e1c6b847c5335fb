"""A tag per line and an empty line between sentences: part-of-speech tags and named entities."""

from __future__ import annotations

import numpy as np

from xlscale.metrics.classification import f1_precision_recall
from xlscale.metrics.spans import matched
from xlscale.xtreme.benchmark import Task
from xlscale.xtreme.items import Items
from xlscale.xtreme.source import Source


def score_tags(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """``f1``, ``precision``, ``recall`` of spans and ``accuracy`` of tokens, 0 to 100; 0/0 counts as 0.

    Raises XlscaleError for an unknown tag, and where the sentences are not those of the labels.
    """
    table = {"": 0} | {label: code for code, label in enumerate(task.labels, 1)}
    gold, predicted = (source.codes(source.lines(), table) for source in (labels, predictions))
    _aligned(predictions, predicted, labels, gold)
    values = f1_precision_recall(*map(len, matched(predicted, gold, task.labels)), scale=100)
    tokens = gold != 0
    accuracy = 100 * int(np.sum((predicted == gold) & tokens)) / int(tokens.sum())
    return dict(zip(("f1", "precision", "recall"), values, strict=True)) | {"accuracy": accuracy}


def _aligned(predictions: Source, predicted: np.ndarray, labels: Source, gold: np.ndarray) -> None:
    shared = min(len(predicted), len(gold))
    apart = np.flatnonzero((predicted[:shared] == 0) != (gold[:shared] == 0))
    if len(apart):
        expected, got = ("a tag", "an empty line") if predicted[apart[0]] == 0 else ("an empty line", "a tag")
        raise predictions.fault(f"expected {expected} as in {labels.path}, got {got}", int(apart[0]) + 1)
    predictions.same_length(len(predicted), labels, len(gold))


def tag_items(task: Task, predictions: Source, labels: Source) -> Items:
    """What each sentence adds to the score, of files that were scored; an id is the number of a sentence."""
    table = {"": 0} | {label: code for code, label in enumerate(task.labels, 1)}
    gold, predicted = (source.codes(source.lines(), table) for source in (labels, predictions))
    sentence = np.cumsum(gold == 0)

    def counts(places: np.ndarray) -> np.ndarray:
        return np.bincount(sentence[places], minlength=sentence[-1] + 1)

    if task.score == ["accuracy"]:
        words = np.flatnonzero(gold)
        return Items.of(range(sentence[-1] + 1), [counts(words[(predicted == gold)[words]])], [counts(words)])
    return Items.counted(
        task, range(sentence[-1] + 1), [counts(ends - 1) for ends in matched(predicted, gold, task.labels)]
    )

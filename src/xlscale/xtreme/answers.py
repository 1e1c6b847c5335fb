"""Answers to questions: labels in SQuAD's JSON, predictions as a JSON object from question id to answer.

``exact_match`` and ``f1`` are normalised as SQuAD v1.1 does, ``mlqa_exact_match`` and ``mlqa_f1`` as MLQA does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xlscale.metrics.answers import match, normaliser
from xlscale.xtreme.benchmark import Task
from xlscale.xtreme.items import Items
from xlscale.xtreme.source import Source, line_of, same_ids, shortened


def score_answers(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """Mean exact match and token F1 over questions, 0 to 100, of the task's normalisations.

    Raises XlscaleError for broken JSON, a question without prediction, and a prediction without question.
    """
    _, found = _scored(task.metrics, predictions, labels)
    return {metric: 100 * sum(values) / len(values) for metric, values in found.items()}


def answer_items(task: Task, predictions: Source, labels: Source) -> Items:
    """What each question adds to the score. Raises as ``score_answers`` does."""
    ids, found = _scored(task.score, predictions, labels)
    return Items.of(ids, [np.array(found[metric]) for metric in task.score])


def _scored(wanted: list[str], predictions: Source, labels: Source) -> tuple[list[str], dict[str, tuple[float, ...]]]:
    """Ids of the questions, and metric -> their scores, 0 to 1."""
    gold, predicted = read_questions(labels), read_answers(predictions)
    same_ids(predictions, predicted, labels, gold)
    found: dict[str, tuple[float, ...]] = {}
    for prefix, name in (("", "squad"), ("mlqa_", "mlqa")):
        metrics, normalise = (prefix + "exact_match", prefix + "f1"), normaliser(name, predictions.language)
        if set(metrics) & set(wanted):
            scores = zip(*(match(predicted[key], answers, normalise) for key, answers in gold.items()), strict=True)
            found |= dict(zip(metrics, scores, strict=True))
    return [*gold], found


def read_answers(source: Source) -> dict[str, str]:
    """Predicted answers by question id. Raises XlscaleError for broken JSON, an id twice, what is not a string, and
    where no answer has any text: every question has one."""
    found = source.mapping(lambda one: None if isinstance(one, str) else f"expected a string, got {shortened(one)}")
    if found and not any(map(str.strip, found.values())):
        raise source.fault(f"expected answers, got empty ones to all {len(found)} questions")
    return found


def read_questions(source: Source) -> dict[str, list[str]]:
    """True answers by question id, from SQuAD's JSON or its list ``data`` alone.

    Raises XlscaleError for broken JSON, another structure, an id twice, and a question without a true answer.
    """
    text = source.text()
    value = source.parse(text)
    found: dict[str, list[str]] = {}
    try:
        articles = value["data"] if isinstance(value, dict) else value
        for question in (q for article in articles for paragraph in article["paragraphs"] for q in paragraph["qas"]):
            key, answers = question["id"], [answer["text"] for answer in question["answers"]]
            if key in found:
                raise source.fault(f"duplicate id {key!r}", line_of(text, key, occurrence=2))
            _check(source, text, key, answers)
            found[key] = answers
    except (TypeError, KeyError, AttributeError) as error:
        raise source.fault(
            f"expected SQuAD's JSON (data, paragraphs, qas, id, answers, text), {_lacks(error)}"
        ) from None
    if not found:
        raise source.fault("expected at least one question")
    return found


def _lacks(error: Exception) -> str:
    return f"without {error}" if isinstance(error, KeyError) else "got another structure"


def _check(source: Source, text: str, key: Any, answers: list[Any]) -> None:
    if not isinstance(key, str) or not all(isinstance(answer, str) for answer in answers):
        raise TypeError
    if not any(map(str.strip, answers)):
        raise source.fault(
            f"id {key!r}: no true answer; XTREME's download removes them, here they have to be there",
            line_of(text, key),
        )

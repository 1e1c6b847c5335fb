"""Mined pairs of sentences, a line each: source id, target id, and perhaps a score (BUCC 2018).

Pairs without scores are the final ones, as XTREME's layout has them. With scores, all candidates may be given; then
those at or above a threshold count, and the threshold is the one with the best F1 on development data.
"""

from __future__ import annotations

import math

import numpy as np

from xlscale.xtreme.benchmark import Task
from xlscale.xtreme.source import Source, shortened

Pair = tuple[str, str]


def score_pairs(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """``f1``, ``precision``, ``recall``, 0 to 100 (Zweigenbaum et al. 2018).

    Raises XlscaleError for a line of another form, a pair twice, and for scores without development data.
    """
    gold, given = read_pairs(labels, scores=False), read_pairs(predictions)
    found = set(given)
    if None not in given.values():
        threshold = _threshold(task, predictions, labels)
        found = {pair for pair, score in given.items() if score >= threshold}
    hits = len(found & gold.keys())
    precision, recall = hits / len(found) if found else 0.0, hits / len(gold)
    return {"f1": 200 * hits / (len(found) + len(gold)), "precision": 100 * precision, "recall": 100 * recall}


def _threshold(task: Task, predictions: Source, labels: Source) -> float:
    name = task.development.format(language=predictions.language)
    own, true = (Source(side.path.parent / name, side.task, side.language) for side in (predictions, labels))
    for source in (own, true):
        if not source.path.is_file():
            raise source.fault(f"not found: the scores in {predictions.path} need a threshold from development data")
    candidates = read_pairs(own)
    if None in candidates.values():
        raise own.fault("expected a score in every line, as in the test file", 1)
    gold = read_pairs(true, scores=False)
    right = np.array([pair in gold for pair in candidates])
    return best_threshold(np.array(list(candidates.values())), right, len(gold))


def best_threshold(scores: np.ndarray, right: np.ndarray, wanted: int) -> float:
    """The threshold whose candidates (score at or above it) have the best F1; the highest one of several.

    ``scores`` float64 (n,), ``right`` bool (n,), ``wanted`` the number of true pairs. It lies midway between the last
    score taken and the next one, and at the last score itself if all are taken; equal scores are never parted. No
    right candidate at all: +inf, so that nothing is taken.
    """
    if not right.any():
        return math.inf
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # the last place of each run of equal scores
    f1 = 2 * np.cumsum(right[order])[last] / (last + 1 + wanted)
    place = last[np.argmax(f1)]
    return float(scores[place] if place == len(scores) - 1 else (scores[place] + scores[place + 1]) / 2)


def read_pairs(source: Source, scores: bool = True) -> dict[Pair, float | None]:
    """Pairs and their scores, None where the file has none. Raises XlscaleError for a bad line and for a pair twice."""
    found: dict[Pair, float | None] = {}
    columns = 0
    for line, row in enumerate(source.lines(), 1):
        parts = [part.strip() for part in row.split("\t")]
        columns = columns or len(parts)
        if len(parts) != columns or not 2 <= columns <= 2 + scores or not all(parts):
            form = "source id, tab, target id" + (", and in all lines or none a tab and a score" if scores else "")
            raise source.fault(f"expected {form}, got {shortened(row)}", line)
        pair = parts[0], parts[1]
        if pair in found:
            raise source.fault(f"duplicate pair {pair[0]!r}, {pair[1]!r}", line)
        found[pair] = _number(source, parts[2], line) if columns == 3 else None
    return found


def _number(source: Source, text: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise source.fault(f"expected a finite number as score, got {shortened(text)}", line)
    return value

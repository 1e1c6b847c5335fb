"""Mined pairs of sentences, a line each: source id, target id, and perhaps a score (BUCC 2018).

Pairs without scores are the final ones, as XTREME's layout has them. With scores, all candidates may be given; then
those at or above a threshold count, and the threshold is the one with the best F1 on development data.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from xlscale.metrics.classification import f1_precision_recall
from xlscale.metrics.retrieval import best_threshold
from xlscale.xtreme.benchmark import Task
from xlscale.xtreme.items import Items
from xlscale.xtreme.source import Source, shortened

Pair = tuple[str, str]
# Of ASCII: to Python 1_0 and digits of other scripts are numbers, too.
_DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def score_pairs(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """``f1``, ``precision``, ``recall``, 0 to 100 (Zweigenbaum et al. 2018).

    Raises XlscaleError for a line of another form, a pair twice, a source in two true pairs, ids of the other side or
    none that the labels know, and for scores without development data.
    """
    found, gold = _read(task, predictions, labels)
    values = f1_precision_recall(len(found & gold), len(found), len(gold), scale=100)
    return dict(zip(("f1", "precision", "recall"), values, strict=True))


def pair_items(task: Task, predictions: Source, labels: Source) -> Items:
    """What each source sentence of some pair adds to the score. Raises as ``score_pairs`` does."""
    found, gold = _read(task, predictions, labels)
    ids = sorted({source for source, _ in found | gold})
    counts = (Counter(source for source, _ in pairs) for pairs in (found & gold, found, gold))
    return Items.counted(task, ids, [np.array([count[one] for one in ids]) for count in counts])


def _read(task: Task, predictions: Source, labels: Source) -> tuple[set[Pair], set[Pair]]:
    """Predicted pairs and true ones."""
    gold, predicted = _read_gold(labels), read_pairs(predictions)
    _same_sides(predictions, predicted, labels, gold)
    found = set(predicted)
    if None not in predicted.values():
        threshold = _threshold(task, predictions, labels)
        found = {pair for pair, score in predicted.items() if score >= threshold}
    return found, set(gold)


def _same_sides(predictions: Source, predicted: Iterable[Pair], labels: Source, gold: Iterable[Pair]) -> None:
    """Raise XlscaleError where the predictions name sentences in another way than the labels, which would score 0."""
    for side, name in enumerate(("source", "target")):
        own, other = ({pair[i] for pair in gold} for i in (side, 1 - side))
        for line, pair in enumerate(predicted, 1):
            if pair[side] in other and pair[side] not in own:
                raise predictions.fault(f"{name} id {shortened(pair[side])}: on the other side in {labels.path}", line)
        if own.isdisjoint(pair[side] for pair in predicted):
            expected = f"expected {name} ids of which {labels.path} has some, such as {shortened(min(own))}"
            raise predictions.fault(f"{expected}, got none, first {shortened(next(iter(predicted))[side])}", 1)
    swapped = {(target, source) for source, target in predicted}
    if not swapped.isdisjoint(gold) and set(gold).isdisjoint(predicted):
        raise predictions.fault(f"the pairs are those of {labels.path} with source and target swapped", 1)


def _threshold(task: Task, predictions: Source, labels: Source) -> float:
    name = task.development.format(language=predictions.language)
    own, true = (Source(side.path.parent / name, side.task, side.language) for side in (predictions, labels))
    for source in (own, true):
        if not source.path.is_file():
            raise source.fault(f"not found: the scores in {predictions.path} need a threshold from development data")
    candidates = read_pairs(own)
    if None in candidates.values():
        raise own.fault("expected a score in every line, as in the test file", 1)
    gold = _read_gold(true)
    _same_sides(own, candidates, true, gold)
    correct = np.array([pair in gold for pair in candidates])
    return best_threshold(np.array(list(candidates.values())), correct, len(gold))


def _read_gold(source: Source) -> dict[Pair, None]:
    """True pairs. Raises XlscaleError for a source in two of them, as conversion does: it has one translation."""
    gold = read_pairs(source, scores=False)
    seen: set[str] = set()
    for line, (name, _) in enumerate(gold, 1):
        if name in seen:
            raise source.fault(f"source id {name!r}: expected in one pair, got another one", line)
        seen.add(name)
    return gold


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
    value = float(text) if _DECIMAL.fullmatch(text.strip()) else math.nan
    if not math.isfinite(value):
        raise source.fault(f"expected a finite number as score, got {shortened(text)}", line)
    return value

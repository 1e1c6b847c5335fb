"""A label or an index per line: XNLI, PAWS-X and XCOPA classify, Tatoeba gives the index of the sentence found."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from xlscale.metrics.classification import accuracy
from xlscale.xtreme.benchmark import Task
from xlscale.xtreme.items import Items
from xlscale.xtreme.source import Source, shortened

CHANCE = 10  # times as many right ones in another count as in the expected one are no chance
# As conversion reads them: 007 names no candidate there, and to XTREME's program it is not 7.
_INDEX = re.compile(r"0|[1-9][0-9]{0,14}")
MANY = 100  # from so many items on, labels that are all the same are not labels


def score_labels(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """Accuracy, 0 to 100, of a label per line. Raises XlscaleError for another number of lines, an unknown label."""
    table = {label: code for code, label in enumerate(task.labels)}
    gold, predicted = (source.codes(source.lines(), table) for source in (labels, predictions))
    _several(gold, labels)
    return _accuracy(predictions, predicted, labels, gold)


def score_indices(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """Accuracy, 0 to 100, of an index per line, from 0; a language has as many candidates as lines unless the task says
    otherwise.

    Raises XlscaleError for another number of lines, what is no index, one that no candidate has, and for indices most
    of which are right if they are counted from 1.
    """
    gold, predicted = (_indices(source) for source in (labels, predictions))
    predictions.same_length(len(predicted), labels, len(gold))
    most = task.candidates.get(labels.language, len(gold))
    for source, values in ((labels, gold), (predictions, predicted)):
        if len(beyond := np.flatnonzero(values >= most)):
            expected = f"expected an index from 0 to {most - 1}"
            raise source.fault(f"{expected}, got {values[beyond[0]]}", int(beyond[0]) + 1)
    right, later = (int((predicted == gold + shift).sum()) for shift in (0, 1))
    if later > CHANCE * max(right, 1):
        raise predictions.fault(
            f"expected indices counted from 0, got {later} right ones counted from 1, {right} from 0"
        )
    return _accuracy(predictions, predicted, labels, gold)


def score_json_labels(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """Accuracy, 0 to 100, of a JSON object with ``label`` per line.

    Where every line of both files has an ``idx``, that is the id and the order of lines does not matter. Raises
    XlscaleError for broken JSON, an unknown label, an ``idx`` twice or not among the labels', another number of lines,
    and for lines in another order than their ``idx`` where the other file has none.
    """
    ids, gold = _objects(labels, task.labels)
    own, predicted = _objects(predictions, task.labels)
    _several(gold, labels)
    if ids and own and len(ids) == len(own):
        index = {key: i for i, key in enumerate(ids)}
        for line, key in enumerate(own, 1):
            if key not in index:
                raise predictions.fault(f"unknown idx {key!r}: expected those of {labels.path}", line)
        gold = gold[[index[key] for key in own]]
    elif bool(ids) != bool(own):  # then line by line, which holds for lines in the order of their ids alone
        source, other, keys = (labels, predictions, ids) if ids else (predictions, labels, own)
        if not all(isinstance(key, int) for key in keys) or keys != sorted(keys):
            raise source.fault(f"idx: expected ascending numbers, since {other.path} has none")
    return _accuracy(predictions, predicted, labels, gold)


def _accuracy(predictions: Source, predicted: np.ndarray, labels: Source, gold: np.ndarray) -> dict[str, float]:
    predictions.same_length(len(predicted), labels, len(gold))
    return {"accuracy": 100 * accuracy(predicted, gold)}


def _several(gold: np.ndarray, labels: Source) -> None:
    """XTREME's own download replaces the labels of the test sets by one value: whoever scores against it sees it."""
    if len(gold) >= MANY and (gold == gold[0]).all():
        raise labels.fault(
            "all labels are the same; XTREME's download removes them, here they have to be the true ones"
        )


def _indices(source: Source) -> np.ndarray:
    rows = [row.strip() for row in source.lines()]
    for line, row in enumerate(rows, 1):
        if not _INDEX.fullmatch(row):
            raise source.fault(f"expected an index, got {shortened(row)}", line)
    return np.array(rows).astype(np.int64)


def _objects(source: Source, known: list[str]) -> tuple[list[Any], np.ndarray]:
    """The idx of each line (none if no line has one) and the codes of the labels."""
    codes, ids = [], {}
    for line, row in enumerate(source.lines(), 1):
        value = source.parse(row, line=line)
        label = value.get("label") if isinstance(value, dict) else None
        if not isinstance(label, int) or isinstance(label, bool) or str(label) not in known:
            expected = f'{{"label": {" or ".join(known)}}}'
            raise source.fault(f"expected {expected}, got {shortened(row)}", line)
        codes.append(known.index(str(label)))
        if (key := value.get("idx")) is not None:
            if not isinstance(key, int | str) or isinstance(key, bool):
                raise source.fault(f"idx: expected a number or a string, got {shortened(key)}", line)
            if key in ids:
                raise source.fault(f"duplicate idx {key!r}, first in line {ids[key]}", line)
            ids[key] = line
        if ids and len(ids) < line:
            raise source.fault("expected an idx in every line or in none", line)
    return list(ids), np.array(codes, np.int16)


def label_items(task: Task, predictions: Source, labels: Source) -> Items:
    """What each line adds to the accuracy, of files that were scored; an id is the number of a line."""
    table = {label: code for code, label in enumerate(task.labels)}
    gold, predicted = (source.codes(source.lines(), table) for source in (labels, predictions))
    return Items.of(range(len(gold)), [predicted == gold])


def index_items(task: Task, predictions: Source, labels: Source) -> Items:
    """What each line adds to the accuracy, of files that were scored; an id is the number of a line."""
    gold, predicted = (_indices(source) for source in (labels, predictions))
    return Items.of(range(len(gold)), [predicted == gold])


def json_label_items(task: Task, predictions: Source, labels: Source) -> Items:
    """What each line adds to the accuracy, of files that were scored; an id is the label's ``idx``, or the number of
    its line."""
    ids, gold = _objects(labels, task.labels)
    own, predicted = _objects(predictions, task.labels)
    if ids and own:
        place = {key: i for i, key in enumerate(own)}
        predicted = predicted[[place[key] for key in ids]]
    return Items.of(ids or range(len(gold)), [predicted == gold])

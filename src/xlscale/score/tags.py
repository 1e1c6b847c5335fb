"""A tag per line and an empty line between sentences: part-of-speech tags and named entities.

Chunks are those of seqeval in its default mode (Nakayama 2018, after conlleval), counted on arrays: a benchmark has
millions of tokens. For BIO tags that is ``metrics.span_f1``, to which the tests hold it.
"""

from __future__ import annotations

import numpy as np

from xlscale.score.benchmark import Task
from xlscale.score.source import Source


def score_tags(task: Task, predictions: Source, labels: Source) -> dict[str, float]:
    """``f1``, ``precision``, ``recall`` of chunks and ``accuracy`` of tokens, 0 to 100; 0/0 counts as 0.

    Raises XlscaleError for an unknown tag, and where the sentences are not those of the labels.
    """
    table = {"": 0} | {label: code for code, label in enumerate(task.labels, 1)}
    gold, given = (source.codes(source.lines(), table) for source in (labels, predictions))
    _aligned(predictions, given, labels, gold)
    hits, found, wanted = chunk_counts(given, gold, task.labels)
    tokens = gold != 0
    return {
        "f1": _percent(2 * hits, found + wanted),
        "precision": _percent(hits, found),
        "recall": _percent(hits, wanted),
        "accuracy": _percent(int(np.sum((given == gold) & tokens)), int(tokens.sum())),
    }


def chunk_counts(given: np.ndarray, gold: np.ndarray, labels: list[str]) -> tuple[int, int, int]:
    """Chunks that both have, that ``given`` has, that ``gold`` has.

    Both are int (n,): 0 between sentences, else 1 + the place in ``labels``. The first letter of a label is its
    position and what follows the first hyphen its type, as seqeval reads them. Labels without positions are so read as
    well: equal neighbours make one chunk, but SYM and SCONJ begin with the S of a single token and never join.
    """
    position = np.array(["O"] + [label[0] for label in labels])
    _, kind = np.unique([""] + [label.split("-", maxsplit=1)[-1] for label in labels], return_inverse=True)
    starts_given, ends_given = _chunks(given, position, kind)
    starts_gold, ends_gold = _chunks(gold, position, kind)
    ends = np.zeros(len(gold), np.int64)
    ends[starts_given] = ends_given
    same = (ends[starts_gold] == ends_gold) & (kind[given[starts_gold]] == kind[gold[starts_gold]])
    return int(same.sum()), len(starts_given), len(starts_gold)


def _chunks(codes: np.ndarray, position: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First token and last token + 1 of every chunk, int64."""
    inside, begins, ends = position != "O", np.isin(position, ["B", "S"]), np.isin(position, ["E", "S"])
    before = np.concatenate([np.zeros(1, codes.dtype), codes[:-1]])
    joins = inside[codes] & inside[before] & (kind[codes] == kind[before]) & ~begins[codes] & ~ends[before]
    starts = np.flatnonzero(inside[codes] & ~joins)
    stops = np.append(np.flatnonzero(~joins), len(codes))
    return starts, stops[np.searchsorted(stops, starts, side="right")]


def _aligned(predictions: Source, given: np.ndarray, labels: Source, gold: np.ndarray) -> None:
    shared = min(len(given), len(gold))
    apart = np.flatnonzero((given[:shared] == 0) != (gold[:shared] == 0))
    if len(apart):
        expected, got = ("a tag", "an empty line") if given[apart[0]] == 0 else ("an empty line", "a tag")
        raise predictions.fault(f"expected {expected} as in {labels.path}, got {got}", int(apart[0]) + 1)
    if len(given) != len(gold):
        raise predictions.fault(f"expected {len(gold)} lines as in {labels.path}, got {len(given)}", shared + 1)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0

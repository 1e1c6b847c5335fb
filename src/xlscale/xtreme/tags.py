"""A tag per line and an empty line between sentences: part-of-speech tags and named entities.

Chunks are those of seqeval in its default mode (Nakayama 2018, after conlleval), counted on arrays: a benchmark has
millions of tokens. For BIO tags that is ``metrics.span_f1``; the tests hold it to both.
"""

from __future__ import annotations

import numpy as np

from xlscale.xtreme.benchmark import Task
from xlscale.xtreme.source import Source


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

    Both are int (n,): 0 between sentences, else 1 + the place in ``labels``. As in seqeval, a label's first letter is
    its position (B, I, E, S, O) and the rest its type. Part-of-speech tags are read in the same way, although they
    have no positions: then equal neighbours make one chunk, CCONJ and SCONJ are of one type, and a chunk of X is lost
    at the end of a sentence. XTREME's F1 of UD-POS is this number.
    """
    rules = _Rules(labels)
    (starts, ends, kinds), (true_starts, true_ends, true_kinds) = (rules.chunks(codes) for codes in (given, gold))
    _, own, true = np.intersect1d(ends, true_ends, assume_unique=True, return_indices=True)
    same = (starts[own] == true_starts[true]) & (kinds[own] == true_kinds[true])
    return int(same.sum()), len(ends), len(true_ends)


class _Rules:
    """Where chunks end and begin, for each pair of neighbouring labels (seqeval 1.2.2, default mode)."""

    def __init__(self, labels: list[str]):
        # Before the first token stands an O of no type; between sentences an O, whose type is "_".
        names = ["O", *labels, "O"]
        position = np.array([name[0] for name in names])
        kind = np.array([name[1:].split("-", maxsplit=1)[-1] or "_" for name in names])
        kind[-1] = ""
        self._kind = np.unique(kind, return_inverse=True)[1]
        before, after = position[:, None], position[None, :]
        other = kind[:, None] != kind[None, :]
        self._ends = np.isin(before, ["E", "S"]) | (np.isin(before, ["B", "I"]) & np.isin(after, ["B", "S", "O"]))
        self._ends |= (before != "O") & other
        self._begins = np.isin(after, ["B", "S"]) | (np.isin(before, ["E", "S", "O"]) & np.isin(after, ["E", "I"]))
        self._begins |= (after != "O") & other

    def chunks(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First token, last token + 1 and type of every chunk, int64, in the order of their ends."""
        before = np.concatenate([[len(self._kind) - 1], codes])
        after = np.concatenate([codes, [0]])
        ends = np.flatnonzero(self._ends[before, after])
        last_begin = np.maximum.accumulate(np.where(self._begins[before, after], np.arange(len(after)), 0))
        return last_begin[ends - 1], ends, self._kind[before[ends]]


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

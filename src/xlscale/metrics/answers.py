"""The metrics of the tasks. Each takes plain values and is checked in the tests against an independent reference."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from xlscale.data import words

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Lower case, no punctuation, no English articles, single spaces (SQuAD v1.1 evaluation, Rajpurkar et al. 2016)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the normalised prediction equals one of the normalised answers, else 0.0."""
    return float(any(normalise_answer(prediction) == normalise_answer(answer) for answer in answers))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """Greatest token-overlap F1 over the answers, 0 to 1 (SQuAD v1.1 evaluation)."""
    return max(_f1(normalise_answer(prediction).split(), normalise_answer(answer).split()) for answer in answers)


def _f1(predicted: list[str], gold: list[str]) -> float:
    shared = sum((Counter(predicted) & Counter(gold)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


def accuracy(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Share of equal entries, 0 to 1."""
    return float(np.mean(np.asarray(predicted) == np.asarray(gold)))


def macro_f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Unweighted mean of the classes' F1 over classes that occur in gold or prediction; 0/0 counts as 0."""
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    scores = []
    for label in np.union1d(predicted, gold):
        hits = np.sum((predicted == label) & (gold == label))
        scores.append(2 * hits / (np.sum(predicted == label) + np.sum(gold == label)))
    return float(np.mean(scores))


def span_f1(predicted: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """F1, precision and recall of the spans of BIO tag sequences, over all sequences together; 0/0 counts as 0.

    A predicted span counts if a gold span has its type, first and last token (CoNLL-2003, Tjong Kim Sang and
    De Meulder; micro average in seqeval's default mode).
    """
    found, wanted = ([{*words.spans(tags)} for tags in side] for side in (predicted, gold))
    hits = sum(len(a & b) for a, b in zip(found, wanted, strict=True))
    given, asked = sum(map(len, found)), sum(map(len, wanted))
    return _ratio(2 * hits, given + asked), _ratio(hits, given), _ratio(hits, asked)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def precision_at_1(
    queries: np.ndarray, candidates: np.ndarray, gold: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Share of queries whose nearest candidate by cosine is the gold one.

    ``queries`` float32 (n, d) and ``candidates`` float32 (m, d) of unit length, ``gold`` int64 (n,). Returns the share,
    the chosen candidate int64 (n,) and its cosine float32 (n,). Ties go to the first candidate.
    """
    similarity = queries @ candidates.T
    best = similarity.argmax(1)
    return float(np.mean(best == gold)), best, similarity[np.arange(len(queries)), best]

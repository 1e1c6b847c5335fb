"""Extractive question answering: start and end of the answer in a context; EM and F1.

Contexts that do not fit are cut into windows on a fixed grid, counted from the start of the context. Where a window
begins never depends on where the answer is, in training or in evaluation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.core.files import XlscaleError
from xlscale.core.strict import SHORT
from xlscale.data.batches import Batch, Encoded
from xlscale.metrics.answers import match, normaliser
from xlscale.metrics.predictions import COLUMNS
from xlscale.models import pairs
from xlscale.tasks.base import TrainedTask, frame, slices

LONGEST_ANSWER = 30  # tokens, as in the SQuAD baseline of BERT (Devlin et al. 2019)
QUESTION_TOKENS = 48  # a longer question is cut, so that every window has room for context
NO_SPAN = -1
NULL = 0  # the input's first token, which stands for "no answer"; of a causal model it is the one that closes the input


class SpanQA(TrainedTask):
    """A span-extraction task over (question, context) pairs."""

    head_size = 2  # start and end

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """All windows of all rows, half overlapping. ``prefix`` marks single texts and is not put before a pair.

        Targets ``start`` and ``end`` int64 (windows,): token indices of the first gold answer, NO_SPAN where it is not
        wholly inside the window, the place of "no answer" where the question has none. ``spans``: the character range
        in the context of each token, NO_SPAN outside it.
        """
        ids, owners, ranges, ends = [], [], [], []
        for first, part in slices(rows):
            windows = pairs.encode(
                tokenizer,
                _cut(part["question"], tokenizer),
                part["context"],
                truncation="only_second",
                max_length=max_length,
                stride=(max_length - QUESTION_TOKENS) // 2,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            for i, row in enumerate(windows["overflow_to_sample_mapping"]):
                inside = np.array([s == 1 for s in windows.sequence_ids(i)])
                if not inside.any():
                    expected = f"a text of which the tokenizer leaves something, got {SHORT.repr(part['context'][row])}"
                    raise XlscaleError(f"{self.card.file}: context: item {part['item'][row]!r}: expected {expected}")
                spans = np.where(inside[:, None], np.array(windows["offset_mapping"][i], np.int64), NO_SPAN)
                ids.append(windows["input_ids"][i])
                ranges.append(spans)
                ends.append(_target(spans, part["answers"][row], part["answer_starts"][row], self._null(len(spans))))
                owners.append(first + row)
        start, end = np.array(ends, np.int64).reshape(-1, 2).T
        return Encoded.of(ids, owners, {"start": start, "end": end}, ranges)

    def training_inputs(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """One window per row, drawn from those of its fixed windows that hold the answer: the same number of inputs
        for every data set. Rows whose answer is in no window whole are left out."""
        holds = np.flatnonzero(encoded.targets["start"] != NO_SPAN)
        shuffled = generator.permutation(holds)
        _, first = np.unique(encoded.row[shuffled], return_index=True)
        return encoded.take(shuffled[first])

    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: the same windows, each with the length and relative position of another row's answer."""
        order = generator.permutation(len(encoded))
        start, end = encoded.targets["start"][order], encoded.targets["end"][order]
        inside = [encoded.spans_of(i)[:, 0] != NO_SPAN for i in range(len(encoded))]
        first = np.array([np.flatnonzero(tokens)[0] for tokens in inside])
        room = np.array([tokens.sum() for tokens in inside])
        length = np.minimum(end - start, room - 1)
        # Relative to where the context begins, wrapped into the room that this window has.
        moved = first + (start - first[order]) % (room - length)
        null = np.broadcast_to(self._null(encoded.lengths), len(encoded))
        none = start == null[order]  # no context is there
        targets = {"start": np.where(none, null, moved), "end": np.where(none, null, moved + length)}
        return replace(encoded, targets=targets)

    def _null(self, length):
        """Which token of an input of ``length`` tokens stands for "no answer"; ``length`` may be an array. A causal
        model's first token has seen neither question nor context, the one that closes the input has seen both."""
        return length - 1 if self.causal else NULL

    def outputs(self, head: nn.Module, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits float32 (batch, tokens, 2), -inf at padding."""
        padding = ~mask
        padding[:, 0] = False  # which the first token never is, also where it does not stand for the text
        return head(hidden).to(torch.float32).masked_fill(padding.unsqueeze(-1), float("-inf"))

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean of the cross-entropies of start and end over the tokens of the window (Devlin et al. 2019, 4.2)."""
        start, end = outputs.unbind(-1)
        cross_entropy = nn.functional.cross_entropy
        return (cross_entropy(start, batch.targets["start"]) + cross_entropy(end, batch.targets["end"])) / 2

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The best span over all windows of each row; gold is the first answer, score the sum of its two logits.

        The prediction is a text, or, of a set that this repository does not hold and may not pass on, where it is: see
        ``answer``.
        """
        best: dict[int, tuple[float, int, int]] = {}
        none: dict[int, float] = {}
        for i, (row, logits) in enumerate(zip(encoded.row, outputs, strict=True)):
            found = _best_span(encoded.spans_of(i), logits)
            none[row] = min(none.get(row, np.inf), float(logits[self._null(len(logits))].sum()))
            if row not in best or found[0] > best[row][0]:
                best[row] = found
        table = frame(rows, ["language", "item", "group", "context", "answers"])
        if self.card.unanswerable:  # every window has to say so: the least of their scores counts
            best = {row: (none[row], 0, 0) if none[row] > found[0] else found for row, found in best.items()}
        chosen = [best[i] for i in range(len(table))]
        spans = [_stripped(text, a, b) for text, (_, a, b) in zip(table["context"], chosen, strict=True)]
        texts = [text[a:b] for text, (a, b) in zip(table["context"], spans, strict=True)]
        table["prediction"] = [f"{a}:{b}" for a, b in spans] if self.card.source else texts
        table["score"] = np.array([score for score, _, _ in chosen], np.float32)
        columns = (texts, table["answers"], table["language"])
        both = [self._score(text, list(answers), language) for text, answers, language in zip(*columns, strict=True)]
        table["correct"], table["f1"] = np.array(both, np.float32).reshape(-1, 2).T
        table["gold"] = [answers[0] if len(answers) else "" for answers in table["answers"]]
        return table[[*COLUMNS, "f1"]]

    def _score(self, prediction: str, answers: list[str], language: str) -> tuple[float, float]:
        """Exact match and F1 of one answer, with the card's normalisation.

        Where questions may have no answer, true answers of which that leaves nothing do not count, and a question
        without others wants a prediction of which it leaves nothing (SQuAD 2.0 evaluation, Rajpurkar et al. 2018).
        """
        normalise = normaliser(self.card.normalisation, language)
        if self.card.unanswerable:
            answers = [answer for answer in answers if normalise(answer)]
            if not answers:
                return (float(not normalise(prediction)),) * 2
        return match(prediction, answers, normalise)

    def answer(self, prediction: str, context: str) -> str:
        """The text that a prediction stands for: itself, or of a card with a source the characters "begin:end" of the
        context. Raises ValueError for what is neither."""
        if not self.card.source:
            return prediction
        begin, _, end = prediction.partition(":")
        if not (begin.isdecimal() and end.isdecimal() and int(begin) <= int(end) <= len(context)):
            expected = f"the first and last character + 1 of an answer, up to {len(context)}"
            raise ValueError(f"prediction: expected {expected}, got {prediction[:40]!r}")
        return context[int(begin) : int(end)]

    def others(self, predictions: pd.DataFrame) -> dict[str, float]:
        """Exact match beside F1."""
        return {"exact_match": float(predictions["correct"].mean())}


def _cut(questions: list[str], tokenizer) -> list[str]:
    """Each question's text up to its first QUESTION_TOKENS - 8 tokens; the rest of those are special tokens."""
    offsets = tokenizer(questions, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    most = QUESTION_TOKENS - 8
    return [q if len(o) <= most else q[: o[most - 1][1]] for q, o in zip(questions, offsets, strict=True)]


def _target(spans: np.ndarray, answers: list[str], starts: list[int], null: int) -> tuple[int, int]:
    """First and last token of the first answer; ``null`` twice for a question without one (Devlin et al. 2019, 4.3)."""
    return _token_span(spans, starts[0], starts[0] + len(answers[0])) if answers else (null, null)


def _token_span(spans: np.ndarray, begin: int, stop: int) -> tuple[int, int]:
    """First and last token that overlap the characters [begin, stop); NO_SPAN twice if the window lacks a part."""
    inside = spans[:, 0] != NO_SPAN
    if not inside.any() or spans[inside][0, 0] > begin or spans[inside][-1, 1] < stop:
        return NO_SPAN, NO_SPAN
    touching = np.flatnonzero(inside & (spans[:, 1] > begin) & (spans[:, 0] < stop))
    return (int(touching[0]), int(touching[-1])) if len(touching) else (NO_SPAN, NO_SPAN)


def _stripped(text: str, begin: int, end: int) -> tuple[int, int]:
    """The characters [begin, end) of ``text`` without white space at both ends."""
    found = text[begin:end]
    begin += len(found) - len(found.lstrip())
    return begin, begin + len(found.strip())


def _best_span(spans: np.ndarray, logits: np.ndarray) -> tuple[float, int, int]:
    """(score, first character, last character + 1) of the best allowed span of a window."""
    inside = np.flatnonzero(spans[:, 0] != NO_SPAN)
    start, end = logits[inside, 0], logits[inside, 1]
    score = start[:, None] + end[None, :]
    distance = np.arange(len(inside))[None, :] - np.arange(len(inside))[:, None]
    score = np.where((distance >= 0) & (distance < LONGEST_ANSWER), score, -np.inf)
    i, j = np.unravel_index(score.argmax(), score.shape)
    return float(score[i, j]), int(spans[inside[i], 0]), int(spans[inside[j], 1])

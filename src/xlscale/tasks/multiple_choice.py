"""Multiple choice: every choice is read with the text, a linear head gives each pair one logit, the largest is chosen.

Softmax cross-entropy over the choices of a row (the multiple-choice model of Radford et al. 2018 and of Devlin et al.
2019, 4.4). Rows may have different numbers of choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.data.batches import Batch, Encoded
from xlscale.metrics.predictions import COLUMNS
from xlscale.models import pairs
from xlscale.tasks.base import TrainedTask, best_share, frame, slices

SPARE = 8  # tokens that a long text leaves to the choices in any case


class MultipleChoice(TrainedTask):
    """A multiple-choice task over (text, choice) pairs."""

    head_size = 1

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of the pair (text, choice) for every choice of every row, at most ``max_length`` tokens, a row's
        choices one after another. ``prefix`` marks single texts and is not put before a pair.

        All choices of a row meet the same text and have the same room: see ``_cut``. Targets int64 (inputs,):
        ``choice``, the choice's index in its row, and ``answer``, the index of the row's correct choice.
        """
        ids, owners, indices, answers = [], [], [], []
        for first, part in slices(rows):
            texts = _cut(part["text"], part["choices"], tokenizer, max_length)
            both = [(text, choice) for text, row in zip(texts, part["choices"], strict=True) for choice in row]
            sides = zip(*both, strict=True)
            ids += pairs.encode(tokenizer, *sides, truncation="only_second", max_length=max_length)["input_ids"]
            for i, (choices, answer) in enumerate(zip(part["choices"], part["answer"], strict=True), first):
                owners += [i] * len(choices)
                indices += range(len(choices))
                answers += [answer] * len(choices)
        return Encoded.of(ids, owners, {"choice": np.array(indices, np.int64), "answer": np.array(answers, np.int64)})

    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: the same inputs, the indices of the correct choices permuted between the rows.

        An index that a row does not have is counted on from its first choice.
        """
        first, sizes = _rows(encoded.targets["choice"])
        dealt = generator.permutation(encoded.targets["answer"][first]) % sizes
        return replace(encoded, targets=encoded.targets | {"answer": np.repeat(dealt, sizes)})

    def outputs(self, head: nn.Module, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """A logit per input, float32 (batch,), from the encoder's output (batch, tokens, width), pooled."""
        return head(self.pooled(hidden, mask)).squeeze(-1).to(torch.float32)

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean over the batch's rows of the cross-entropy over their choices, which stand one after another."""
        first, sizes = _rows(batch.targets["choice"].cpu().numpy())
        # Where a row has fewer choices than another, -inf takes no part in its softmax.
        logits = nn.utils.rnn.pad_sequence(outputs.split(sizes.tolist()), batch_first=True, padding_value=-torch.inf)
        return nn.functional.cross_entropy(logits, batch.targets["answer"][first])

    def count(self, batch: Batch) -> int:
        """The rows of the batch."""
        return int((batch.targets["choice"] == 0).sum())

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table: gold and prediction are indices of choices, counted from "0"; score is the share of the
        softmax that the chosen one has."""
        first, _ = _rows(encoded.targets["choice"])
        table = frame(rows, ["language", "item", "group"]).iloc[encoded.row[first]].reset_index(drop=True)
        logits = np.split(np.array(outputs, np.float64), first[1:])
        table["gold"] = encoded.targets["answer"][first].astype(str)
        table["prediction"] = [str(values.argmax()) for values in logits]
        table["score"] = np.array([best_share(values) for values in logits], np.float32)
        table["correct"] = (table["prediction"] == table["gold"]).astype(np.float32)
        return table[COLUMNS]


def _rows(choice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each row's inputs begin, and how many there are: the choice with index 0 begins a row."""
    first = np.flatnonzero(choice == 0)
    return first, np.diff(np.append(first, len(choice)))


def _cut(texts: Sequence[str], choices: Sequence[Sequence[str]], tokenizer, max_length: int) -> list[str]:
    """Each text up to the token from which on it would take room that its row's longest choice needs.

    It keeps half of the room in any case, so neither a long text nor a long choice leaves nothing of the other.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    longest = [max(map(len, tokenizer(list(row), add_special_tokens=False)["input_ids"])) for row in choices]
    offsets = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    most = [min(max(room // 2, room - length), room - SPARE) for length in longest]
    return [text if len(o) <= n else text[: o[n - 1][1]] for text, o, n in zip(texts, offsets, most, strict=True)]

"""Sentence classification: mean-pooled encoder output, linear head, cross-entropy; accuracy and macro-F1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.cards.schema import DataCard
from xlscale.data.batches import Batch, Encoded
from xlscale.experiment.results import Score
from xlscale.metrics import answers
from xlscale.metrics.predictions import COLUMNS
from xlscale.tasks.common import SLICE, at_most, frame, linear_head, mean_pool, per_language, slices, tokenized


class Classification:
    """A classification task. The classes and their order are those of the card."""

    def __init__(self, card: DataCard):
        self.card = card
        self.classes = {label: i for i, label in enumerate(card.labels)}

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices of at most ``items`` test rows per language."""
        return at_most(rows, items)

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens; target ``label`` int64 (inputs,).

        Rows with a ``second`` text are read as pairs, of which the longer side is cut; ``prefix`` marks single texts
        and is not put before a pair.
        """
        if "second" in rows.column_names:
            parts = (rows[first : first + SLICE] for first in slices(len(rows)))
            pairs = (tokenizer(p["text"], p["second"], truncation=True, max_length=max_length) for p in parts)
            ids = [one for found in pairs for one in found["input_ids"]]
        else:
            ids = tokenized(rows, tokenizer, prefix, max_length)
        labels = np.array([self.classes[label] for label in rows["label"]], np.int64)
        return Encoded.of(ids, targets={"label": labels})

    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: the same inputs, the labels permuted."""
        labels = generator.permutation(encoded.targets["label"])
        return replace(encoded, targets={"label": labels})

    def training_inputs(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """One input per row: what was encoded."""
        return encoded

    def head(self, width: int, generator: torch.Generator) -> nn.Module:
        """A fresh linear head, (width) -> (classes)."""
        return linear_head(width, len(self.classes), generator)

    def outputs(self, head: nn.Module, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits float32 (batch, classes) from the encoder's output (batch, tokens, width)."""
        return head(mean_pool(hidden, mask)).to(torch.float32)

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy over the batch."""
        return nn.functional.cross_entropy(outputs, batch.targets["label"])

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table; ``outputs`` holds the logits of each input in the order of ``encoded``."""
        logits = np.stack(outputs)
        table = frame(rows, ["language", "item", "group", "label"]).rename(columns={"label": "gold"})
        table["prediction"] = np.array(self.card.labels)[logits.argmax(1)]
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        table["score"] = (shifted.max(1) / shifted.sum(1)).astype(np.float32)
        table["correct"] = (table["prediction"] == table["gold"]).astype(np.float32)
        return table[COLUMNS]

    def scores(self, predictions: pd.DataFrame) -> dict[str, Score]:
        """Accuracy per language (primary), macro-F1 beside it."""
        return per_language(
            predictions,
            lambda part: (
                answers.accuracy(part["prediction"], part["gold"]),
                {"macro_f1": answers.macro_f1(part["prediction"], part["gold"])},
            ),
        )

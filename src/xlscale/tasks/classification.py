"""Sentence classification: pooled encoder output, linear head, cross-entropy; accuracy and macro-F1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.cards.schema import DataCard, ModelCard
from xlscale.data.batches import Batch, Encoded
from xlscale.metrics.classification import macro_f1
from xlscale.metrics.predictions import COLUMNS
from xlscale.models import pairs
from xlscale.tasks.base import TrainedTask, best_share, frame, slices


class Classification(TrainedTask):
    """A classification task. The classes and their order are those of the card."""

    def __init__(self, card: DataCard, model: ModelCard | None = None):
        super().__init__(card, model)
        self.classes = {label: i for i, label in enumerate(card.labels)}
        self.head_size = len(self.classes)

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens; target ``label`` int64 (inputs,).

        Rows with a ``second`` text are read as pairs, of which the longer side is cut; ``prefix`` marks single texts
        and is not put before a pair.
        """
        targets = {"label": np.array([self.classes[label] for label in rows["label"]], np.int64)}
        if "second" not in rows.column_names:
            return replace(super().encode(rows, tokenizer, prefix, max_length), targets=targets)
        ids: list[list[int]] = []
        for _, part in slices(rows):
            found = pairs.encode(tokenizer, part["text"], part["second"], truncation=True, max_length=max_length)
            ids += found["input_ids"]
        return Encoded.of(ids, targets=targets)

    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: the same inputs, the labels permuted."""
        return replace(encoded, targets={"label": generator.permutation(encoded.targets["label"])})

    def outputs(self, head: nn.Module, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits float32 (batch, classes) from the encoder's output (batch, tokens, width)."""
        return head(self.pooled(hidden, mask)).to(torch.float32)

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy over the batch."""
        return nn.functional.cross_entropy(outputs, batch.targets["label"])

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table; score is the share of the softmax that the predicted class has."""
        logits = np.stack(outputs)
        table = frame(rows, ["language", "item", "group", "label"]).rename(columns={"label": "gold"})
        table["prediction"] = np.array(self.card.labels)[logits.argmax(1)]
        table["score"] = best_share(logits).astype(np.float32)
        table["correct"] = (table["prediction"] == table["gold"]).astype(np.float32)
        return table[COLUMNS]

    def others(self, predictions: pd.DataFrame) -> dict[str, float]:
        """Macro-F1 beside accuracy."""
        return {"macro_f1": macro_f1(predictions["prediction"], predictions["gold"])}

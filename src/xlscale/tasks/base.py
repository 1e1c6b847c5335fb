"""The contract of a task family, and what families share.

Belongs here: the base classes, and what needs to know no family: pooling, a fresh head, the choice of test rows,
tokenisation.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from torch import nn

from xlscale.cards.schema import DataCard, ModelCard
from xlscale.core.progress import bar
from xlscale.data import load
from xlscale.data.batches import Batch, Encoded
from xlscale.experiment.results import Score
from xlscale.metrics.predictions import by_language

# What the loss of a batch is: a mean over what ``TrainedTask.count`` counts; of the vectors of its inputs, which it
# compares; or of the batch and nothing less.
Divisible = Literal["mean", "vectors", "whole"]
SLICE = 256  # rows that are tokenised at a time: the tokenizer's offsets of a whole split would take a lot of memory


class Task(ABC):
    """A task as a data card describes it. By default it compares sentence vectors: no head, nothing to train.

    ``causal``: a token's state follows from the tokens before it alone, so that what is asked about a text is read
    where the text has been read; ``pooling``: what stands for a text. Both are the model card's, None being an encoder.
    ``parts``: the tasks of single data sets that it is made of, itself alone unless it is a mixture.
    """

    def __init__(self, card: DataCard, model: ModelCard | None = None):
        self.card, self.model = card, model
        self.parts: list[Task] = [self]
        self.causal = model is not None and model.attention == "causal"
        self.pooling = "mean" if model is None else model.pooling

    def heads(self, head: nn.Module | None) -> list[nn.Module | None]:
        """The head of each of ``parts``, of what ``head_of`` gave."""
        return [head]

    def joined(self, inputs: Sequence[Encoded]) -> Encoded:
        """The inputs of each of ``parts`` as those of this task."""
        (one,) = inputs
        return one

    def together(self, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """The prediction tables of each of ``parts`` as that of this task."""
        (one,) = tables
        return one

    def rows(self) -> DatasetDict:
        """What is trained on and evaluated: by default the splits of the data set's file."""
        return load.splits(self.card)

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices int64, ascending, of at most ``items`` test rows per language, and of all that these need."""
        return subsample_per_language(rows, items)

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens, and as targets what the loss needs."""
        ids: list[list[int]] = []
        for _, part in slices(rows):
            texts = [prefix + text for text in part["text"]]
            ids += tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
        return Encoded.of(ids)

    def outputs(self, head: nn.Module | None, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Sentence vectors float32 (batch, width) of unit length, from the encoder's output (batch, tokens, width).

        ``mask`` bool (batch, tokens): the tokens that stand for the text; not padding, which is on the right.
        """
        return nn.functional.normalize(self.pooled(hidden, mask), dim=-1)

    def batch_outputs(
        self, head: nn.Module | None, hidden: torch.Tensor, mask: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """``outputs`` of ``batch``, which a family may look at to know where it needs some."""
        return self.outputs(head, hidden, mask)

    def pooled(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What stands for each text, float32 (batch, width): the mean over ``mask``, or the state of its last token."""
        return last_of(hidden, mask) if self.pooling == "last" else mean_pool(hidden, mask)

    @abstractmethod
    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table: ``metrics.predictions.COLUMNS`` and those of SCORES that the card's metric needs.

        ``outputs`` holds those of each input in the order of ``encoded``, of the rows ``rows``, without padding.
        """

    def scores(self, predictions: pd.DataFrame) -> dict[str, Score]:
        """The card's metric in every language (primary) with ``others`` beside it, in order of the languages' codes."""
        values = by_language(self.card.primary_metric, predictions)
        return {
            language: Score(items=len(part), value=values[language], others=self.others(part))
            for language, part in predictions.groupby("language", sort=True)
        }

    def others(self, predictions: pd.DataFrame) -> dict[str, float]:
        """Further metrics of the predictions of one language."""
        return {}


class TrainedTask(Task):
    """A task with a head and a loss."""

    head_size: int  # outputs of the head for a vector
    divisible: Divisible = "mean"

    @abstractmethod
    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: the same inputs with targets that say nothing about them, as much alike otherwise as can be."""

    def training_inputs(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The inputs to train on, of all that were encoded."""
        return encoded

    def head(self, width: int, generator: torch.Generator) -> nn.Module:
        """A fresh linear head (width -> head_size), weights uniform within 1/sqrt(width) from ``generator``, bias 0."""
        head = nn.Linear(width, self.head_size)
        bound = 1 / math.sqrt(width)
        with torch.no_grad():
            head.weight.uniform_(-bound, bound, generator=generator)
            head.bias.zero_()
        return head

    def head_of(self, encoder: nn.Module, generator: torch.Generator) -> nn.Module:
        """The fresh head of a training of ``encoder``; what it draws comes from ``generator``."""
        return self.head(encoder.config.hidden_size, generator)

    @abstractmethod
    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The mean loss () over the batch that ``outputs`` are of."""

    def count(self, batch: Batch) -> int:
        """Over how many things ``loss`` is a mean: by default the inputs."""
        return len(batch.index)


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of ``hidden`` (batch, tokens, width) where ``mask`` (batch, tokens) is True, in float32."""
    weights = mask.unsqueeze(-1).to(torch.float32)
    return (hidden.to(torch.float32) * weights).sum(1) / weights.sum(1)


def last_of(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``hidden`` (batch, tokens, width) at the last token where ``mask`` (batch, tokens) is True, in float32."""
    last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
    return hidden[torch.arange(len(hidden), device=mask.device), last].to(torch.float32)


def best_share(logits: np.ndarray) -> np.ndarray:
    """The share of the softmax over the last axis that its largest entry has."""
    return 1 / np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)


def subsample_per_language(rows: Dataset, items: int, whole: str | None = None) -> np.ndarray:
    """Indices, ascending, of at most ``items`` rows per language; of the language ``whole`` all rows stay.

    Which rows stay depends on their group alone, so that the languages keep the same parallel items as far as they
    have them.
    """
    table = frame(rows, ["language", "group", "item"])
    table["rank"] = [hashlib.sha256(group.encode()).hexdigest() for group in table["group"]]
    position = table.sort_values(["rank", "item"]).groupby("language").cumcount()
    return np.flatnonzero((position.sort_index() < items) | (table["language"] == whole))


def slices(rows: Dataset) -> Iterator[tuple[int, dict[str, list]]]:
    """The columns of SLICE rows at a time and the index of the first, with a progress bar where it takes long."""
    firsts = range(0, len(rows), SLICE)
    for first in bar(firsts, desc="tokenisation", unit="slice", delay=2):
        yield first, rows[first : first + SLICE]


def frame(rows: Dataset, columns: list[str]) -> pd.DataFrame:
    """The named columns of a data set as a table, in its order."""
    return rows.select_columns(columns).to_pandas()

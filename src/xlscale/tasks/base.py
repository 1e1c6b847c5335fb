"""The contract of a task family, and what families share.

Belongs here: the base classes, and what needs to know no family: pooling, a fresh head, the choice of test rows,
tokenisation.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn
from tqdm import tqdm

from xlscale.cards.schema import DataCard
from xlscale.data.batches import Batch, Encoded
from xlscale.experiment.results import Score
from xlscale.metrics.predictions import by_language

SLICE = 256  # rows that are tokenised at a time: the tokenizer's offsets of a whole split would take a lot of memory


class Task(ABC):
    """A task as a data card describes it. By default it compares sentence vectors: no head, nothing to train."""

    def __init__(self, card: DataCard):
        self.card = card

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices int64, ascending, of at most ``items`` test rows per language, and of all that these need."""
        return subsample_per_language(rows, items)

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens, and as targets what the loss needs."""
        return Encoded.of(tokenized(rows, tokenizer, prefix, max_length))

    def outputs(self, head: nn.Module | None, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Sentence vectors float32 (batch, width) of unit length, from the encoder's output (batch, tokens, width)."""
        return nn.functional.normalize(mean_pool(hidden, mask), dim=-1)

    @abstractmethod
    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table: ``metrics.predictions.COLUMNS`` and those of SCORES that the card's metric needs.

        ``outputs`` holds those of each input in the order of ``encoded``, of the rows ``rows``, without padding.
        """

    def scores(self, predictions: pd.DataFrame) -> dict[str, Score]:
        """The card's metric in every language (primary) with ``others`` beside it, in order of the languages' codes."""
        values = by_language(self.card.metric, predictions)
        return {
            language: Score(items=len(part), value=values[language], others=self.others(part))
            for language, part in predictions.groupby("language", sort=True)
        }

    def others(self, predictions: pd.DataFrame) -> dict[str, float]:
        """Further metrics of the predictions of one language."""
        return {}


class TrainedTask(Task):
    """A task with a head and a loss."""

    @abstractmethod
    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: the same inputs with targets that say nothing about them, as much alike otherwise as can be."""

    def training_inputs(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The inputs to train on, of all that were encoded."""
        return encoded

    @abstractmethod
    def head(self, width: int, generator: torch.Generator) -> nn.Module:
        """A fresh head on an encoder's output of ``width``."""

    @abstractmethod
    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The mean loss () over the batch that ``outputs`` are of."""


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of ``hidden`` (batch, tokens, width) where ``mask`` (batch, tokens) is True, in float32."""
    weights = mask.unsqueeze(-1).to(torch.float32)
    return (hidden.to(torch.float32) * weights).sum(1) / weights.sum(1)


def linear_head(width: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A fresh linear head (width -> outputs), weights uniform within 1/sqrt(width) from ``generator``, bias zero."""
    head = nn.Linear(width, outputs)
    bound = 1 / math.sqrt(width)
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.zero_()
    return head


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


def slices(rows: int) -> Iterable[int]:
    """The first row of every slice of SLICE rows, with a progress bar where tokenising takes long."""
    return tqdm(range(0, rows, SLICE), desc="tokenisation", unit="slice", mininterval=5, delay=2, disable=None)


def tokenized(rows: Dataset, tokenizer, prefix: str, max_length: int) -> list[list[int]]:
    """Token ids of ``prefix`` and the text of every row, cut to ``max_length`` tokens."""
    ids: list[list[int]] = []
    for first in slices(len(rows)):
        texts = [prefix + text for text in rows[first : first + SLICE]["text"]]
        ids += tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    return ids


def frame(rows: Dataset, columns: list[str]) -> pd.DataFrame:
    """The named columns of a data set as a table, in its order."""
    return rows.select_columns(columns).to_pandas()

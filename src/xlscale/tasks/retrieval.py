"""Sentence retrieval into English: mean pooling, cosine, P@1. No training and no head.

All English rows are candidates, or, where a set has the column ``pool``, those of the query's pool.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.batches import Encoded
from xlscale.experiment.results import Score
from xlscale.metrics import answers
from xlscale.metrics.predictions import COLUMNS
from xlscale.tasks.common import at_most, frame, mean_pool, per_language, tokenized


class Retrieval:
    """A retrieval task: every non-English row is a query, the English rows are the candidates."""

    def __init__(self, card: DataCard):
        self.card = card

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices of at most ``items`` queries per language and of all English rows, which are the candidates."""
        return at_most(rows, items, whole="en")

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens."""
        return Encoded.of(tokenized(rows, tokenizer, prefix, max_length))

    def outputs(self, head: nn.Module | None, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Sentence vectors float32 (batch, width) of unit length."""
        return nn.functional.normalize(mean_pool(hidden, mask), dim=-1)

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table of all queries: gold and prediction are groups, score is the cosine."""
        vectors = np.stack(outputs)
        if "pool" not in rows.column_names:
            return self._predictions(frame(rows, ["language", "item", "group"]), vectors)
        table = frame(rows, ["language", "item", "group", "pool"])
        parts = table.groupby("pool", sort=False).indices.values()
        found = [self._predictions(table.iloc[index].reset_index(drop=True), vectors[index]) for index in parts]
        return pd.concat(found, ignore_index=True)

    def _predictions(self, table: pd.DataFrame, vectors: np.ndarray) -> pd.DataFrame:
        """The predictions of one pool of candidates."""
        english = (table["language"] == "en").to_numpy()
        candidates = table.loc[english, "group"].tolist()
        place = {group: i for i, group in enumerate(candidates)}
        queries = table[~english].copy()
        if missing := sorted(set(queries["group"]) - set(place)):
            raise XlscaleError(f"{self.card.file}: group: expected an English row for {missing[0]!r}, found none")
        gold = queries["group"].map(place).to_numpy()
        _, best, cosine = answers.precision_at_1(vectors[~english], vectors[english], gold)
        queries["gold"] = queries["group"]
        queries["prediction"] = np.array(candidates)[best]
        queries["score"] = cosine.astype(np.float32)
        queries["correct"] = (best == gold).astype(np.float32)
        return queries[COLUMNS].reset_index(drop=True)

    def scores(self, predictions: pd.DataFrame) -> dict[str, Score]:
        """P@1 per language."""
        return per_language(predictions, lambda part: (float(part["correct"].mean()), {}))

"""Sentence retrieval into English: mean pooling, cosine, P@1. No training and no head.

All English rows are candidates, or, where a set has the column ``pool``, those of the query's pool.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from datasets import Dataset

from xlscale.core.files import XlscaleError
from xlscale.data.batches import Encoded
from xlscale.metrics.predictions import COLUMNS
from xlscale.metrics.retrieval import Subset, top_k
from xlscale.tasks.base import Task, frame, subsample_per_language


class Retrieval(Task):
    """A retrieval task: every non-English row is a query, the English rows are the candidates."""

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices of at most ``items`` queries per language and of all English rows, which are the candidates."""
        return subsample_per_language(rows, items, whole="en")

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table of all queries: gold and prediction are groups, score is the cosine."""
        if "pool" not in rows.column_names:
            return self._predictions(frame(rows, ["language", "item", "group"]), outputs)
        pools = frame(rows, ["language", "item", "group", "pool"]).groupby("pool", sort=False)
        return pd.concat([self._predictions(part, outputs) for _, part in pools], ignore_index=True)

    def _predictions(self, pool: pd.DataFrame, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The predictions of one pool of candidates, whose rows are named by their index in ``outputs``."""
        english = (pool["language"] == "en").to_numpy()
        queries, candidates = pool[~english].copy(), pool[english]
        if missing := sorted({*queries["group"]} - {*candidates["group"]}):
            raise XlscaleError(f"{self.card.file}: group: expected an English row for {missing[0]!r}, found none")
        sides = [Subset(outputs, side.index.to_numpy()) for side in (queries, candidates)]
        # In one block, as a pool is small: the last bits of a cosine depend on the shape of the block.
        nearest, cosine = top_k(*sides, 1, (len(queries), len(candidates)))
        queries["gold"] = queries["group"]
        queries["prediction"] = candidates["group"].to_numpy()[nearest[:, 0]]
        queries["score"] = cosine[:, 0]
        queries["correct"] = (queries["prediction"] == queries["gold"]).astype(np.float32)
        return queries[COLUMNS].reset_index(drop=True)

"""What the task families share: pooling, the head, the columns of a prediction table, scores per language."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn
from tqdm import tqdm

from xlscale.experiment.results import Score

SLICE = 256  # rows that are tokenised at a time: the tokenizer's offsets of a whole split would take a lot of memory


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of ``hidden`` (batch, tokens, width) over the True places of ``mask`` (batch, tokens), in float32."""
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


def at_most(rows: Dataset, items: int, whole: str | None = None) -> np.ndarray:
    """Indices, ascending, of at most ``items`` rows per language; the language ``whole`` is not cut.

    Which rows stay depends on their group alone, so that the languages keep the same parallel items as far as they
    have them.
    """
    table = frame(rows, ["language", "group", "item"])
    table["rank"] = [hashlib.sha256(group.encode()).hexdigest() for group in table["group"]]
    place = table.sort_values(["rank", "item"]).groupby("language").cumcount()
    return np.flatnonzero((place.sort_index() < items) | (table["language"] == whole))


def slices(rows: int) -> Iterable[int]:
    """The first row of every slice of SLICE rows, with a progress bar where tokenising takes long."""
    return tqdm(range(0, rows, SLICE), desc="tokenisation", unit="slice", mininterval=5, delay=2, disable=None)


def tokenized(rows: Dataset, tokenizer, prefix: str, max_length: int, column: str = "text") -> list[list[int]]:
    """Token ids of ``prefix`` and the text in ``column`` of every row, cut to ``max_length`` tokens."""
    ids: list[list[int]] = []
    for first in slices(len(rows)):
        texts = [prefix + text for text in rows[first : first + SLICE][column]]
        ids += tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    return ids


def frame(rows: Dataset, columns: list[str]) -> pd.DataFrame:
    """The named columns of a data set as a table, in its order."""
    return rows.select_columns(columns).to_pandas()


def per_language(predictions: pd.DataFrame, score: object) -> dict[str, Score]:
    """Apply ``score`` (table of one language -> (value, others)) to every language, in order of their codes."""
    found = {}
    for language, part in predictions.groupby("language", sort=True):
        value, others = score(part)
        found[language] = Score(items=len(part), value=value, others=others)
    return found

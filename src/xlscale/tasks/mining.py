"""Bitext mining: which sentences of two corpora are translations of each other; F1 of the pairs.

Scores are cosines over the mean cosine of the two sentences' neighbours (margin "ratio"), candidates the best ones from
both sides, each sentence used once (Artetxe and Schwenk 2019, arXiv:1811.01136, sections 3.1 and 3.2). The threshold is
the one with the best F1 in the pool "dev", the predictions are those of the pool "test"; pools are named
"<dev or test>-<language>". No training and no head.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.batches import Encoded
from xlscale.cards import DataCard
from xlscale.cells import Score
from xlscale.files import XlscaleError
from xlscale.predictions import COLUMNS
from xlscale.search import top_k
from xlscale.tasks.common import at_most, frame, mean_pool, per_language, tokenized

NEIGHBOURS = 4  # as in the paper
NOTHING = ""  # gold of a sentence without a translation, and prediction below the threshold


class Mining:
    """A mining task: in every pool the rows of one language are searched for translations among the English ones."""

    def __init__(self, card: DataCard):
        self.card = card

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices of at most ``items`` sentences per language and of all English ones."""
        return at_most(rows, items, whole="en")

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens."""
        return Encoded.of(tokenized(rows, tokenizer, prefix, max_length))

    def outputs(self, head: nn.Module | None, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Sentence vectors float32 (batch, width) of unit length."""
        return nn.functional.normalize(mean_pool(hidden, mask), dim=-1)

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table of the test pools' sentences: gold and prediction are groups, or NOTHING.

        score: the margin of the best candidate; threshold: what it was compared with; correct: 1 where the prediction
        is the gold, NOTHING included; spans: gold and predicted pairs together; matches: twice the right pairs.
        Raises XlscaleError for a test pool without its development pool.
        """
        table = frame(rows, ["language", "item", "group", "pool"])
        pools = {pool: _mined(part, outputs) for pool, part in table.groupby("pool", sort=True)}
        found = []
        for pool, part in pools.items():
            kind, _, name = pool.partition("-")
            if kind != "test":
                continue
            if f"dev-{name}" not in pools:
                raise XlscaleError(f"{self.card.file}: pool: expected {f'dev-{name}'!r} beside {pool!r}, found none")
            found.append(_decided(part, best_threshold(pools[f"dev-{name}"])))
        return pd.concat(found, ignore_index=True)[[*COLUMNS, "matches", "spans", "threshold"]]

    def scores(self, predictions: pd.DataFrame) -> dict[str, Score]:
        """F1 of pairs per language (primary), precision and recall beside it."""
        return per_language(predictions, _scores)


def _mined(part: pd.DataFrame, outputs: list[np.ndarray]) -> pd.DataFrame:
    """The sentences of a pool that are not English, with ``gold``, the best free candidate and its ``score``."""
    english = (part["language"] == "en").to_numpy()
    vectors = np.stack([outputs[i] for i in part.index])
    queries = part[~english].reset_index(drop=True)
    groups = part.loc[english, "group"].to_numpy()
    place, score = mine(vectors[~english], vectors[english])
    queries["gold"] = queries["group"].where(queries["group"].isin(groups), NOTHING)
    queries["candidate"] = np.where(place >= 0, groups[place], NOTHING)
    queries["score"] = score.astype(np.float32)
    return queries


def mine(queries: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every query the place of its candidate, -1 for none, and the margin, -inf for none; each serves one query."""
    forward, near = top_k(queries, candidates, NEIGHBOURS)
    backward, back = top_k(candidates, queries, NEIGHBOURS)
    mean, back_mean = near.mean(1), back.mean(1)
    margins = 2 * near / (mean[:, None] + back_mean[forward])
    back_margins = 2 * back / (back_mean[:, None] + mean[backward])
    rows, columns = np.arange(len(queries)), np.arange(len(candidates))
    best, back_best = margins.argmax(1), back_margins.argmax(1)
    pairs = [(forward[rows, best], margins[rows, best], rows), (columns, back_margins[columns, back_best], None)]
    target = np.concatenate([pairs[0][0], pairs[1][0]])
    source = np.concatenate([rows, backward[columns, back_best]])
    value = np.concatenate([pairs[0][1], pairs[1][1]])
    place, score = np.full(len(queries), -1), np.full(len(queries), -np.inf)
    taken = np.zeros(len(candidates), bool)
    for i in np.argsort(-value, kind="stable"):
        if place[source[i]] < 0 and not taken[target[i]]:
            place[source[i]], score[source[i]], taken[target[i]] = target[i], value[i], True
    return place, score


def best_threshold(mined: pd.DataFrame) -> float:
    """The score at or above which to keep candidates so that F1 is best; equal scores stay together; inf: keep none."""
    ordered = mined[np.isfinite(mined["score"])].sort_values("score", ascending=False)
    hits = (ordered["candidate"] == ordered["gold"]).cumsum().to_numpy()
    f1 = 2 * hits / (np.arange(1, len(ordered) + 1) + (mined["gold"] != NOTHING).sum())
    scores = ordered["score"].to_numpy()
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # a threshold cannot part equal scores
    return float(scores[last][f1[last].argmax()]) if len(scores) and hits[-1] else float("inf")


def _decided(mined: pd.DataFrame, threshold: float) -> pd.DataFrame:
    kept = mined["score"] >= threshold
    mined = mined.assign(prediction=mined["candidate"].where(kept, NOTHING), threshold=np.float32(threshold))
    mined["correct"] = (mined["prediction"] == mined["gold"]).astype(np.float32)
    right = (mined["prediction"] == mined["gold"]) & (mined["gold"] != NOTHING)
    mined["matches"] = (2 * right).astype(np.int32)
    mined["spans"] = ((mined["prediction"] != NOTHING).astype(np.int32) + (mined["gold"] != NOTHING)).astype(np.int32)
    return mined


def _scores(part: pd.DataFrame) -> tuple[float, dict[str, float]]:
    hits = part["matches"].sum() / 2
    given, asked = ((part[name] != NOTHING).sum() for name in ("prediction", "gold"))
    f1, precision, recall = (a / b if b else 0.0 for a, b in ((2 * hits, given + asked), (hits, given), (hits, asked)))
    return float(f1), {"precision": float(precision), "recall": float(recall)}

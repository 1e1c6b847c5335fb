"""Bitext mining: which sentences of two corpora are translations of each other; F1 of the pairs.

Scores are cosines over the mean cosine of the two sentences' neighbours (margin "ratio"), candidates the best ones from
both sides, each sentence used once (Artetxe and Schwenk 2019, arXiv:1811.01136, sections 3.1 and 3.2). As in XTREME's
script, equal texts of one side are one sentence in the search, and what occurs more than once on its side is in no
predicted pair, as such a text names no sentence. The threshold is the one with the best F1 in the pool "dev", the
predictions are those of the pool "test"; pools are named "<dev or test>-<language>". No training and no head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.batches import Encoded
from xlscale.experiment.results import Score
from xlscale.metrics.predictions import COLUMNS
from xlscale.metrics.retrieval import Chosen, top_k
from xlscale.tasks.common import at_most, frame, mean_pool, per_language, tokenized
from xlscale.xtreme.pairs import best_threshold

NEIGHBOURS = 4  # as in the paper
NOTHING = ""  # gold of a sentence without a translation, and prediction below the threshold


class Mining:
    """A mining task: in every pool the rows of one language are searched for translations among the English ones."""

    def __init__(self, card: DataCard):
        self.card = card

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices of at most ``items`` sentences of each test pool, and of all others: English and development ones."""
        table = frame(rows, ["language", "pool"])
        cut = ((table["language"] != "en") & table["pool"].str.startswith("test-")).to_numpy()
        asked = np.flatnonzero(cut)
        return np.sort(np.concatenate([asked[at_most(rows.select(asked), items)], np.flatnonzero(~cut)]))

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
        Raises XlscaleError for a test pool without its development pool, and for a pool of one side.
        """
        table = frame(rows, ["language", "item", "group", "text", "pool"])
        for pool, languages in table.groupby("pool")["language"]:
            if (english := (languages == "en").sum()) in (0, len(languages)):
                missing = "sentences that are not English" if english else "English sentences"
                raise XlscaleError(f"{self.card.file}: pool: expected {missing} in {pool!r}, found none")
        pools = {pool: _mined(part, outputs) for pool, part in table.groupby("pool", sort=True)}
        found = []
        for pool, part in pools.items():
            kind, _, name = pool.partition("-")
            if kind != "test":
                continue
            if f"dev-{name}" not in pools:
                raise XlscaleError(f"{self.card.file}: pool: expected {f'dev-{name}'!r} beside {pool!r}, found none")
            found.append(_decided(part, threshold(pools[f"dev-{name}"])))
        return pd.concat(found, ignore_index=True)[[*COLUMNS, "matches", "spans", "threshold"]]

    def scores(self, predictions: pd.DataFrame) -> dict[str, Score]:
        """F1 of pairs per language (primary), precision and recall beside it."""
        return per_language(predictions, _scores)


def _mined(part: pd.DataFrame, outputs: list[np.ndarray]) -> pd.DataFrame:
    """The sentences of a pool that are not English, with ``gold``, the best free candidate and its ``score``."""
    english = (part["language"] == "en").to_numpy()
    queries, candidates = part[~english], part[english]
    (asked, once), (offered, single) = _distinct(queries), _distinct(candidates)
    place, score = mine(
        Chosen(outputs, queries.index.to_numpy()[asked]), Chosen(outputs, candidates.index.to_numpy()[offered])
    )
    groups, kept = candidates["group"].to_numpy(), (place >= 0) & once & single[place]
    found, scores = np.full(len(queries), NOTHING, object), np.full(len(queries), -np.inf, np.float32)
    found[asked[kept]], scores[asked[kept]] = groups[offered[place[kept]]], score[kept]
    gold = queries["group"].where(queries["group"].isin(groups), NOTHING)
    return queries.assign(gold=gold, candidate=found, score=scores).reset_index(drop=True)


def _distinct(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Places of the first sentence of every text, in their order, and whether the text occurs once."""
    codes, _ = pd.factorize(rows["text"])
    _, first, count = np.unique(codes, return_index=True, return_counts=True)
    return first, count == 1


def mine(queries: Sequence[np.ndarray], candidates: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For every query the place of its candidate, -1 for none, and the margin, -inf for none; each serves one query.

    Both as in ``search.top_k``, of unit length and not empty.
    """
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


def threshold(mined: pd.DataFrame) -> float:
    """The score at or above which to keep candidates so that F1 is best, as ``score.pairs`` has it."""
    free = mined[np.isfinite(mined["score"])]
    right = (free["candidate"] == free["gold"]).to_numpy()
    return best_threshold(free["score"].to_numpy(np.float64), right, int((mined["gold"] != NOTHING).sum()))


def _decided(mined: pd.DataFrame, least: float) -> pd.DataFrame:
    kept = mined["score"] >= least
    mined = mined.assign(prediction=mined["candidate"].where(kept, NOTHING), threshold=np.float32(least))
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

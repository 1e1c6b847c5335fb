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
from datasets import Dataset

from xlscale.core.files import XlscaleError
from xlscale.data.batches import Encoded
from xlscale.metrics.classification import f1_precision_recall
from xlscale.metrics.predictions import COLUMNS
from xlscale.metrics.retrieval import Subset, best_threshold, top_k
from xlscale.tasks.base import Task, frame, subsample_per_language

NEIGHBOURS = 4  # as in the paper
NOTHING = ""  # gold of a sentence without a translation, and prediction below the threshold


class Mining(Task):
    """A mining task: in every pool the rows of one language are searched for translations among the English ones."""

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices of at most ``items`` sentences of each test pool, and of all others: English and development ones."""
        table = frame(rows, ["language", "pool"])
        cut = ((table["language"] != "en") & table["pool"].str.startswith("test-")).to_numpy()
        queries = np.flatnonzero(cut)
        chosen = queries[subsample_per_language(rows.select(queries), items)]
        return np.sort(np.concatenate([chosen, np.flatnonzero(~cut)]))

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table of the test pools' sentences: gold and prediction are groups, or NOTHING.

        score: the margin of the best candidate; threshold: what it was compared with; correct: 1 where the prediction
        is the gold, NOTHING included; spans: gold and predicted pairs together; matches: twice the correct pairs.
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

    def others(self, predictions: pd.DataFrame) -> dict[str, float]:
        """Precision and recall of the pairs beside their F1."""
        found, wanted = (int((predictions[name] != NOTHING).sum()) for name in ("prediction", "gold"))
        _, precision, recall = f1_precision_recall(int(predictions["matches"].sum()) // 2, found, wanted)
        return {"precision": precision, "recall": recall}


def _mined(part: pd.DataFrame, outputs: list[np.ndarray]) -> pd.DataFrame:
    """The sentences of a pool that are not English, with ``gold``, the best free candidate and its ``score``."""
    english = (part["language"] == "en").to_numpy()
    queries, candidates = part[~english], part[english]
    # Of each side the first sentences of every text, and whether the text occurs once.
    (query, once), (candidate, single) = _distinct(queries), _distinct(candidates)
    match, score = mine(
        Subset(outputs, queries.index.to_numpy()[query]), Subset(outputs, candidates.index.to_numpy()[candidate])
    )
    groups, kept = candidates["group"].to_numpy(), (match >= 0) & once & single[match]
    found, scores = np.full(len(queries), NOTHING, object), np.full(len(queries), -np.inf, np.float32)
    found[query[kept]], scores[query[kept]] = groups[candidate[match[kept]]], score[kept]
    gold = queries["group"].where(queries["group"].isin(groups), NOTHING)
    return queries.assign(gold=gold, candidate=found, score=scores).reset_index(drop=True)


def _distinct(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the first sentence of every text, in their order, and whether the text occurs once."""
    codes, _ = pd.factorize(rows["text"])
    _, first, count = np.unique(codes, return_index=True, return_counts=True)
    return first, count == 1


def mine(queries: Sequence[np.ndarray], candidates: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For every query the index of its candidate, -1 for none, and the margin, -inf for none; each serves one query.

    Both sides as in ``top_k``, of unit length and not empty.
    """
    forward, near = top_k(queries, candidates, NEIGHBOURS)
    backward, back = top_k(candidates, queries, NEIGHBOURS)
    mean, back_mean = near.mean(1), back.mean(1)
    margins = 2 * near / (mean[:, None] + back_mean[forward])
    back_margins = 2 * back / (back_mean[:, None] + mean[backward])
    rows, columns = np.arange(len(queries)), np.arange(len(candidates))
    best, back_best = margins.argmax(1), back_margins.argmax(1)
    target = np.concatenate([forward[rows, best], columns])
    source = np.concatenate([rows, backward[columns, back_best]])
    value = np.concatenate([margins[rows, best], back_margins[columns, back_best]])
    match, score = np.full(len(queries), -1), np.full(len(queries), -np.inf)
    taken = np.zeros(len(candidates), bool)
    for i in np.argsort(-value, kind="stable"):
        if match[source[i]] < 0 and not taken[target[i]]:
            match[source[i]], score[source[i]], taken[target[i]] = target[i], value[i], True
    return match, score


def threshold(mined: pd.DataFrame) -> float:
    """The score at or above which to keep candidates so that F1 is best (``best_threshold``)."""
    free = mined[np.isfinite(mined["score"])]
    correct = (free["candidate"] == free["gold"]).to_numpy()
    return best_threshold(free["score"].to_numpy(np.float64), correct, int((mined["gold"] != NOTHING).sum()))


def _decided(mined: pd.DataFrame, least: float) -> pd.DataFrame:
    kept = mined["score"] >= least
    mined = mined.assign(prediction=mined["candidate"].where(kept, NOTHING), threshold=np.float32(least))
    correct, true = mined["prediction"] == mined["gold"], mined["gold"] != NOTHING
    mined["correct"] = correct.astype(np.float32)
    mined["matches"] = (2 * (correct & true)).astype(np.int32)
    mined["spans"] = ((mined["prediction"] != NOTHING).astype(np.int32) + true).astype(np.int32)
    return mined

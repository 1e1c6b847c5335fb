"""Retrieval with a dual encoder: LAReQA and Mewsli-X. One encoder reads queries and candidates; mAP@20.

Trained on English pairs: softmax cross-entropy over the candidates of the batch, of which the pair's own is right
(Henderson et al. 2017; Gillick et al. 2019 for entities; Roy et al. 2020 for LAReQA). Searched exactly, in blocks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.batches import Batch, Encoded
from xlscale.experiment.results import Score
from xlscale.metrics.predictions import COLUMNS
from xlscale.metrics.retrieval import Chosen, top_k
from xlscale.tasks.common import SLICE, at_most, frame, mean_pool, per_language, slices
from xlscale.xtreme.ranking import average_precision

DEPTH = 20  # the k of mAP@k
SCALE = 20.0  # on cosines, before the softmax; the reference learns it from 100 on, where a small model diverges
QUERY, CANDIDATE = 0, 1
PAIR = "pair"


class Ranking:
    """A ranking task: queries of many languages against one pool of candidates of many languages.

    A candidate's ``right`` are the groups of the queries that it answers; a pair's candidate answers its group.
    """

    def __init__(self, card: DataCard):
        self.card = card

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices of at most ``items`` queries (or pairs) per language and of all candidates."""
        role = np.array(rows["role"])
        queries = np.flatnonzero(role != "candidate")
        return np.sort(
            np.concatenate([queries[at_most(rows.select(queries), items)], np.flatnonzero(role == "candidate")])
        )

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens; of a pair, of both texts, one after the other.

        Targets int64 (inputs,): ``side``, QUERY or CANDIDATE; ``text``, a number that equal candidates of pairs share.
        """
        ids, owners, sides, numbers, known = [], [], [], [], {}
        for first in slices(len(rows)):
            part = rows[first : first + SLICE]
            texts: list[str] = []
            for i, (role, text, second) in enumerate(zip(part["role"], part["text"], part["second"], strict=True)):
                both = [(CANDIDATE, text)] if role == "candidate" else [(QUERY, text)]
                both += [(CANDIDATE, second)] if role == PAIR else []
                texts += [prefix + one for _, one in both]
                owners += [first + i] * len(both)
                sides += [side for side, _ in both]
                numbers += [known.setdefault(second, len(known))] * len(both)
            ids += tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
        targets = {"side": np.array(sides, np.int64), "text": np.array(numbers, np.int64)}
        return Encoded.of(ids, owners, targets)

    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: the same texts, every query paired with another pair's candidate."""
        of = np.flatnonzero(encoded.targets["side"] == CANDIDATE)
        order = np.arange(len(encoded))
        order[of] = generator.permutation(of)
        return replace(encoded.take(order), row=encoded.row)

    def training_inputs(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """Two inputs per pair: what was encoded."""
        return encoded

    def head(self, width: int, generator: torch.Generator) -> nn.Module:
        """No parameters: what is compared are the encoder's own vectors."""
        return nn.Identity()

    def outputs(self, head: nn.Module | None, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Vectors float32 (batch, width) of unit length."""
        return nn.functional.normalize(mean_pool(hidden, mask), dim=-1)

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy of the batch's queries over its candidates, other pairs' equal candidates left out."""
        query = batch.targets["side"] == QUERY
        number = batch.targets["text"][~query]
        logits = SCALE * outputs[query] @ outputs[~query].T
        same = (number[:, None] == number[None, :]) & ~torch.eye(len(number), dtype=torch.bool)
        return nn.functional.cross_entropy(logits.masked_fill(same, -torch.inf), torch.arange(len(number)))

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table of the queries: gold and prediction are candidates, "<language>:<item>", separated by
        spaces; the prediction is the DEPTH best, best first.

        score: the best one's cosine; correct: 1 where the best is right; average_precision: at DEPTH.
        """
        table = frame(rows, ["language", "item", "group", "role", "right"])
        side = encoded.targets["side"]
        asked, offered = np.flatnonzero(side == QUERY), np.flatnonzero(side == CANDIDATE)
        pair = (table["role"] == PAIR).to_numpy()[encoded.row[offered]]
        # Of pairs, equal texts are one candidate.
        same = np.where(pair, -1 - encoded.targets["text"][offered], encoded.row[offered])
        _, first, own = np.unique(same, return_index=True, return_inverse=True)
        names = (table["language"] + ":" + table["item"]).to_numpy()[encoded.row[offered[first]]]
        right = _right(table, encoded.row[offered], pair, names[own])
        places, scores = top_k(Chosen(outputs, asked), Chosen(outputs, offered[first]), DEPTH)
        queries = table.iloc[encoded.row[asked]].reset_index(drop=True)
        if missing := sorted(set(queries["group"]) - set(right)):
            raise XlscaleError(f"{self.card.file}: right: expected a candidate for group {missing[0]!r}, found none")
        wanted = [right[group] for group in queries["group"]]
        queries["gold"] = [" ".join(sorted(one)) for one in wanted]
        queries["prediction"] = [" ".join(names[row]) for row in places]
        queries["score"] = scores[:, 0]
        queries["correct"] = np.array(
            [names[row[0]] in one for row, one in zip(places, wanted, strict=True)], np.float32
        )
        precision = [average_precision(names[row], one, DEPTH) for row, one in zip(places, wanted, strict=True)]
        queries["average_precision"] = np.array(precision, np.float32)
        return queries[[*COLUMNS, "average_precision"]]

    def scores(self, predictions: pd.DataFrame) -> dict[str, Score]:
        """mAP@20 per language of the query (primary), P@1 beside it."""
        return per_language(
            predictions,
            lambda part: (float(part["average_precision"].mean()), {"p_at_1": float(part["correct"].mean())}),
        )


def _right(table: pd.DataFrame, rows: np.ndarray, pair: np.ndarray, names: np.ndarray) -> dict[str, set[str]]:
    """Group of a query -> names of the candidates that answer it; ``rows``, ``pair``, ``names`` are per candidate."""
    found: dict[str, set[str]] = {}
    groups, answered = table["group"].to_numpy(), table["right"].to_numpy()
    for row, of_pair, name in zip(rows, pair, names, strict=True):
        for group in [groups[row]] if of_pair else answered[row]:
            found.setdefault(group, set()).add(name)
    return found

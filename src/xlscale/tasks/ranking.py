"""Retrieval with a dual encoder: LAReQA and Mewsli-X. One encoder reads queries and candidates; mAP@20.

Trained on English pairs: softmax cross-entropy over the candidates of the batch, of which the pair's own is relevant
(Henderson et al. 2017; Gillick et al. 2019 for entities; Roy et al. 2020 for LAReQA). Searched exactly, in blocks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.core.files import XlscaleError
from xlscale.data.batches import Batch, Encoded
from xlscale.metrics.predictions import COLUMNS
from xlscale.metrics.retrieval import Subset, average_precision, top_k
from xlscale.tasks.base import TrainedTask, frame, slices, subsample_per_language

DEPTH = 20  # the k of mAP@k
SCALE = 20.0  # on cosines, before the softmax; the reference learns it from 100 on, where a small model diverges
QUERY, CANDIDATE = 0, 1
PAIR = "pair"


class Ranking(TrainedTask):
    """A ranking task: queries of many languages against one pool of candidates of many languages.

    A candidate's ``relevant`` are the groups of the queries that it answers; a pair's candidate answers its group. What
    is compared are the encoder's own vectors: the head has no parameters.
    """

    divisible = "vectors"

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices of at most ``items`` queries (or pairs) per language and of all candidates."""
        candidate = np.array(rows["role"]) == "candidate"
        queries = np.flatnonzero(~candidate)
        chosen = queries[subsample_per_language(rows.select(queries), items)]
        return np.sort(np.concatenate([chosen, np.flatnonzero(candidate)]))

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens; of a pair, of both texts, one after the other.

        Targets int64 (inputs,): ``side``, QUERY or CANDIDATE; ``text``, a number that equal candidates of pairs share.
        """
        ids, owners, sides, numbers, known = [], [], [], [], {}
        for first, part in slices(rows):
            texts: list[str] = []
            columns = zip(part["role"], part["text"], part["second"], strict=True)
            for i, (role, text, second) in enumerate(columns, first):
                both = [(CANDIDATE, text)] if role == "candidate" else [(QUERY, text)]
                both += [(CANDIDATE, second)] if role == PAIR else []
                texts += [prefix + one for _, one in both]
                owners += [i] * len(both)
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

    def head(self, width: int, generator: torch.Generator) -> nn.Module:
        """No parameters."""
        return nn.Identity()

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy of the batch's queries over its candidates, other pairs' equal candidates left out."""
        query = batch.targets["side"] == QUERY
        number = batch.targets["text"][~query]
        logits = SCALE * outputs[query] @ outputs[~query].T
        own = torch.arange(len(number), device=number.device)
        same = (number[:, None] == number[None, :]) & (own[:, None] != own[None, :])
        return nn.functional.cross_entropy(logits.masked_fill(same, -torch.inf), own)

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table of the queries: gold and prediction are candidates, "<language>:<item>", separated by
        spaces; the prediction is the DEPTH best, best first.

        score: the best one's cosine; correct: 1 where the best is relevant; average_precision: at DEPTH.
        """
        table = frame(rows, ["language", "item", "group", "role", "relevant"])
        side = encoded.targets["side"]
        queries, candidates = np.flatnonzero(side == QUERY), np.flatnonzero(side == CANDIDATE)
        pair = (table["role"] == PAIR).to_numpy()[encoded.row[candidates]]
        # Of pairs, equal texts are one candidate.
        same = np.where(pair, -1 - encoded.targets["text"][candidates], encoded.row[candidates])
        _, first, own = np.unique(same, return_index=True, return_inverse=True)
        names = (table["language"] + ":" + table["item"]).to_numpy()[encoded.row[candidates[first]]]
        answering = _relevant(table, encoded.row[candidates], pair, names[own])
        best, scores = top_k(Subset(outputs, queries), Subset(outputs, candidates[first]), DEPTH)
        table = table.iloc[encoded.row[queries]].reset_index(drop=True)
        if missing := sorted(set(table["group"]) - set(answering)):
            raise XlscaleError(f"{self.card.file}: relevant: expected a candidate for group {missing[0]!r}, found none")
        ranked, relevant = [names[row] for row in best], [answering[group] for group in table["group"]]
        both = [*zip(ranked, relevant, strict=True)]
        table["gold"] = [" ".join(sorted(one)) for one in relevant]
        table["prediction"] = [" ".join(row) for row in ranked]
        table["score"] = scores[:, 0]
        table["correct"] = np.array([row[0] in one for row, one in both], np.float32)
        table["average_precision"] = np.array([average_precision(*one, DEPTH) for one in both], np.float32)
        return table[[*COLUMNS, "average_precision"]]

    def others(self, predictions: pd.DataFrame) -> dict[str, float]:
        """P@1 beside mAP@20; a language is that of the query."""
        return {"p_at_1": float(predictions["correct"].mean())}


def _relevant(table: pd.DataFrame, rows: np.ndarray, pair: np.ndarray, names: np.ndarray) -> dict[str, set[str]]:
    """Group of a query -> names of the candidates that answer it; ``rows``, ``pair``, ``names`` are per candidate."""
    found: dict[str, set[str]] = {}
    groups, answered = table["group"].to_numpy(), table["relevant"].to_numpy()
    for row, of_pair, name in zip(rows, pair, names, strict=True):
        for group in [groups[row]] if of_pair else answered[row]:
            found.setdefault(group, set()).add(name)
    return found

"""Token tagging: a tag for every word from the encoder's output at its subword; span F1.

The model reads the text as it stands, not word by word, so that scripts without spaces are cut into subwords as in
pretraining; ``data.word_positions`` says which subword is a word's. Where one subword holds the beginnings of several
words, the first of them is trained and predicted, and the others continue it; so a span that ends inside a subword
cannot be found. Of a causal model that goes for the ends of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.cards.schema import DataCard, ModelCard
from xlscale.data import words
from xlscale.data.batches import Batch, Encoded
from xlscale.data.word_positions import ABSENT, Reader
from xlscale.metrics import spans
from xlscale.metrics.classification import accuracy, macro_f1
from xlscale.metrics.predictions import COLUMNS
from xlscale.tasks.base import TrainedTask, best_share, frame, mean_pool, slices

IGNORED = -100  # a tag that is not learned from: of a word without a subword of its own, or of no word


class Tagging(TrainedTask):
    """A tagging task. The types of spans are those of the card; every type has a tag B- and a tag I-. Where the card's
    tags are plain, its labels are the tags themselves, one per word, and O is none of them."""

    def __init__(self, card: DataCard, model: ModelCard | None = None):
        super().__init__(card, model)
        self.plain = card.tags == "plain"
        self.tags = card.labels if self.plain else words.bio(card.labels)
        self.head_size = len(self.tags)

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text``, at most ``max_length``; what does not fit is in further inputs of the row.

        Targets, int16 (inputs, words of the longest row): ``position``, where in the input a word's subword is, ABSENT
        for a word of another input and beyond the row's words; ``tag``, the number of the gold tag in ``self.tags``,
        IGNORED where there is no position or the word before has the same.
        """
        number = {tag: i for i, tag in enumerate(self.tags)}
        reader = Reader(tokenizer, prefix, max_length, self.causal)
        ids, row, placed = [], [], []
        for first, part in slices(rows):
            for one in reader.read(part["text"], part["tokens"]):
                tags = np.array([number.get(tag, IGNORED) for tag in part["tags"][one.row][one.word :]])
                own = (one.position != ABSENT) & (np.diff(one.position, prepend=ABSENT) != 0)
                ids.append(one.ids)
                row.append(first + one.row)
                placed.append((one.word, one.position, np.where(own, tags, IGNORED)))
        shape = len(ids), max((word + len(position) for word, position, _ in placed), default=0)
        targets = {"position": np.full(shape, ABSENT, np.int16), "tag": np.full(shape, IGNORED, np.int16)}
        for i, (word, *values) in enumerate(placed):
            for target, value in zip(targets.values(), values, strict=True):
                target[i, word : word + len(value)] = value
        return Encoded.of(ids, row, targets)

    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: the same inputs, each with the tags of other ones.

        The tags of all inputs, one input after another in random order, are dealt out again to the inputs in their
        own order. So the numbers of tags of a type, the lengths of spans and the distances between them stay; only a
        span that is cut at the end of an input becomes two, the second with a B- of its own.
        """
        tags = encoded.targets["tag"]
        learned = tags != IGNORED
        order = generator.permutation(len(tags))
        dealt = np.full_like(tags, IGNORED)
        dealt[learned] = tags[order][learned[order]]
        first = np.zeros_like(learned)
        first[np.arange(len(tags)), learned.argmax(1)] = learned.any(1)
        # In self.tags every I- follows its B-.
        inside = first & (dealt > 0) & (dealt % 2 == 0) & (not self.plain)
        return replace(encoded, targets=encoded.targets | {"tag": dealt - inside.astype(tags.dtype)})

    def outputs(self, head: nn.Module, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits float32 (batch, tokens, tags), of each token's difference from the mean of its input, normalised.

        An encoder trained for sentence similarity gives all tokens of a sentence nearly the same vector. A linear head
        on that finds no tag within hundreds of steps; on what is left without the common part, it does. Of a causal
        model the states themselves: the mean would tell a token what comes after it.
        """
        if self.causal:
            own = hidden.to(torch.float32)
        else:
            own = hidden.to(torch.float32) - mean_pool(hidden, mask).unsqueeze(1)
        return head(nn.functional.layer_norm(own, own.shape[-1:]))

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy over the words of the batch that have a subword of their own."""
        row, word = torch.nonzero(batch.targets["tag"] != IGNORED, as_tuple=True)
        position, gold = (batch.targets[name][row, word].long() for name in ("position", "tag"))
        return nn.functional.cross_entropy(outputs[row, position], gold)

    def count(self, batch: Batch) -> int:
        """The words of the batch that have a subword of their own."""
        return int((batch.targets["tag"] != IGNORED).sum())

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table: gold and prediction are the row's tags, joined by single spaces.

        score: mean over words of the share that the softmax gives the best tag; correct: 1 where every tag is; spans:
        number of gold and of predicted spans together; matches: how many of these the other side has too; cut: words
        without a position, which are predicted O. Of plain tags, every word is a span.
        """
        table = frame(rows, ["language", "item", "group", "tags"])
        first = np.searchsorted(encoded.row, np.arange(len(table) + 1))
        inputs = [range(*both) for both in pairwise(first.tolist())]
        positions = [_joined(encoded.targets["position"][[*own]], [len(outputs[i]) for i in own]) for own in inputs]
        logits = (np.concatenate([outputs[i] for i in own]) for own in inputs)
        decoded = [self._decode(*one) for one in zip(positions, logits, strict=True)]
        gold = table["tags"].map(list)
        predicted = [tags[: len(true)] for (tags, _), true in zip(decoded, gold, strict=True)]
        table["prediction"], table["gold"] = ([" ".join(tags) for tags in side] for side in (predicted, gold))
        table["score"] = np.array([score for _, score in decoded], np.float32)
        table["correct"] = (table["prediction"] == table["gold"]).astype(np.float32)
        table = table.assign(**self.counts(predicted, gold))
        table["cut"] = (gold.map(len) - [(one != ABSENT).sum() for one in positions]).astype(np.int32)
        return table[[*COLUMNS, "matches", "spans", "cut"]]

    def counts(self, predicted: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
        """The columns ``matches`` and ``spans``, int32 (rows,), of predicted and gold tags, row by row."""
        if self.plain:
            hits = [sum(a == b for a, b in zip(*pair, strict=True)) for pair in zip(predicted, gold, strict=True)]
            sizes = [2 * len(tags) for tags in gold]
        else:
            hits, found, wanted = spans.counts(predicted, gold).T
            sizes = found + wanted
        return {"matches": 2 * np.array(hits, np.int32), "spans": np.array(sizes, np.int32)}

    def _decode(self, positions: np.ndarray, logits: np.ndarray) -> tuple[list[str], float]:
        """Tags of the words at ``positions`` (O at ABSENT), and the mean share of the softmax that they have."""
        best = logits.argmax(1)
        tags: list[str] = []
        for word, position in enumerate(positions.tolist()):
            if position == ABSENT:
                tags.append(words.OUTSIDE)
            elif word and position == positions[word - 1] and self.plain:
                tags.append(tags[-1])
            elif word and position == positions[word - 1]:
                kind = tags[-1].partition("-")[2]
                tags.append(f"I-{kind}" if kind else words.OUTSIDE)
            else:
                tags.append(self.tags[best[position]])
        share = best_share(logits[positions[positions != ABSENT]])
        return tags, float(share.mean()) if len(share) else 0.0

    def others(self, predictions: pd.DataFrame) -> dict[str, float]:
        """Beside span F1 precision, recall and token accuracy; beside the accuracy of plain tags micro- and macro-F1
        over the tags; and the share of words that have no position."""
        predicted, gold = ([text.split() for text in predictions[name]] for name in ("prediction", "gold"))
        flat = [[tag for tags in side for tag in tags] for side in (predicted, gold)]
        cut, correct = float(predictions["cut"].sum() / len(flat[1])), accuracy(*flat)
        if self.plain:
            # With one tag per word, micro-F1 is accuracy. XTREME's F1, which merges neighbours, is the scorer's.
            return {"micro_f1": correct, "macro_f1": macro_f1(*flat), "words_cut": cut}
        _, precision, recall = spans.scores(predicted, gold)
        return {"precision": precision, "recall": recall, "token_accuracy": correct, "words_cut": cut}


def _joined(positions: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """Where in the outputs of a row's inputs, one after the other, its words are: int64 (words,), ABSENT as there.
    ``positions`` (inputs, words): a word is in one input at most."""
    before = np.cumsum([0, *lengths[:-1]])[:, None]
    return np.where(positions == ABSENT, ABSENT, positions + before).max(0)

"""Token tagging: a tag for every word from the encoder's output at its first subword; span F1.

The model reads the text as it stands, not word by word, so that scripts without spaces are cut into subwords as in
pretraining. A word is told by the subword that holds its first character. Where one subword holds the beginnings of
several words, the first of them is trained and predicted, and the others continue it; so a span that ends inside a
subword cannot be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.cards.schema import DataCard
from xlscale.data import words
from xlscale.data.batches import Batch, Encoded
from xlscale.experiment.results import Score
from xlscale.metrics import answers
from xlscale.metrics.predictions import COLUMNS
from xlscale.tasks.common import SLICE, at_most, frame, linear_head, mean_pool, per_language

IGNORED = -100  # a tag that is not learnt from: of a word without a subword of its own, or of no word
ABSENT = -1  # the place of a word that did not fit


class Tagging:
    """A tagging task. The types of spans are those of the card; every type has a tag B- and a tag I-. Where the card's
    tags are plain, its labels are the tags themselves, one per word, and O is none of them."""

    def __init__(self, card: DataCard):
        self.card = card
        self.plain = card.tags == "plain"
        spans = [words.OUTSIDE, *(f"{position}-{kind}" for kind in card.labels for position in "BI")]
        self.tags = card.labels if self.plain else spans

    def test_rows(self, rows: Dataset, items: int) -> np.ndarray:
        """Indices of at most ``items`` test rows per language."""
        return at_most(rows, items)

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens.

        Targets, int16 (inputs, words of the longest row): ``place``, where the subword with a word's first character
        is in the input, ABSENT for a word that did not fit and beyond the row's words; ``tag``, the number of the
        gold tag in ``self.tags``, IGNORED where there is no place or the word before has the same.
        """
        number = {tag: i for i, tag in enumerate(self.tags)}
        width = max((len(tags) for tags in rows["tags"]), default=0)
        places = np.full((len(rows), width), ABSENT, np.int16)
        tags = np.full((len(rows), width), IGNORED, np.int16)
        ids = []
        for i, row in enumerate(rows):
            if i % SLICE == 0:
                texts = [prefix + text for text in rows[i : i + SLICE]["text"]]
                found = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
                ids += found["input_ids"]
            begins = [len(prefix) + place for place in words.starts(row["text"], row["tokens"])]
            place = _places(np.array(found["offset_mapping"][i % SLICE]), begins)
            places[i, : len(place)] = place
            own = (place != ABSENT) & (np.diff(place, prepend=ABSENT) != 0)
            tags[i, : len(place)] = np.where(own, [number.get(tag, IGNORED) for tag in row["tags"]], IGNORED)
        return Encoded.of(ids, targets={"place": places, "tag": tags})

    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: the same inputs, each with the tags of other ones.

        The tags of all inputs, one input after another in random order, are dealt out again to the inputs in their
        own order. So the numbers of tags of a type, the lengths of spans and the distances between them stay; only a
        span that is cut at the end of an input becomes two, the second with a B- of its own.
        """
        tags = encoded.targets["tag"]
        learnt = tags != IGNORED
        order = generator.permutation(len(tags))
        dealt = np.full_like(tags, IGNORED)
        dealt[learnt] = tags[order][learnt[order]]
        first = np.zeros_like(learnt)
        first[np.arange(len(tags)), learnt.argmax(1)] = learnt.any(1)
        # In self.tags every I- follows its B-.
        inside = first & (dealt > 0) & (dealt % 2 == 0) & (not self.plain)
        return replace(encoded, targets=encoded.targets | {"tag": dealt - inside.astype(tags.dtype)})

    def training_inputs(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """One input per row: what was encoded."""
        return encoded

    def head(self, width: int, generator: torch.Generator) -> nn.Module:
        """A fresh linear head, (width) -> (tags)."""
        return linear_head(width, len(self.tags), generator)

    def outputs(self, head: nn.Module, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits float32 (batch, tokens, tags), of each token's difference from the mean of its input, normalised.

        An encoder trained for sentence similarity gives all tokens of a sentence nearly the same vector. A linear head
        on that finds no tag within hundreds of steps; on what is left without the common part, it does.
        """
        own = hidden.to(torch.float32) - mean_pool(hidden, mask).unsqueeze(1)
        return head(nn.functional.layer_norm(own, own.shape[-1:]))

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy over the words of the batch that have a subword of their own."""
        row, word = torch.nonzero(batch.targets["tag"] != IGNORED, as_tuple=True)
        place, gold = (batch.targets[name][row, word].long() for name in ("place", "tag"))
        return nn.functional.cross_entropy(outputs[row, place], gold)

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table: gold and prediction are the row's tags, joined by single spaces.

        score: mean over the words that fit of the share that the softmax gives the best tag; correct: 1 where every
        tag is right; spans: number of gold and of predicted spans together; matches: how many of these the other side
        has too; cut: words that did not fit, which are predicted O. Of plain tags, every word is a span.
        """
        table = frame(rows, ["language", "item", "group", "tags"]).rename(columns={"tags": "gold"})
        found = [self._decode(encoded.targets["place"][i], logits) for i, logits in enumerate(outputs)]
        pairs = [(tags[: len(gold)], list(gold)) for (tags, _), gold in zip(found, table["gold"], strict=True)]
        both = [tuple(set(enumerate(side) if self.plain else words.spans(side)) for side in pair) for pair in pairs]
        table["prediction"] = [" ".join(tags) for tags, _ in pairs]
        table["gold"] = [" ".join(gold) for _, gold in pairs]
        table["score"] = np.array([score for _, score in found], np.float32)
        table["correct"] = (table["prediction"] == table["gold"]).astype(np.float32)
        table["matches"] = np.array([2 * len(a & b) for a, b in both], np.int32)
        table["spans"] = np.array([len(a) + len(b) for a, b in both], np.int32)
        fitted = (encoded.targets["place"] != ABSENT).sum(1)
        table["cut"] = np.array([len(gold) for _, gold in pairs], np.int32) - fitted.astype(np.int32)
        return table[[*COLUMNS, "matches", "spans", "cut"]]

    def _decode(self, places: np.ndarray, logits: np.ndarray) -> tuple[list[str], float]:
        """Tags of the words at ``places`` (O at ABSENT), and the mean share of the softmax that they have."""
        best = logits.argmax(1)
        tags: list[str] = []
        for word, place in enumerate(places.tolist()):
            if place == ABSENT:
                tags.append(words.OUTSIDE)
            elif word and place == places[word - 1] and self.plain:
                tags.append(tags[-1])
            elif word and place == places[word - 1]:
                kind = tags[-1].partition("-")[2]
                tags.append(f"I-{kind}" if kind else words.OUTSIDE)
            else:
                tags.append(self.tags[best[place]])
        chosen = logits[places[places != ABSENT]]
        share = 1 / np.exp(chosen - chosen.max(1, keepdims=True)).sum(1)
        return tags, float(share.mean()) if len(share) else 0.0

    def scores(self, predictions: pd.DataFrame) -> dict[str, Score]:
        """Span F1 per language (primary); precision, recall, token accuracy and the share of words cut beside it.

        Of plain tags the primary score is accuracy over words, with macro- and micro-F1 over the tags beside it.
        """
        return per_language(predictions, _plain_scores if self.plain else _scores)


def _plain_scores(part: pd.DataFrame) -> tuple[float, dict[str, float]]:
    predicted, gold = ([tag for text in part[name] for tag in text.split(" ")] for name in ("prediction", "gold"))
    value = answers.accuracy(predicted, gold)
    # With one tag per word, micro-F1 is accuracy. XTREME's F1, which merges neighbours, is the scorer's business.
    cut = float(part["cut"].sum() / len(gold))
    return value, {"micro_f1": value, "macro_f1": answers.macro_f1(predicted, gold), "words_cut": cut}


def _scores(part: pd.DataFrame) -> tuple[float, dict[str, float]]:
    predicted, gold = ([text.split(" ") for text in part[name]] for name in ("prediction", "gold"))
    f1, precision, recall = answers.span_f1(predicted, gold)
    flat = [[tag for tags in side for tag in tags] for side in (predicted, gold)]
    return f1, {
        "precision": precision,
        "recall": recall,
        "token_accuracy": answers.accuracy(*flat),
        "words_cut": float(part["cut"].sum() / len(flat[1])),
    }


def _places(offsets: np.ndarray, begins: Sequence[int]) -> np.ndarray:
    """For each first character its subword: the first one that ends behind it; ABSENT beyond the last.

    ``offsets`` (subwords, 2): the characters of each subword, (0, 0) for special tokens.
    """
    ends = np.maximum.accumulate(offsets[:, 1])
    found = np.searchsorted(ends, begins, side="right")
    return np.where(found < len(ends), found, ABSENT).astype(np.int16)

"""Token tagging: a tag for every word from the encoder's output at its first subword; span F1.

The model reads the text as it stands, not word by word, so that scripts without spaces are cut into subwords as in
pretraining. A word's tag is that of the subword that holds its first character. Where one subword holds the beginnings
of several words, the first of them is trained and predicted, and the others continue it; so a span that ends inside a
subword cannot be found. A word of which the tokenizer leaves nothing, such as a zero-width space, becomes the unknown
token, as in XTREME.

A causal model has not read a word before its last subword, so there a word's tag is read, and of several words that end
in one subword the first is trained and predicted. A word without a subword has no position.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.cards.schema import DataCard, ModelCard
from xlscale.data import words
from xlscale.data.batches import Batch, Encoded
from xlscale.metrics import spans
from xlscale.metrics.classification import accuracy, macro_f1
from xlscale.metrics.predictions import COLUMNS
from xlscale.tasks.base import TrainedTask, best_share, frame, mean_pool, slices

IGNORED = -100  # a tag that is not learned from: of a word without a subword of its own, or of no word
ABSENT = -1  # the position of a word that did not fit
# Controls that a text begins with: SentencePiece's tables drop them, and the library's offsets are then short by them.
# Others, of which there are subwords, stay.
_LEADING = re.compile(r"^[\x00-\x1f\x7f\x8f\x9f]+")


class Tagging(TrainedTask):
    """A tagging task. The types of spans are those of the card; every type has a tag B- and a tag I-. Where the card's
    tags are plain, its labels are the tags themselves, one per word, and O is none of them."""

    def __init__(self, card: DataCard, model: ModelCard | None = None):
        super().__init__(card, model)
        self.plain = card.tags == "plain"
        self.tags = card.labels if self.plain else words.bio(card.labels)
        self.head_size = len(self.tags)

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Token ids of ``prefix + text`` cut to ``max_length`` tokens.

        Targets, int16 (inputs, words of the longest row): ``position``, where the subword with a word's first character
        is in the input, or its last one of a causal model, ABSENT for a word that did not fit and beyond the row's
        words; ``tag``, the number of the gold tag in ``self.tags``, IGNORED where there is no position or the word
        before has the same.
        """
        number = {tag: i for i, tag in enumerate(self.tags)}
        width = max((len(tags) for tags in rows["tags"]), default=0)
        positions = np.full((len(rows), width), ABSENT, np.int16)
        tags = np.full((len(rows), width), IGNORED, np.int16)
        ids: list[Sequence[int]] = []
        closing = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"][::-1].index(0)

        @cache
        def silent(word: str) -> bool:
            return not tokenizer.decode(tokenizer(word, add_special_tokens=False)["input_ids"]).strip()

        for first, part in slices(rows):
            texts = [prefix + _LEADING.sub(lambda found: " " * len(found[0]), text) for text in part["text"]]
            found = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
            ids += found["input_ids"]
            columns = zip(part["text"], part["tokens"], part["tags"], found["offset_mapping"], strict=True)
            for i, (text, tokens, gold, offsets) in enumerate(columns, first):
                begins = [len(prefix) + start for start in words.starts(text, tokens)]
                if self.causal:
                    ends = [begin + len(token) for begin, token in zip(begins, tokens, strict=True)]
                    position = _last_positions(np.array(offsets), begins, ends)
                else:
                    position = _positions(np.array(offsets), begins)
                    whole = len(ids[i]) < max_length
                    if lost := [w for w in _without(np.array(offsets), begins, position, whole) if silent(tokens[w])]:
                        ids[i], position = _marked(ids[i], position, lost, tokenizer.unk_token_id, closing, max_length)
                positions[i, : len(position)] = position
                own = (position != ABSENT) & (np.diff(position, prepend=ABSENT) != 0)
                tags[i, : len(position)] = np.where(own, [number.get(tag, IGNORED) for tag in gold], IGNORED)
        return Encoded.of(ids, targets={"position": positions, "tag": tags})

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

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table: gold and prediction are the row's tags, joined by single spaces.

        score: mean over the words that fit of the share that the softmax gives the best tag; correct: 1 where every
        tag is; spans: number of gold and of predicted spans together; matches: how many of these the other side has
        too; cut: words that did not fit, which are predicted O. Of plain tags, every word is a span.
        """
        table = frame(rows, ["language", "item", "group", "tags"])
        positions = encoded.targets["position"]
        decoded = [self._decode(*one) for one in zip(positions, outputs, strict=True)]
        gold = table["tags"].map(list)
        predicted = [tags[: len(true)] for (tags, _), true in zip(decoded, gold, strict=True)]
        table["prediction"], table["gold"] = ([" ".join(tags) for tags in side] for side in (predicted, gold))
        table["score"] = np.array([score for _, score in decoded], np.float32)
        table["correct"] = (table["prediction"] == table["gold"]).astype(np.float32)
        table = table.assign(**self.counts(predicted, gold))
        table["cut"] = (gold.map(len) - (positions != ABSENT).sum(1)).astype(np.int32)
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
        over the tags; and the share of words that were cut."""
        predicted, gold = ([text.split() for text in predictions[name]] for name in ("prediction", "gold"))
        flat = [[tag for tags in side for tag in tags] for side in (predicted, gold)]
        cut, correct = float(predictions["cut"].sum() / len(flat[1])), accuracy(*flat)
        if self.plain:
            # With one tag per word, micro-F1 is accuracy. XTREME's F1, which merges neighbours, is the scorer's.
            return {"micro_f1": correct, "macro_f1": macro_f1(*flat), "words_cut": cut}
        _, precision, recall = spans.scores(predicted, gold)
        return {"precision": precision, "recall": recall, "token_accuracy": correct, "words_cut": cut}


def _positions(offsets: np.ndarray, begins: Sequence[int]) -> np.ndarray:
    """For each first character its subword: the first one that ends behind it; ABSENT beyond the last.

    ``offsets`` (subwords, 2): the characters of each subword, (0, 0) for special tokens.
    """
    ends = np.maximum.accumulate(offsets[:, 1])
    found = np.searchsorted(ends, begins, side="right")
    return np.where(found < len(ends), found, ABSENT).astype(np.int16)


def _last_positions(offsets: np.ndarray, begins: Sequence[int], ends: Sequence[int]) -> np.ndarray:
    """For each word, from its first character to its last + 1, the last subword that holds some of its last character;
    ABSENT where that did not fit, or none holds any of the word. ``offsets`` as in ``_positions``."""
    starts = np.where(offsets[:, 1] > 0, offsets[:, 0], np.inf)  # special tokens begin behind all characters, or
    starts = np.minimum.accumulate(starts[::-1])[::-1]  # with the text that they stand before
    stops = np.maximum.accumulate(offsets[:, 1])
    found = np.searchsorted(starts, ends, side="left") - 1
    here = (stops[found] > begins) & (stops[-1] >= ends)
    return np.where(here, found, ABSENT).astype(np.int16)


def _without(offsets: np.ndarray, begins: Sequence[int], position: np.ndarray, whole: bool) -> np.ndarray:
    """Words that may have no subword of their own: theirs is the next word's, too, and begins no sooner, or, where the
    text is ``whole``, there is none."""
    shared = position == np.append(position[1:], ABSENT)
    return np.flatnonzero(shared & np.where(position == ABSENT, whole, offsets[position, 0] >= begins))


def _marked(
    ids: Sequence[int], position: np.ndarray, lost: list[int], unknown: int | None, closing: int, max_length: int
) -> tuple[Sequence[int], np.ndarray]:
    """Ids with the unknown token for every word of ``lost``, cut before the ``closing`` last to ``max_length``, and
    the positions of all words in them. Without an unknown token the words have no position."""
    if unknown is None:
        return ids, np.where(np.isin(np.arange(len(position)), lost), ABSENT, position)
    at = np.where(position[lost] == ABSENT, len(ids) - closing, position[lost])
    moved = np.where(position == ABSENT, ABSENT, position + np.searchsorted(at, position, side="right"))
    moved[lost] = at + np.arange(len(at))
    text, end = np.split(np.insert(ids, at, unknown), [len(ids) + len(at) - closing])
    room = max_length - closing
    return np.concatenate([text[:room], end]), np.where(moved < room, moved, ABSENT)

"""Where the words of a text are in what a model reads of it, and how a text is cut that is too long.

A word's subword is the one that holds its first character. A word of which the tokenizer leaves nothing, such as a
zero-width space, becomes the unknown token, as in XTREME. A causal model has not read a word before its last subword,
so there that one is the word's, and a word without a subword has no position.

A text that does not fit is cut before the first word that is not whole, and the rest is read by itself, cut again where
it has to be: every word has a position, as in XTREME's ``utils_preprocess.py``. A word that is longer than an input is
the unknown token there; here it is what fits of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xlscale.data import words

ABSENT = -1  # the position of a word that an input does not hold
# Controls that a text begins with: SentencePiece's tables drop them, and the library's offsets are then short by them.
# Others, of which there are subwords, stay.
_LEADING = re.compile(r"^[\x00-\x1f\x7f\x8f\x9f]+")


@dataclass(frozen=True)
class Input:
    """What a model reads of a row from the word ``word`` on: ``ids``; ``position``, int16 (words from there on,), where
    in them each word is; ``cut``: there was more than fits."""

    row: int
    word: int
    ids: Sequence[int]
    position: np.ndarray
    cut: bool

    @property
    def end(self) -> int:
        """The first word that a further input has to hold: there is none without a word."""
        held = np.flatnonzero(self.position != ABSENT)
        return self.word + 1 + int(held.max(initial=0))


class Reader:
    """Reads texts for a model, ``prefix`` before every input, ``max_length`` tokens at most."""

    def __init__(self, tokenizer, prefix: str, max_length: int, causal: bool):
        self.tokenizer, self.prefix, self.max_length, self.causal = tokenizer, prefix, max_length, causal
        self.closing = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"][::-1].index(0)
        self._silent: dict[str, bool] = {}

    def read(self, texts: Sequence[str], tokens: Sequence[Sequence[str]]) -> list[Input]:
        """The inputs of rows with these texts and words, row by row."""
        begins = [words.starts(*both) for both in zip(texts, tokens, strict=True)]
        read: list[Input] = []
        left = [(row, 0) for row in range(len(texts))]
        while left:
            starts = [begins[row][word] if word else 0 for row, word in left]
            parts = [texts[row][start:] for (row, _), start in zip(left, starts, strict=True)]
            parts = [self.prefix + _LEADING.sub(lambda found: " " * len(found[0]), part) for part in parts]
            found = self.tokenizer(parts, truncation=True, max_length=self.max_length, return_offsets_mapping=True)
            inputs = []
            for i, (row, word) in enumerate(left):
                own = [len(self.prefix) + begin - starts[i] for begin in begins[row][word:]]
                ids, offsets = found["input_ids"][i], np.array(found["offset_mapping"][i])
                inputs.append(Input(row, word, *self._placed(ids, offsets, own, tokens[row][word:])))
            # Of a rest that is silent a tokenizer may leave nothing.
            read += [one for one in inputs if len(one.ids) or not one.word]
            left = [(one.row, one.end) for one in inputs if one.cut and one.end < len(tokens[one.row])]
        return sorted(read, key=lambda one: one.row)

    def _placed(
        self, ids: Sequence[int], offsets: np.ndarray, begins: Sequence[int], tokens: Sequence[str]
    ) -> tuple[Sequence[int], np.ndarray, bool]:
        """Ids as a model reads them, where the words are that ``begins`` there, and whether there was more."""
        ends = [begin + len(token) for begin, token in zip(begins, tokens, strict=True)]
        cut = len(ids) == self.max_length
        if self.causal:
            return ids, _last_positions(offsets, begins, ends), cut
        position = _positions(offsets, begins)
        if lost := [w for w in _without(offsets, begins, position, not cut) if self._leaves_nothing(tokens[w])]:
            ids, position = _marked(ids, position, lost, self.tokenizer.unk_token_id, self.closing, self.max_length)
        elif cut:
            ids, position = _unbroken(ids, position, offsets, ends, self.closing)
        return ids, position, cut or len(ids) == self.max_length

    def _leaves_nothing(self, word: str) -> bool:
        if word not in self._silent:
            own = self.tokenizer(word, add_special_tokens=False)["input_ids"]
            self._silent[word] = not self.tokenizer.decode(own).strip()
        return self._silent[word]


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


def _unbroken(
    ids: Sequence[int], position: np.ndarray, offsets: np.ndarray, ends: Sequence[int], closing: int
) -> tuple[Sequence[int], np.ndarray]:
    """Ids and positions without what comes after the last word of which all is there; the first word stays."""
    held = int((position != ABSENT).sum())
    if held > 1 and ends[held - 1] > offsets[:, 1].max():
        held -= 1
    if not held:
        return ids, position
    last = int(np.flatnonzero((offsets[:, 0] < ends[held - 1]) & (offsets[:, 1] > 0))[-1])
    position = np.where(np.arange(len(position)) < held, position, ABSENT)
    return [*ids[: last + 1], *ids[len(ids) - closing :]], position

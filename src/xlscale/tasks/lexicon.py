"""Word pairs of a lexicon: words of many languages, each with its English name.

Trained on by an objective that brings the two words of a pair together. A share of the English names is kept apart in
all languages, as control: of pairs that were trained on, a model can know what it has learnt by heart. On the control
pairs P@1 tells whether a word's nearest English name is its own, among those of its language that are evaluated. Unlike
the cosine of a pair, which rises with anything that makes all words alike, it says how near a word is in comparison.
Both are measured as retrieval measures: in the last layer, pooled as all that the model reads.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from torch import nn

from xlscale.core.files import XlscaleError
from xlscale.data.batches import Encoded
from xlscale.data.schema import is_control
from xlscale.metrics.lexicon import nearest_name
from xlscale.metrics.predictions import COLUMNS
from xlscale.tasks.base import Task, frame


class Lexicon(Task):
    """A lexicon, each row of which is two inputs. It has no loss of its own: see ``training.objectives.lexical``."""

    def rows(self) -> DatasetDict:
        """The pairs to train on and, as dev, the control."""
        train, control = apart(super().rows()["train"])
        return DatasetDict(train=train, dev=control)

    def encode(self, rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
        """Two inputs for each row, its English name before its name in the language, with ``prefix``.

        Targets, int64 (inputs,): ``start`` and ``stop``, the tokens of the word itself; ``name``, equal for rows with
        equal English names; ``language``. Raises XlscaleError for a word of which no token is left.
        """
        texts = [prefix + text for pair in zip(rows["source"], rows["text"], strict=True) for text in pair]
        found = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
        own = [[end > len(prefix) for _, end in offsets] for offsets in found["offset_mapping"]]
        if lost := [text for text, tokens in zip(texts, own, strict=True) if not any(tokens)]:
            raise XlscaleError(f"{lost[0]!r}: expected a word of which {max_length} tokens hold something")
        start = np.array([tokens.index(True) for tokens in own])
        targets = {"start": start, "stop": start + [sum(tokens) for tokens in own]}
        for target, values in (("name", pd.Series(rows["source"]).str.casefold()), ("language", rows["language"])):
            targets[target] = pd.factorize(pd.Series(values))[0].repeat(2)
        return Encoded.of(found["input_ids"], np.arange(len(rows)).repeat(2), targets)

    def training_inputs(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """All of them."""
        return encoded

    def shuffled(self, encoded: Encoded, generator: np.random.Generator) -> Encoded:
        """The placebo: in every language the same words and the same English names, paired at random."""
        language, order = encoded.targets["language"][::2], np.arange(len(encoded))
        for one in np.unique(language):
            names = 2 * np.flatnonzero(language == one)
            order[names] = generator.permutation(names)
        return replace(encoded.take(order), row=encoded.row)

    def head_of(self, encoder: nn.Module, generator: torch.Generator) -> nn.Module:
        """No parameters."""
        return nn.Identity()

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """The prediction table of the words: gold and prediction are English names, score is the cosine of a word and
        its own name."""
        table, vectors = frame(rows, ["language", "item", "group", "source"]), np.stack(outputs)
        table["gold"], table["prediction"] = table["source"], ""
        table["score"] = (vectors[::2] * vectors[1::2]).sum(1)
        for _, own in table.groupby("language"):
            nearest = nearest_name(vectors, own.index.to_numpy())
            table.loc[own.index, "prediction"] = own["source"].to_numpy()[nearest]
        table["correct"] = (table["prediction"] == table["gold"]).astype(np.float32)
        return table[COLUMNS]

    def others(self, predictions: pd.DataFrame) -> dict[str, float]:
        """The mean cosine of a word and its own name."""
        return {"cosine": float(predictions["score"].mean())}


def apart(rows: Dataset) -> tuple[Dataset, Dataset]:
    """The rows of a lexicon to train on, and the control: every English name is on one side, in all languages."""
    control = np.array([is_control(name) for name in rows["source"]], bool)
    return rows.select(np.flatnonzero(~control)), rows.select(np.flatnonzero(control))

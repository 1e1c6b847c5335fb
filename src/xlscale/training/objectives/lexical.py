"""Targeted Lexical Injection: words of a pair come together in an early layer, apart from all other words of a batch.

Ngugi 2025 (arXiv:2506.15415), as in the released training script (StanNgugi/tli_project at e158b764): the word of the
other language is the anchor a, its English name p, and the loss is the mean over pairs i of
max(0, m + max over j != i of cos(a_i, p_j) - cos(a_i, p_i)), the hardest negative of the batch (as Faghri et al. 2018,
VSE++, arXiv:1707.05612, of one side only), without temperature. Theirs are layer 2, m = 0.4 and the mean over all
tokens that are attended to, the one that begins every input among them. OURS are pairs of 48 languages in one batch,
so that the English name of a pair is no negative where it is the name of another, too; that what trains is the
recipe's method; and a share of the English names that is kept apart in all languages, to see what is more than memory.

What every input begins with, such as a special token or the model's prefix, makes any two inputs alike. ``pooling``
says whether it counts; what is measured of a training can be pooled otherwise than what was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn

from xlscale.core.files import XlscaleError
from xlscale.data.batches import Batch, Encoded
from xlscale.data.schema import sampled
from xlscale.experiment.recipe import Recipe
from xlscale.training import evaluate
from xlscale.training.model import Model
from xlscale.training.objectives.base import Objective

Pooling = Literal["all", "words"]
CONTROL, SEED = 0.1, "lexical 1"  # the share of English names that is kept apart; theirs was 63 of 686 pairs


class Lexical(Objective):
    """Pairs in place of a task's inputs: those of ``pairs``, English name first. It needs no head."""

    def begin(self, model: Model, recipe: Recipe, generator: np.random.Generator) -> None:
        """Take ``word_layer``, ``margin`` and ``pooling`` from the recipe. Raises XlscaleError for a layer that the
        encoder does not have."""
        super().begin(model, recipe, generator)
        if recipe.word_layer > (most := model.encoder.config.num_hidden_layers):
            raise XlscaleError(f"word_layer: expected at most {most}, the layers of this rung, got {recipe.word_layer}")

    def loss(self, model: Model, batch: Batch) -> torch.Tensor:
        """The mean triplet loss of the pairs of a batch, float32 (); a pair without a negative has none."""
        found = vectors(model, batch, self.recipe.word_layer, self.recipe.pooling)
        cosine, name = found[1::2] @ found[::2].T, batch.targets["name"][::2]
        hardest = cosine.masked_fill(name[:, None] == name, -torch.inf).amax(1)
        return (self.recipe.margin + hardest - cosine.diagonal()).clamp_min(0).mean()


@dataclass
class WordVectors(Model):
    """A model whose outputs are those of ``vectors``."""

    layer: int = 2
    pooling: Pooling = "all"

    def outputs(self, batch: Batch) -> torch.Tensor:
        """Unit vectors, float32 (batch, width)."""
        return vectors(self, batch, self.layer, self.pooling)


def vectors(model: Model, batch: Batch, layer: int, pooling: Pooling) -> torch.Tensor:
    """Unit vectors (batch, width): the mean of the hidden states ``layer`` (0: what goes into the first layer) over all
    tokens of an input, or over those of its word alone."""
    mask = batch.mask
    if pooling == "words":
        place = torch.arange(mask.shape[1])
        mask = (place >= batch.targets["start"][:, None]) & (place < batch.targets["stop"][:, None])
    hidden = model.hidden_states(batch, layer)
    # The sum, as the vector is of length 1 in any case.
    return nn.functional.normalize((hidden * mask.unsqueeze(-1)).sum(1), dim=-1)


def pairs(rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
    """Two inputs for each row of a lexicon, its English name before its name in the language, with ``prefix``.

    Targets, int64 (inputs,): ``start`` and ``stop``, the tokens of the word itself; ``name``, equal for rows with equal
    English names. Raises XlscaleError for a word of which no token is left.
    """
    texts = [prefix + text for pair in zip(rows["source"], rows["text"], strict=True) for text in pair]
    found = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
    own = [[end > len(prefix) for _, end in offsets] for offsets in found["offset_mapping"]]
    if lost := [text for text, tokens in zip(texts, own, strict=True) if not any(tokens)]:
        raise XlscaleError(f"{lost[0]!r}: expected a word of which {max_length} tokens hold something")
    start = np.array([tokens.index(True) for tokens in own])
    names, _ = pd.factorize(pd.Series(rows["source"]).str.casefold())
    targets = {"start": start, "stop": start + [sum(tokens) for tokens in own], "name": names.repeat(2)}
    return Encoded.of(found["input_ids"], np.arange(len(rows)).repeat(2), targets)


def apart(rows: Dataset) -> tuple[Dataset, Dataset]:
    """The rows of a lexicon to train on, and the control: every English name is on one side, in all languages."""
    control = np.array([sampled(name.casefold(), SEED, CONTROL) for name in rows["source"]], bool)
    return rows.select(np.flatnonzero(~control)), rows.select(np.flatnonzero(control))


def similarity(model: Model, encoded: Encoded, layer: int, pooling: Pooling) -> np.ndarray:
    """Float32 (pairs,): the cosine of the two words of each pair of ``pairs``, in a layer of ``model``."""
    found = np.stack(evaluate.run(WordVectors(model.encoder, model.backend, layer=layer, pooling=pooling), encoded))
    return (found[::2] * found[1::2]).sum(1)

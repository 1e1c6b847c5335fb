"""Targeted Lexical Injection: words of a pair come together in an early layer, apart from all other words of a batch.

Ngugi 2025 (arXiv:2506.15415), as in the released training script (StanNgugi/tli_project at e158b764): the word of the
other language is the anchor a, its English name p, and the loss is the mean over pairs i of
max(0, m + max over j != i of cos(a_i, p_j) - cos(a_i, p_i)), the hardest negative of the batch (as Faghri et al. 2018,
VSE++, arXiv:1707.05612, of one side only), without temperature. Theirs are layer 2, m = 0.4 and the mean over all
tokens that are attended to, the one that begins every input among them; 63 of their 686 pairs are a control. OURS are
pairs of 48 languages in one batch, so that the English name of a pair is no negative where it is the name of another,
too; that what trains is the recipe's method; and the control, see ``tasks.lexicon``.

What every input begins with, such as a special token or the model's prefix, makes any two inputs alike. ``pooling``
says whether it counts. They trained with it, and measured in the layer that they had trained, without it; what is
measured here is measured with and without, in the trained layer and in the last one, before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from xlscale.core.files import XlscaleError
from xlscale.data.batches import Batch, Encoded
from xlscale.experiment.recipe import Recipe
from xlscale.metrics.lexicon import LAYERS, POOLINGS, WHEN, Pooling, compare, measure
from xlscale.training import evaluate
from xlscale.training.model import Model
from xlscale.training.objectives.base import Objective


class Lexical(Objective):
    """Pairs in place of a task's inputs: those of a lexicon, English name first. It needs no head."""

    def begin(self, model: Model, recipe: Recipe, generator: np.random.Generator) -> None:
        """Take ``word_layer``, ``margin`` and ``pooling`` from the recipe. Raises XlscaleError for a layer that the
        encoder does not have."""
        super().begin(model, recipe, generator)
        if recipe.word_layer > (most := model.encoder.config.num_hidden_layers):
            raise XlscaleError(f"word_layer: expected at most {most}, the layers of this rung, got {recipe.word_layer}")

    def generators(self) -> list[torch.Generator]:
        """Nothing is drawn."""
        return []

    def loss(self, model: Model, batch: Batch) -> torch.Tensor:
        """The mean triplet loss of the pairs of a batch, float32 (); a pair without a negative has none."""
        hidden = model.hidden_states(batch, self.recipe.word_layer)
        found = vectors(hidden, batch, self.recipe.pooling)
        cosine, name = found[1::2] @ found[::2].T, batch.targets["name"][::2]
        hardest = cosine.masked_fill(name[:, None] == name, -torch.inf).amax(1)
        return (self.recipe.margin + hardest - cosine.diagonal()).clamp_min(0).mean()

    def measured(
        self, start: Callable[[], Model], model: Model, encoded: Encoded, recipe: Recipe
    ) -> dict[str, np.ndarray]:
        """``metrics.lexicon.MEASURES`` of every pair, float (pairs,), by names that ``measure`` gives."""
        found = {}
        for when, one in zip(WHEN, (start(), model), strict=True):
            for layer, number in zip(LAYERS, (recipe.word_layer, one.encoder.config.num_hidden_layers), strict=True):
                for pooling, own in zip(POOLINGS, word_vectors(one, encoded, number), strict=True):
                    compared = compare(own, encoded.targets["language"][::2])
                    found |= {measure(name, layer, pooling, when): values for name, values in compared.items()}
        return found


@dataclass
class WordVectors(Model):
    """A model whose outputs are those of ``vectors`` for a layer, by all of POOLINGS."""

    layer: int = 2

    def outputs(self, batch: Batch) -> torch.Tensor:
        """Unit vectors, float32 (batch, poolings * width), those of a pooling one after another."""
        hidden = self.hidden_states(batch, self.layer)
        return torch.cat([vectors(hidden, batch, pooling) for pooling in POOLINGS], dim=1)


def vectors(hidden: torch.Tensor, batch: Batch, pooling: Pooling) -> torch.Tensor:
    """Unit vectors (batch, width): the mean of the hidden states (batch, tokens, width) of a layer over all tokens of
    an input, or over those of its word alone."""
    mask = batch.mask
    if pooling == "words":
        place = torch.arange(mask.shape[1], device=mask.device)
        mask = (place >= batch.targets["start"][:, None]) & (place < batch.targets["stop"][:, None])
    # The sum, as the vector is of length 1 in any case.
    return nn.functional.normalize((hidden * mask.unsqueeze(-1)).sum(1), dim=-1)


def word_vectors(model: Model, encoded: Encoded, layer: int) -> list[np.ndarray]:
    """Unit vectors float32 (inputs, width) in a layer (0: what goes into the first one), by each of POOLINGS."""
    found = evaluate.run(WordVectors(model.encoder, model.backend, layer=layer), encoded)
    return np.split(np.stack(found), len(POOLINGS), axis=1)

"""Randomized smoothing by random perturbation (RS-RP): the task's loss with Gaussian noise on the word embeddings.

From Huang et al. 2021 (arXiv:2104.08645), who add random perturbations to the input embeddings while they train. Which
distribution and how large could not be read, and their code has it not, so THE SETTING IS OURS: the general form, min
over weights of the mean over inputs and d of L(f(x + d), y), with d normal and independent in every entry, as
smoothed classifiers are trained (Cohen et al. 2019, arXiv:1902.02918), drawn anew for every input of every step.
Special tokens and the model's prefix get noise, too. A standard deviation of 0.025 moves a word embedding of
``e5_small``, whose norm is 1.6, by 0.5. As in their released code for synonyms, inputs are clean at test and there is
one prediction of each: no vote, so no certificate either.
"""

from __future__ import annotations

import numpy as np
import torch

from xlscale.data.batches import Batch
from xlscale.experiment.recipe import Recipe
from xlscale.training import perturbation
from xlscale.training.model import Model
from xlscale.training.objectives.supervised import Supervised


class Smoothing(Supervised):
    """The task's loss with noise on the embeddings of every token. A ``sigma`` of 0 gives plain training."""

    def begin(self, model: Model, recipe: Recipe, generator: np.random.Generator) -> None:
        """Take ``sigma`` from the recipe; ``generator`` draws the noise."""
        super().begin(model, recipe, generator)
        self.generator = perturbation.generator_from(generator)

    def generators(self) -> list[torch.Generator]:
        """That of the noise."""
        return [self.generator]

    def loss(self, model: Model, batch: Batch) -> torch.Tensor:
        """The task's loss of a batch with noise, float32 ()."""
        noise = self.recipe.sigma * perturbation.normal(model.encoder, batch.mask, self.generator)
        with perturbation.added(model.encoder, noise):
            return super().loss(model, batch)

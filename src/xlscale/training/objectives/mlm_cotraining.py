"""Co-training: the task's loss, and in every step the loss of masked language modelling on a batch of other text.

From Phang et al. 2020 (arXiv:2005.13013), who go on with multilingual masked language modelling while they train on an
English intermediate task, so that what was pretrained is not forgotten. How they mix the two could not be read, so THE
MIXING IS OURS: every step adds ``text_weight`` times the loss of ``masked_lm`` on as many texts as the task's batch
has rows (or tokens, where the recipe counts those), all texts coming once before any comes again. The text is the
training split of the card ``text``, with the model's prefix, cut to the recipe's ``max_length``. Theirs was Wikipedia;
the bundled one are messages and descriptions of software in 49 languages. The text's part has a head of its own, see
``tasks.text``, which is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.data import load
from xlscale.data.batches import Batch
from xlscale.experiment.recipe import Recipe
from xlscale.tasks.base import Divisible, Task
from xlscale.training import order, perturbation, token_cache
from xlscale.training.model import Model
from xlscale.training.objectives.masked_lm import Masking
from xlscale.training.objectives.supervised import Supervised


class Cotraining(Supervised):
    """The task's loss and that of text. A ``text_weight`` of 0 gives plain training."""

    def divisible(self, task: Task) -> Divisible:
        """Every batch comes with one of text."""
        return "whole"

    def begin(self, model: Model, recipe: Recipe, generator: np.random.Generator) -> None:
        """Take ``text`` and ``text_weight`` from the recipe; ``generator`` draws the head of the text's part, the order
        of the texts and what is hidden. Raises XlscaleError for a tokenizer without a mask token, or a file of text
        that is not as its card says."""
        super().begin(model, recipe, generator)
        self.weight = 1 + recipe.text_weight
        if not recipe.text_weight:
            return
        task = tasks.of(data_card(recipe.text), model.task.model)
        rows = load.splits(task.card)
        self.encoded = token_cache.encoded(task, rows, "train", task.model, recipe.max_length)
        head = task.head_of(model.encoder, perturbation.generator_from(generator))
        self.reader = Model(model.encoder, model.backend, task, head.to(model.backend.device))
        self.masking = Masking(task, generator)
        self.order = self._order(generator.spawn(1)[0])

    def _order(self, generator: np.random.Generator) -> Iterator[np.ndarray]:
        while True:
            yield from order.epoch(self.encoded, self.recipe, generator)

    def parameters(self) -> list[nn.Parameter]:
        """Those of the head of the text's part."""
        return [*self.reader.head.parameters()] if self.recipe.text_weight else []

    def loss(self, model: Model, batch: Batch) -> torch.Tensor:
        """The task's loss and ``text_weight`` times that of the next batch of text, float32 ()."""
        loss = super().loss(model, batch)
        if not self.recipe.text_weight:
            return loss
        self.beside = self.masking(model.batch(self.encoded, next(self.order)))
        return loss + self.recipe.text_weight * super().loss(self.reader, self.beside)

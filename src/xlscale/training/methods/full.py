"""Full fine-tuning: every parameter of the encoder trains, except for the parts that the recipe keeps frozen."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from xlscale.cards.schema import ModelCard
from xlscale.experiment.recipe import Recipe
from xlscale.models import ladder
from xlscale.training.methods.base import Method


class Full(Method):
    """All weights train; the word embeddings stay as pretrained unless the recipe says otherwise."""

    passes = 3.0  # forward, and gradients of both what a layer reads and its weights
    frozen = False

    def prepare(self, encoder: nn.Module, recipe: Recipe, generator: torch.Generator) -> None:
        """Set which parameters require gradients."""
        words = encoder.get_input_embeddings()
        if recipe.frozen == "nothing" and not words.weight.requires_grad:
            words.weight = nn.Parameter(words.weight.detach().clone())  # a copy: it was mapped from the model's file

    def save(self, encoder: nn.Module, path: Path) -> None:
        """Write the encoder, see ``models.ladder.save_checkpoint``."""
        ladder.save_checkpoint(encoder, path)

    def load(self, card: ModelCard, layers: int, device: torch.device, recipe: Recipe, path: Path) -> nn.Module:
        """Read the encoder, see ``models.ladder.load``."""
        return ladder.load(card, layers, path)

"""The contract of a training method: which parameters of a model train, and how they are saved and loaded again.

One module per method; names are in ``core.registry``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import nn

from xlscale.cards.schema import ModelCard
from xlscale.experiment.recipe import Recipe
from xlscale.models import ladder


class Method(ABC):
    """How an encoder is trained. A task's head trains whole, whatever the method.

    ``passes``: what a training step costs, in forward passes: Kaplan et al. 2020 (arXiv:2001.08361), section 2.1.
    ``frozen``: the encoder's own weights do not train.
    """

    passes: float
    frozen: bool

    @abstractmethod
    def prepare(self, encoder: nn.Module, recipe: Recipe, generator: torch.Generator) -> None:
        """Make ``encoder`` ready for training in place: what trains requires gradients, all else does not. New
        parameters are drawn from ``generator``."""

    @abstractmethod
    def save(self, encoder: nn.Module, path: Path) -> None:
        """Write what was trained as safetensors, atomically. Equal tensors give equal bytes."""

    def start(self, card: ModelCard, layers: int, device: torch.device, frozen: bool) -> nn.Module:
        """The pretrained rung with ``layers`` layers; in main memory, but for what a method packs on ``device``.
        ``frozen``: its own weights will not train, and may be of the type of their file."""
        return ladder.load(card, layers, as_published=frozen)

    @abstractmethod
    def load(self, card: ModelCard, layers: int, device: torch.device, recipe: Recipe, path: Path) -> nn.Module:
        """As ``start``, with what ``save`` wrote after a training by ``recipe``. Raises XlscaleError for another
        file."""

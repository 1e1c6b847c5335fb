"""The contract of a training method: which parameters of a model train, and how they are saved and loaded again.

One module per method; names are in ``core.registry``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from torch import nn

from xlscale.cards.schema import ModelCard
from xlscale.experiment.recipe import Recipe


class Method(ABC):
    """How an encoder is trained. A task's head trains whole, whatever the method."""

    @abstractmethod
    def prepare(self, encoder: nn.Module, recipe: Recipe) -> None:
        """Make ``encoder`` ready for training in place: what trains requires gradients, all else does not."""

    @abstractmethod
    def save(self, encoder: nn.Module, path: Path) -> None:
        """Write what was trained as safetensors, atomically. Equal tensors give equal bytes."""

    @abstractmethod
    def load(self, card: ModelCard, layers: int, path: Path) -> nn.Module:
        """The rung with ``layers`` layers with what ``save`` wrote. Raises XlscaleError for another file."""

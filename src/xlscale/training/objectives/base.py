"""The contract of an objective: what a training minimises. One module per objective; names are in ``core.registry``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from xlscale.data.batches import Batch, Encoded
from xlscale.experiment.recipe import Recipe
from xlscale.tasks.base import Divisible, Task
from xlscale.training.model import Model


class Objective(ABC):
    """What a training minimises, batch by batch.

    ``beside``: a batch that the last loss was of, too, besides the one that it was asked for; ``weight``: that of all
    losses together which make up the one.
    """

    beside: Batch | None = None
    weight: float = 1.0

    def rows(
        self, rows: Dataset, recipe: Recipe, generator: np.random.Generator, whole: Dataset | None = None
    ) -> Dataset:
        """What is trained on instead of ``rows``, those of the training split ``whole`` that were sampled: by default
        they."""
        return rows

    def begin(self, model: Model, recipe: Recipe, generator: np.random.Generator) -> None:
        """Make ready for a training of ``model`` by ``recipe``. All that an objective draws follows from ``generator``.
        Raises XlscaleError for a recipe that does not fit the model."""
        self.recipe = recipe

    def parameters(self) -> list[nn.Parameter]:
        """What trains besides encoder and head, after ``begin``: by default nothing. It is thrown away."""
        return []

    def divisible(self, task: Task) -> Divisible:
        """Whether the loss of a batch follows from its parts: by default not."""
        return "whole"

    def shared(self, task: Task) -> bool:
        """Whether several ranks can compute it together: it follows from its parts, and nothing is drawn for them."""
        return False

    def generators(self) -> list[torch.Generator] | None:
        """What it draws from while it trains, after ``begin``; None where that is not all that changes, and a training
        which was ended has to begin anew."""
        return None

    @abstractmethod
    def loss(self, model: Model, batch: Batch) -> torch.Tensor:
        """The loss of a batch, a float32 scalar with a gradient to what trains, in nats where it is a likelihood."""

    def measured(
        self, start: Callable[[], Model], model: Model, encoded: Encoded, recipe: Recipe
    ) -> dict[str, np.ndarray]:
        """Numbers of every evaluated row, float (rows,), that are recorded beside the task's scores as means over the
        rows of a language; by default none.

        ``model`` was trained by ``recipe``; ``start`` gives it as it was before, and ``encoded`` are the inputs.
        """
        return {}

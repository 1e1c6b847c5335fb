"""Plain fine-tuning: the task's own loss on the task's own labels."""

from __future__ import annotations

import torch

from xlscale.data.batches import Batch
from xlscale.tasks.base import Divisible, Task
from xlscale.training.model import Model
from xlscale.training.objectives.base import Objective


class Supervised(Objective):
    """The loss of the task, see its family's ``loss``."""

    def divisible(self, task: Task) -> Divisible:
        """As the task says; vectors are those of plain inputs alone."""
        plain = type(self).loss is Supervised.loss
        return task.divisible if plain or task.divisible == "mean" else "whole"

    def shared(self, task: Task) -> bool:
        """Of plain inputs, as far as the task can be divided."""
        return type(self).loss is Supervised.loss and self.divisible(task) != "whole"

    def generators(self) -> list[torch.Generator] | None:
        """None, where the loss is not the plain one and does not say so."""
        return [] if type(self).loss is Supervised.loss else None

    def loss(self, model: Model, batch: Batch) -> torch.Tensor:
        """The task's loss of a batch, float32 ()."""
        return model.task.loss(model.outputs(batch), batch)

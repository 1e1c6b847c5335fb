"""What a training and an evaluation work on: an encoder with the head of a task, on a backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from xlscale.data.batches import Batch, Encoded, collate
from xlscale.tasks.base import Task
from xlscale.training.backends.base import Backend


@dataclass
class Model:
    """``head`` and ``task`` are None where an encoder is used without a task."""

    encoder: nn.Module
    backend: Backend
    task: Task | None = None
    head: nn.Module | None = None

    def batch(self, encoded: Encoded, index: np.ndarray) -> Batch:
        """The inputs ``index`` as a batch on the backend's device."""
        return collate(encoded, index, self.encoder.config.pad_token_id).to(self.backend.device)

    def hidden_states(self, batch: Batch, layer: int | None = None) -> torch.Tensor:
        """The encoder's last hidden states, or those of a layer: float32 (batch, tokens, width)."""
        return self.backend.hidden_states(self.encoder, batch, layer)

    def outputs(self, batch: Batch) -> torch.Tensor:
        """What the task's head makes of a batch; its shape is the task family's, see its ``outputs``."""
        task, head = self.task, self.head
        return self.backend.within(
            lambda: task.batch_outputs(head, self.hidden_states(batch), self._read(batch), batch)
        )

    def _read(self, batch: Batch) -> torch.Tensor:
        """Bool (batch, tokens): the tokens that stand for the text. Of a causal model, the one that begins every input
        is none of them: it has seen nothing of the text."""
        if not self.task.causal or self.encoder.config.bos_token_id is None:
            return batch.mask
        read = batch.mask.clone()
        read[:, 0] = False
        return read

"""Healing a cut model: train it to give what the whole one gives, on unlabelled text of many languages.

The student is a rung, the teacher the model it was cut from (Hinton et al. 2015, arXiv:1503.02531, without temperature,
as there are no classes; on hidden states as in Jiao et al. 2020, TinyBERT, arXiv:1909.10351, section 3.1). Both losses
are shares of the teacher's variance, so that 1 is what a constant would reach and rungs can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from xlscale import evaluation
from xlscale.batches import Batch, Encoded
from xlscale.tasks.common import mean_pool


@dataclass
class Teacher:
    """What the whole model gives for a set of inputs.

    ``hidden`` float16 (tokens, width), last hidden states of all inputs one after another, input i at
    ``offsets[i]:offsets[i + 1]``; ``spread`` the mean squared distance of a hidden state from the mean of all;
    ``pooled_spread`` the same of the mean-pooled states of an input.
    """

    hidden: np.ndarray
    offsets: np.ndarray
    spread: float
    pooled_spread: float

    def of(self, batch: Batch) -> torch.Tensor:
        """Float32 (batch, tokens, width): the hidden states for the inputs of a batch, 0 where it is padded."""
        found = torch.zeros(*batch.mask.shape, self.hidden.shape[1])
        places = np.concatenate([np.arange(*self.offsets[[i, i + 1]]) for i in batch.index])
        found[batch.mask] = torch.from_numpy(self.hidden[places]).float()
        return found


class _Hidden:
    """A task whose output are the hidden states themselves."""

    def outputs(self, head: nn.Module | None, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return hidden


def teach(encoder: nn.Module, encoded: Encoded, dtype: torch.dtype) -> Teacher:
    """Run the whole model over all inputs."""
    outputs = evaluation.run(encoder, None, _Hidden(), encoded, dtype)
    pooled = np.stack([values.mean(0) for values in outputs])
    hidden = np.concatenate([values.astype(np.float16) for values in outputs])
    return Teacher(hidden, encoded.offsets, _spread(hidden.astype(np.float32)), _spread(pooled))


def _spread(values: np.ndarray) -> float:
    return float(((values - values.mean(0)) ** 2).sum(1).mean())


class Distillation(_Hidden):
    """A task for ``training.finetune``: no head, no labels, the teacher's hidden states instead."""

    def __init__(self, teacher: Teacher, weight: float = 0.0, temperature: float = 0.02):
        self.teacher, self.weight, self.temperature = teacher, weight, temperature

    def loss(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Share of the teacher's variance that is missed, of the mean-pooled states plus of the single ones."""
        wanted = self.teacher.of(batch)
        single = (hidden - wanted)[batch.mask].square().sum(-1).mean() / self.teacher.spread
        mine, theirs = mean_pool(hidden, batch.mask), mean_pool(wanted, batch.mask)
        pooled = (mine - theirs).square().sum(-1).mean() / self.teacher.pooled_spread
        if not self.weight:
            return single + pooled
        mine, theirs = nn.functional.normalize(mine, dim=-1), nn.functional.normalize(theirs, dim=-1)
        found = nn.functional.log_softmax(mine @ theirs.T / self.temperature, dim=-1)
        alike = nn.functional.kl_div(found, (theirs @ theirs.T / self.temperature).softmax(-1), reduction="batchmean")
        return single + pooled + self.weight * alike

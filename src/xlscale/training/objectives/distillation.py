"""Distillation: train a cut model to give what the whole one gives, on unlabelled text of many languages.

The student is a rung, the teacher the model it was cut from (Hinton et al. 2015, arXiv:1503.02531, without temperature,
as there are no classes; on hidden states as in Jiao et al. 2020, TinyBERT, arXiv:1909.10351, section 3.1; on
similarities between the inputs of a batch as in Fang et al. 2021, SEED, arXiv:2101.04731). How a ladder is healed with
it: ``training.healing``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from xlscale.data.batches import Batch, Encoded
from xlscale.tasks.base import mean_pool
from xlscale.training import evaluate
from xlscale.training.model import Model
from xlscale.training.objectives.base import Objective

TEMPERATURE = 0.02  # the teacher's cosines of unlike texts differ by some hundredths


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
        index = np.concatenate([np.arange(*self.offsets[[i, i + 1]]) for i in batch.index])
        found[batch.mask.cpu()] = torch.from_numpy(self.hidden[index]).float()
        return found.to(batch.mask.device)

    def pooled(self) -> np.ndarray:
        """Float32 (inputs, width): the mean of each input's hidden states."""
        parts = np.split(self.hidden, self.offsets[1:-1])
        return np.stack([part.mean(0, dtype=np.float32) for part in parts])


class HiddenStates(Model):
    """A model without a head: its outputs are the hidden states, float32 (batch, tokens, width)."""

    def outputs(self, batch: Batch) -> torch.Tensor:
        """The hidden states themselves."""
        return self.hidden_states(batch)


def teach(model: HiddenStates, encoded: Encoded) -> Teacher:
    """Run the whole model over all inputs."""
    outputs = evaluate.run(model, encoded)
    pooled = np.stack([values.mean(0) for values in outputs])
    hidden = np.concatenate([values.astype(np.float16) for values in outputs])
    return Teacher(hidden, encoded.offsets, _spread(hidden.astype(np.float32)), _spread(pooled))


def _spread(values: np.ndarray) -> float:
    return float(((values - values.mean(0)) ** 2).sum(1).mean())


class Distillation(Objective):
    """No labels: the hidden states of a teacher instead, for the very inputs that are trained on."""

    def __init__(self, teacher: Teacher):
        self.teacher = teacher

    def loss(self, model: Model, batch: Batch) -> torch.Tensor:
        """How far the student is from the teacher: in single states, in pooled ones, and in which inputs are alike.

        The first two are fractions of the teacher's variance that are unexplained. The third is the divergence (nats)
        of the student's choice of the nearest input in the batch, among the teacher's vectors, from the teacher's own,
        both by a softmax of cosines over TEMPERATURE; without it retrieval gains less, as what tells inputs apart is a
        small part of the variance.
        """
        hidden, wanted = model.hidden_states(batch), self.teacher.of(batch)
        single = (hidden - wanted)[batch.mask].square().sum(-1).mean() / self.teacher.spread
        mine, theirs = mean_pool(hidden, batch.mask), mean_pool(wanted, batch.mask)
        pooled = (mine - theirs).square().sum(-1).mean() / self.teacher.pooled_spread
        mine, theirs = (nn.functional.normalize(vectors, dim=-1) for vectors in (mine, theirs))
        chosen = (mine @ theirs.T / TEMPERATURE).log_softmax(-1)
        target = (theirs @ theirs.T / TEMPERATURE).log_softmax(-1)
        alike = nn.functional.kl_div(chosen, target, reduction="batchmean", log_target=True)
        return single + pooled + alike


def pooled(model: HiddenStates, encoded: Encoded) -> np.ndarray:
    """Float32 (inputs, width): the mean of each input's hidden states, of any encoder."""
    return np.stack([states.mean(0) for states in evaluate.run(model, encoded)])


def variance_unexplained(mine: np.ndarray, theirs: np.ndarray, spread: float) -> np.ndarray:
    """Float64 (inputs,): the squared distance of pooled vectors from the teacher's as a fraction of the teacher's
    variance ``spread``; 1 is what a constant would reach on average."""
    return np.square(mine - theirs, dtype=np.float64).sum(1) / spread


def neighbour_agreement(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Bool (inputs,): is the nearest other input, by cosine, the same for both? Blind to scale, unlike
    ``variance_unexplained``."""
    nearest = []
    for vectors in (mine, theirs):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        alike = unit @ unit.T
        np.fill_diagonal(alike, -np.inf)
        nearest.append(alike.argmax(1))
    return nearest[0] == nearest[1]

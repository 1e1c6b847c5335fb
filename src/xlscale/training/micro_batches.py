"""A batch in parts that fit a device: the gradient of the loss of the whole batch, whatever the parts.

A mean over a batch is the mean of its parts' means, weighted by what each is over (``Task.count``). Where inputs of a
batch are compared with each other there is no such mean: their vectors are computed without gradients first, the loss
gives the gradient of each vector, and every part is computed once more to pass its own on (Gao et al. 2021,
arXiv:2101.06983).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from xlscale.data.batches import Batch, Encoded
from xlscale.training.backends.precision import MasterWeights
from xlscale.training.model import Model
from xlscale.training.objectives.base import Objective


def gradients(
    objective: Objective, model: Model, weights: MasterWeights, encoded: Encoded, index: np.ndarray
) -> tuple[float, list[Batch]]:
    """Add to the gradients of all that trains those of the loss of the inputs ``index``, of parameters that are rounded
    to their masters'; gives the loss, and what was read."""
    tokens = model.backend.tokens
    how = "whole" if tokens is None else objective.divisible(model.task)
    parts = [index] if how == "whole" else _parts(encoded, index, tokens)
    batches = [model.batch(encoded, part) for part in parts]
    if len(batches) > 1 and how == "vectors":
        return _of_vectors(model, weights, batches), batches
    counts = [1] if len(batches) == 1 else [model.task.count(batch) for batch in batches]
    value = 0.0
    for batch, count in zip(batches, counts, strict=True):
        if count:  # a mean over nothing is no number
            loss = objective.loss(model, batch)
            loss = loss if len(batches) == 1 else loss * (count / sum(counts))
            value += loss.item()
            loss.backward()
            weights.grads_to_masters()
    return value, batches


def _of_vectors(model: Model, weights: MasterWeights, batches: list[Batch]) -> float:
    with torch.no_grad():
        vectors = [model.outputs(batch) for batch in batches]
    joined = torch.cat(vectors).requires_grad_()
    targets = {name: torch.cat([batch.targets[name] for batch in batches]) for name in batches[0].targets}
    index = np.concatenate([batch.index for batch in batches])
    loss = model.task.loss(joined, Batch(joined, joined, index, targets))
    (gradient,) = torch.autograd.grad(loss, joined)
    for batch, own in zip(batches, gradient.split([*map(len, vectors)]), strict=True):
        model.outputs(batch).backward(own)
        weights.grads_to_masters()
    return loss.item()


def _parts(encoded: Encoded, index: np.ndarray, tokens: int | None) -> list[np.ndarray]:
    """``index`` cut where a part would pass ``tokens`` tokens, padding included; the inputs of a row stay together."""
    if tokens is None:
        return [index]
    cuts, begin, longest = [], 0, 0
    rows = encoded.row[index]
    borders = np.flatnonzero(np.diff(rows, prepend=rows[0] - 1, append=rows[-1] - 1)).tolist()
    for first, last in pairwise(borders):
        own = encoded.lengths[index[first:last]].max()
        if first > begin and max(longest, own) * (last - begin) > tokens:
            cuts.append(begin := first)
            longest = 0
        longest = max(longest, own)
    return np.split(index, cuts)

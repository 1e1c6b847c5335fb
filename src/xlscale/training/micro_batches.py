"""A batch in parts that fit a device, one of them or several: the gradient of the loss of the whole batch, whatever
the parts.

A mean over a batch is the mean of its parts' means, weighted by what each is over (``Task.count``). Where inputs of a
batch are compared with each other there is no such mean: their vectors are computed without gradients first, the loss
gives the gradient of each vector, and every part is computed once more to pass its own on (Gao et al. 2021,
arXiv:2101.06983). Of several ranks each reads its share of the rows, in as many parts as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from xlscale.data.batches import Batch, Encoded
from xlscale.training.backends.base import Backend
from xlscale.training.backends.precision import MasterWeights
from xlscale.training.model import Model
from xlscale.training.objectives.base import Objective


def gradients(
    objective: Objective, model: Model, weights: MasterWeights, encoded: Encoded, index: np.ndarray
) -> tuple[float, list[Batch]]:
    """Add to the gradients of all that trains those of the loss of the inputs ``index``, of parameters that are rounded
    to their masters'; gives the loss, and what was read, by this rank."""
    backend = model.backend
    divided = backend.tokens is not None or backend.ranks > 1
    how = objective.divisible(model.task) if divided else "whole"
    parts = [np.arange(len(index))] if how == "whole" else _parts(encoded, index, backend)
    idle = [*map(len, parts)].count(0)
    batches = [model.batch(encoded, index[part]) for part in parts[: len(parts) - idle]]
    first = index[encoded.row[index] == encoded.row[index[0]]]
    others = [model.batch(encoded, first) for _ in range(idle)]  # computed with the other ranks', and of no weight
    if len(parts) * backend.ranks > 1 and how == "vectors":
        return _of_vectors(model, weights, encoded, index, parts, [*batches, *others]), batches
    alone = len(parts) * backend.ranks == 1
    counts = [1] if alone else [model.task.count(batch) for batch in batches]
    (total,) = backend.summed(sum(counts))
    value = 0.0
    for batch, count in zip([*batches, *others], [*counts, *[0] * idle], strict=True):
        if count:  # a mean over nothing is no number
            loss = objective.loss(model, batch)
            loss = loss if alone else loss * (count / total)
            value += loss.item()
            loss.backward()
        elif backend.ranks > 1:
            outputs = model.outputs(batch)
            outputs.backward(torch.zeros_like(outputs))
        weights.grads_to_masters()
    return *backend.summed(value), batches


def _of_vectors(
    model: Model,
    weights: MasterWeights,
    encoded: Encoded,
    index: np.ndarray,
    parts: list[np.ndarray],
    batches: list[Batch],
) -> float:
    """The same where inputs are compared: of the ``parts`` of ``index``, with their ``batches``, idle ones last."""
    device = model.backend.device
    with torch.no_grad():
        vectors = [model.outputs(batch) for batch in batches]
    joined = vectors[0].new_zeros(len(index), vectors[0].shape[1])
    for part, own in zip(parts, vectors, strict=True):
        if len(part):
            joined[torch.from_numpy(part).to(device)] = own
    joined = model.backend.put_together(joined).requires_grad_()
    targets = {name: torch.from_numpy(values[index]).to(device) for name, values in encoded.targets.items()}
    loss = model.task.loss(joined, Batch(joined, joined, index, targets))
    (gradient,) = torch.autograd.grad(loss, joined)
    for part, batch in zip(parts, batches, strict=True):
        outputs = model.outputs(batch)
        own = gradient[torch.from_numpy(part).to(device)] if len(part) else torch.zeros_like(outputs)
        outputs.backward(own)
        weights.grads_to_masters()
    return loss.item()


def _parts(encoded: Encoded, index: np.ndarray, backend: Backend) -> list[np.ndarray]:
    """Where in ``index`` the parts of this rank are, int64 arrays; empty ones last, where another has more. The inputs
    of a row stay together."""
    rows = encoded.row[index]
    borders = np.flatnonzero(np.diff(rows, prepend=rows[0] - 1, append=rows[-1] - 1)).tolist()
    members = [np.arange(first, last) for first, last in pairwise(borders)]
    lengths = encoded.lengths[index]
    shares = [_packed(members[rank :: backend.ranks], lengths, backend.tokens) for rank in range(backend.ranks)]
    own, most = shares[backend.rank], max(map(len, shares))
    return [*own, *[np.empty(0, np.int64)] * (most - len(own))]


def _packed(rows: Sequence[np.ndarray], lengths: np.ndarray, tokens: int | None) -> list[np.ndarray]:
    """Rows put together, in their order, as long as they do not pass ``tokens`` tokens, padding included."""
    parts: list[list[np.ndarray]] = []
    longest = inputs = 0
    for row in rows:
        own = lengths[row].max()
        if not parts or (tokens is not None and max(longest, own) * (inputs + len(row)) > tokens):
            parts.append([])
            longest = inputs = 0
        parts[-1].append(row)
        longest, inputs = max(longest, own), inputs + len(row)
    return [np.concatenate(part) for part in parts]

"""The training loop, the same for intermediate and target training and for every objective, method and backend.

AdamW (Loshchilov and Hutter 2019), linear warm-up and linear decay, gradient norm clipped, no dropout; the numbers are
the recipe's (``experiment.recipe``). Weights, the gradients they are updated with and optimizer state are float32; the
encoder runs in the backend's precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from xlscale.core import ranks, registry
from xlscale.core.files import XlscaleError
from xlscale.core.progress import bar
from xlscale.data.batches import Batch, Encoded
from xlscale.experiment.recipe import Recipe
from xlscale.training import micro_batches
from xlscale.training.model import Model
from xlscale.training.objectives.base import Objective
from xlscale.training.order import batches
from xlscale.training.resume import Keeper

DIVERGED = 20.0  # a mean loss above this is no longer learning: about ln(5e8), far above any chance level here


class Diverged(Exception):
    """The loss is not finite or has exploded. The runner records the cell as failed, with this as the reason."""


@dataclass
class TrainingLog:
    """What a training left: mean loss per step, tokens without and with padding, sum of squared input lengths."""

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    padded_tokens: int = 0
    squared: int = 0

    def add(self, loss: float, *batches: Batch) -> None:
        """Count one step, whose loss was of ``batches``."""
        self.losses.append(loss)
        for batch in batches:
            lengths = batch.mask.sum(1)
            self.tokens += int(lengths.sum())
            self.padded_tokens += batch.mask.numel()
            self.squared += int(lengths.square().sum())

    @staticmethod
    def merged(logs: Sequence[TrainingLog]) -> TrainingLog | None:
        """The logs of trainings that came one after another, as one; None where there is none."""
        if not logs:
            return None
        sums = {name: sum(getattr(log, name) for log in logs) for name in ("tokens", "padded_tokens", "squared")}
        return TrainingLog([loss for log in logs for loss in log.losses], **sums)

    @property
    def mean_length(self) -> float:
        """Tokens that a token attends to, on average: what the cost of attention per token is proportional to."""
        return self.squared / self.tokens if self.tokens else 0.0


def sample(encoded_rows: int, examples: int, generator: np.random.Generator) -> np.ndarray:
    """Indices of ``examples`` of ``encoded_rows`` rows without repetition, all of them if there are fewer."""
    return np.sort(generator.permutation(encoded_rows)[:examples])


def to_budget(encoded: Encoded, tokens: int | None, generator: np.random.Generator) -> Encoded:
    """The inputs of rows sampled without repetition until the next would pass ``tokens`` tokens; all if that is None.

    The token-matched arm: sets with short texts take more rows, and so more steps, than sets with long ones. Raises
    XlscaleError when there are fewer tokens: then an epoch would be shorter than that of the sets it is compared with.
    """
    if tokens is None:
        return encoded
    order = generator.permutation(np.unique(encoded.row))
    total = np.cumsum(np.bincount(encoded.row, weights=encoded.lengths)[order])
    if total[-1] < tokens:
        raise XlscaleError(
            f"tokens: expected at most {int(total[-1])}, which the {len(order)} examples hold, got {tokens}"
        )
    return encoded.of_rows(np.sort(order[: max(1, np.searchsorted(total, tokens, side="right"))]))


def schedule(step: int, steps: int, warmup: float | int) -> float:
    """Factor on the learning rate at ``step`` of ``steps``: up linearly, then down linearly towards 0.

    ``warmup``: a share of the steps (float), or a number of steps (int); the rise takes one step at least.
    """
    rise = max(1, warmup if isinstance(warmup, int) else round(warmup * steps))
    return (step + 1) / rise if step < rise else (steps - step) / max(1, steps - rise)


def finetune(
    model: Model,
    encoded: Encoded,
    recipe: Recipe,
    generator: np.random.Generator,
    objective: Objective | None = None,
    keeper: Keeper | None = None,
) -> TrainingLog:
    """Train ``model`` in place on ``encoded`` by ``recipe``, in the order that ``generator`` draws.

    ``objective`` is the recipe's unless one is handed in that had to be made first; what it draws comes from
    ``generator`` after the order, which is so the same for every objective. The encoder stays in evaluation
    mode: BERT's only stochastic part is dropout, whose random numbers would come from a global state. With a ``keeper``
    it goes on from the state that was left of it, if any, and leaves some. Raises Diverged
    when the loss is not finite or exceeds DIVERGED by its weight, XlscaleError for a warm-up that does not end before
    the training, and where there is nothing to train on, since no input holds its row's answer.
    """
    log, order = TrainingLog(), batches(encoded, recipe, generator)
    if not order:
        raise XlscaleError("examples, max_length: expected an input at least that holds its answer, got none")
    if recipe.warmup_steps is not None and recipe.warmup_steps >= len(order):
        raise XlscaleError(
            f"warmup_steps: expected fewer than the {len(order)} of this training, got {recipe.warmup_steps}"
        )
    objective = objective or registry.get("objective", recipe.objective)()
    objective.begin(model, recipe, generator)
    warmup = recipe.warmup if recipe.warmup_steps is None else recipe.warmup_steps
    drawing = objective.generators()
    keeper = None if drawing is None else keeper
    with model.backend.working(model.encoder) as weights, keeper.listening() if keeper else nullcontext():
        parameters = [*weights.parameters, *(model.head.parameters() if model.head is not None else ())]
        parameters += objective.parameters()
        optimizer = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        done = 0
        if keeper:
            done, known = keeper.restore(_named(model, objective, parameters), optimizer, drawing)
            log = TrainingLog(**known)
            weights.masters_to_model()
            optimizer.param_groups[0]["initial_lr"] = recipe.learning_rate  # which a scheduler expects in the middle
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule(step, len(order), warmup), last_epoch=done - 1
        )
        for step, index in enumerate(bar(order, desc="training", unit="step")):
            if step < done:
                continue
            value, read = micro_batches.gradients(objective, model, weights, encoded, index)
            if not math.isfinite(value) or value > DIVERGED * objective.weight:
                raise Diverged(f"loss {value:.4g} at step {step + 1} of {len(order)}")
            model.backend.sum_gradients(parameters)
            clip(parameters, recipe.clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            weights.masters_to_model()
            log.add(value, *read, *([] if objective.beside is None else [objective.beside]))
            if keeper:
                keeper.after(step + 1, len(order), log)
    log.tokens, log.padded_tokens, log.squared = map(
        int, model.backend.summed(log.tokens, log.padded_tokens, log.squared)
    )
    return log


def _named(model: Model, objective: Objective, parameters: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What trains, by names that do not depend on where it is."""
    names = [f"encoder.{name}" for name, one in model.encoder.named_parameters() if one.requires_grad]
    names += [f"head.{name}" for name, _ in model.head.named_parameters()] if model.head is not None else []
    names += [f"objective.{number}" for number in range(len(objective.parameters()))]
    return dict(zip(names, parameters, strict=True))


def clip(parameters: list[torch.Tensor], most: float) -> None:
    """Scale all gradients so that their joint norm is at most ``most``; a smaller norm costs no pass over them."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = ranks.whole(nn.utils.get_total_norm(gradients))
    if norm > most:
        nn.utils.clip_grads_with_norm_(parameters, most, norm)

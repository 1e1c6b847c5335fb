"""Fine-tuning of an encoder and a head: one recipe for intermediate and for target training.

AdamW (Loshchilov and Hutter 2019) without weight decay, linear warm-up over a tenth of the steps and linear decay,
gradient norm clipped at 1, no dropout. Word embeddings stay frozen. Weights, the gradients they are updated with and
optimizer state are float32; the encoder runs in the given precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from xlscale.core.files import XlscaleError
from xlscale.data.batches import Batch, Encoded, collate, training_order
from xlscale.training.backends.cpu import MasterWeights, hidden_states

WARMUP = 0.1  # share of the steps
CLIP = 1.0  # greatest gradient norm
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

    def add(self, loss: float, batch: Batch) -> None:
        """Count one step."""
        lengths = batch.mask.sum(1)
        self.losses.append(loss)
        self.tokens += int(lengths.sum())
        self.padded_tokens += batch.mask.numel()
        self.squared += int(lengths.square().sum())

    @property
    def mean_length(self) -> float:
        """Tokens that a token attends to, on average: what the cost of attention per token is proportional to."""
        return self.squared / self.tokens if self.tokens else 0.0


def sample(encoded_rows: int, examples: int, generator: np.random.Generator) -> np.ndarray:
    """Indices of ``examples`` of ``encoded_rows`` rows without repetition, all of them if there are fewer."""
    return np.sort(generator.permutation(encoded_rows)[:examples])


def up_to(encoded: Encoded, tokens: int | None, generator: np.random.Generator) -> Encoded:
    """The inputs of rows drawn without repetition until the next would pass ``tokens`` tokens; all if that is None.

    The token-matched arm: sets with short texts take more rows, and so more steps, than sets with long ones. Raises
    XlscaleError when there are fewer tokens: then an epoch would be shorter than that of the sets it is compared with.
    """
    if tokens is None:
        return encoded
    order = generator.permutation(np.unique(encoded.row))
    held = np.cumsum(np.bincount(encoded.row, weights=encoded.lengths)[order])
    if held[-1] < tokens:
        raise XlscaleError(
            f"intermediate_tokens: expected at most {int(held[-1])}, which the {len(order)} examples hold, got {tokens}"
        )
    return encoded.of_rows(np.sort(order[: max(1, np.searchsorted(held, tokens, side="right"))]))


def schedule(step: int, steps: int) -> float:
    """Factor on the learning rate at ``step`` of ``steps``: up linearly over WARMUP, then down linearly towards 0."""
    warm = max(1, round(WARMUP * steps))
    return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm)


def finetune(
    encoder: nn.Module,
    head: nn.Module,
    task,
    encoded: Encoded,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    dtype: torch.dtype,
    generator: np.random.Generator,
) -> TrainingLog:
    """Train ``encoder`` and ``head`` in place on ``encoded``. ``batch_size`` counts rows, whose inputs stay together.

    The encoder stays in evaluation mode: BERT's only stochastic part is dropout, whose random numbers would come from
    a global state. Raises Diverged when the loss is not finite or exceeds DIVERGED.
    """
    log = TrainingLog()
    batches = [
        batch
        for _ in range(epochs)
        for batch in training_order(encoded.lengths, batch_size, generator, row=encoded.row)
    ]
    with MasterWeights(encoder, dtype) as weights:
        parameters = [*weights.parameters, *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, len(batches)))
        for step, index in enumerate(tqdm(batches, desc="training", unit="step", mininterval=5, disable=None)):
            batch = collate(encoded, index, encoder.config.pad_token_id)
            loss = task.loss(task.outputs(head, hidden_states(encoder, batch), batch.mask), batch)
            value = loss.item()
            if not math.isfinite(value) or value > DIVERGED:
                raise Diverged(f"loss {value:.4g} at step {step + 1} of {len(batches)}")
            loss.backward()
            weights.take_gradients()
            clip(parameters)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            weights.give_values()
            log.add(value, batch)
    return log


def clip(parameters: list[torch.Tensor]) -> None:
    """Scale all gradients so that their joint norm is at most CLIP; a smaller norm costs no pass over them."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if norm > CLIP:
        nn.utils.clip_grads_with_norm_(parameters, CLIP, norm)

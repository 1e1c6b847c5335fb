"""The contract of a backend: where and in which precision an encoder computes.

One module per backend; names are in ``core.registry``. A backend is placement: it is recorded with a result and is no
part of a cell's identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from xlscale.core import machine
from xlscale.data.batches import Batch
from xlscale.training.backends.precision import MasterWeights
from xlscale.training.backends.recompute import recompute

Precision = Literal["auto", "bf16", "float32"]


class Backend(ABC):
    """A device and a working precision.

    ``dtype``: the type of matrix products; weights that train and their updates are float32. ``evaluated``: tokens of a
    batch when nothing is trained; ``tokens``: of a micro-batch when something is, None for whole batches; ``again``:
    the layers are computed again in a backward pass, which keeps what they read alone. ``rank`` of ``ranks``: which of
    how many processes this is that work on the same batches.
    """

    rank, ranks = 0, 1
    untracked: Callable = torch.inference_mode  # a context in which nothing is kept for gradients

    device: torch.device
    evaluated: int

    def __init__(self, precision: Precision = "auto", tokens: int | None = None, again: bool = False):
        """``auto``: bfloat16 where the device multiplies it natively, else float32."""
        self.dtype = machine.precision(precision, self.device)
        self.tokens, self.again = tokens, again

    @abstractmethod
    def place(self, encoder: nn.Module, frozen: bool) -> nn.Module:
        """``encoder`` on the device, ready for ``working``. ``frozen``: its own weights will not be trained, and need
        not stay float32."""

    @contextmanager
    def working(self, encoder: nn.Module) -> Iterator[MasterWeights]:
        """A context in which ``encoder`` computes in the working precision; after it, it is as before."""
        with self.masters(encoder) as weights:
            if not self.again:
                yield weights
                return
            recompute(encoder, True)
            try:
                yield weights
            finally:
                recompute(encoder, False)

    def hidden_states(self, encoder: nn.Module, batch: Batch, layer: int | None = None) -> torch.Tensor:
        """The encoder's last hidden states for a batch, or what comes out of ``layer`` (0: what goes into the first):
        float32 (batch, tokens, width)."""
        mask = None if batch.mask.all() else batch.mask  # nothing is padded in most batches
        if layer is None:
            return encoder(input_ids=batch.ids, attention_mask=mask).last_hidden_state.float()
        found = encoder(input_ids=batch.ids, attention_mask=mask, output_hidden_states=True)
        return found.hidden_states[layer].float()

    def masters(self, encoder: nn.Module) -> MasterWeights:
        """What computes and what is updated."""
        return MasterWeights(encoder, self.dtype)

    def join(self, encoder: nn.Module, head: nn.Module | None) -> None:  # noqa: B027
        """Have several ranks share both, which are ready to be trained or evaluated. Before any optimizer is made."""

    def within(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Run a forward pass of encoder and head; gives what it gives."""
        return work()

    def summed(self, *numbers: float) -> list[float]:
        """Each number's sum over all ranks."""
        return [*numbers]

    def put_together(self, parts: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks of tensors of one shape."""
        return parts

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:  # noqa: B027
        """Sum the gradients over all ranks, where that has not been done."""

    def gathered(self, found: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """What every rank found, on the first of them, without what pads it: ``shapes`` of the first axes."""
        return [found]

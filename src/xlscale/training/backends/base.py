"""The contract of a backend: where and in which precision an encoder computes.

One module per backend; names are in ``core.registry``. A backend is placement: it is recorded with a result and is no
part of a cell's identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
from torch import nn

from xlscale.data.batches import Batch

Precision = Literal["auto", "bf16", "float32"]


class Weights(Protocol):
    """The weights of an encoder while it computes in its working precision."""

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Float32 tensors to update, in the order of the encoder's parameters."""

    def grads_to_masters(self) -> None:
        """After a backward pass: gradients go where the optimizer looks for them, in float32."""

    def masters_to_model(self) -> None:
        """After an optimizer step: what the encoder computes with follows from what was updated."""


class Backend(ABC):
    """A device and a working precision. ``dtype``: that of matrix products; weights and updates are float32."""

    dtype: torch.dtype

    @abstractmethod
    def __init__(self, precision: Precision = "auto"):
        """``auto``: bfloat16 where the device has it, else float32."""

    @abstractmethod
    def working(self, encoder: nn.Module) -> AbstractContextManager[Weights]:
        """A context in which ``encoder`` computes in the working precision; after it, it is float32 as before."""

    @abstractmethod
    def hidden_states(self, encoder: nn.Module, batch: Batch, layer: int | None = None) -> torch.Tensor:
        """The encoder's last hidden states for a batch, or what comes out of ``layer`` (0: what goes into the first):
        float32 (batch, tokens, width)."""

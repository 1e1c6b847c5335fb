"""Working precision: float32 master weights, and while a model runs a copy of them in the type of its matrix products.

Mixed precision with master weights, Micikevicius et al. 2018 (arXiv:1710.03740), section 3.1. Against autocast, the
weights are converted once per step instead of in every call, and what lies between the matrix products is half as
large. Updates go to the masters: in bfloat16 weights the small ones would be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import torch
from torch import nn

from xlscale.batches import Batch


class MasterWeights:
    """Inside the ``with`` block ``parameters`` are of type ``dtype``; ``masters`` holds their float32 values.

    After the block the parameters are float32 again, with the values of the masters. Where ``dtype`` is float32 the
    masters are the parameters themselves.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], dtype: torch.dtype):
        self.parameters = list(parameters)
        self.dtype = dtype
        self.masters: list[torch.Tensor] = self.parameters

    def __enter__(self) -> Self:
        if self.dtype != torch.float32:
            self.masters = [parameter.data for parameter in self.parameters]
            for parameter in self.parameters:
                parameter.data = parameter.data.to(self.dtype)
        return self

    def take_gradients(self) -> None:
        """Move the parameters' gradients to the masters, in float32."""
        if self.masters is self.parameters:
            return
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad, parameter.grad = None if parameter.grad is None else parameter.grad.float(), None

    def give_values(self) -> None:
        """Round the masters' values into the parameters."""
        if self.masters is not self.parameters:
            torch._foreach_copy_([parameter.data for parameter in self.parameters], self.masters)

    def __exit__(self, *_: object) -> None:
        if self.masters is self.parameters:
            return
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            parameter.data, parameter.grad = master, None
        self.masters = self.parameters


def hidden_states(encoder: nn.Module, batch: Batch) -> torch.Tensor:
    """The encoder's last hidden states for a batch: float32 (batch, tokens, width).

    The word embeddings stay float32 and are gathered once, here; the encoder runs in the type of its other parameters.
    """
    embedded = encoder.get_input_embeddings()(batch.ids).to(encoder.encoder.layer[0].output.dense.weight.dtype)
    mask = None if batch.mask.all() else batch.mask  # nothing is padded in most batches
    return encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state.float()

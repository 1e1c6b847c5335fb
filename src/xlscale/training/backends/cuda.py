"""One NVIDIA GPU.

Attention is torch's fused one, and only kernels are used that give the same each time. What does not train is kept in
the working type, where that changes nothing that the processor would compute: the matrices of linear layers, which are
rounded before they are multiplied there too, and word embeddings that were published in it.
"""

from __future__ import annotations

import os

import torch
from torch import nn

from xlscale.core import machine, registry
from xlscale.core.files import XlscaleError
from xlscale.models import ladder
from xlscale.training.backends.base import Backend, Precision


class CUDA(Backend):
    """The first GPU that this process sees."""

    device = torch.device("cuda")
    evaluated = 16_384

    def __init__(self, precision: Precision = "auto", tokens: int | None = None, again: bool = False):
        """As any backend. Raises XlscaleError where torch sees no GPU."""
        if not torch.cuda.is_available():
            raise XlscaleError(
                f"{registry.DEVICE}: expected an NVIDIA GPU that torch {torch.__version__} sees, found none"
            )
        os.environ.update(machine.CUBLAS)
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        super().__init__(precision, tokens, again)

    def place(self, encoder: nn.Module, frozen: bool) -> nn.Module:
        """Move it to the GPU, module by module, so that no second copy is in memory."""
        encoder.set_attn_implementation("sdpa")
        words, kept = encoder.get_input_embeddings(), set()
        if frozen:
            matrices = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
            rounded = [module for name, module in matrices.items() if ladder.ADAPTER not in name]
            # Some classes multiply what they look up, and would round that, too.
            exact = type(words) is nn.Embedding and _is_exact(words.weight, self.dtype)
            for module in [*rounded, *([words] if exact else [])]:
                kept |= {id(parameter) for parameter in module.to(self.device, self.dtype).parameters()}
        for parameter in encoder.parameters():
            if id(parameter) not in kept and parameter.is_floating_point():
                parameter.data = parameter.data.float()
        return encoder.to(self.device)


def _is_exact(weight: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether nothing is lost when ``weight`` (rows, width) is of type ``dtype``; a part of the rows at a time."""
    return all(torch.equal(rows.to(dtype).to(rows.dtype), rows) for rows in weight.split(4096))

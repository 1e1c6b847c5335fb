"""QLoRA: adapters beside matrices that are kept in four bits.

Dettmers et al. 2023 (arXiv:2305.14314), section 3: 4-bit NormalFloat in blocks of 64 weights, whose scales are
quantised too; a matrix is unpacked when it is multiplied, into the type that is computed in. The layers are those of
bitsandbytes. Their adapters and what is written are LoRA's: the four bits follow from the pretrained weights.
"""

from __future__ import annotations

import torch
from torch import nn

from xlscale.cards.schema import ModelCard
from xlscale.core.files import XlscaleError
from xlscale.training.methods.lora import LoRA

BLOCK = 64  # weights that share a scale


class QLoRA(LoRA):
    """The adapters train; the encoder's matrices are in four bits, whether something trains or not."""

    def start(self, card: ModelCard, layers: int, device: torch.device, frozen: bool) -> nn.Module:
        """The rung, each of its matrices quantised on ``device``, where it stays. Raises XlscaleError for a matrix
        whose rows do not end with a block."""
        encoder = super().start(card, layers, device, frozen=True)
        matrices = [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
        for name, matrix in matrices:
            if matrix.in_features % BLOCK:  # bitsandbytes unpacks them with the scales of others, on the processor
                found = f"{matrix.in_features} columns in {name}, no multiple of {BLOCK}"
                raise XlscaleError(f"method: expected full or lora for {card.name} ({found}), got qlora")
            encoder.set_submodule(name, _quantised(matrix, device))
        encoder.is_loaded_in_4bit = True  # which PEFT asks before it puts an adapter beside such a layer
        return encoder.eval()


def _quantised(matrix: nn.Linear, device: torch.device) -> nn.Module:
    from bitsandbytes.nn import Linear4bit, Params4bit  # here: it takes seconds

    packed = Linear4bit(matrix.in_features, matrix.out_features, matrix.bias is not None, device="meta")
    packed.weight = Params4bit(
        matrix.weight.data.to(device), requires_grad=False, blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
    )
    packed.bias = matrix.bias
    packed.compute_type_is_set = True  # to none: that of what is multiplied, and not that of the first
    packed.support_avx512bf16_for_cpu = False  # it would pack the weights again, with rounded scales, when first used
    return packed.to(device)

"""The processor, with as many threads as torch was told to use: what the record of this repository was computed on."""

from __future__ import annotations

import torch
from torch import nn

from xlscale.training.backends.base import Backend


class CPU(Backend):
    """The processor. Weights are float32; word embeddings that were published so stay mapped from the model's file."""

    device = torch.device("cpu")
    evaluated = 1024  # keeps a batch in the processor's cache: four times as many tokens took a seventh longer

    def place(self, encoder: nn.Module, frozen: bool) -> nn.Module:
        """The encoder itself."""
        return encoder.float()

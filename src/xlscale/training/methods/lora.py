"""LoRA: the pretrained weights stay as they are, and the product of two narrow matrices trains beside some of them.

Hu et al. 2021 (arXiv:2106.09685), section 4.1: W x + alpha / rank * B A x, with B zero at the start. The layers are
PEFT's. What a training leaves is the adapters alone; a training that goes on from another goes on with its adapters,
and nothing is merged.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from xlscale.cards.schema import ModelCard
from xlscale.core.files import XlscaleError
from xlscale.experiment.recipe import Recipe
from xlscale.models import ladder
from xlscale.training.methods.base import Method

QUERY_VALUE = {"query", "value", "q_proj", "v_proj"}  # what these matrices are called in the classes of transformers


class LoRA(Method):
    """The adapters train, in float32 as everything that trains; the encoder's own parameters do not."""

    passes = 2.0  # forward, and gradients of what a layer reads; those of the narrow matrices are hardly anything
    frozen = True

    def prepare(self, encoder: nn.Module, recipe: Recipe, generator: torch.Generator) -> None:
        """Add adapters unless the encoder has some, from the training before. Raises XlscaleError where the encoder has
        no matrix of a query's or a value's own."""
        if not ladder.adapters(encoder):
            _add(encoder, recipe)
            for name, parameter in ladder.adapters(encoder).items():
                if ".lora_A." in name:  # by the rule of PEFT, which draws from the global state
                    drawn = torch.empty(parameter.shape)
                    nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
                    parameter.data.copy_(drawn)
        encoder.requires_grad_(False)
        for parameter in ladder.adapters(encoder).values():
            parameter.requires_grad_(True)

    def save(self, encoder: nn.Module, path: Path) -> None:
        """Write the adapters."""
        ladder.save(ladder.adapters(encoder), path)

    def load(self, card: ModelCard, layers: int, device: torch.device, recipe: Recipe, path: Path) -> nn.Module:
        """The pretrained rung with the adapters that ``save`` wrote."""
        encoder = self.start(card, layers, device, frozen=True)
        _add(encoder, recipe)
        ladder.restore(encoder, ladder.adapters(encoder), path)
        return encoder


def _add(encoder: nn.Module, recipe: Recipe) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    names = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    if recipe.adapted == "query_value":
        names = [name for name in names if name.rpartition(".")[2] in QUERY_VALUE]
    if not names:
        raise XlscaleError(f"adapted: expected linear for {type(encoder).__name__}, got {recipe.adapted}")
    with torch.random.fork_rng(devices=[]):  # PEFT draws from the global state what is drawn anew, or read
        config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=names)
        inject_adapter_in_model(config, encoder)
    for parameter in ladder.adapters(encoder).values():  # PEFT makes them of the type of what they stand beside
        parameter.data = parameter.data.float()
    encoder.eval()

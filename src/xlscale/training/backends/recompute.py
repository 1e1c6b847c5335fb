"""Layers that are computed again in a backward pass, instead of being kept: less memory for more time."""

from __future__ import annotations

from torch import nn


def recompute(encoder: nn.Module, on: bool) -> None:
    """Whether a forward pass of ``encoder`` keeps of each layer what it reads alone (Chen et al. 2016,
    arXiv:1604.06174). The library does so in training mode, in which dropout is not off: the layers alone are told that
    they train, and no module in them."""
    if on:
        encoder.activation_checkpointing_enable({"use_reentrant": False})
    else:
        encoder.activation_checkpointing_disable()
    for layer in layers(encoder):
        layer.training = on


def layers(encoder: nn.Module) -> list[nn.Module]:
    """The transformer layers of an encoder."""
    # Here: half of what it takes to import this package's training would be this.
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in encoder.modules() if isinstance(module, GradientCheckpointingLayer)]

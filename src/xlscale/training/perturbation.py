"""Perturbed input embeddings: what training on random noise and training on the worst noise share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


def generator_from(generator: np.random.Generator) -> torch.Generator:
    """A generator of torch's, on the processor, whose seed ``generator`` draws."""
    return torch.Generator().manual_seed(int(generator.integers(2**62)))


@contextmanager
def added(encoder: nn.Module, noise: torch.Tensor) -> Iterator[None]:
    """Inside the block ``noise`` (batch, tokens, width) is added to what the encoder's word embeddings give for a
    batch, before positions are added and anything is normalised."""
    embeddings = encoder.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda _, __, output: output + noise.to(output.dtype))
    try:
        yield
    finally:
        hook.remove()


def normal(encoder: nn.Module, mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard normal numbers for every entry of a batch's word embeddings, (batch, tokens, width), of their type and
    on their device; 0 where ``mask`` bool (batch, tokens) says padding."""
    weight = encoder.get_input_embeddings().weight
    drawn = torch.randn(*mask.shape, weight.shape[1], generator=generator, dtype=weight.dtype)
    return drawn.to(weight.device) * mask.unsqueeze(-1)

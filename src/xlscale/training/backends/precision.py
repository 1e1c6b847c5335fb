"""Working precision: matrix products in bfloat16 from float32 master weights, everything that adds up in float32.

Mixed precision with master weights, Micikevicius et al. 2018 (arXiv:1710.03740), sections 3.1 and 3.3. Against
autocast, the weights are rounded once per step instead of in every call, and what lies between the matrix products is
half as large. Layer norms and embeddings stay float32: with these rounded too, models trained on questions lost up to
nine points at retrieval.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import nn


class MasterWeights:
    """Inside the ``with`` block the linear layers of ``encoder`` are of type ``dtype`` and its layer norms give it.

    ``parameters`` are those that train, in float32: for a linear layer the masters of what it computes with. After the
    block the layers are float32 again, with the values of their masters. Where ``dtype`` is float32 nothing happens.
    """

    def __init__(self, encoder: nn.Module, dtype: torch.dtype, rounded: bool = True):
        """``rounded``: the layers themselves are; else somebody else rounds what they compute with."""
        self.encoder, self.dtype, self.rounds = encoder, dtype, rounded
        self.rounded: list[tuple[nn.Parameter, torch.Tensor]] = []  # what computes, and its master
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        if self.dtype == torch.float32:
            return self
        for module in self.encoder.modules():
            if isinstance(module, nn.Linear):
                floats = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
                self.rounded += [(parameter, parameter.data) for parameter in floats]  # of the rest, each is in 4 bits
            elif isinstance(module, nn.LayerNorm):
                self.hooks.append(module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),)))
                self.hooks.append(module.register_forward_hook(lambda _, __, output: output.to(self.dtype)))
        # Decoders have other norms, which compute in float32 by themselves. What lies between layers is of the type
        # that the embeddings give, of all kinds together; there is not a norm behind those of every encoder.
        others = [module for module in norms(self.encoder) if not isinstance(module, nn.LayerNorm)]
        embeddings = getattr(self.encoder, "embeddings", self.encoder.get_input_embeddings() if others else None)
        for module in [*others, *([] if embeddings is None else [embeddings])]:
            self.hooks.append(module.register_forward_hook(lambda _, __, output: output.to(self.dtype)))
        self.rounded = self.rounded if self.rounds else []
        for parameter, master in self.rounded:
            parameter.data = master.to(self.dtype)
        return self

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Float32 tensors to update, in the order of the encoder's parameters."""
        masters = {id(parameter): master for parameter, master in self.rounded}
        return [masters.get(id(p), p) for p in self.encoder.parameters() if p.requires_grad]

    def grads_to_masters(self) -> None:
        """Add the rounded parameters' gradients to those of their masters, in float32."""
        for parameter, master in self.rounded:
            if parameter.grad is not None:
                own, parameter.grad = parameter.grad.float(), None
                master.grad = own if master.grad is None else master.grad.add_(own)

    def masters_to_model(self) -> None:
        """Round the masters' values into the parameters."""
        if trained := [(parameter.data, master) for parameter, master in self.rounded if parameter.requires_grad]:
            torch._foreach_copy_(*map(list, zip(*trained, strict=True)))

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()
        for parameter, master in self.rounded:
            parameter.data, parameter.grad, master.grad = master, None, None
        self.rounded, self.hooks = [], []


def norms(encoder: nn.Module) -> list[nn.Module]:
    """The layer norms of an encoder, of whatever kind."""
    modules = encoder.modules()
    return [one for one in modules if isinstance(one, nn.LayerNorm) or type(one).__name__.endswith("RMSNorm")]

"""Several devices as one, a process for each: what a rank of ``engine.ranks`` computes with.

A model is sharded by layers with torch's ``fully_shard`` (Zhao et al. 2023, arXiv:2304.11277), encoder and head under
one root, in whose forward pass everything is computed: what is in no layer is gathered for that. A base with weights in
four bits is not sharded, as what belongs to such a weight would be lost: there every rank holds the whole model, and
gradients are summed. Every rank draws the same batches, and computes as often as any other (``micro_batches``,
``evaluate``): gathering is done by all or waits for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from xlscale.core import ranks, registry
from xlscale.training.backends.base import Backend, Precision
from xlscale.training.backends.cpu import CPU
from xlscale.training.backends.cuda import CUDA
from xlscale.training.backends.precision import MasterWeights, norms
from xlscale.training.backends.recompute import layers

LOCAL = {"cpu": CPU, "cuda": CUDA}
# How long a rank waits for another, which may search a pool of a million candidates alone; one that dies is noticed.
PATIENCE = timedelta(hours=12)


class Root(nn.Module):
    """Encoder and head as one module. What its forward pass is given it runs, on the whole of what is in no layer."""

    def __init__(self, encoder: nn.Module, head: nn.Module | None):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What ``work`` gives."""
        return work()


class Sharded(Backend):
    """The devices of all ranks, of the kind that ``registry.backend`` names.

    ``root``: what was sharded; None before, and where every rank holds the whole model.
    """

    untracked = torch.no_grad  # what is gathered in inference mode could not be trained on

    def __init__(self, precision: Precision = "auto", tokens: int | None = None, again: bool = False):
        """As any backend; joins the other ranks, which torch's launcher has told this one of."""
        self.local: Backend = LOCAL[registry.backend()](precision, tokens, again)
        self.device, self.evaluated = self.local.device, self.local.evaluated
        if self.device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(self.device)
        super().__init__(precision, tokens, again)
        if not distributed.is_initialized():
            kind = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
            distributed.init_process_group(kind, timeout=PATIENCE)
        self.rank, self.ranks = ranks.number(), distributed.get_world_size()
        self.mesh = init_device_mesh(self.device.type, (self.ranks,))
        self.root: Root | None = None

    def place(self, encoder: nn.Module, frozen: bool) -> nn.Module:
        """As on one device, but a model that will be sharded stays in main memory until it is."""
        local = copy(self.local)
        local.device = self.device if _packed(encoder) else CPU.device
        return local.place(encoder, frozen)

    def join(self, encoder: nn.Module, head: nn.Module | None) -> None:
        """Shard both, unless that is done, or the encoder is one that cannot be."""
        if _packed(encoder) or (self.root and self.root.encoder is encoder):
            return
        plain = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
        if self.dtype != torch.float32:
            for norm in norms(encoder):  # which compute in float32, as on one device
                fully_shard(norm, mesh=self.mesh, mp_policy=plain)
        # Layers are rounded when they are gathered; what they read is of that type, see ``precision``.
        rounded = MixedPrecisionPolicy(self.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for layer in layers(encoder):
            fully_shard(layer, mesh=self.mesh, mp_policy=rounded)
        self.root = fully_shard(Root(encoder, head), mesh=self.mesh, mp_policy=plain)
        for module in self.root.modules():
            if isinstance(module, FSDPModule):  # sums: a loss is weighted by its share of all ranks' batch
                module.set_force_sum_reduction_for_comms(True)
                module.set_gradient_divide_factor(1.0)

    @contextmanager
    def working(self, encoder: nn.Module) -> Iterator[MasterWeights]:
        """As on one device. An optimizer that is made inside finds the parts that this rank holds."""
        if self.root is None and not _packed(encoder):
            self.join(encoder, None)
        self._let_go()
        with super().working(encoder) as weights:
            yield weights
        self._let_go()

    def _let_go(self) -> None:
        """Let go of what is still gathered: after a pass without gradients that is all that is in no layer."""
        if self.root:
            self.root.reshard()

    def masters(self, encoder: nn.Module) -> MasterWeights:
        """The parts that this rank holds are float32 by themselves."""
        return MasterWeights(encoder, self.dtype, rounded=self.root is None)

    def within(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Run it in the root's forward pass."""
        return self.root(work) if self.root else work()

    def summed(self, *numbers: float) -> list[float]:
        """Each number's sum over all ranks."""
        found = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(found)
        return found.tolist()

    def most(self, *numbers: float) -> list[float]:
        """The most of each number among the ranks."""
        found = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return found.tolist()

    def put_together(self, parts: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks of tensors of one shape, in which each has its own part and 0 elsewhere."""
        distributed.all_reduce(parts)
        return parts

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Where every rank holds the whole model; else they were summed when they were sharded."""
        for parameter in parameters if self.root is None else ():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)

    def gathered(self, found: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """What the ranks found, on the first of them; on the others nothing. ``shapes``: of the first axes of what each
        found, one for each that found something."""
        most = tuple(map(max, zip(*shapes, strict=True)))
        padded = found.new_zeros(most + found.shape[len(most) :])
        padded[tuple(map(slice, found.shape[: len(most)]))] = found
        all_of_them = [torch.empty_like(padded) for _ in range(self.ranks)] if self.rank == 0 else None
        distributed.gather(padded, all_of_them)
        return [one[tuple(map(slice, shape))] for one, shape in zip(all_of_them or (), shapes, strict=False)]


def _packed(encoder: nn.Module) -> bool:
    """Whether weights are packed, several in a byte."""
    return not all(parameter.is_floating_point() for parameter in encoder.parameters())

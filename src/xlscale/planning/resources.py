"""What cells ask of the machine that runs them, for a scheduler and for how many run at a time: GPUs, cores, memory of
the machine, hours. On GPUs it is the plan's; on processors the plan's memory of a GPU and operations, with the factors
below.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xlscale.core import registry
from xlscale.core.files import XlscaleError
from xlscale.experiment.cells import Cell
from xlscale.planning import placement, plan
from xlscale.planning.hardware import Hardware
from xlscale.planning.plan import Kind

# On a processor a cell took at most BASE bytes and TIMES what is planned for a GPU, which has no copies in float32 and
# no whole matrices of attention: so did each of 858 recorded cells, with 0.1 GB and more to spare, and most with much.
BASE, TIMES = 1.3e9, 2.0
# Operations a second of a cell on a processor: the slowest of these cells but one reached 1.3e10, the median 1e11, and
# that one 0.8e10, on a machine that others used.
RATE = 1e10
START = 60.0  # seconds of a cell on a processor besides
CORES = 2  # of a cell on a GPU, for each: one computes, the other is the backward pass's


@dataclass(frozen=True)
class Resources:
    """What a cell, or several one after the other, ask for. ``memory``: bytes of the machine, not of its GPUs."""

    gpus: int
    cores: int
    memory: float
    hours: float


def in_turn(one_by_one: Iterable[Resources]) -> Resources:
    """What cells need that run one after the other: the most that any of them needs, and the hours of all."""
    found = list(one_by_one)
    most = {name: max(getattr(one, name) for one in found) for name in ("gpus", "cores", "memory")}
    return Resources(**most, hours=sum(one.hours for one in found))


def of(cells: Iterable[Cell], hardware: Hardware) -> dict[str, Resources]:
    """What each cell needs, by id, where the backend here computes; ``hardware``: the GPUs, if that is theirs.

    Raises XlscaleError for a cell that fits none of the placements on a GPU.
    """
    known: dict[Kind, Resources] = {}
    found = {}
    for cell in cells:
        (kind,) = plan.kinds([cell])
        if kind not in known:
            known[kind] = _on_processor(kind) if registry.backend() == "cpu" else _on_gpu(kind, hardware, cell.id)
        found[cell.id] = known[kind]
    return found


def _on_processor(kind: Kind) -> Resources:
    train, _, step = plan.training(kind)
    load = kind.load(kind.method, step)
    longest, items = load.length, kind.recipe.test_items or plan.ALL
    evaluated = plan.lengths.evaluation(kind.name, kind.model, kind.split, items, longest)
    operations = evaluated.tokens * load.profile.operations("forward", evaluated.length)
    operations += train.tokens * load.profile.operations("step", train.length) if train.tokens else 0.0
    memory = placement.memory(load, 1, max(step, longest), False).total
    return Resources(0, 1, BASE + TIMES * memory, (START + operations / RATE) / 3600)


def _on_gpu(kind: Kind, hardware: Hardware, name: str) -> Resources:
    cost = plan.cost(kind, hardware)
    if not cost.placement:
        raise XlscaleError(f"{name}: expected to fit on {hardware.title}; see `make plan`")
    gpus = cost.placement.gpus
    return Resources(gpus, CORES * gpus, cost.host, cost.hours / gpus)

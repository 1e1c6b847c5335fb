"""Where a training fits: bytes of a GPU's memory in closed form, and the first placement that fits them.

A placement is no part of a cell's identity. A frozen base is bfloat16, or 4 bits in ``qlora``; what trains is float32
with AdamW's two moments, and computes as a bfloat16 copy. On several GPUs of a node
everything is sharded by layers (Zhao et al. 2023, arXiv:2304.11277): a GPU gathers the layer at work and the next one,
and keeps what is outside the layers. Weights in 4 bits are not sharded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xlscale.core.format import listing
from xlscale.core.registry import PARTS
from xlscale.planning.hardware import GIB, Hardware
from xlscale.planning.profile import Profile

Method = str  # one of METHODS
METHODS = tuple(PARTS["method"])
FLOAT, HALF, MOMENTS = 4, 2, 8  # bytes: of a parameter in float32, in bfloat16, and of AdamW's two moments
# Of a weight in 4 bits: itself, a byte of scale per 64, and of the scales a float32 per 256. NF4 with double
# quantisation, Dettmers et al. 2023 (arXiv:2305.14314), section 3.
FOUR_BITS = 0.5 + 1 / 64 + FLOAT / (64 * 256)
# Tokens of a micro-batch at most, and whether layers are computed again, in the order in which they are tried.
TRIED = ((8192, False), (4096, False), (2048, False), (8192, True), (4096, True), (2048, True))
BEYOND = (8, 16, 32, 64)  # GPUs, of which nothing is planned: said of what does not fit


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU. ``gathered``: copies in the working type, of layers that lie elsewhere or of what trains;
    ``activations``: what a forward pass keeps, and where layers are computed again one of them whole."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float

    @property
    def total(self) -> float:
        """All of them, as they are while a micro-batch follows another; of the first one, gradients come as activations
        go."""
        return self.weights + self.gradients + self.optimizer + self.gathered + self.activations


@dataclass(frozen=True)
class Placement:
    """How a cell runs: GPUs, tokens of a micro-batch on each, whether layers are computed again, and the memory."""

    gpus: int
    tokens: int
    again: bool
    memory: Memory


@dataclass(frozen=True)
class Load:
    """What is to be placed: a model with a method of training, or, where nothing ``trains``, what it left. ``step``:
    tokens of a batch at most; ``length``: those of its longest input, the least that a micro-batch holds."""

    profile: Profile
    method: Method
    trains: bool
    step: int
    length: int


def memory(load: Load, gpus: int, tokens: int, again: bool) -> Memory:
    """The memory of each of ``gpus`` GPUs at ``tokens`` tokens of a micro-batch on each."""
    profile, method = load.profile, load.method
    trained = profile.trained if load.trains else 0.0
    frozen = profile.parameters + profile.adapters - trained
    # Word embeddings beside what trains stay as they were published.
    held, gathered = (FLOAT if method == "full" and load.trains else HALF) * frozen, HALF * trained
    if method == "qlora":
        held = FOUR_BITS * profile.matrices + HALF * (frozen - profile.matrices)
        gathered += HALF * profile.largest  # one at a time is unpacked
    if trained and load.step > gpus * tokens:
        gathered += HALF * trained  # gradients of a micro-batch, on their way to the sum of all
    if gpus > 1:
        outside = max(0.0, profile.parameters - profile.layers * profile.layer)
        gathered = HALF * (2 * profile.layer + outside)
        # The gradients of a layer before they are summed over the GPUs: as they come, and in float32.
        gathered += (HALF + FLOAT) * (profile.layer_trained if load.trains else 0.0)
    kept = profile.checkpointed + profile.saved_layer if again else profile.saved
    activations = tokens * (kept if load.trains else profile.saved_layer)
    return Memory(
        weights=(held + FLOAT * trained) / gpus,
        gradients=FLOAT * trained / gpus,
        optimizer=MOMENTS * trained / gpus,
        gathered=gathered,
        activations=activations,
    )


def choose(load: Load, hardware: Hardware) -> Placement | None:
    """The first placement that fits, one GPU before several; None where none of the hardware's does."""
    return next(_fitting(load, hardware, sorted(hardware.gpus)), None)


def _fitting(load: Load, hardware: Hardware, allowed: Iterable[int]) -> Iterator[Placement]:
    for gpus in allowed:
        for most, again in TRIED if load.method != "qlora" or gpus == 1 else ():
            tokens = max(load.length, min(most, -(-load.step // gpus)) // load.length * load.length)
            found = memory(load, gpus, tokens, again)
            if found.total <= hardware.room:
                yield Placement(gpus, tokens, again, found)


def instead(loads: dict[Method, Load], method: Method, place: Placement | None, hardware: Hardware) -> str:
    """Beside a training by ``method`` that needs several GPUs: the methods that need fewer. Of one that fits nowhere:
    more GPUs on which it would, and the methods that do."""
    found = {other: choose(loads[other], hardware) for other in METHODS if other != method}
    if place:
        found = {other: one for other, one in found.items() if one and one.gpus < place.gpus}
    else:
        found = {method: next(_fitting(loads[method], hardware, BEYOND), None)} | found
    return listing(
        f"{name} on {one.gpus} GPU{'s' * (one.gpus > 1)} ({one.memory.total / GIB:.0f} GiB each)"
        for name, one in found.items()
        if one
    )

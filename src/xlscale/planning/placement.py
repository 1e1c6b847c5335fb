"""Where a training fits: bytes of a GPU's memory in closed form, and the first placement that fits them.

A placement is no part of a cell's identity. The frozen base is bfloat16, or 4 bits in ``qlora``; what trains is float32
with AdamW's two moments, and of what trains in full a GPU computes with a bfloat16 copy. On several GPUs of a node
everything is sharded by layers (Zhao et al. 2023, arXiv:2304.11277): a GPU gathers the layer at work and the next one, and
keeps what is outside the layers. Weights in 4 bits are not sharded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from xlscale.core.format import listing
from xlscale.planning.hardware import GIB, Hardware
from xlscale.planning.profile import Profile

Method = Literal["full", "lora", "qlora", "none"]  # of training; none: nothing trains
METHODS: tuple[Method, ...] = get_args(Method)[:3]
FLOAT, HALF, MOMENTS = 4, 2, 8  # bytes: of a parameter in float32, in bfloat16, and of AdamW's two moments
# Of a weight in 4 bits: itself, a byte of scale per 64, and of the scales a float32 per 256. NF4 with double
# quantisation, Dettmers et al. 2023 (arXiv:2305.14314), section 3.
FOUR_BITS = 0.5 + 1 / 64 + FLOAT / (64 * 256)
# Tokens of a micro-batch at most, and whether layers are computed again, in the order in which they are tried.
TRIED = ((8192, False), (4096, False), (8192, True), (4096, True), (2048, True))
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
        """All of them: more than is there at any one time, since gradients come as activations go."""
        return self.weights + self.gradients + self.optimizer + self.gathered + self.activations


@dataclass(frozen=True)
class Placement:
    """How a cell runs: GPUs, tokens of a micro-batch on each, whether layers are computed again, and the memory."""

    gpus: int
    tokens: int
    again: bool
    memory: Memory


def memory(profile: Profile, method: Method, gpus: int, tokens: int, again: bool) -> Memory:
    """The memory of each of ``gpus`` GPUs at ``tokens`` tokens of a micro-batch on each."""
    trained = 0.0 if method == "none" else profile.trained
    frozen = profile.parameters + profile.adapters - trained
    copied = HALF * trained if method == "full" else 0.0  # what is added to a frozen base computes as it is, in float32
    held = HALF * frozen
    gathered = copied
    if method == "qlora":
        held = FOUR_BITS * profile.matrices + HALF * (frozen - profile.matrices)
        gathered = HALF * profile.largest
    if gpus > 1:
        outside = max(0.0, profile.parameters - profile.layers * profile.layer)
        gathered = HALF * (2 * profile.layer + outside)
        # The gradients of a layer before they are summed over the GPUs: as they come, and in float32.
        gathered += (HALF + FLOAT) * (profile.layer_trained if method != "none" else 0.0)
    if method == "none":
        activations = tokens * profile.saved_layer
    else:
        activations = tokens * ((profile.checkpointed + profile.saved_layer) if again else profile.saved)
    return Memory(
        weights=(held + FLOAT * trained) / gpus,
        gradients=FLOAT * trained / gpus,
        optimizer=MOMENTS * trained / gpus,
        gathered=gathered,
        activations=activations,
    )


def choose(profile: Profile, method: Method, step: int, length: int, hardware: Hardware) -> Placement | None:
    """The first placement that fits, one GPU before several; None where none of the hardware's does.

    ``step``: tokens of a batch at most; ``length``: those of its longest input, the least that a micro-batch holds.
    """
    allowed = [gpus for gpus in sorted(hardware.gpus) if gpus == 1 or method != "qlora"]
    return next(_fitting(profile, method, step, length, hardware, allowed), None)


def _fitting(profile: Profile, method: Method, step: int, length: int, hardware: Hardware, allowed: list[int]):
    for gpus in allowed:
        for most, again in TRIED:
            tokens = max(length, min(most, -(-step // gpus)) // length * length)
            found = memory(profile, method, gpus, tokens, again)
            if found.total <= hardware.room:
                yield Placement(gpus, tokens, again, found)


def what_would(profiles: dict[Method, Profile], method: Method, step: int, length: int, hardware: Hardware) -> str:
    """Of a training that fits nowhere: more GPUs on which it would, and the other methods that do."""
    found = []
    allowed = [] if method == "qlora" else list(BEYOND)
    if more := next(_fitting(profiles[method], method, step, length, hardware, allowed), None):
        found.append(f"{method} on {more.gpus} GPUs ({more.memory.total / GIB:.0f} GiB each)")
    for other in METHODS:
        if other != method and (place := choose(profiles[other], other, step, length, hardware)):
            found.append(f"{other} on {place.gpus} ({place.memory.total / GIB:.0f} GiB)")
    return listing(found)

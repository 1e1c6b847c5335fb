"""What a plan takes a cluster for: a card per kind of GPU, in ``data_manifest/hardware``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xlscale.core.files import MANIFEST, XlscaleError, relative
from xlscale.core.lines import Title
from xlscale.core.strict import Distinct, Name, Strict, parse, read_yaml

FOLDER = MANIFEST / "hardware"
GIB = 2**30
DEFAULT = "h100"
Positive = Annotated[float, Field(ge=1e-3, le=1e6)]
Share = Annotated[float, Field(ge=1e-4, le=1)]


Shares = Annotated[dict[Annotated[int, Field(ge=0)], Share], Field(min_length=1)]


class Utilisation(Strict):
    """Shares of a GPU's operations that are reached, by parameters of a model from that many on."""

    trained: Shares
    evaluated: Shares


class Hardware(Strict):
    """A kind of GPU, and the machine around it."""

    name: Name
    title: Title
    memory_gib: Positive
    reserved_gib: Annotated[float, Field(ge=0, le=1e6)]  # that no cell gets
    gpus: Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1), Distinct]  # that a cell may have
    teraflops: Positive
    utilisation: Utilisation
    four_bit: Positive
    link_gb_per_second: Positive
    read_gb_per_second: Positive
    start_seconds: Annotated[float, Field(ge=0, le=1e6)]
    price_per_hour: Annotated[float, Field(ge=0, le=1e6)]
    host_gib: Positive

    @model_validator(mode="after")
    def _some_is_left(self) -> Hardware:
        if self.reserved_gib >= self.memory_gib:
            raise ValueError(f"reserved_gib: expected less than memory_gib, {self.memory_gib}, got {self.reserved_gib}")
        return self

    @property
    def room(self) -> float:
        """Bytes of a GPU's memory that a cell may fill."""
        return (self.memory_gib - self.reserved_gib) * GIB

    def reached(self, what: Literal["trained", "evaluated"], parameters: float) -> float:
        """Floating-point operations a second of a GPU when a model of this size is trained or evaluated."""
        shares = getattr(self.utilisation, what)
        size = max((size for size in shares if size <= parameters), default=min(shares))
        return shares[size] * self.teraflops * 1e12


def here(memory_gib: float, gpus: int = 1) -> Hardware:
    """The ``gpus`` GPUs of this machine, of ``memory_gib`` each; what else there is to know as of DEFAULT."""
    known = load(DEFAULT)
    several = {1} | {number for number in known.gpus if number <= gpus}
    return known.model_copy(update={"memory_gib": memory_gib, "gpus": sorted(several)})


def names() -> list[str]:
    """Names of all kinds, sorted."""
    return sorted(path.stem for path in FOLDER.glob("[!.]*.yaml"))


def load(name: str) -> Hardware:
    """The card of a kind of GPU. Raises XlscaleError for an unknown name or a broken card."""
    if name not in names():  # and not a path that leads elsewhere
        raise XlscaleError(f"unknown hardware {name!r}: expected one of {', '.join(names())}")
    path = FOLDER / f"{name}.yaml"
    found = parse(Hardware, read_yaml(path), relative(path))
    if found.name != name:
        raise XlscaleError(f"{relative(path)}: name: expected {name!r} as in the file's name, got {found.name!r}")
    return found

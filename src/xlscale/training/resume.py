"""What a training that was ended goes on from: all that it changes, as it was after a step.

A state is a folder of safetensors and one JSON file: what trains, the optimizer's moments, steps, losses, generators.
Of several ranks each writes its part, and another number of ranks can go on from it. It is written aside and renamed;
the last two are kept until the cell is complete. Who goes on from one computes what would have been computed without
the end, bit for bit on the same machine and with as many ranks. States of other cells and of other code are removed
before one is written; one that is not as it was written is passed over for the one before it.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from xlscale.core import saving
from xlscale.core.files import (
    XlscaleError,
    XlscaleWarning,
    digest,
    one_line,
    read_json,
    relative,
    sha256_file,
    write_json,
)
from xlscale.training.backends.base import Backend

STATE, PART = "state.json", "part"
HASH = "sha256"  # in STATE: of everything else in it, the hashes of the tensors' files included
KEPT = 2
MARGIN = 60.0  # seconds before a deadline, and no less than three times what writing a state took
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW
Generators = Sequence[torch.Generator]


@dataclass
class Keeper:
    """Keeps the states of one cell's trainings, which come one after another, in ``folder``.

    ``code``: which cell, and what computes it; ``logs``: of the trainings before the present one; ``spent``: seconds of
    training before this process began; ``resumed``: the step from which it went on, if it did.
    """

    folder: Path
    code: str
    backend: Backend
    when: saving.When
    logs: list[dict[str, Any]] = field(default_factory=list)
    spent: float = 0.0
    resumed: int | None = None

    def __post_init__(self) -> None:
        self.told: list[int] = []  # signals
        self.began = self.saved = time.monotonic()  # which nobody sets back
        self.took = 0.0  # seconds to write a state
        self.foreign: list[Path] = []  # states of other cells and of other code
        self.state = self._newest()
        if self.state:
            self.logs, self.spent = self.state["logs"][:-1], self.state["seconds"]

    def _newest(self) -> dict[str, Any] | None:
        states = [(folder, read_json(folder / STATE)) for folder in reversed(self._kept())]
        self.foreign = [folder for folder, state in states if _code(state) != self.code]
        own = [(folder, state) for folder, state in states if folder not in self.foreign]
        for folder, state in own:
            if self._as_written(folder, state):
                return state | {"folder": folder}
            said = f"{relative(folder)}: not as it was written; the state before it is taken"
            warnings.warn(XlscaleWarning(said), stacklevel=2)
        if own:
            raise _broken(own[0][0], "not as it was written")
        return None

    def _as_written(self, folder: Path, state: dict[str, Any]) -> bool:
        """Whether a state has the hashes that it says, of which each rank looks at some."""
        files = state.get("files")
        rest = {name: value for name, value in state.items() if name != HASH}
        known = isinstance(files, dict) and state.get(HASH) == digest(rest) and {*files} == {*_tensors(folder)}
        mine = sorted(files.items())[self.backend.rank :: self.backend.ranks] if known else []
        wrong = sum(sha256_file(folder / name) != sha256 for name, sha256 in mine)
        return self.backend.summed(wrong + (not known)) == [0]

    def _kept(self) -> list[Path]:
        """The folders of states, the oldest first."""
        found = (path.parent for path in self.folder.glob(f"*/{STATE}") if path.parent.name != PART)
        return sorted({*found} - {*self.foreign})

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the block a training ends after a step when this process is told to, and then the process does."""
        try:
            with saving.hearing(self.told.append):
                yield
        finally:
            if self.told:
                os.kill(os.getpid(), self.told[0])

    def restore(
        self, named: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, generators: Generators
    ) -> tuple[int, dict[str, Any]]:
        """Set all that the present training changes to the newest state of it; gives the steps that are done, and the
        log of them. Raises XlscaleError for a state that is broken."""
        self.named, self.optimizer, self.generators = named, optimizer, generators
        if not (state := self.state):
            return 0, {}
        for name, steps in state["steps"].items():
            own = named[name]
            moments = {one: torch.zeros_like(own.detach()) for one in MOMENTS}
            optimizer.state[own] = {"step": torch.tensor(float(steps), device=own.device), **moments}
        from torch.distributed import checkpoint as dcp
        from torch.distributed.checkpoint.api import CheckpointException

        try:
            with _quiet():
                dcp.load(self._tensors(), storage_reader=dcp.HuggingFaceStorageReader(str(state["folder"])))
        except (OSError, RuntimeError, KeyError, ValueError, CheckpointException) as error:
            raise _broken(state["folder"], _reason(error)) from None
        for generator, drawn in zip(generators, state["generators"], strict=True):
            generator.set_state(torch.frombuffer(bytearray.fromhex(drawn), dtype=torch.uint8))
        self.state, self.resumed, log = None, state["step"], state["logs"][-1]
        return state["step"], log if self.backend.rank == 0 else {"losses": log["losses"]}

    def _tensors(self) -> dict[str, torch.Tensor]:
        found = {}
        for name, own in self.named.items():
            found[name] = own.detach()
            moments = self.optimizer.state.get(own, {})
            found |= {f"{name}#{one}": moments[one] for one in MOMENTS if one in moments}
        return found

    def after(self, step: int, steps: int, log: Any) -> None:
        """To be called after each of ``steps`` steps, with the log of this training: writes a state when it is time,
        when the training is done, or has to end. Raises XlscaleError in the last case: the deadline is near, or a rank
        was told to end."""
        late = self.when.deadline is not None and time.time() > self.when.deadline - max(MARGIN, 3 * self.took)
        # One rank's word is enough, as all write.
        told, late, due = self.backend.summed(len(self.told), late, time.monotonic() - self.saved > self.when.every)
        if told or late or due or step == steps:
            counted = self.backend.summed(log.tokens, log.padded_tokens, log.squared)
            sums = dict(zip(("tokens", "padded_tokens", "squared"), map(int, counted), strict=True))
            self._save(step, asdict(log) | sums)
        if told or (late and step < steps):
            raise XlscaleError(f"stopped after step {step} of {steps}; run the same command to go on")
        if step == steps:
            self.logs.append(asdict(log) | sums)

    def _save(self, step: int, log: dict[str, Any]) -> None:
        from torch.distributed import checkpoint as dcp
        from torch.distributed.checkpoint.api import CheckpointException

        began, part, tensors = time.monotonic(), self.folder / PART, self._tensors()
        try:
            if not self._room(tensors):
                raise OSError("no space left on this disk")
            writer = dcp.HuggingFaceStorageWriter(str(part), save_distributed=True)
            with _quiet():
                dcp.save(tensors, storage_writer=writer)
            if self.backend.rank == 0:
                states = {name: self.optimizer.state.get(own) for name, own in self.named.items()}
                state = {
                    "code": self.code,
                    "step": step,
                    "steps": {name: int(one["step"]) for name, one in states.items() if one},
                    "logs": [*self.logs, log],
                    "generators": [one.get_state().numpy().tobytes().hex() for one in self.generators],
                    "seconds": self.spent + time.monotonic() - self.began,
                    "files": {name: sha256_file(part / name) for name in _tensors(part)},
                }
                write_json(part / STATE, state | {HASH: digest(state)})
                part.rename(self.folder / f"{len(self.logs)}-{step:012}")
                for old in self._kept()[:-KEPT]:
                    shutil.rmtree(old)
        except (OSError, RuntimeError, XlscaleError, CheckpointException) as error:
            said = f"{relative(self.folder)}: no state was written ({_reason(error)}); the training goes on"
            warnings.warn(XlscaleWarning(said), stacklevel=2)
        self.saved = time.monotonic()
        self.took = self.saved - began

    def _room(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether there is room for a state, if need be that of the oldest."""
        local = [one.to_local() if hasattr(one, "to_local") else one for one in tensors.values()]
        (need,) = self.backend.summed(sum(one.nbytes for one in local))
        room = 1.0
        if self.backend.rank == 0:
            try:
                room = float(self._made(need))
            except OSError:
                room = 0.0
        return self.backend.summed(room) == [self.backend.ranks]

    def _made(self, need: float) -> bool:
        shutil.rmtree(self.folder / PART, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        while self.foreign:
            shutil.rmtree(self.foreign.pop())
        for old in self._kept()[: 1 - KEPT]:
            if shutil.disk_usage(self.folder).free <= 1.1 * need:
                shutil.rmtree(old)
        return shutil.disk_usage(self.folder).free > 1.1 * need


def _tensors(folder: Path) -> list[str]:
    """Names of the files of tensors of a state."""
    return sorted(path.name for path in folder.glob("*.safetensors"))


def _code(state: Any) -> Any:
    return state.get("code") if isinstance(state, dict) else None


def _broken(folder: Path, reason: str) -> XlscaleError:
    return XlscaleError(f"{relative(folder)}: expected a state of this training, remove it ({reason})")


def _reason(error: BaseException) -> str:
    """What broke, of several ranks on the first on which something did."""
    failures = [one for one, _ in getattr(error, "failures", {}).values()]
    return one_line(failures[0] if failures else error)


def _quiet() -> warnings.catch_warnings:
    """Without what torch says where there are no ranks."""
    return warnings.catch_warnings(action="ignore")

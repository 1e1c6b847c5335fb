"""A cell on several devices: the notebook starts a process for each, a rank, and reads what they leave.

    notebook -> this module as a process, torch's launcher -> ``xlscale.rank`` for each device

Ranks train and evaluate in one go, since a model that needs several devices to be trained may need them to be run. What
they leave is in the folder ``ranks`` of the cell's: ``left.json``, the predictions, and what they print. When one of
these processes dies, the ones below it are told to end, and killed where they do not in the time that they have for it.
Until then a rank may write, so that each has a lock there, and whoever starts others waits for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from xlscale.core import saving
from xlscale.core.files import XlscaleError, atomic, read_json, relative, write_json
from xlscale.engine import processes, runner
from xlscale.experiment import cells, results
from xlscale.experiment.cells import Cell
from xlscale.training.loop import Diverged, TrainingLog

JOB, LEFT, PREDICTIONS, LOG, LOCK = "job.json", "left.json", "predictions.parquet", "log.txt", ".lock"
LAUNCHER = "PET_"  # how environment variables begin that are options of torch's launcher
POLL = 0.5  # seconds between looks at whether this process was told to end


@dataclass(frozen=True)
class Left:
    """What ranks left of a cell: the log of its training, if any, and what is recorded beside it."""

    log: TrainingLog | None
    seconds: dict[str, float]
    peak_memory_gb: float
    environment: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A cell to be trained and evaluated on a split by several ranks, which leave what comes of it in ``folder``."""

    cell: Cell
    folder: Path
    split: str
    place: runner.Place

    @property
    def here(self) -> Path:
        """Where the ranks find the job, and leave what they leave."""
        return self.folder / results.RANKS

    @cached_property
    def left(self) -> Left:
        """What the ranks leave, which do their work now. Raises Diverged and XlscaleError as training does, the latter
        also where one of them ends otherwise."""
        self._wait()
        (self.here / LEFT).unlink(missing_ok=True)
        spec = {"spec": self.cell.spec(), "split": self.split, "place": [*self.place]}
        write_json(self.here / JOB, spec)
        with open(self.here / LOG, "ab") as output:
            code = _launched(self.here / JOB, output)
        found = read_json(self.here / LEFT) if (self.here / LEFT).exists() else {}
        if "diverged" in found:
            raise Diverged(found["diverged"])
        if "fault" in found:
            raise XlscaleError(found["fault"])
        if code or not found:
            where = relative(self.here / LOG)
            raise XlscaleError(f"{self.cell.id}: {where}: expected {self.place.ranks} ranks to end well, got {code}")
        return Left(**found | {"log": found["log"] and TrainingLog(**found["log"])})

    def at_work(self, rank: str) -> FileLock:
        """What a rank holds for as long as it may write."""
        return FileLock(self.here / f"{rank}{LOCK}")

    def _wait(self) -> None:
        """Wait for the ranks of an attempt that was killed: they end within seconds."""
        for path in sorted(self.here.glob(f"*{LOCK}")):
            lock = self.at_work(path.name.removesuffix(LOCK))
            try:
                lock.acquire(blocking=False)
            except Timeout:
                told = f"{self.cell.id}: waits for a rank that was started before to end: {relative(path)}"
                print(told, file=sys.stderr, flush=True)
                lock.acquire()
            lock.release()

    def predictions(self, split: str) -> pd.DataFrame:
        """The prediction table of a split. Raises as ``left``, and for another split than the job's."""
        if split != self.split:
            raise XlscaleError(f"{self.cell.id}: split: expected {self.split}, which ranks evaluate, got {split}")
        _ = self.left
        return pd.read_parquet(self.here / PREDICTIONS)


def job(cell: Cell, folder: Path) -> Job | None:
    """How a cell is worked on by the ranks that its placement asks for; None where that is one process."""
    split, place = results.split_of(cell.phase, cell.parameters.model_dump()), runner.placement(cell)
    return Job(cell, folder, split, place) if place.ranks > 1 else None


def read(path: Path) -> Job:
    """The job of a file that ``Job.left`` wrote."""
    found = read_json(path)
    cell = cells.from_spec(found["spec"], relative(path))
    return Job(cell, path.parents[1], found["split"], runner.Place(*found["place"]))


def leave(job: Job, left: Left, predictions: pd.DataFrame) -> None:
    """Write what came of a job."""
    with atomic(job.here / PREDICTIONS) as path:
        predictions.to_parquet(path, index=False)
    write_json(job.here / LEFT, vars(left) | {"log": left.log and vars(left.log)})


def leave_fault(job: Job, error: Exception) -> None:
    """Write why nothing came of it."""
    write_json(job.here / LEFT, {"diverged" if isinstance(error, Diverged) else "fault": str(error)})


def _launched(path: Path, output: Any) -> int:
    """Have torch's launcher start the ranks of a job, and wait; gives its exit code. SIGTERM ends them first, and then
    does what it does to this process otherwise."""
    kept = {name: value for name, value in processes.environment().items() if not name.startswith(LAUNCHER)}
    environment = {processes.WATCHED: str(os.getpid())} | kept
    command = [sys.executable, "-m", "xlscale.engine.ranks", str(path)]
    told: list[int] = []
    with saving.hearing(told.append):
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while not told:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(POLL)
        finally:  # also after an interrupt: nothing goes on behind this process's back
            processes.finish(process)
    os.kill(os.getpid(), told[0])
    raise XlscaleError(f"{relative(path)}: ended by SIGTERM")


def _launch(path: Path) -> None:
    """Start the ranks of a job, and wait for them. When one of them fails, the others are ended."""
    from torch.distributed import run

    ranks = read_json(path)["place"][2]
    options = ["--standalone", "--nnodes=1", "--max-restarts=0", f"--nproc-per-node={ranks}"]
    options += [f"--shutdown-timeout={saving.GRACE:.0f}"]
    run.main([*options, "--module", "xlscale.rank", str(path)])


if __name__ == "__main__":
    processes.die_with_parent(saving.GRACE + 2)
    _launch(Path(sys.argv[1]))

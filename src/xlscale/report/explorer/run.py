"""One recorded cell run now: in a process of its own, how far it is, and how it compares with the record.

It runs in ``runs/explore/`` and is computed anew each time; what it starts from is computed once. The process ends with
the one that started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from xlscale.core.files import RUNS, XlscaleError, relative, write_json
from xlscale.engine import processes, runner
from xlscale.engine.sweep import LOG, check_places
from xlscale.experiment import cells
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result, result_of
from xlscale.record import canary
from xlscale.report import verdicts
from xlscale.report.explorer.choice import Record

HERE = RUNS / "explore"
OVERHEAD = 8.0  # seconds of a cell besides what it measures: its process, its imports
LAST = 2000  # characters of the log in which the fault is looked for


class Progress(NamedTuple):
    """How far a run is: ``share`` of the expected time, below 1 until it has ended; ``text``: a line."""

    share: float
    text: str
    ended: bool


class Run:
    """A recorded cell that is run now. Raises XlscaleError where a cell of that id cannot be made from the record."""

    def __init__(self, record: Record, cell_id: str, runs: Path = HERE):
        self.record, self.runs = record, runs
        result = record.results[cell_id]
        spec = {"id": result.id, "phase": result.phase, "parameters": result.parameters}
        self.cell = cells.from_spec(spec, f"cell {cell_id}")
        self._process: subprocess.Popen | None = None
        self._left: list[Cell] = []
        self._began, self._stopped = 0.0, False

    def start(self) -> None:
        """Start it. Raises XlscaleError where something is in the place of its folder, or it runs already."""
        lineage = self.cell.lineage()
        check_places([one.id for one in lineage], self.runs)
        if running := [one.id for one in lineage if runner.running(one, self.runs)]:
            raise XlscaleError(f"{running[0]}: is being run already, in {relative(self.runs)}")
        for one in lineage:
            (self.runs / one.id).mkdir(parents=True, exist_ok=True)
            write_json(self.runs / one.id / "spec.json", one.spec())
        for one in self.left():
            with suppress(FileNotFoundError):
                runner.set_aside(self.runs / one.id)
        self._left, self._stopped = self.left(), False
        environment = {name: value for name, value in os.environ.items() if name != processes.WATCHED}
        self._began = time.monotonic()
        with open(self.runs / self.cell.id / LOG, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xlscale", "run", "--", self.cell.id],
                env=environment | {"XLSCALE_RUNS": str(self.runs)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def left(self) -> list[Cell]:
        """What is to be run: the cell, after those it starts from that were not run here, or by other code."""
        *before, own = self.cell.lineage()
        found = {one.id: result_of(one, self.runs) for one in before}
        return [*(one for one in before if not (found[one.id] and canary.accepted(found[one.id]))), own]

    def expected(self) -> float:
        """Seconds that these took when they were recorded, and what each takes besides."""
        known = (self.record.results.get(one.id) for one in self._left or self.left())
        return sum(OVERHEAD + (sum(one.seconds.values()) if one else 0.0) for one in known)

    def progress(self) -> Progress:
        """How far it is now."""
        seconds, wanted = time.monotonic() - self._began, self.expected()
        if self._process.poll() is not None:
            return Progress(1.0, self._ended(), True)
        done = [one for one in self._left if result_of(one, self.runs)]
        phase = next((one.phase for one in self._left if one not in done), self.cell.phase)
        told = f"cell {len(done) + 1} of {len(self._left)}, phase {phase}"
        text = f"{told}: {seconds:.0f} s, of about {wanted:.0f} s on the machine of the record"
        return Progress(min(0.98, seconds / wanted), text, False)

    def _ended(self) -> str:
        if self.result():
            return "complete"
        if self._stopped:
            return "stopped; what it started from is kept"
        log = (self.runs / self.cell.id / LOG).read_text(encoding="utf-8", errors="replace")[-LAST:]
        lines = [line for line in log.splitlines() if line.strip()]
        told = next((line for line in reversed(lines) if line.startswith("xlscale: ")), (lines or ["no message"])[-1])
        return f"failed: {told.removeprefix('xlscale: ')}"

    def stop(self) -> None:
        """End it."""
        if self._process and self._process.poll() is None:
            self._stopped = True
            self._process.terminate()
            self._process.wait()

    @property
    def folder(self) -> str:
        """Where it is run, as seen from the checkout."""
        return relative(self.runs / self.cell.id)

    def result(self) -> Result | None:
        """What it left, once it is complete."""
        return result_of(self.cell, self.runs)

    def compared(self) -> pd.DataFrame:
        """Its value beside the recorded one, see ``verdicts.table``. Raises XlscaleError while there is no result."""
        if (result := self.result()) is None:
            raise XlscaleError(f"{self.cell.id}: expected a complete run in {relative(self.runs)}")
        own = {name: self.record.results[name] for name in self.record.cells["cell"]}
        return verdicts.table(own, {result.id: result})

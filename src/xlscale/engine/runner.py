"""Runs one cell, and decides alone whether it is complete.

Complete means: a schema-checked ``result.json``, renamed into place after everything else is on disk. Papermill's
outcome, the executed notebook and files without ``result.json`` prove nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from xlscale.core import files
from xlscale.core.files import CELL_FOLDER, RUNS, XlscaleError, atomic, read_json, relative, write_json, write_text
from xlscale.core.seals import seal
from xlscale.core.strict import SHORT, parse
from xlscale.engine import lock, notebook, processes
from xlscale.engine.notebook import Crashed
from xlscale.experiment import cells, results
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result, result_of

PENDING = "result.pending.json"
# Environment variable, JSON: id of a cell -> the fields of its ``Place``, of which the last may be missing.
PLACEMENT = "XLSCALE_PLACEMENT"
EXECUTED = "executed.ipynb"


def ensure(cell: Cell) -> Path:
    """The folder of a complete cell, run first if need be. Raises XlscaleError if the cell has failed."""
    result = result_of(cell) or run(cell)
    if result.status == "failed":
        raise XlscaleError(f"{cell.id}: failed ({result.reason})")
    return cell.folder


class Place(NamedTuple):
    """Tokens of a micro-batch, None for whole batches; whether layers are computed again; how many devices work on a
    cell together, with a process for each. No part of its identity."""

    tokens: int | None = None
    again: bool = False
    ranks: int = 1


def placement(cell: Cell) -> Place:
    """How a cell is placed, as was planned; else whole batches, on one device. Raises XlscaleError for a plan that is
    none."""
    given = os.environ.get(PLACEMENT) or "{}"
    try:
        place = Place(*json.loads(given).get(cell.id, ()))
        numbers = [place.ranks, 1 if place.tokens is None else place.tokens]
        if not isinstance(place.again, bool) or not all(type(one) is int and one >= 1 for one in numbers):
            raise ValueError("expected positive numbers")
        return place
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise XlscaleError(f"{PLACEMENT}: expected what a sweep sets there, got {SHORT.repr(given)}") from None


def run(cell: Cell, execute: Callable[..., None] = notebook.execute) -> Result:
    """Run the cell unless it is complete, after the ancestors that it lacks, and return its result.

    ``execute`` executes a notebook: ``notebook.execute`` or one like it. A diverged training, or a parent that failed,
    gives a result with status 'failed'. Raises Crashed, with one line, when the notebook breaks for any other reason;
    nothing is then taken for a result.
    """
    cell.folder.mkdir(parents=True, exist_ok=True)
    with lock.held(cell.folder):
        if result := result_of(cell):
            return result
        for rest in cell.folder.glob(".*.part"):  # of a run that was killed while it wrote
            rest.unlink()
        write_json(cell.folder / "spec.json", cell.spec())
        if cell.parent:
            give_up_lost(cell.parent)
            parent = result_of(cell.parent) or run(cell.parent, execute)
            if parent.status == "failed":
                return _complete(cell, _failed(cell, f"parent {parent.id}: {parent.reason}"))
        return _complete(cell, _execute(cell, execute))


def _execute(cell: Cell, execute: Callable[..., None]) -> Result:
    """Execute the cell's notebook and return the result it left, checked."""
    pending = cell.folder / PENDING
    pending.unlink(missing_ok=True)
    os.environ[CELL_FOLDER] = str(cell.folder)
    try:
        execute(files.NOTEBOOK[cell.phase], cell.folder / EXECUTED, cell.parameters.model_dump())
    except Crashed as error:
        if error.diverged:
            return _failed(cell, f"diverged: {error.diverged}")
        raise Crashed(f"{cell.id}: {error}") from None
    finally:
        del os.environ[CELL_FOLDER]
    if not pending.exists():
        raise Crashed(f"{cell.id}: the notebook ended without a result, see {relative(cell.folder / EXECUTED)}")
    return parse(Result, read_json(pending), relative(pending))


def _complete(cell: Cell, result: Result) -> Result:
    if result.id != cell.id:
        raise XlscaleError(f"{cell.id}: id: expected {cell.id} in the notebook's result, got {result.id}")
    lock.check(cell.folder)
    for path in (cell.folder / name for name in results.LEFT):
        if path.exists():
            seal(path)
    with atomic(cell.folder / results.RESULT) as temporary:
        write_json(temporary, result.model_dump())
        seal(cell.folder / results.RESULT, temporary)
    (cell.folder / PENDING).unlink(missing_ok=True)
    clear(cell.folder)
    return result


def clear(folder: Path) -> None:
    """Remove what is in a cell's folder for as long as it is not complete."""
    for name in (results.RESUME, results.RANKS):
        shutil.rmtree(folder / name, ignore_errors=True)


def _failed(cell: Cell, reason: str) -> Result:
    return Result(**cell.spec(), status="failed", reason=reason, fingerprint=cell.code())


def give_up_lost(parent: Cell, runs: Path = RUNS) -> bool:
    """Make a complete cell one that has yet to be run if its children cannot start from it, because its checkpoint was
    deleted; returns whether that is so."""
    folder = runs / parent.id
    if parent.phase != "intermediate" or (folder / results.CHECKPOINT).exists():
        return False
    result = result_of(parent, runs)
    lost = result is not None and result.status == "complete"
    if lost:
        set_aside(folder)
    return lost


def set_aside(folder: Path) -> None:
    """Have a complete cell count as one that has yet to be run. Raises FileNotFoundError for one that is not."""
    (folder / results.RESULT).replace(folder / "result.stale.json")


def running(cell: Cell, runs: Path = RUNS) -> bool:
    """Whether some process holds the cell's lock at this moment, see ``lock.is_held``."""
    return lock.is_held(runs / cell.id)


def find(cell_id: str) -> Cell:
    """The cell with this id, by its ``spec.json`` in ``runs/``, else in any study. Raises XlscaleError."""
    spec = files.below(RUNS, cell_id) / "spec.json"
    if spec.exists():
        cell = cells.from_spec(read_json(spec), relative(spec))
        if cell.id != cell_id:
            raise XlscaleError(f"{relative(spec)}: id: expected {cell_id} as the folder's name, got {cell.id}")
        return cell
    from xlscale.experiment import studies

    return studies.find(cell_id)


def main(cell_id: str) -> None:
    """Run one cell by its id, its notebook in this process; one line when it ends. Raises XlscaleError."""
    # At once: an exception could be caught by whatever runs. Nothing half-written counts, and the lock frees itself.
    signal.signal(signal.SIGTERM, _end)
    os.environ |= processes.ENVIRONMENT
    cell = find(cell_id)
    began = time.monotonic()
    try:
        if cell.parent and not result_of(cell):
            give_up_lost(cell.parent)
            run(cell.parent)  # first, and elsewhere: this process executes one notebook
        result = run(cell, notebook.execute_here)
    except XlscaleError as error:
        write_text(cell.folder / "error.txt", f"{error}\n")
        raise
    (cell.folder / "error.txt").unlink(missing_ok=True)
    print(f"{cell.id}: {result.status} in {time.monotonic() - began:.0f} s")


def _end(sign: int, frame: object) -> None:
    lock.free()
    os._exit(processes.TERMINATED)

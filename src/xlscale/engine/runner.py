"""Executes one notebook for one cell, and decides alone whether the cell is complete.

Complete means: a schema-checked ``result.json``, renamed into place after everything else is on disk. Papermill's
exit code, the executed notebook and files without ``result.json`` prove nothing.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xlscale.core import files
from xlscale.core.files import RUNS, XlscaleError, read_json, relative, write_json, write_text
from xlscale.core.strict import parse
from xlscale.experiment import cells
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result, result_of

PENDING = "result.pending.json"
FOLDER = "XLSCALE_CELL_FOLDER"  # tells the notebook's kernel where to write
WATCHED = "XLSCALE_WATCHED"  # tells the engine that it was started by a sweep, and ends with it
EXECUTED = "executed.ipynb"
KERNEL = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # a kernel's environment


class Crashed(XlscaleError):
    """The notebook broke before it could leave a result; ``diverged`` is the reason if its training diverged."""

    def __init__(self, message: str, diverged: str | None = None):
        super().__init__(message)
        self.diverged = diverged


def ensure(cell: Cell) -> Path:
    """The folder of a complete cell, run first if need be. Raises XlscaleError if the cell has failed."""
    result = result_of(cell) or run(cell)
    if result.status == "failed":
        raise XlscaleError(f"{cell.id}: failed ({result.reason})")
    return cell.folder


def run(cell: Cell) -> Result:
    """Run the cell unless it is complete, and return its result.

    A diverged training, or a parent that failed, gives a result with status 'failed'. Raises Crashed, with one line,
    when the notebook breaks for any other reason; nothing is then taken for a result.
    """
    with _locked(cell.folder):
        if result := result_of(cell):
            return result
        for rest in cell.folder.glob(".*.part"):  # of a run that was killed while it wrote
            rest.unlink()
        write_json(cell.folder / "spec.json", cell.spec())
        if cell.parent:
            parent = result_of(cell.parent) or run(cell.parent)
            if parent.status == "failed":
                return _complete(cell, _failed(cell, f"parent {parent.id}: {parent.reason}"))
        return _complete(cell, _execute(cell))


def _execute(cell: Cell) -> Result:
    """Execute the cell's notebook and return the result it left, checked."""
    pending = cell.folder / PENDING
    pending.unlink(missing_ok=True)
    os.environ[FOLDER] = str(cell.folder)
    try:
        execute(files.NOTEBOOK[cell.phase], cell.folder / EXECUTED, cell.parameters.model_dump())
    except Crashed as error:
        if error.diverged:
            return _failed(cell, f"diverged: {error.diverged}")
        raise Crashed(f"{cell.id}: {error}") from None
    finally:
        del os.environ[FOLDER]
    if not pending.exists():
        raise Crashed(f"{cell.id}: the notebook ended without a result, see {relative(cell.folder / EXECUTED)}")
    return parse(Result, read_json(pending), relative(pending))


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Execute a notebook through papermill; raises Crashed with one line."""
    # Imported here: papermill takes seconds to import, and most calls find their cell complete.
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from xlscale.engine import kernels

    output.parent.mkdir(parents=True, exist_ok=True)
    os.environ |= KERNEL
    try:
        with kernels.sockets() as config:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                autosave_cell_every=0,
                start_timeout=180,
                cwd=str(notebook.parent),
                config=config,
                kernel_manager_class=kernels.Manager,
                shutdown_kernel="immediate",  # what the notebook wrote is on disk
            )
    except PapermillExecutionError as error:
        line = " ".join(str(error.evalue).split())
        message = line if error.ename in ("XlscaleError", "Crashed") else f"{error.ename}: {line}"
        raise Crashed(f"{notebook.name}: {message}", diverged=line if error.ename == "Diverged" else None) from None
    except Exception as error:  # a dead kernel, a full disk: nothing that papermill raises may pass for a result
        raise Crashed(f"{notebook.name}: {type(error).__name__}: {' '.join(str(error).split())}") from None


def _complete(cell: Cell, result: Result) -> Result:
    if result.id != cell.id:
        raise XlscaleError(f"{cell.id}: id: expected {cell.id} in the notebook's result, got {result.id}")
    write_json(cell.folder / "result.json", result.model_dump())
    (cell.folder / PENDING).unlink(missing_ok=True)
    return result


def _failed(cell: Cell, reason: str) -> Result:
    return Result(**cell.spec(), status="failed", reason=reason, fingerprint=cell.code())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the cell's lock. The operating system frees it when this process dies, however it dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def running(cell: Cell, runs: Path = RUNS) -> bool:
    """Whether some process holds the cell's lock at this moment."""
    try:
        with open(runs / cell.id / ".lock") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def main(cell_id: str) -> None:
    """Run one cell by its id, as an engine does: one line when it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    spec = RUNS / cell_id / "spec.json"
    if spec.exists():
        cell = cells.from_spec(read_json(spec), relative(spec))
    else:
        from xlscale.experiment import studies

        cell = studies.find(cell_id)
    began = time.monotonic()
    try:
        result = run(cell)
    except XlscaleError as error:
        write_text(cell.folder / "error.txt", f"{error}\n")
        raise
    (cell.folder / "error.txt").unlink(missing_ok=True)
    print(f"{cell.id}: {result.status} in {time.monotonic() - began:.0f} s")


def die_with_parent() -> None:
    """End this process soon after its parent has gone: a killed engine must leave no training behind.

    The kernel watches this process in the same way (ipykernel's parent poller).
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

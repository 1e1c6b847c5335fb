"""Runs many cells through Snakemake and shows how far they are: done, running, left, estimated time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from xlscale.core.files import CACHE, ROOT, RUNS, XlscaleError, relative, write_json, write_text
from xlscale.engine import fork_server, processes, runner, slurm
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import RESULT

POLL, POLL_CLUSTER = 1.0, 15.0  # seconds between looks at the cells, of which a cluster has thousands
FULL = 2**20  # bytes: with less than this left, whatever failed has failed for want of space, and its log too
LOG, ENGINE_LOG = "log.txt", "snakemake.log"  # of a cell or step, in its folder; of Snakemake, beside them
NAMED = 8  # running cells in a line of progress
LINE = 30.0  # seconds after which a line is printed although nothing has ended


def run(
    cells: list[Cell],
    jobs: int,
    runs: Path = RUNS,
    steps: Sequence[str] = (),
    config: Mapping[str, str] | None = None,
    cluster: slurm.Cluster | None = None,
) -> None:
    """Bring ``cells`` and their ancestors to completion, ``jobs`` at a time, or on a cluster.

    ``steps``: names of the other jobs that ``config`` has the Snakefile plan; what they print is shown. Complete cells
    are not run again. Raises XlscaleError with one line per crashed cell or step.
    """
    wanted = {member.id: member for cell in cells for member in cell.lineage()}
    check_places([*wanted, *steps], runs)
    for cell in reversed(wanted.values()):  # children first
        if _done(cell, runs):
            not_in_the_future(runs / cell.id / RESULT)
        elif cell.parent:
            runner.give_up_lost(cell.parent, runs)
    todo = [cell for cell in wanted.values() if not _done(cell, runs)]
    if not todo and not steps:
        return
    for name in [*(cell.id for cell in todo), *steps]:
        (runs / name).mkdir(parents=True, exist_ok=True)
        for left in ("error.txt", LOG):
            (runs / name / left).unlink(missing_ok=True)
    for cell in todo:
        # From it Snakemake and the cell's own process know the cell.
        write_json(runs / cell.id / "spec.json", cell.spec())
    environment = os.environ | {
        "XLSCALE_RUNS": str(runs),
        "PYTHONPATH": str(ROOT / "src"),
        "XDG_CACHE_HOME": str(CACHE),  # where libraries write: a home need not exist
        "TORCHINDUCTOR_CACHE_DIR": str(CACHE / "torch"),
        processes.WATCHED: str(os.getpid()),
    }
    log = runs / ENGINE_LOG
    with open(log, "ab") as output:
        if cluster:
            ready = slurm.submission(todo, cluster, runs)
        else:
            ready = _here(todo, config or {}, jobs, environment, output)
        with ready as (arguments, own):
            command = [sys.executable, "-m", "snakemake", "--directory", str(runs), *arguments]
            # Snakemake itself writes to standard error only: a step's standard output is what it has to tell the user.
            engine = subprocess.Popen(
                command, cwd=ROOT, env=environment | own, stderr=output, start_new_session=True,
                preexec_fn=_interruptible if cluster else None,
            )  # fmt: skip
            previous = {sign: signal.signal(sign, _leave) for sign in (signal.SIGTERM, signal.SIGHUP)}
            try:
                _watch(engine, list(wanted.values()), runs, POLL_CLUSTER if cluster else POLL, not steps)
            finally:
                for sign, handler in previous.items():
                    signal.signal(sign, handler)
                if engine.poll() is None:
                    # The whole group: Snakemake alone would first wait for its running cells to end. Interrupted, it
                    # cancels its jobs on a cluster.
                    os.killpg(engine.pid, signal.SIGINT if cluster else signal.SIGTERM)
                    engine.wait()
    _report(engine.returncode, todo, steps, runs, log)


@contextmanager
def _here(
    todo: list[Cell], config: Mapping[str, str], jobs: int, environment: Mapping[str, str], output: IO[bytes]
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Snakemake's arguments and environment variables to run cells on this machine, while the block runs."""
    with (
        fork_server.private_folder() as private,
        fork_server.serving(private, environment, output, at_once=bool(todo)) as address,
    ):
        only, given = Path(private) / "cells.txt", Path(private) / "config.json"
        write_text(only, "\n".join(cell.id for cell in todo))
        write_json(given, {"only": str(only), **config})
        arguments = ["--snakefile", str(ROOT / "Snakefile"), "--profile", str(slurm.FOLDER / "local")]
        arguments += ["--cores", str(jobs), "--configfile", str(given)]
        # Snakemake makes a temporary folder, which is to go with ours when it is killed; jobs get the user's.
        yield arguments, address | {"TMPDIR": private, processes.TEMPORARY: tempfile.gettempdir()}


def _interruptible() -> None:
    """Have a process notice an interrupt where its parent, started in the background, does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def check_places(names: Iterable[str], runs: Path) -> None:
    """Raise XlscaleError naming what is in the place of a cell's or step's folder, or of a log, and is none: a link
    would be written through, into what is somebody else's."""
    for name in names:
        folder = runs / name
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            kind = "a link" if folder.is_symlink() else "a file"
            raise XlscaleError(f"{folder}: expected a folder or nothing, got {kind}; remove it or rename it")
        if (folder / LOG).is_symlink():
            raise XlscaleError(f"{folder / LOG}: expected a plain file or nothing, got a link; remove it")
    if (runs / ENGINE_LOG).is_symlink():
        raise XlscaleError(f"{runs / ENGINE_LOG}: expected a plain file or nothing, got a link; remove it")


def _leave(sign: int, frame: object) -> None:
    sys.exit(128 + sign)


def _done(cell: Cell, runs: Path) -> bool:
    return (runs / cell.id / RESULT).exists()


def not_in_the_future(path: Path) -> None:
    """Set the time of a file that was written under a clock ahead to now: Snakemake fails where a job's output is older
    than what the job reads."""
    if path.stat().st_mtime > time.time():
        os.utime(path)


def _report(code: int, todo: list[Cell], steps: Sequence[str], runs: Path, log: Path) -> None:
    errors = [runs / name / "error.txt" for name in [*(cell.id for cell in todo), *steps]]
    lines = [path.read_text(encoding="utf-8").strip() for path in errors if path.exists()]
    if lines:
        raise XlscaleError("\n".join(lines))
    if (code or not all(_done(cell, runs) for cell in todo)) and shutil.disk_usage(runs).free < FULL:
        raise XlscaleError(f"{relative(runs)}: no space left on this disk; complete cells are kept")
    if code and (killed := _begun(todo, steps, runs)):
        advice = "it ended without a word, as what is killed for want of memory does; try JOBS=1"
        raise XlscaleError("\n".join(f"{relative(runs / name / LOG)}: {advice}" for name in killed))
    if code or not all(_done(cell, runs) for cell in todo):
        left = sum(not _done(cell, runs) for cell in todo)
        raise XlscaleError(f"{relative(log)}: {left} cells were not run (snakemake exit code {code})")


def _begun(todo: list[Cell], steps: Sequence[str], runs: Path) -> list[str]:
    """The cells that began and are not complete; where there are none, the step that wrote last."""
    cells = [cell.id for cell in todo if (runs / cell.id / LOG).exists() and not _done(cell, runs)]
    logs = {name: (runs / name / LOG).stat().st_mtime for name in steps if (runs / name / LOG).exists()}
    return cells or sorted(logs, key=logs.get)[-1:]


def _watch(engine: subprocess.Popen, cells: list[Cell], runs: Path, poll: float, alone: bool) -> None:
    """Tell how far the cells are until Snakemake has ended. ``alone``: no step prints something in between."""
    in_place = alone and sys.stdout.isatty()
    began, printed, shown, spent = time.monotonic(), 0.0, None, 0.0
    left = [cell for cell in cells if not _done(cell, runs)]
    while _running(engine, poll):
        ended = {cell.id for cell in left if _done(cell, runs)}
        spent += sum(cost(cell) for cell in left if cell.id in ended)
        left = [cell for cell in left if cell.id not in ended]
        running = [cell.id for cell in left if runner.running(cell, runs)]
        now, done = time.monotonic(), len(cells) - len(left)
        state = (done, tuple(running))
        if running and (state != shown or now - printed > LINE):
            rest = sum(cost(cell) for cell in left)
            _tell(progress_line(done, running, len(cells), now - began, spent, rest), in_place)
            printed, shown = now, state
    if shown and in_place:
        print(flush=True)


def _tell(line: str, in_place: bool) -> None:
    """Print a line of progress, in the place of the last one or below it."""
    if in_place:
        print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
    else:
        print(line, flush=True)


def _running(engine: subprocess.Popen, poll: float) -> bool:
    """Whether Snakemake runs, told after ``poll`` seconds or as soon as it has ended."""
    try:
        engine.wait(poll)
        return False
    except subprocess.TimeoutExpired:
        return True


def cost(cell: Cell) -> float:
    """Expected cost of a cell in arbitrary units, for the estimate of the time left: overhead plus depth."""
    return {"pretrained": 8.0, "intermediate": 10.0, "target": 10.0}[cell.phase] + 9.0 * cell.parameters.layers


def progress_line(done: int, running: list[str], total: int, seconds: float, spent: float, left: float) -> str:
    """One line of progress; the time left is known only when something has ended."""
    estimate = f"about {max(1, round(seconds * left / spent / 60))} min left" if spent else "time left not known yet"
    named = [*running[:NAMED], *([f"and {len(running) - NAMED} more"] if len(running) > NAMED else [])]
    return (
        f"[{seconds / 60:5.1f} min] cells: {done} done, {len(running)} running, {total - done - len(running)} waiting, "
        f"{estimate}; running {', '.join(named)}"
    )

"""One cell, and what cells read: acquired once and up front, by whichever verb is about to run them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from xlscale.cards.catalogue import data_card, model_card
from xlscale.commands import look
from xlscale.core import ending, needs, registry
from xlscale.core.files import CACHE, XlscaleError, one_line, relative, write_json
from xlscale.engine import processes, runner, sweep
from xlscale.experiment import cells, results
from xlscale.experiment.cells import Cell
from xlscale.record import homes, store

MADE = ".made"  # in a folder that commands make, and may remove
RECORDED = 4.1e9  # bytes: the most that a recorded cell of a bundled model took, by what its result says


def run(cell_id: str) -> None:
    """Run one cell and the ancestors that it lacks; a sweep, which starts many of these, has acquired what they read.

    By hand, the start of a recorded cell's id will do, and the value is told beside the recorded one. Raises
    XlscaleError for an unknown id or a crash.
    """
    by_hand = processes.WATCHED not in os.environ
    if by_hand:
        cell_id = look.matching(cell_id) or cell_id
        cell = runner.find(cell_id)
        sweep.check_places((one.id for one in cell.lineage()), cell.folder.parent)
        acquire(cell.lineage(), cell.folder.parent)
        write_json(cell.folder / "spec.json", cell.spec())
        for line in _ahead(cell):
            print(line, flush=True)
    if registry.backend() == "cuda":
        os.environ[runner.PLACEMENT] = json.dumps(_placed(runner.find(cell_id)))
    runner.main(cell_id)
    if by_hand:
        print(_told(runner.find(cell_id)))


def _ahead(cell: Cell) -> Iterator[str]:
    """A line for each cell that has yet to be run, in their order, with how long the record took."""
    known = store.results(homes.of(cell.id))
    for one in cell.lineage():
        if results.result_of(one) is None:
            took = f", {sum(known[one.id].seconds.values()):.0f} s in the record" if one.id in known else ""
            yield f"to run: {one.id}{took}"


def _told(cell: Cell) -> str:
    """What a complete cell found, beside the record, and where it lies."""
    from xlscale.report import verdicts
    from xlscale.stats import agreement

    result = results.result_of(cell)
    row = verdicts.of_one(result).iloc[0]
    sentence = verdicts.sentence(row)
    if row["verdict"] != agreement.ABSENT:
        sentence = ending.coloured(sentence, row["agrees"], sys.stdout)
    said = [sentence, verdicts.printed(result)]
    return "\n".join([*filter(None, said), f"Predictions and the executed notebook: {relative(cell.folder)}"])


def _placed(cell: Cell) -> dict[str, runner.Place]:
    """How a cell and its ancestors fit the GPUs of this machine, on one where that does. Raises XlscaleError where one
    does not."""
    import torch

    from xlscale.planning import hardware, plan

    memory, gpus = torch.cuda.get_device_properties(0).total_memory / hardware.GIB, torch.cuda.device_count()
    found = {}
    for one in cell.lineage():
        if (place := plan.place(one, hardware.here(memory, gpus))) is None:
            got = "one" if gpus < 2 else f"{gpus}"
            expected = "a GPU on which it fits" if gpus < 2 else "GPUs on which it fits"
            raise XlscaleError(f"{one.id}: expected {expected}, got {got} of {memory:.0f} GiB; see `make plan`")
        found[one.id] = runner.Place(place.tokens, place.again, place.gpus)
    return found


def default_jobs(memory: float = needs.MEMORY) -> int:
    """One cell per core that this process may use, and no more than have ``memory`` bytes each of what is free; one on
    a GPU."""
    if registry.backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(needs.free_memory() // memory)))


def jobs_of(chosen: Collection[Cell]) -> int:
    """How many of these cells run at a time by default: as ``default_jobs``, with the memory that is planned for the
    one that takes most. What they read has to be here."""
    known = all(model_card(cell.parameters.model).source is None for cell in chosen)
    if registry.backend() != "cpu" or (known and default_jobs(RECORDED) == default_jobs(1.0)):
        return default_jobs(RECORDED)  # a plan takes seconds, and would change nothing
    from xlscale.planning import hardware, resources

    return default_jobs(resources.in_turn(resources.of(chosen, hardware.load(hardware.DEFAULT)).values()).memory)


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Have a folder to oneself while the block runs: who asks for it meanwhile says so, and waits."""
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.with_name(f".{place.name}.lock"), fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"Waiting for another command that is at work in {relative(place)}.", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def fresh(folder: Path) -> None:
    """Make a folder in the place of what a command left there, which does not count any more. Raises as ``remove``."""
    remove(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MADE).touch()


def remove(folder: Path) -> None:
    """Remove a folder that was made by ``fresh``, or lies in one. Raises XlscaleError where something would be left,
    and for another folder or a link: what they hold may be anything of its user's."""
    try:
        if folder.is_symlink():
            raise XlscaleError(f"{folder}: expected a folder or nothing, got a link; remove it, to compute anew")
        ours = any((one / MADE).exists() for one in (folder, folder.parent))
        if folder.exists() and not ours and any(folder.iterdir()):
            raise XlscaleError(f"{folder}: expected what a command left there, or nothing; remove it, to compute anew")
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise XlscaleError(f"{folder}: could not be removed, to compute anew ({one_line(error)})") from None


def acquire(chosen: Iterable[Cell], runs: Path) -> None:
    """Get, build and convert whatever these cells read and is not on this machine: they only open what is here.

    Raises XlscaleError, and before all that where there is no room on disk or in memory, for it and for those of them
    that are not complete in ``runs``.
    """
    chosen = list(chosen)
    if left := [cell for cell in chosen if not (runs / cell.id / results.RESULT).exists()]:
        needs.check_memory()
        needs.check_disk(runs, sum(needs.CELL[cell.phase] for cell in left))
        if not (CACHE / "models").exists():
            needs.check_disk(CACHE, needs.MODEL)
    from xlscale.acquire import ensure

    values = [cell.parameters for cell in chosen]
    models = {value.model for value in values}
    named = {getattr(value, field, None) for value in values for field in ("intermediate", "target")}
    cards = [data_card(one) for name in sorted(named - {None, cells.NONE}) for one in data_card(name).members]
    cards += [data_card(stage) for card in cards for stage in card.stages]
    ensure.ensure(cards, map(model_card, sorted(models)))

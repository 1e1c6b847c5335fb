"""The verbs that run whole studies (sweep, record, tune), and what other verbs that run cells share with them."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from xlscale.commands import cell as cell_
from xlscale.core import needs
from xlscale.core.files import RESULTS, RUNS, Phase, XlscaleError, relative
from xlscale.engine import runner
from xlscale.engine import sweep as engine
from xlscale.experiment import results, studies
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result
from xlscale.record import canary, store


def sweep(study: str, jobs: int) -> None:
    """Run what is missing of a study in ``runs/``, or was made by other code. Raises XlscaleError if a cell crashes."""
    _sweep(studies.load(study).cells(), jobs)


def record(study: str, jobs: int) -> None:
    """Run what the record lacks of a study, or holds of other code, and take all complete cells of the study into it,
    also when some crash or the run is interrupted. Raises XlscaleError for those that crash or are broken.

    So a record grows wherever its study is run: another machine goes on with what is committed.
    """
    chosen = studies.load(study).cells()
    known = store.results()
    lacking = [cell for cell in chosen if not (cell.id in known and canary.accepted(known[cell.id]))]
    try:
        _sweep(list({member.id: member for cell in lacking for member in cell.lineage()}.values()), jobs)
    finally:
        print(f"{store.add(chosen)} cells were new or changed in {relative(RESULTS)}")


def _sweep(chosen: list[Cell], jobs: int) -> None:
    drop_stale(chosen, RUNS)
    cell_.acquire(chosen, RUNS)
    engine.run(chosen, jobs)


def tune(jobs: int) -> None:
    """Try the grids of the tuning studies, record them, and write the learning rates that they choose."""
    from xlscale.record import tuning

    for study in tuning.STUDY.values():
        record(study, jobs)
    print(f"written: {relative(tuning.write())}")
    record("suite", jobs)


def recorded(plan: studies.Study) -> dict[str, Result]:
    """The study's own recorded cells by id: what tolerances come from must not hold other recipes."""
    ids = {cell.id for cell in plan.cells()}
    return {name: result for name, result in store.results().items() if name in ids}


def changed_phases(known: dict[str, Result]) -> set[Phase]:
    """The phases of which some recorded cell has other code now, to be said beside a comparison with the record."""
    return {phase for phase, _, _ in canary.changed(known)}


def recompute(chosen: list[Cell], jobs: int, runs: Path) -> dict[str, Result]:
    """The results of cells that are computed from scratch in ``runs``, ancestors included. Raises XlscaleError where
    what was there before cannot be removed: it would be taken for what is computed now."""
    with cell_.alone(runs):
        cell_.remove(runs)
        cell_.acquire((member for cell in chosen for member in cell.lineage()), runs)
        engine.run(chosen, jobs, runs)
        return {cell.id: results.result_of(cell, runs) for cell in chosen}


def drop_stale(chosen: list[Cell], runs: Path, left: tuple[str, ...] = results.READ) -> None:
    """Set aside complete cells that other code or another type of machine made, and all that descends from them; and
    cells whose files were changed since, ``left`` being those that count.

    Otherwise the table would call recomputed what is not. Raises XlscaleError for a link in the place of a cell.
    """
    engine.check_places((cell.id for cell in chosen), runs)
    stale: set[str] = set()
    found: dict[str, Result] = {}
    altered: set[str] = set()
    for cell in chosen:
        if name := results.altered(runs / cell.id, left):
            if (runs / cell.id / results.RESULT).exists():
                print(f"{relative(runs / cell.id / name)}: changed since; the cell is run again")
                altered.add(cell.id)
            continue
        try:
            if result := results.result_of(cell, runs):
                found[cell.id] = result
        except XlscaleError as error:
            print(f"{error}; the cell is run again")
            stale.add(cell.id)
    changed, here = canary.changed(found), _machine_types() if found else set()
    for cell in chosen:  # parents come first
        if result := found.get(cell.id):
            foreign = canary.key(result) in changed or result.environment.get("machine", "") not in here
            if foreign or (cell.parent and cell.parent.id in stale):
                stale.add(cell.id)
    for name in stale | altered:
        with suppress(FileNotFoundError):  # another sweep was faster
            runner.set_aside(runs / name)


def _machine_types() -> set[str]:
    import torch

    from xlscale.core import machine, registry

    device = torch.device(registry.backend())
    return {machine.machine_type(machine.precision(kind, device), device) for kind in ("auto", "bf16", "float32")}


def heal(name: str, jobs: int) -> None:
    """Distil the cut rungs of a model to the whole one and judge them, see ``training.healing``.

    Raises XlscaleError, also when a process that works for it was killed.
    """
    from xlscale.acquire import ensure
    from xlscale.cards.catalogue import model_card
    from xlscale.training import healing

    ensure.ensure([], [model_card(name)])  # the text and the data that judge are bundled
    try:
        needs.check_memory()
        with cell_.alone(healing.RUNS):
            healing.main(name, jobs)
    except BrokenProcessPool:
        raise XlscaleError(
            "heal: one of its processes was killed, perhaps for want of memory (see JOBS); healed rungs are kept"
        ) from None

"""The verbs that run whole studies (sweep, record, tune), and what other verbs that run cells share with them."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from xlscale.commands import cell as cell_
from xlscale.core import manifest, needs
from xlscale.core.files import RESULTS, RUNS, Phase, XlscaleError, relative
from xlscale.engine import runner, slurm
from xlscale.engine import sweep as engine
from xlscale.experiment import results, studies
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result
from xlscale.record import canary, store


def sweep(study: str, jobs: int | None, profile: str = "local", hardware: str | None = None) -> None:
    """Run what is missing of a study in ``runs/``, or was made by other code. Raises XlscaleError if a cell crashes."""
    cluster = _cluster(profile, hardware, jobs)
    _sweep(studies.load(study).cells(), jobs, cluster)


def record(study: str, jobs: int | None, profile: str = "local", hardware: str | None = None) -> None:
    """Run what the record lacks of a study, or holds of other code, and take all complete cells of the study into it,
    also when some crash or the run is interrupted. Raises XlscaleError for those that crash or are broken, and before
    anything is run for a record that is not as its manifest says.

    So a record grows wherever its study is run: another machine goes on with what is committed.
    """
    cluster = _cluster(profile, hardware, jobs)
    chosen = studies.load(study).cells()
    manifest.check([RESULTS])
    known = store.results()
    lacking = [cell for cell in chosen if not (cell.id in known and canary.accepted(known[cell.id]))]
    try:
        _sweep(list({member.id: member for cell in lacking for member in cell.lineage()}.values()), jobs, cluster)
    finally:
        print(f"{store.add(chosen)} cells were new or changed in {relative(RESULTS)}")


def _sweep(chosen: list[Cell], jobs: int | None, cluster: slurm.Cluster | None = None) -> None:
    drop_stale(chosen, RUNS, here=not cluster)
    cell_.acquire(chosen, RUNS)
    engine.run(chosen, 0 if cluster else jobs or cell_.jobs_of(chosen), cluster=cluster)


def _cluster(profile: str, hardware: str | None, jobs: int | None) -> slurm.Cluster | None:
    """The cluster of a profile, or None; there this process begins again in a checkout that stays as it is, since jobs
    read the code for as long as the sweep takes. Raises XlscaleError where that differs from what is committed."""
    from xlscale.commands import checkouts
    from xlscale.planning import hardware as hardware_

    cluster = slurm.chosen(profile, hardware_.load(hardware or hardware_.DEFAULT).name, jobs)
    if cluster:
        checkouts.begin_again()
    return cluster


def tune(jobs: int | None) -> None:
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
        cell_.fresh(runs)
        cell_.acquire((member for cell in chosen for member in cell.lineage()), runs)
        engine.run(chosen, jobs, runs)
        return {cell.id: results.result_of(cell, runs) for cell in chosen}


def drop_stale(chosen: list[Cell], runs: Path, left: tuple[str, ...] = results.READ, here: bool = True) -> None:
    """Set aside complete cells that other code or another type of machine made, and all that descends from them; and
    cells whose files were changed since, ``left`` being those that count. Where cells do not run ``here``, the machine
    is not known that they will run on, and none is foreign.

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
    changed, types = canary.changed(found), _machine_types() if found and here else set()
    for cell in chosen:  # parents come first
        if result := found.get(cell.id):
            foreign = here and result.environment.get("machine", "") not in types
            if foreign or canary.key(result) in changed or (cell.parent and cell.parent.id in stale):
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

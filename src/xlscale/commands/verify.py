"""The verbs that recompute recorded cells from scratch and compare: verify, canary."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from xlscale.commands import cell as cell_
from xlscale.commands import sweeps
from xlscale.core import machine
from xlscale.core.files import RESULTS, RUNS, XlscaleError
from xlscale.engine import sweep
from xlscale.experiment import results, studies
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result
from xlscale.record import canary as canary_
from xlscale.record import store


def verify(study: str, n: int, seed: int, jobs: int) -> bool:
    """Recompute ``n`` random recorded cells of the study, ancestors included, and print how they compare.

    Returns whether all agree. Raises XlscaleError when the record holds fewer cells.
    """
    from xlscale.report import verdicts

    plan = studies.load(study)
    recorded = sweeps.recorded(plan)
    known = [cell for cell in plan.cells() if cell.id in recorded]
    if not 1 <= n <= len(known):
        raise XlscaleError(f"N={n}: expected 1 to {len(known)}, the number of recorded cells of {study}")
    mine = _recompute(random.Random(seed).sample(known, n), jobs, RUNS / "verify")
    table = verdicts.table(recorded, mine)
    print(verdicts.markdown(f"{n} random cells, SEED={seed}", table, recorded, canary_.changed(recorded)))
    return bool(table["agrees"].all())


def canary(study: str | None, jobs: int) -> bool:
    """Rerun stated canary cells where the code of a phase has changed since the record, and stamp it.

    ``study``: the one whose canary counts; None: all studies that state one. Returns whether all code is equivalent.
    Raises XlscaleError when no cell stands for some changed code, or this machine is not the record's.
    """
    recorded = store.results()
    changed = canary_.changed(recorded)
    if not changed:
        print("The code of every phase is the record's, or stamped as equivalent to it.")
        return True
    plans = map(studies.load, [study] if study else studies.names())
    stated = {cell.id: cell for plan in plans if plan.canary for cell in plan.matching(plan.canary)}
    chosen = [
        cell
        for name, cell in stated.items()
        if name in recorded and recorded[name].fingerprint in changed.get(cell.phase, ())
    ]
    covered = {(cell.phase, recorded[cell.id].fingerprint) for cell in chosen}
    for phase, code in ((phase, code) for phase, codes in changed.items() for code in sorted(codes)):
        # A code that is tied to a covered one needs no cells of its own.
        if not {(phase, other) for other in canary_.linked(phase, code)} & covered:
            raise XlscaleError(
                f"studies/{study or '*'}.yaml: canary: expected a cell of phase {phase} recorded by code {code[:10]}"
            )
    here = machine.machine_type(machine.precision("auto"))
    for cell in chosen:
        if (there := recorded[cell.id].environment.get("machine", here)) != here:
            raise XlscaleError(f"{cell.id}: machine: expected {there!r}, to compare bit for bit, this is {here!r}")
    mine = _recompute(chosen, jobs, RUNS / "canary")
    new = canary_.stamp(RESULTS, [(recorded[name], result) for name, result in mine.items()])
    for stamp in new:
        print(f"{stamp.phase}: {stamp.verdict} ({len(stamp.cells)} cells); code {stamp.current[:10]}")
    return all(stamp.verdict == "equivalent" for stamp in new)


def _recompute(chosen: list[Cell], jobs: int, runs: Path) -> dict[str, Result]:
    shutil.rmtree(runs, ignore_errors=True)
    cell_.acquire(member for cell in chosen for member in cell.lineage())
    sweep.run(chosen, jobs, runs)
    return {cell.id: results.result_of(cell, runs) for cell in chosen}

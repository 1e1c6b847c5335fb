"""``make canary``: does the present code still give what is recorded? A few stated cells, run again and compared.

On the machine type of the record they are compared with what is recorded. On another one, bit for bit means nothing;
there ``against`` names a commit whose code gave the record, or is stamped as equivalent to it, and the cells are run by
its code, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from xlscale.commands import cell as cell_
from xlscale.commands import checkouts, sweeps
from xlscale.core import machine
from xlscale.core.checkout import git
from xlscale.core.files import CACHE, RESULTS, RUNS, XlscaleError, read_json, relative
from xlscale.core.strict import parse
from xlscale.experiment import studies
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import PREDICTIONS, RESULT, Result
from xlscale.metrics.predictions import digest
from xlscale.record import canary, store


def run(study: str | None, jobs: int, against: str | None = None) -> bool:
    """Run the canary cells of a study (of every study that states some) whose code has changed; stamp the new code.

    Returns whether all predictions are equal. Raises XlscaleError when a changed code has no canary cell, when this is
    not the machine type of the record, or when ``against`` is no commit whose code stands for the record.
    """
    if against:
        _commit(against)
    recorded = store.results()
    changed = canary.changed(recorded)
    if not changed:
        print("The code behind every recorded cell is the record's, or stamped as equivalent to it.")
        return True
    chosen = [cell for cell in stated(study) if cell.id in recorded and canary.key(recorded[cell.id]) in changed]
    _check_coverage(changed, {canary.key(recorded[cell.id]) for cell in chosen}, study)
    before = by_commit(against, chosen, jobs) if against else _as_recorded(chosen, recorded)
    if strange := [cell for cell in chosen if before[cell.id].fingerprint not in _stands_for(recorded[cell.id])]:
        raise XlscaleError(f"AGAINST={against}: expected a commit whose code gave, or stands for, {strange[0].id}")
    after = sweeps.recompute(chosen, jobs, RUNS / "canary")
    stamps = canary.stamp(RESULTS, [(before[cell.id], after[cell.id]) for cell in chosen])
    for stamp in stamps:
        print(f"{stamp.phase}: {stamp.verdict} ({len(stamp.cells)} cells); code {stamp.current[:10]}")
    return all(stamp.verdict == "equivalent" for stamp in stamps)


def stated(study: str | None) -> list[Cell]:
    """The canary cells of a study, or of all whose record is the published one."""
    plans = [studies.load(study)] if study else studies.published()
    return [cell for plan in plans if plan.canary for cell in plan.matching(plan.canary)]


def _stands_for(result: Result) -> set[str]:
    return canary.linked(result.phase, result.fingerprint)


def _check_coverage(changed: set[tuple[str, str, str]], covered: set[tuple[str, str, str]], study: str | None) -> None:
    """Every changed code has a canary cell, or is tied to one that has."""
    for phase, old, new in sorted(changed):
        if not any((phase, other, new) in covered for other in canary.linked(phase, old)):
            where = f"studies/{study}.yaml" if study else "studies"
            raise XlscaleError(
                f"{where}: canary: expected a cell of phase {phase} recorded by code {old[:10]}, now {new[:10]}"
            )


def _as_recorded(chosen: list[Cell], recorded: dict[str, Result]) -> dict[str, Result]:
    here = machine.machine_type(machine.precision("auto"))
    for cell in chosen:
        if (there := recorded[cell.id].environment.get("machine", here)) != here:
            raise XlscaleError(
                f"{cell.id}: machine: expected {there!r}, to compare bit for bit, this is {here!r}; "
                "with AGAINST=<commit> the cells are run by the code of that commit, too"
            )
    return {cell.id: recorded[cell.id] for cell in chosen}


def by_commit(commit: str, chosen: list[Cell], jobs: int) -> dict[str, Result]:
    """The results of cells by the code of a commit of this repository, kept in ``runs/`` for the next time.

    Raises XlscaleError when there is no such commit, or its code does not complete a cell.
    """
    code = checkouts.of(name := _commit(commit))
    runs = RUNS / f"canary-{name[:10]}"
    runs.mkdir(parents=True, exist_ok=True)
    (runs / cell_.MADE).touch()
    with ThreadPoolExecutor(jobs) as pool:
        environment = os.environ | {"PYTHONPATH": str(code / "src"), "XLSCALE_RUNS": str(runs)}
        environment |= {"XLSCALE_CACHE": str(CACHE), "XLSCALE_ROOT": str(code)}

        def complete(cell: Cell) -> None:
            command = [sys.executable, "-m", "xlscale", "run", cell.id]
            done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True)
            if done.returncode:
                reason = " ".join(done.stderr.split())[-300:]
                raise XlscaleError(f"AGAINST={commit}: {cell.id}: expected to be run by that code ({reason})")

        for cell in chosen:
            if (runs / cell.id).exists() and _kept(cell, runs) is None:
                cell_.remove(runs / cell.id)
        list(pool.map(complete, (cell for cell in chosen if not (runs / cell.id / RESULT).exists())))
    found = {cell.id: _kept(cell, runs) for cell in chosen}
    if odd := [name for name, result in found.items() if result is None]:
        raise XlscaleError(f"AGAINST={commit}: {odd[0]}: expected a result of this cell and machine")
    return found


def _commit(given: str) -> str:
    """The whole hash of a commit of this repository. Raises XlscaleError for another one."""
    try:
        found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{given}^{{commit}}")
    except XlscaleError as error:
        raise XlscaleError(f"AGAINST={given}: expected a commit of this repository; {error}") from None
    return found.decode().strip()


def _kept(cell: Cell, runs: Path) -> Result | None:
    """What the code of a commit left of a cell on this type of machine, None where that is not so. Seals do not count:
    another code may have set others, or none."""
    path, here = runs / cell.id / RESULT, machine.machine_type(machine.precision("auto"))
    try:
        result = parse(Result, read_json(path), relative(path))
        known = result.status == "failed" or digest(pd.read_parquet(path.with_name(PREDICTIONS)))
    except (XlscaleError, OSError, ValueError):
        return None
    own = result.id == cell.id and known in (True, result.predictions_sha256)
    return result if own and result.environment.get("machine", here) == here else None

"""The verb verify: random recorded cells, recomputed from scratch and compared."""

from __future__ import annotations

import random

from xlscale.commands import sweeps
from xlscale.core import ending, manifest
from xlscale.core.files import RESULTS, RUNS, XlscaleError, relative
from xlscale.experiment import studies


def verify(study: str, n: int, seed: int, jobs: int) -> bool:
    """Recompute ``n`` random recorded cells of the study, ancestors included, and print how they compare.

    Returns whether all agree. Raises XlscaleError when the record holds fewer cells, or is not as its manifest says.
    """
    from xlscale.report import verdicts

    manifest.check()
    if RESULTS != manifest.RECORD:
        manifest.check([RESULTS])
    plan = studies.load(study)
    recorded = sweeps.recorded(plan)
    known = [cell for cell in plan.cells() if cell.id in recorded]
    if not known:
        raise XlscaleError(f"{relative(RESULTS)}: expected recorded cells of study {study}; make record STUDY={study}")
    if not 1 <= n <= len(known):
        raise XlscaleError(f"N={n}: expected 1 to {len(known)}, the number of recorded cells of {study}")
    mine = sweeps.recompute(random.Random(seed).sample(known, n), jobs, RUNS / "verify")
    table, changed = verdicts.table(recorded, mine), sweeps.changed_phases(recorded)
    agree = bool(table["agrees"].all())
    print(ending.verdict(verdicts.markdown(f"{n} random cells, SEED={seed}", table, recorded, mine, changed), agree))
    return agree

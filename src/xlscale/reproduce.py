"""What the Makefile's targets do: reproduce, verify, canary, record, paper.

Each function ends with a printed verdict and returns whether all is well.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from xlscale import canary as canary_
from xlscale import files, record, runner, studies, sweep
from xlscale.cells import Cell, Result
from xlscale.files import PAPER, REPRODUCTION, RESULTS, ROOT, RUNS, XlscaleError, digest, relative, sha256_file

ANALYSES = ["04_scaling", "05_significance"]
STAMP = REPRODUCTION / "stamp.json"


def reproduce(study: str, everything: bool, fresh: bool, jobs: int) -> bool:
    """Recompute cells, check the record, rebuild figures, numbers and paper, and compare.

    ``everything``: all cells of the study instead of the stated subset. ``fresh``: build the paper from this machine's
    cells alone, in ``reproduction/paper/``; else from the record, in ``paper/``.
    """
    plan = studies.load(study)
    chosen = plan.cells() if everything or fresh else _with_ancestors(plan.matching(plan.recompute))
    options = [study, everything, fresh]
    if (last := _unchanged(options, chosen)) is not None:
        print((REPRODUCTION / "agreement.md").read_text(encoding="utf-8"))
        print("Nothing has changed since: nothing was done.")
        return last
    faults = _faults(fresh)
    _drop_stale(chosen)
    folder, out = (REPRODUCTION / "record", REPRODUCTION / "paper") if fresh else (RESULTS, PAPER)
    _analyse("00_data", out, {})
    print(f"Study {study}: {len(chosen)} of {len(plan.cells())} cells from scratch, {jobs} at a time.", flush=True)
    sweep.run(study, chosen, jobs)
    mine = {cell.id: runner.result_of(cell) for cell in chosen}
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
        record.add(chosen, folder)
    pdf = _build_paper(study, folder, out)
    agrees = _report(plan.title, mine, faults)
    _remember(options, chosen, pdf, agrees)
    return agrees


def build_paper(study: str) -> Path:
    """Rebuild figures, numbers and ``paper/paper.pdf`` from the record; returns the path of the PDF.

    Raises XlscaleError when the record holds no cell.
    """
    if not record.results():
        raise XlscaleError(f"{relative(RESULTS)}: no recorded cells to build the paper from")
    _analyse("00_data", PAPER, {})
    return _build_paper(study, RESULTS, PAPER)


def _build_paper(study: str, folder: Path, out: Path) -> Path:
    from xlscale import paper

    for name in ANALYSES:
        _analyse(name, out, {"record": str(folder) if folder != RESULTS else "", "study": study})
    pdf = paper.build(out)
    print(f"{relative(pdf)} built from {relative(folder)}: sha256 {sha256_file(pdf)[:16]}")
    return pdf


def _analyse(name: str, out: Path, parameters: dict[str, str]) -> None:
    print(f"Notebook {name}", flush=True)
    executed = REPRODUCTION / "notebooks" / f"{name}.ipynb"
    runner.execute(files.NOTEBOOKS / f"{name}.ipynb", executed, parameters | {"out": str(out)})


def _faults(fresh: bool) -> list[str]:
    """What is wrong with the record, one line each, found before any expensive work. A fresh paper does not use it."""
    checked = record.check(RESULTS)
    faults = [f"{cell}: {verdict}" for cell, verdict in checked.items() if verdict != "ok"]
    print(f"Record: {len(checked) - len(faults)} of {len(checked)} cells have the right identity and hash.")
    if faults and not fresh:
        raise XlscaleError("\n".join(faults))
    return faults


def _with_ancestors(chosen: list[Cell]) -> list[Cell]:
    return list({member.id: member for cell in chosen for member in cell.lineage()}.values())


def _drop_stale(chosen: list[Cell]) -> None:
    """Set aside results in ``runs/`` that other code made: the table would compare the record with itself."""
    for cell in chosen:
        try:
            result = runner.result_of(cell)
            stale = result is not None and result.fingerprint not in canary_.accepted(cell.phase)
        except XlscaleError as error:
            print(f"{error}; the cell is run again")
            stale = True
        if stale:
            (cell.folder / "result.json").replace(cell.folder / "result.stale.json")


def _report(title: str, mine: dict[str, Result], faults: list[str]) -> bool:
    """Write and print ``reproduction/agreement.md`` (and .csv, and the overlaid main figure)."""
    from xlscale import verdicts

    recorded = record.results(RESULTS)
    table = verdicts.table(recorded, mine)
    agrees = bool(table["agrees"].all()) and not faults
    text = verdicts.markdown(title, table, recorded, canary_.changed(recorded))
    files.write_text(REPRODUCTION / "agreement.md", text)
    files.write_text(REPRODUCTION / "agreement.csv", table.to_csv(index=False))
    verdicts.overlay(recorded, mine, REPRODUCTION / "scaling_overlay")
    print(text)
    return agrees


def verify(study: str, number: int, seed: int, jobs: int) -> bool:
    """Recompute ``number`` random recorded cells of the study from scratch, ancestors included, and compare."""
    recorded = record.results()
    known = [cell for cell in studies.load(study).cells() if cell.id in recorded]
    if not 1 <= number <= len(known):
        raise XlscaleError(f"N={number}: expected 1 to {len(known)}, the number of recorded cells of {study}")
    chosen = random.Random(seed).sample(known, number)
    mine = _recompute(study, chosen, jobs, RUNS / "verify")
    from xlscale import verdicts

    table = verdicts.table(recorded, mine)
    print(verdicts.markdown(f"{number} random cells, SEED={seed}", table, recorded, canary_.changed(recorded)))
    return bool(table["agrees"].all())


def canary(study: str, jobs: int) -> bool:
    """Rerun the study's stated canary cells where the code of a phase has changed since the record, and stamp it."""
    recorded = record.results()
    changed = canary_.changed(recorded)
    if not changed:
        print("The code of every phase is the record's, or stamped as equivalent to it.")
        return True
    plan = studies.load(study)
    chosen = [cell for cell in plan.matching(plan.canary) if cell.phase in changed and cell.id in recorded]
    if missing := set(changed) - {cell.phase for cell in chosen}:
        raise XlscaleError(f"studies/{study}.yaml: canary: expected a recorded cell of phase {sorted(missing)[0]}")
    mine = _recompute(study, chosen, jobs, RUNS / "canary")
    pairs = [(recorded[name], result) for name, result in mine.items()]
    for old, new in pairs:
        if old.environment["machine"] != new.environment["machine"]:
            raise XlscaleError(
                f"{old.id}: machine: expected {old.environment['machine']!r} as in the record for a bit-for-bit "
                f"comparison, this is {new.environment['machine']!r}; nothing was stamped"
            )
    new = canary_.stamp(RESULTS, pairs)
    for stamp in new:
        print(f"{stamp.phase}: {stamp.verdict} ({len(stamp.cells)} cells); code {stamp.current[:10]}")
    return all(stamp.verdict == "equivalent" for stamp in new)


def plan(study: str) -> None:
    """Print one line per cell of a study: id, and whether it is recorded or complete in ``runs/``."""
    recorded = record.results()
    for cell in studies.load(study).cells():
        print(f"{cell.id}  {'recorded' if cell.id in recorded else 'done' if runner.result_of(cell) else 'to do'}")


def _recompute(study: str, chosen: list[Cell], jobs: int, runs: Path) -> dict[str, Result]:
    shutil.rmtree(runs, ignore_errors=True)
    sweep.run(study, chosen, jobs, runs)
    return {cell.id: runner.result_of(cell, runs) for cell in chosen}


def add_to_record(study: str, jobs: int) -> bool:
    """Run what is missing of a study and take all its complete cells into the record."""
    plan = studies.load(study)
    try:
        sweep.run(study, plan.cells(), jobs)
    finally:
        print(f"{record.add(plan.cells())} cells were new or changed in {relative(RESULTS)}")
    return True


def _state(chosen: list[Cell], pdf: Path) -> dict[str, str]:
    """sha256 of everything the outcome depends on or consists of, by path."""
    folders = [ROOT / "src", files.NOTEBOOKS, files.STUDIES, files.MANIFEST, RESULTS, PAPER, REPRODUCTION]
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    paths += [ROOT / "Snakefile", ROOT / "requirements.lock", pdf, *(cell.folder / "result.json" for cell in chosen)]
    skipped = {"__pycache__", ".ipynb_checkpoints"}
    return {
        relative(path): sha256_file(path) if path.exists() else "missing"
        for path in paths
        if path != STAMP and not skipped & set(path.parts)
    }


def _remember(options: list, chosen: list[Cell], pdf: Path, agrees: bool) -> None:
    state = {"options": options, "state": digest(_state(chosen, pdf)), "pdf": relative(pdf), "agrees": agrees}
    files.write_json(STAMP, state)


def _unchanged(options: list, chosen: list[Cell]) -> bool | None:
    """The verdict of the last run if nothing has changed since, else None."""
    if not STAMP.exists():
        return None
    try:
        last = json.loads(STAMP.read_text(encoding="utf-8"))
        same = last["options"] == options and last["state"] == digest(_state(chosen, ROOT / last["pdf"]))
        return last["agrees"] if same else None
    except (ValueError, KeyError, TypeError):
        return None

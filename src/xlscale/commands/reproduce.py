"""What the Makefile's targets do: reproduce, verify, canary, record, paper.

Each function ends with a printed verdict and returns whether all is well.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable
from pathlib import Path

from xlscale.core import files
from xlscale.core.files import (
    BUILT,
    PAPER,
    REPRODUCTION,
    RESULTS,
    ROOT,
    RUNS,
    XlscaleError,
    digest,
    relative,
    sha256_file,
)
from xlscale.engine import notebook, sweep
from xlscale.experiment import results, studies
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result
from xlscale.record import canary as canary_
from xlscale.record import store

ANALYSES = ["04_scaling", "05_significance", "06_published", "09_claims"]
STAMP = REPRODUCTION / "stamp.json"
HERE = RUNS / "reproduce"


def reproduce(study: str, everything: bool, fresh: bool, jobs: int) -> bool:
    """Recompute cells, check the record, rebuild figures, numbers and paper, and compare.

    ``everything``: all cells of the study instead of the stated subset. ``fresh``: build the paper from this machine's
    cells alone, in ``reproduction/paper/``; else from the record, in ``paper/``. Cells are computed in
    ``runs/reproduce/``, where nothing of the record was made, and kept there: an interrupted run goes on.
    """
    plan = studies.load(study)
    chosen = plan.cells() if everything or fresh else _with_ancestors(plan.matching(plan.recompute))
    if not chosen:
        raise XlscaleError(f"studies/{study}.yaml: recompute: expected at least one pattern, or CELLS=all")
    options, before = [study, everything, fresh], _inputs()
    if (last := _unchanged(options, before, chosen)) is not None:
        print((REPRODUCTION / "agreement.md").read_text(encoding="utf-8"))
        print("Nothing has changed since: nothing was done.")
        return last
    faults = _faults(plan, fresh)
    folder, out = (REPRODUCTION / "record", REPRODUCTION / "paper") if fresh else (RESULTS, BUILT)
    _analyse("00_data", out, {})
    _drop_stale(chosen, HERE)
    done = sum(results.result_of(cell, HERE) is not None for cell in chosen)
    print(f"Study {study}: recomputing {len(chosen)} of {len(plan.cells())} cells, {jobs} at a time", end="")
    print(f" ({done} are left from an interrupted run)." if done else ".", flush=True)
    sweep.run(study, chosen, jobs, HERE)
    mine = {cell.id: results.result_of(cell, HERE) for cell in chosen}
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
        store.add(chosen, folder, HERE)
    _build_paper(study, folder, out)
    agrees = _report(plan, mine, faults)
    outputs = _outputs(out, chosen)
    files.write_json(STAMP, {"options": options, "inputs": before, "outputs": outputs, "agrees": agrees})
    return agrees


def build_paper(study: str) -> Path:
    """Rebuild figures, numbers and ``paper/paper.pdf`` from the record; returns the path of the PDF.

    Raises XlscaleError when the record holds no cell.
    """
    _faults(studies.load(study), False)
    _analyse("00_data", BUILT, {})
    return _build_paper(study, RESULTS, BUILT)


def _build_paper(study: str, folder: Path, out: Path) -> Path:
    from xlscale.report import typeset

    if (RESULTS / "healing.csv").exists():  # what was prepared is not computed anew, so it is not in every record
        _analyse("08_preparation", out, {"again": 0})
    for name in ANALYSES:
        _analyse(name, out, {"record": str(folder) if folder != RESULTS else "", "study": study})
    pdf = typeset.build(out)
    print(f"{relative(pdf)} built from {relative(folder)}: sha256 {sha256_file(pdf)[:16]}")
    return pdf


def _analyse(name: str, out: Path, parameters: dict[str, str | int]) -> None:
    print(f"Notebook {name}", flush=True)
    executed = REPRODUCTION / "notebooks" / f"{name}.ipynb"
    notebook.execute(files.NOTEBOOKS / f"{name}.ipynb", executed, parameters | {"out": str(out)})


def _faults(plan: studies.Study, fresh: bool) -> list[str]:
    """What is wrong with the record, one line each, found before any expensive work. A fresh paper does not use it."""
    checked = store.check(RESULTS)
    faults = [f"{cell}: {verdict}" for cell, verdict in checked.items() if verdict != "ok"]
    print(f"Record: {len(checked) - len(faults)} of {len(checked)} cells have the right identity and hash.", flush=True)
    if faults and not fresh:
        raise XlscaleError("\n".join(faults))
    if not fresh and not {cell.id for cell in plan.cells() if cell.phase == "target"} & checked.keys():
        raise XlscaleError(
            f"{relative(RESULTS)}: expected recorded target cells of study {plan.name}; use SOURCE=fresh"
        )
    return faults


def _with_ancestors(chosen: list[Cell]) -> list[Cell]:
    return list({member.id: member for cell in chosen for member in cell.lineage()}.values())


def _drop_stale(chosen: list[Cell], runs: Path) -> None:
    """Set aside complete cells that other code or another type of machine made, and all that descends from them.

    Otherwise the table would call recomputed what is not.
    """
    from xlscale.core import machine

    here = {machine.machine_type(machine.precision(kind)) for kind in ("auto", "bf16", "float32")}
    accepted = {phase: canary_.accepted(phase) for phase in {cell.phase for cell in chosen}}
    stale: set[str] = set()
    for cell in chosen:  # parents come first
        try:
            result = results.result_of(cell, runs)
        except XlscaleError as error:
            print(f"{error}; the cell is run again")
            stale.add(cell.id)
            continue
        if result is None:
            continue
        own = result.fingerprint in accepted[cell.phase] and result.environment.get("machine", "") in here
        if not own or (cell.parent and cell.parent.id in stale):
            stale.add(cell.id)
    for name in stale:
        (runs / name / "result.json").replace(runs / name / "result.stale.json")


def _report(plan: studies.Study, mine: dict[str, Result], faults: list[str]) -> bool:
    """Write and print ``reproduction/agreement.md`` (and .csv, and the overlaid main figure)."""
    from xlscale.report import verdicts

    recorded = _recorded(plan)
    table = verdicts.table(recorded, mine)
    agrees = bool(table["agrees"].all()) and not faults
    text = verdicts.markdown(plan.title, table, recorded, canary_.changed(recorded))
    files.write_text(REPRODUCTION / "agreement.md", text)
    files.write_text(REPRODUCTION / "agreement.csv", table.to_csv(index=False))
    verdicts.overlay(recorded, mine, REPRODUCTION / "scaling_overlay")
    print(text)
    return agrees


def _recorded(plan: studies.Study) -> dict[str, Result]:
    """The study's own recorded cells: what tolerances come from must not hold other recipes."""
    ids = {cell.id for cell in plan.cells()}
    return {name: result for name, result in store.results().items() if name in ids}


def verify(study: str, number: int, seed: int, jobs: int) -> bool:
    """Recompute ``number`` random recorded cells of the study from scratch, ancestors included, and compare."""
    plan = studies.load(study)
    recorded = _recorded(plan)
    known = [cell for cell in plan.cells() if cell.id in recorded]
    if not 1 <= number <= len(known):
        raise XlscaleError(f"N={number}: expected 1 to {len(known)}, the number of recorded cells of {study}")
    mine = _recompute(study, random.Random(seed).sample(known, number), jobs, RUNS / "verify")
    from xlscale.report import verdicts

    table = verdicts.table(recorded, mine)
    print(verdicts.markdown(f"{number} random cells, SEED={seed}", table, recorded, canary_.changed(recorded)))
    return bool(table["agrees"].all())


def canary(study: str, jobs: int) -> bool:
    """Rerun the study's stated canary cells where the code of a phase has changed since the record, and stamp it."""
    from xlscale.core import machine

    recorded = store.results()
    changed = canary_.changed(recorded)
    if not changed:
        print("The code of every phase is the record's, or stamped as equivalent to it.")
        return True
    study_ = studies.load(study)
    chosen = []
    for cell in study_.matching(study_.canary):
        if cell.id in recorded and recorded[cell.id].fingerprint in changed.get(cell.phase, ()):
            chosen.append(cell)
    covered = {(cell.phase, recorded[cell.id].fingerprint) for cell in chosen}
    for phase, code in ((phase, code) for phase, codes in changed.items() for code in sorted(codes)):
        # A code that is tied to a covered one needs no cells of its own.
        if not {(phase, other) for other in canary_.linked(phase, code)} & covered:
            raise XlscaleError(
                f"studies/{study}.yaml: canary: expected a cell of phase {phase} recorded by code {code[:10]}"
            )
    here = machine.machine_type(machine.precision("auto"))
    for cell in chosen:
        if (there := recorded[cell.id].environment.get("machine", here)) != here:
            raise XlscaleError(f"{cell.id}: machine: expected {there!r}, to compare bit for bit, this is {here!r}")
    mine = _recompute(study, chosen, jobs, RUNS / "canary")
    new = canary_.stamp(RESULTS, [(recorded[name], result) for name, result in mine.items()])
    for stamp in new:
        print(f"{stamp.phase}: {stamp.verdict} ({len(stamp.cells)} cells); code {stamp.current[:10]}")
    return all(stamp.verdict == "equivalent" for stamp in new)


def plan(study: str) -> None:
    """Print one line per cell of a study: id, and whether it is recorded or complete in ``runs/``."""
    recorded = store.results()
    for cell in studies.load(study).cells():
        print(f"{cell.id}  {'recorded' if cell.id in recorded else 'done' if results.result_of(cell) else 'to do'}")


def _recompute(study: str, chosen: list[Cell], jobs: int, runs: Path) -> dict[str, Result]:
    shutil.rmtree(runs, ignore_errors=True)
    sweep.run(study, chosen, jobs, runs)
    return {cell.id: results.result_of(cell, runs) for cell in chosen}


def run_study(study: str, jobs: int) -> None:
    """Run what is missing of a study in ``runs/``, or was made by other code."""
    chosen = studies.load(study).cells()
    _drop_stale(chosen, RUNS)
    sweep.run(study, chosen, jobs)


def add_to_record(study: str, jobs: int) -> None:
    """Run a study and take all its complete cells into the record, also when some crash or the run is interrupted."""
    try:
        run_study(study, jobs)
    finally:
        print(f"{store.add(studies.load(study).cells())} cells were new or changed in {relative(RESULTS)}")


def _hashes(paths: Iterable[Path]) -> str:
    """One hash of the contents of files; a missing one counts as such."""
    return digest({relative(path): sha256_file(path) if path.is_file() else "missing" for path in sorted(paths)})


def _below(*folders: Path) -> list[Path]:
    skipped = {"__pycache__", ".ipynb_checkpoints"}
    return [
        path for folder in folders for path in folder.rglob("*") if path.is_file() and not skipped & set(path.parts)
    ]


def _inputs() -> str:
    """Hash of everything that the outcome of ``reproduce`` depends on, taken before it begins."""
    sources = [
        PAPER / "paper.typ",
        PAPER / "refs.bib",
        PAPER / "claims.yaml",
        ROOT / "Snakefile",
        ROOT / "requirements.lock",
    ]
    folders = [ROOT / "src" / "xlscale", files.NOTEBOOKS, files.STUDIES, files.MANIFEST, RESULTS, PAPER / "fonts"]
    return _hashes([*sources, *_below(*folders)])


def _outputs(out: Path, chosen: list[Cell]) -> str:
    """Hash of everything that ``reproduce`` leaves."""
    made = [out / name for name in ("numbers.json", "numbers.tex", "paper.pdf")]
    made += [path for path in _below(REPRODUCTION, out / "figures", out / "generated") if path != STAMP]
    return _hashes([*made, *(HERE / cell.id / "result.json" for cell in chosen)])


def _unchanged(options: list, inputs: str, chosen: list[Cell]) -> bool | None:
    """The verdict of the last run if nothing has changed since, else None."""
    out = REPRODUCTION / "paper" if options[-1] else BUILT
    try:
        last = files.read_json(STAMP)
        same = last["options"] == options and last["inputs"] == inputs and last["outputs"] == _outputs(out, chosen)
        return last["agrees"] if same else None
    except (XlscaleError, KeyError, TypeError):
        return None


def tune(jobs: int) -> None:
    """Try the grids of the tuning studies, record them, and write the learning rates that they choose."""
    from xlscale.record import tuning

    for study in tuning.STUDY.values():
        add_to_record(study, jobs)
    print(f"written: {relative(tuning.write())}")
    add_to_record("suite", jobs)

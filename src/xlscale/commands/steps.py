"""The steps between the cells and the paper: which there are, what each reads, and how one is run.

A step ends with a receipt, ``reproduction/steps/<source>/<step>.json``: what it was made from, and the sha256 of every
file that it left. The Snakefile orders the steps and knows receipts only, because Snakemake deletes the outputs of a
job that fails, and what steps leave in ``paper/`` is committed. A receipt that no longer holds, because a source was
edited or a file that the step left was changed, is dropped before Snakemake looks, so that the step is run again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from xlscale.core import fingerprint, manifest, registry
from xlscale.core.files import (
    BUILT,
    MANIFEST,
    NOTEBOOKS,
    PAPER,
    REPRODUCTION,
    RESULTS,
    ROOT,
    RUNS,
    STUDIES,
    XlscaleError,
    digest,
    read_json,
    relative,
    sha256_file,
    write_json,
    write_text,
)
from xlscale.experiment import studies
from xlscale.experiment.cells import Cell

CARDS = [MANIFEST / name for name in ("benchmarks", "bundled", "data", "locks", "mixtures", "models", "sources")]
RECORD = [*CARDS, STUDIES, RESULTS]
PUBLISHED = [*RECORD, MANIFEST / "published"]
# step -> files and folders whose content it depends on, besides code; of other steps the Snakefile knows.
READS: dict[str, list[Path]] = {
    "check": RECORD,
    "00_data": [*CARDS, STUDIES],
    "08_preparation": RECORD,
    "04_scaling": RECORD,
    "05_significance": RECORD,
    "06_published": PUBLISHED,
    "07_xtreme_r": PUBLISHED,
    "09_claims": [*PUBLISHED, PAPER / "claims.yaml"],
    "10_design": RECORD,
    "11_methods": [*RECORD, MANIFEST / "languages"],
    "13_designs": [*CARDS, STUDIES, MANIFEST / "hardware", MANIFEST / "lengths.yaml"],
    "record": [*CARDS, STUDIES],
    "paper": [*(PAPER / name for name in ("paper.typ", "layout.typ", "sections", "appendix", "refs.bib", "fonts"))],
    "agreement": RECORD,
}
# step -> the module that it calls; of the rest see ``Build.made_from``
CODE = {"record": "xlscale.record.store", "paper": "xlscale.report.typeset"}
LOCK = ROOT / "requirements.lock"
# Notebooks that tell of studies of their own, whatever else is built: the file without which they are left out, since
# nothing of it is computed anew, and the parameters that they get.
APART: dict[str, tuple[Path, dict[str, int]]] = {
    "08_preparation": (RESULTS / "healing.csv", {"again": 0}),
    "07_xtreme_r": (STUDIES / "xtreme_r_small.yaml", {}),
    "10_design": (STUDIES / "confirmatory_2.yaml", {}),
    "11_methods": (STUDIES / "lexical.yaml", {}),
    "13_designs": (STUDIES / "window_7b_72b.yaml", {}),
}
OVERLAY, PAGE = "scaling_overlay", "index.html"  # what `make reproduce` found, in REPRODUCTION
MADE_FROM = "made_from.json"  # beside a notebook that was run by hand
# What is said of a run beside the figures that it is part of.
RUN = ["cell", "phase", "model", "layers", "condition", "target", "seed", "status", "value", "english"]


@dataclass(frozen=True)
class Build:
    """What is built: the paper of a study, from the record or afresh, and which cells are recomputed beside it.

    ``runs`` of the cells is ``files.RUNS``: a sweep sets it for the steps that it starts.
    """

    study: str = studies.MAIN
    source: Literal["record", "fresh"] = "record"
    cells: Literal["none", "stated", "all"] = "stated"

    @property
    def out(self) -> Path:
        """Where figures, numbers and paper go."""
        return REPRODUCTION / "paper" if self.source == "fresh" else BUILT

    @property
    def record(self) -> Path:
        """The record that the paper is built from."""
        return REPRODUCTION / "record" if self.source == "fresh" else RESULTS

    @property
    def executed(self) -> Path:
        """Where analysis notebooks go as they were executed here."""
        return (self.out if self.source == "fresh" else REPRODUCTION) / "notebooks"

    @property
    def notebooks(self) -> list[str]:
        """The analysis notebooks that make the paper's numbers."""
        left_out = {name for name, (needed, _) in APART.items() if not needed.exists()}
        return [name for name in READS if name[0].isdigit() and name not in left_out]

    @property
    def steps(self) -> list[str]:
        """All steps, in an order in which they can be run."""
        fresh = ["record"] if self.source == "fresh" else []
        return ["check", *fresh, *self.notebooks, "paper", *(["agreement"] if self.cells != "none" else [])]

    def chosen(self) -> list[Cell]:
        """The cells to recompute, parents before children. Raises XlscaleError when the study states none."""
        if self.cells == "none":
            return []
        plan = studies.load(self.study)
        if self.cells == "all" or self.source == "fresh":
            return plan.cells()
        chosen = [member for cell in plan.matching(plan.recompute) for member in cell.lineage()]
        if not chosen:
            raise XlscaleError(f"studies/{self.study}.yaml: recompute: expected at least one pattern, or CELLS=all")
        return list({cell.id: cell for cell in chosen}.values())

    def receipt(self, step: str) -> Path:
        """Where the receipt of a step lies."""
        return REPRODUCTION / "steps" / self.source / f"{step}.json"

    def says(self, step: str) -> dict[str, Any]:
        """What a step found, by its receipt. Raises XlscaleError without one."""
        return read_json(self.receipt(step))["found"]

    def state(self) -> dict[str, int]:
        """step -> time of its receipt, of those that have one: equal before and after means that nothing was done."""
        return {step: path.stat().st_mtime_ns for step in self.steps if (path := self.receipt(step)).exists()}

    def drop_stale(self) -> None:
        """Remove the receipts that no longer hold."""
        for step in self.steps:
            if not self.holds(step):
                self.receipt(step).unlink(missing_ok=True)

    def holds(self, step: str) -> bool:
        """Whether a step has a receipt, nothing that it read has changed, and what it left is still there."""
        try:
            receipt = read_json(self.receipt(step))
            return receipt["made_from"] == self.made_from(step) and receipt["left"] == _hashes(receipt["left"])
        except (XlscaleError, KeyError, TypeError):
            return False

    def made_from(self, step: str, apart: Collection[Path] = ()) -> dict[str, str]:
        """What the step depends on, each by its hash: options, code, libraries, and the places that it reads, without
        the files ``apart``."""
        options, reads = [self.study, self.source, self.cells if step == "agreement" else ""], READS[step]
        if step in self.notebooks and step not in APART:  # which tells of what is committed, whatever else is built
            reads = [self.record if path == RESULTS else path for path in reads]
        if step == "check":
            options.append(manifest.stated([RESULTS]))
        places = {relative(path): digest(_contents([path], apart)) for path in [*reads, LOCK]}
        return {"options": digest(options), **self._code(step), **places}

    def _code(self, step: str) -> dict[str, str]:
        if step in self.notebooks:
            path, families = NOTEBOOKS / f"{step}.ipynb", registry.PARTS["task"]
            tasks = fingerprint.of_modules(registry.module("task", family) for family in families)
            return {relative(path): _sha256(path), "its imports": fingerprint.of_notebook(path), "tasks": tasks}
        # The table is of cells, and so of all code. So is the check, which scores what was predicted.
        return {
            "code": fingerprint.of_modules([CODE[step]])
            if step in CODE
            else digest(_contents([ROOT / "src" / "xlscale"]))
        }


def paper_of(study: str) -> Build:
    """What is built for the paper of a study: those that are published have one paper. Raises XlscaleError for an
    unknown study."""
    return Build(study) if studies.workplace(study) else Build()


def run(name: str, study: str, source: str, cells: str) -> None:
    """Run one step and leave its receipt.

    Raises XlscaleError with one line that names the step; it is left in ``error.txt`` too, where a sweep finds it.
    """
    build = Build(study, source, cells)
    if name not in build.steps:
        raise XlscaleError(f"STEP: expected one of {', '.join(build.steps)}, got {name!r}")
    try:
        made_from = build.made_from(name)
        left, found = _execute(name, build, made_from) if name in build.notebooks else _WORK[name](build)
        receipt = {"made_from": made_from, "left": _hashes(relative(path) for path in left), "found": found}
        write_json(build.receipt(name), receipt)
    except Exception as error:
        own = isinstance(error, XlscaleError)
        line = str(error) if own else f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"
        write_text(RUNS / name / "error.txt", f"{line}\n")
        raise XlscaleError(line) from (None if own else error)


Outcome = tuple[list[Path], dict[str, Any]]  # the files that a step left, and what it found


def _check(build: Build) -> Outcome:
    """What is wrong with the record, found before any expensive work; a fresh paper does not use it."""
    from xlscale.cards.catalogue import data_card
    from xlscale.record import store
    from xlscale.report import typeset

    typeset.check_titles({f"card {name}": data_card(name).title for name in studies.data_sets(build.study)})
    checked = store.check(RESULTS)
    faults = [f"{cell}: {verdict}" for cell, verdict in checked.items() if verdict != "ok"]
    right = sum(verdict == "ok" for verdict in checked.values())
    found = f"{right} of {len(checked)} cells and files are right" if checked else f"none in {relative(RESULTS)}"
    print(f"Record: {found}.", flush=True)
    if build.source == "record":
        if faults:
            raise XlscaleError("\n".join(faults))
        if not {cell.id for cell in studies.load(build.study).cells() if cell.phase == "target"} & checked.keys():
            expected = f"recorded target cells of study {build.study}"
            # `make paper`, which computes no cells, knows no SOURCE.
            advice = "use SOURCE=fresh" if build.cells != "none" else f"`make record STUDY={build.study}` makes them"
            raise XlscaleError(f"{relative(RESULTS)}: expected {expected}; {advice}")
    return [], {"faults": faults}


def _execute(name: str, build: Build, made_from: dict[str, str]) -> Outcome:
    from xlscale.engine import notebook, processes
    from xlscale.report import typeset

    os.environ |= processes.ENVIRONMENT
    print(f"Notebook {name}", flush=True)
    parameters: dict[str, str | int] = {"out": str(build.out)}
    if name in APART:
        parameters |= APART[name][1]
    else:
        parameters["study"] = build.study
        if name != "00_data":
            parameters["record"] = str(build.record) if build.source == "fresh" else ""
    executed, generated = build.executed / f"{name}.ipynb", build.out / "generated" / f"{name}.json"
    notebook.execute_here(NOTEBOOKS / f"{name}.ipynb", executed, parameters)
    made = typeset.generated(generated)
    write_json(generated, made | {"made_from": made_from})  # by which another machine can tell whether it is stale
    drawn = [build.out / figure["file"] for figure in made["figures"].values()]
    return [executed, generated, *drawn, *(path.with_suffix(".pdf") for path in drawn)], {}


def _fresh_record(build: Build) -> Outcome:
    from xlscale.commands import cell
    from xlscale.record import store

    cell.fresh(build.record)
    store.add(build.chosen(), build.record, RUNS)
    return _below([build.record]), {}


def _paper(build: Build) -> Outcome:
    from xlscale.report import typeset

    said, pdf = typeset.build(build.out), build.out / "paper.pdf"
    beside = _runs_of_figures(build)
    if build.out == PAPER:
        manifest.state(manifest.BUILT)
    print(f"{relative(pdf)} built from {relative(build.record)}: {said}; sha256 {sha256_file(pdf)[:16]}", flush=True)
    return [pdf, build.out / typeset.NUMBERS, build.out / "numbers.tex", *beside], {}


def _runs_of_figures(build: Build) -> list[Path]:
    """Write the recorded runs behind every figure beside it, as CSV; gives the files. Figures of published scores have
    none."""
    from xlscale.record import store
    from xlscale.report import typeset
    from xlscale.report.behind import Behind

    known = store.table(store.results(build.record))
    behind, found = Behind(known, build.study), []
    for name, figure in typeset.built(build.out)["figures"].items():
        path = (build.out / figure["file"]).with_suffix(".csv")
        if runs := behind(figure["source"], name):
            write_text(path, known[known["cell"].isin(runs)][RUN].sort_values("cell").to_csv(index=False))
            found.append(path)
        else:
            path.unlink(missing_ok=True)
    return found


def _agreement(build: Build) -> Outcome:
    """Compare the recomputed cells with the record, in a table and in the main figure."""
    from xlscale.commands import sweeps
    from xlscale.experiment import results
    from xlscale.report import agreement_page, verdicts

    plan = studies.load(build.study)
    recorded = sweeps.recorded(plan)
    mine = {cell.id: results.result_of(cell, RUNS) for cell in build.chosen()}
    table = verdicts.table(recorded, mine)
    text, data = REPRODUCTION / "agreement.md", REPRODUCTION / "agreement.csv"
    about = (plan.title, table, recorded, mine, sweeps.changed_phases(recorded))
    write_text(text, verdicts.markdown(*about))
    write_text(data, table.to_csv(index=False))
    verdicts.overlay(recorded, mine, REPRODUCTION / OVERLAY)
    drawn = [REPRODUCTION / f"{OVERLAY}.{suffix}" for suffix in ("svg", "pdf")]
    write_text(page := REPRODUCTION / PAGE, agreement_page.html(*about, drawn[0], _executed([*mine], build)))
    # A study without a record has nothing to agree with, which is said; a record of which nothing was computed anew has
    # not been confirmed.
    compared = verdicts.compared_any(table) or not recorded
    agrees = compared and bool(table["agrees"].all()) and not build.says("check")["faults"]
    return [text, data, page, *drawn], {"agrees": agrees}


def _executed(names: Iterable[str], build: Build) -> dict[str, str]:
    """Cells and analysis notebooks -> links from ``PAGE`` to them as they were executed here."""
    places = {name: RUNS / name / "executed.ipynb" for name in names}
    places |= {name: build.executed / f"{name}.ipynb" for name in build.notebooks}  # which may run beside this step
    return {name: quote(os.path.relpath(path, REPRODUCTION)) for name, path in places.items()}


_WORK = {"check": _check, "record": _fresh_record, "paper": _paper, "agreement": _agreement}


def _below(places: Iterable[Path]) -> list[Path]:
    """All files that are, or lie below, one of these places, sorted; what is hidden or compiled is left out, and the
    manifest, which every command that writes changes. Of the studies their files alone: records and papers of a user's
    own lie in folders beside them."""
    found = {path for place in places for path in _files(place)}
    left_out = {"__pycache__", manifest.NAME}
    return sorted(p for p in found if p.is_file() and p.name[0] != "." and left_out.isdisjoint(p.parts))


def _files(place: Path) -> Iterable[Path]:
    return [place] if place.is_file() else place.glob("*") if place == STUDIES else place.rglob("*")


def _hashes(names: Iterable[str]) -> dict[str, str]:
    """path as ``relative`` gives it -> sha256 of what is there now, or "missing"."""
    return {name: sha256_file(ROOT / name) if (ROOT / name).is_file() else "missing" for name in names}


def _contents(places: Iterable[Path], apart: Collection[Path] = ()) -> dict[str, str]:
    # Not ``relative``, which asks the file system about each of thousands of paths.
    return {manifest.utf8(os.path.relpath(path, ROOT)): _sha256(path) for path in _below(places) if path not in apart}


@cache
def _sha256(path: Path) -> str:
    return sha256_file(path)

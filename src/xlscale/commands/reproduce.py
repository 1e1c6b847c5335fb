"""The verbs that end in a paper: reproduce, paper. What lies between cells and paper is in ``commands.steps``."""

from __future__ import annotations

from xlscale.commands import cell as cell_
from xlscale.commands.steps import PAGE, Build
from xlscale.core import ending, manifest
from xlscale.core.files import REPRODUCTION, RESULTS, RUNS, relative
from xlscale.engine import sweep
from xlscale.experiment import results, studies
from xlscale.experiment.cells import Cell

HERE = RUNS / "reproduce"
NOTHING = "Nothing has changed since: nothing was done."


def reproduce(study: str, cells: str, source: str, jobs: int) -> bool:
    """Recompute cells, check the record, rebuild figures, numbers and paper, and compare; returns whether all agree.

    ``cells``: the subset that the study states, or all. ``source``: build the paper from the record, in ``paper/``, or
    from this machine's cells alone, in ``reproduction/paper/``. Cells are computed in ``runs/reproduce/``, where
    nothing of the record was made, and kept there: an interrupted run goes on. Raises XlscaleError, a line per fault.
    """
    build = Build(study, source, cells)
    _check_manifest(build)
    with cell_.alone(HERE):
        return _reproduce(build, build.chosen(), jobs)


def _check_manifest(build: Build) -> None:
    """Raise XlscaleError, a line per file, unless what the paper is made from is as the manifest says."""
    manifest.check(manifest.SOURCES)
    if build.source == "record":  # a fresh paper does not use it; at the end it is said whether it is right
        manifest.check([RESULTS])


def _reproduce(build: Build, chosen: list[Cell], jobs: int) -> bool:
    altered = any(results.altered(HERE / cell.id, results.LEFT) for cell in chosen)
    if altered or not build.holds("agreement"):  # else they were compared when code and record were the same
        from xlscale.commands import sweeps  # which imports torch

        sweeps.drop_stale(chosen, HERE, results.LEFT)
        cell_.acquire(chosen, HERE)
    done = sum(results.result_of(cell, HERE) is not None for cell in chosen)
    if done < len(chosen):
        left = f" ({done} are left from an interrupted run)" if done else ""
        total = len(studies.load(build.study).cells())
        print(f"Study {build.study}: recomputing {len(chosen)} of {total} cells, {jobs} at a time{left}.", flush=True)
    changed = _make(build, chosen, jobs)
    agree = build.says("agreement")["agrees"]
    print(ending.verdict((REPRODUCTION / "agreement.md").read_text(encoding="utf-8"), agree))
    if not changed and done == len(chosen):
        print(NOTHING)
    print(f"As a page, with the figure and the notebooks as they ran: {relative(REPRODUCTION / PAGE)}")
    return agree


def paper(study: str, jobs: int) -> None:
    """Rebuild figures, numbers and ``paper/paper.pdf`` from the record. Raises XlscaleError where it has a fault."""
    studies.load(study)  # raises, before Snakemake would, where there is none
    build = Build(study, "record", "none")
    _check_manifest(build)
    with cell_.alone(HERE):
        if not _make(build, [], jobs):
            print(NOTHING)


def _make(build: Build, chosen: list[Cell], jobs: int) -> bool:
    """Bring cells and steps to completion; returns whether a step was run."""
    before = build.state()
    config = {"study": build.study, "source": build.source, "cells": build.cells}
    sweep.run(chosen, jobs, HERE, build.steps, config)
    return build.state() != before

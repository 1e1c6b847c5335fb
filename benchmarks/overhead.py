"""What a cell costs besides its training and evaluation, and what a ``make reproduce`` costs that has nothing to do."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def cells(jobs: int) -> dict[str, float]:
    """Run the smoke study, ``jobs`` cells at a time, and give the overhead of a cell in seconds.

    Overhead: from the moment Snakemake starts the cell to its complete result, minus the stages train and evaluate.
    ``median`` is over all cells but the first ones, which wait while the fork server imports; ``first`` is theirs.
    ``sweep`` counts everything: (cores * wall time - training and evaluation) / cells.
    """
    with tempfile.TemporaryDirectory(prefix="xlscale-overhead-") as runs:
        environment = os.environ | {"XLSCALE_RUNS": runs}
        command = [sys.executable, "-m", "xlscale", "sweep", "--study", "smoke", "--jobs", str(jobs)]
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - began
        rows = sorted(_cell(folder.parent) for folder in Path(runs).glob("*/result.json"))
    overheads = [seconds - work for _, seconds, work in rows]
    return {
        "median": statistics.median(overheads[jobs:]),
        "first": statistics.mean(overheads[:jobs]),
        "sweep": (jobs * wall - sum(work for _, _, work in rows)) / len(rows),
        "cells": len(rows),
    }


def _cell(folder: Path) -> tuple[float, float, float]:
    """When a cell began, how long it took, and how much of that was training and evaluation."""
    stages = json.loads((folder / "result.json").read_text(encoding="utf-8"))["seconds"]
    began = _created(folder / "log.txt")
    seconds = (folder / "result.json").stat().st_mtime - began
    return began, seconds, stages.get("train", 0.0) + stages.get("evaluate", 0.0)


def _created(path: Path) -> float:
    """When Snakemake opened a cell's log: ``statx`` tells, where the file system keeps it."""
    born = subprocess.run(["stat", "--format", "%.W", str(path)], capture_output=True, text=True, check=True).stdout
    if float(born) <= 0:
        raise RuntimeError(f"{path}: this file system does not record when a file was made")
    return float(born)


def nothing_to_do(repeats: int = 3) -> dict[str, float]:
    """Median wall seconds of ``make reproduce`` when nothing has changed; the first call may have to do all of it."""
    seconds = []
    for attempt in range(repeats + 1):
        began = time.perf_counter()
        done = subprocess.run(["make", "reproduce"], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"make reproduce: exit code {done.returncode}\n{done.stderr[-2000:]}")
        if attempt:
            seconds.append(time.perf_counter() - began)
    return {"noop": statistics.median(seconds)}

"""The verb prompt: a decoder's cell evaluated by prompting, beside fine-tuning, in the terms of published scores.

Belongs here: which cell, in which order, and what is kept of it. What is prompted: ``engine.left``; how:
``engine.harness``. None of it is part of a cell's identity, or of the record.
"""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from xlscale.commands import look
from xlscale.commands.cell import alone, fresh, remove
from xlscale.core import machine, registry
from xlscale.core.files import XlscaleError, read_json, relative, write_json
from xlscale.core.format import MISSING
from xlscale.core.lines import each_bounded
from xlscale.core.strict import Sha256, Strict, parse
from xlscale.engine import harness, left, processes, runner
from xlscale.experiment.cells import Cell
from xlscale.published import formats

PROMPTED = "prompted.json"  # beside a cell's result
FOLDER = "prompted"  # there while it is at work


class Score(Strict):
    """One number of a task of the harness; fields that published scores have, too, are named as theirs.

    ``prompts_sha256``: of the task's items, prompts and answers, as the harness has it.
    """

    asked: str
    version: str
    task: str
    language: str
    regime: str
    metric: str
    value: float
    stderr: float | None
    items: Annotated[int, Field(ge=1)]
    prompts_sha256: Sha256


class Run(Strict):
    """One call of the harness. ``weights``: what was prompted; ``asked``: what it was called with."""

    weights: str
    params: int
    harness: str
    asked: dict[str, Any]
    seeds: dict[str, int]
    environment: dict[str, Any]
    scores: list[Score]


class Prompted(Strict):
    """What ``prompted.json`` holds: the runs for a cell, of each question the latest one."""

    schema_version: Literal[1] = 1
    cell: str
    model: str
    fingerprint: Sha256
    runs: list[Run]


def prompt(
    cell_id: str,
    tasks: list[str],
    shots: int | None,
    limit: int | None,
    batch: int,
    include: str,
    fetch: bool,
    keep: bool,
) -> str:
    """Prompt the language model that a cell left with tasks of lm-evaluation-harness, write ``prompted.json`` beside
    the cell, and give its scores as a table.

    Raises XlscaleError for a cell that left none, a task that is none, and whatever goes wrong in the harness.
    """
    # As an exception, so that the harness ends, too, and the model is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(processes.TERMINATED))
    version = harness.installed()
    cell = runner.find(look.matching(cell_id) or cell_id)
    result = left.check(cell)
    tasks = list(dict.fromkeys(name for one in tasks for name in one.split(",") if name))
    if include and not Path(include).is_dir():
        raise XlscaleError(f"--include: expected a folder of tasks, got {include}")
    folder, described = cell.folder / FOLDER, Path(include).resolve() if include else None
    backend = registry.get("backend", registry.backend())(getattr(cell.parameters, "precision", "auto"))
    dtype = str(backend.dtype).removeprefix("torch.")
    how = {"shots": shots, "limit": limit, "batch": batch, "device": str(backend.device), "dtype": dtype}
    with alone(folder):
        harness.check(tasks, described)
        fresh(folder)
        try:
            weights = left.write(cell, folder / harness.MODEL)
            print(f"prompting, {weights}; what the harness says: {relative(folder / harness.LOG)}", flush=True)
            output = harness.run(folder, tasks, **how, include=described, fetch=fetch)
            run = _run(output, weights, version, how | {"tasks": tasks}, backend)
        except BaseException:
            shutil.rmtree(folder / harness.MODEL, ignore_errors=True)  # what the harness said stays
            raise
        _keep(cell, result.fingerprint, run)
        remove(folder / harness.OUTPUT if keep else folder)
    kept = f"\nmodel kept in {relative(folder / harness.MODEL)}" if keep else ""
    return each_bounded(f"{table(run)}\n{relative(cell.folder / PROMPTED)}: {weights}{kept}")


def _run(output: harness.Output, weights: str, version: str, asked: dict[str, Any], backend: Any) -> Run:
    config = output.config
    return Run(
        weights=weights,
        params=config.model_num_parameters,
        harness=f"{harness.PACKAGE} {version}",
        asked=asked,
        seeds={name: getattr(config, f"{name}_seed") for name in ("random", "numpy", "torch", "fewshot")},
        environment=machine.environment(backend.dtype, backend.device),
        scores=[score for name in output.tasks() for score in _scores(output, name)],
    )


def _scores(output: harness.Output, name: str) -> list[Score]:
    task, language = formats.named(name)
    for one in harness.lost(output, name):
        print(f"left out: {name}: {one}: expected a finite number")
    return [
        Score(
            asked=name,
            version=str(output.versions[name]),
            task=task,
            language=language,
            regime=formats.prompted(output.shots[name]),
            metric=formats.measured(one.metric, one.chosen),
            value=one.value,
            stderr=one.stderr,
            items=output.samples[name].effective,
            prompts_sha256=output.task_hashes[name],
        )
        for one in harness.metrics(output, name)
    ]


def _keep(cell: Cell, fingerprint: str, run: Run) -> None:
    """Write a run into ``prompted.json``, in the place of one that asked the same in the same words, and of all of
    another training."""
    path, runs = cell.folder / PROMPTED, []
    if path.exists():
        before = parse(Prompted, read_json(path), relative(path))
        if (before.cell, before.fingerprint) == (cell.id, fingerprint):
            runs = [one for one in before.runs if _question(one) != _question(run)]
    about = {"cell": cell.id, "model": cell.parameters.model, "fingerprint": fingerprint}
    write_json(path, Prompted(**about, runs=[*runs, run]).model_dump())


def _question(run: Run) -> list[Any]:
    return [run.harness, run.weights, run.asked, sorted({(one.asked, one.prompts_sha256) for one in run.scores})]


def table(run: Run) -> str:
    """The scores of a run, a line each."""
    rows = [("task", "language", "regime", "metric", "value", "stderr", "items")]
    for one in run.scores:
        error = MISSING if one.stderr is None else f"{one.stderr:.4f}"
        rows.append((one.task, one.language, one.regime, one.metric, f"{one.value:.4f}", error, str(one.items)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = 4  # columns to the left; numbers to the right
    lines = [
        "  ".join(
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)

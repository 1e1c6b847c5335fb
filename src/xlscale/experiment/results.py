"""What a cell leaves: the schema of ``result.json``, and reading one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xlscale.core.files import RUNS, Phase, XlscaleError, read_json, relative
from xlscale.core.seals import sealed
from xlscale.core.strict import Sha256, Strict, parse
from xlscale.experiment.cells import Cell

RESULT, PREDICTIONS, CHECKPOINT = "result.json", "predictions.parquet", "checkpoint.safetensors"
READ = (RESULT, PREDICTIONS, CHECKPOINT)  # of what a cell leaves: what others go on from
LEFT = (*READ, "executed.ipynb")
RESUME, RANKS = "resume", "ranks"  # folders that are there until it is complete: see training.resume, engine.ranks


def split_of(phase: Phase, parameters: Mapping[str, Any]) -> str:
    """The split that a cell is evaluated on; parameters from before there was a choice do not name it."""
    return parameters.get("split", "dev" if phase == "intermediate" else "test")


class Score(Strict):
    """The metrics of one language. ``value`` is the task's primary metric, 0 to 1."""

    items: Annotated[int, Field(ge=0)]
    value: Annotated[float, Field(ge=0, le=1)]
    others: dict[str, float] = {}


class Result(Strict):
    """What ``result.json`` holds. A failed cell has a reason and no value; it is shown as missing, never as 0."""

    schema_version: Literal[1] = 1
    id: str
    phase: Phase
    parent: str | None
    parameters: dict[str, Any]
    reads: dict[str, Sha256]
    status: Literal["complete", "failed"]
    reason: str | None = None
    value: float | None = None  # primary metric over the zero-shot languages, equal weights; else over English
    english: float | None = None
    languages: dict[str, Score] = {}
    total_parameters: int | None = None
    non_embedding_parameters: int | None = None
    trainable_parameters: int | None = None  # of the encoder; None in results from before these were counted
    seconds: dict[str, float] = {}  # wall time per stage
    train_tokens: int = 0
    train_flops: float = 0.0
    losses: list[float] = []
    peak_memory_gb: float | None = None
    environment: dict[str, Any] = {}
    fingerprint: Sha256
    predictions_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _whole(self) -> Result:
        if (self.status == "failed") != (self.reason is not None):
            raise ValueError("reason: a failed cell has one, a complete cell has none")
        if self.status == "complete" and (self.value is None or self.predictions_sha256 is None):
            raise ValueError("value and predictions_sha256: a complete cell has both")
        return self


def result_of(cell: Cell, runs: Path = RUNS) -> Result | None:
    """The cell's result if it is complete and READ is as the cell left it, else None.

    Raises XlscaleError when ``result.json`` is broken, or of another cell.
    """
    path = runs / cell.id / RESULT
    if not path.exists():
        return None
    result = parse(Result, read_json(path), relative(path))
    if result.id != cell.id:
        raise XlscaleError(f"{relative(path)}: id: expected {cell.id}, got {result.id}")
    lost = result.status == "complete" and not (path.parent / PREDICTIONS).exists()
    return None if lost or altered(path.parent) else result


def altered(folder: Path, names: tuple[str, ...] = READ) -> str | None:
    """The first of the files that a complete cell left and that are still there that is not as it left it, or None."""
    return next((name for name in names if (folder / name).exists() and not sealed(folder / name)), None)

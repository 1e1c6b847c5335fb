"""The open cell that a phase notebook works with: where it starts from, what it has to leave behind.

The notebooks call ``open_cell``, then train and evaluate with the other modules, then ``finish``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from xlscale.cards.catalogue import data_card, locked, model_card
from xlscale.cards.schema import DataCard, ModelCard
from xlscale.core import files, fingerprint, machine
from xlscale.core.files import RUNS, atomic, write_json
from xlscale.engine import runner
from xlscale.experiment import cells
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result, Score
from xlscale.metrics.predictions import digest, zero_shot_mean
from xlscale.models import ladder
from xlscale.training.loop import TrainingLog

if TYPE_CHECKING:
    from IPython.display import SVG

STREAMS = ["examples", "windows", "placebo", "order", "head", "tokens"]
PROBE_LENGTH = 128  # tokens, of the retrieval that phase 1 shows


class OpenCell:
    """A cell at work. Not made directly: see ``open_cell``."""

    def __init__(self, cell: Cell, folder: Path):
        self.cell, self.folder = cell, folder
        self.parameters = cell.parameters
        self.dtype = machine.precision(getattr(cell.parameters, "precision", "auto"))
        self.seconds: dict[str, float] = {}
        self.model_card = model_card(cell.parameters.model)
        self._card_name = getattr(cell.parameters, "target", getattr(cell.parameters, "intermediate", "udhr"))
        torch.set_num_threads(machine.THREADS)

    @property
    def data(self):
        """Card of the data set this phase reads."""
        return data_card(self._card_name)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as the stage ``name``."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def stages(self) -> list[DataCard]:
        """Data sets whose training splits phase 3 trains on, one after the other: the target's own comes last."""
        return [*map(data_card, self.data.stages), self.data] if self.data.trained else []

    def generator(self, stream: str, stage: int = 0) -> np.random.Generator:
        """An explicit generator for one purpose (one of STREAMS) and stage, fixed by the cell's seed.

        The streams do not depend on model, rung or condition, so cells of one seed see the same examples in the same
        order: the comparison between conditions is paired.
        """
        phase = list(cells.PARAMETERS).index(self.cell.phase)
        return np.random.default_rng([self.parameters.seed, phase, STREAMS.index(stream), *([stage] if stage else [])])

    def starting_point(self) -> nn.Module:
        """The encoder this cell starts from: the cut pretrained model, or the parent's checkpoint.

        A parent of phase 2 that has not been run yet is run first.
        """
        parent, checkpoint = self.cell.parent, None
        if parent is not None and parent.phase == "intermediate":
            checkpoint = runner.ensure(parent) / "checkpoint.safetensors"
        with self.stage("load"):
            return ladder.load(self.model_card, self.parameters.layers, checkpoint)

    def head(self, task, encoder: nn.Module) -> nn.Module:
        """A fresh head for the task, from its own generator."""
        seed = int(self.generator("head").integers(2**62))
        return task.head(encoder.config.hidden_size, torch.Generator().manual_seed(seed))

    def finish(
        self, encoder: nn.Module, predictions: pd.DataFrame, languages: dict[str, Score], log: TrainingLog | None = None
    ) -> Result:
        """Write ``predictions.parquet`` and the result of this cell, and return the result."""
        total, non_embedding = ladder.parameter_counts(encoder)
        values = {language: score.value for language, score in languages.items()}
        with atomic(self.folder / "predictions.parquet") as path:
            predictions.to_parquet(path, index=False, compression="zstd")
        result = Result(
            id=self.cell.id,
            phase=self.cell.phase,
            parent=self.cell.parent.id if self.cell.parent else None,
            parameters=self.parameters.model_dump(),
            reads=dict(self.cell.reads),
            status="complete",
            value=zero_shot_mean(values),
            english=values.get("en"),
            languages=languages,
            total_parameters=total,
            non_embedding_parameters=non_embedding,
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
            train_tokens=log.tokens if log else 0,
            train_flops=3.0 * log.tokens * ladder.flops_per_token(encoder, log.mean_length) if log else 0.0,
            losses=[round(x, 5) for x in log.losses] if log else [],
            peak_memory_gb=round(machine.peak_memory_gb(), 3),
            environment=machine.environment(self.dtype),
            fingerprint=fingerprint.of_phase(self.cell.phase),
            predictions_sha256=digest(predictions),
        )
        # The runner renames it to result.json after it has checked it: an executed notebook is no proof of completion.
        write_json(self.folder / runner.PENDING, result.model_dump())
        return result


def open_cell(phase: files.Phase, namespace: dict[str, Any]) -> OpenCell:
    """Open the cell that a notebook's parameters describe. ``namespace`` is the notebook's ``globals()``.

    Run by hand it works in ``runs/by-hand/``, so that exploring never touches the cells of a sweep.
    """
    values = {name: namespace[name] for name in cells.PARAMETERS[phase].model_fields if name in namespace}
    cell = cells.make(phase, values, f"{files.NOTEBOOK[phase].name}, cell 'parameters'")
    folder = Path(os.environ.get(runner.FOLDER) or RUNS / "by-hand" / cell.id)
    folder.mkdir(parents=True, exist_ok=True)
    run = OpenCell(cell, folder)
    for card in [run.model_card, run.data, *map(data_card, run.data.stages)]:  # before anything expensive
        if card.source:
            locked(card.name)
    return run


def joined(logs: list[TrainingLog]) -> TrainingLog | None:
    """The logs of the stages of a training as one; None where nothing was trained."""
    if len(logs) < 2:
        return logs[0] if logs else None
    sums = {name: sum(getattr(log, name) for log in logs) for name in ("tokens", "padded_tokens", "squared")}
    return TrainingLog(losses=[loss for log in logs for loss in log.losses], **sums)


def language_table(result: Result) -> pd.DataFrame:
    """Scores per language, in percent, the mean over zero-shot languages last."""
    rows = {
        code: {"items": score.items, "value (%)": 100 * score.value}
        | {f"{name} (%)": 100 * value for name, value in score.others.items()}
        for code, score in result.languages.items()
    }
    mean = {"items": sum(score.items for code, score in result.languages.items() if code != "en" or len(rows) == 1)}
    rows["mean over zero-shot languages" if len(rows) > 1 else "mean"] = mean | {"value (%)": 100 * result.value}
    return pd.DataFrame.from_dict(rows, orient="index").round(1)


def loss_figure(log: TrainingLog | None) -> SVG | None:
    """Training loss against the step, or None where nothing was trained."""
    if log is None:
        return None
    from IPython.display import SVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(log.losses) + 1), log.losses, color="0.2", linewidth=1)
    axes.set(xlabel="optimizer step", ylabel="training loss (nats)")
    buffer = StringIO()
    figure.savefig(buffer, format="svg")  # a Figure alone is shown only where pyplot has set up the notebook
    return SVG(buffer.getvalue())


def rung_table(card: ModelCard) -> pd.DataFrame:
    """Every rung of a model with its counted parameters, in millions."""
    counts = {layers: ladder.parameter_counts(ladder.empty(card, layers)) for layers in card.rungs}
    table = pd.DataFrame.from_dict(counts, orient="index", columns=["total (M)", "non-embedding (M)"]) / 1e6
    return table.rename_axis("layers").round(2)

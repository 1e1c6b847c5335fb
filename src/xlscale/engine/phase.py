"""The open cell that a phase notebook works with: where it starts from, its training and evaluation, what it leaves.

The notebooks call ``open_cell``, then the steps of ``OpenCell`` one after another, then ``finish``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import DatasetDict
from torch import nn

from xlscale import tasks
from xlscale.cards.catalogue import data_card, locked, model_card
from xlscale.cards.schema import DataCard
from xlscale.core import machine, registry, saving
from xlscale.core.files import CELL_FOLDER, NOTEBOOK, RUNS, Phase, XlscaleError, atomic, write_json
from xlscale.data.batches import Encoded
from xlscale.engine import notebook, ranks, runner, twins
from xlscale.experiment import cells, studies
from xlscale.experiment.cells import Cell
from xlscale.experiment.recipe import Recipe
from xlscale.experiment.results import CHECKPOINT, RESUME, Result, Score
from xlscale.metrics.predictions import digest, zero_shot_mean
from xlscale.models import ladder
from xlscale.tasks.base import Task
from xlscale.training import evaluate, loop, token_cache
from xlscale.training.backends.base import Backend
from xlscale.training.loop import TrainingLog
from xlscale.training.methods.base import Method
from xlscale.training.mixture import Mixture
from xlscale.training.model import Model
from xlscale.training.objectives.base import Objective
from xlscale.training.perturbation import generator_from
from xlscale.training.resume import Keeper

STREAMS = ["examples", "windows", "placebo", "order", "head", "tokens", "rows", "adapters"]
PROBE_LENGTH = 128  # tokens, of the retrieval that phase 1 shows


class OpenCell:
    """A cell at work. Not made directly: see ``open_cell``."""

    def __init__(self, cell: Cell, folder: Path, backend: Backend | None = None):
        """``backend``: of one of several ranks; by default this process's own, or that of ranks which it starts."""
        self.cell, self.folder = cell, folder
        self.parameters = cell.parameters
        self.job = None if backend else ranks.job(cell, folder)
        if backend:
            self.backend = backend
        self.seconds: dict[str, float] = {}
        self.placed: dict[str, Any] = {}  # what there is to say of how it was worked on
        self.model_card = model_card(cell.parameters.model)
        self.data = data_card(getattr(cell.parameters, cell.phase, cells.PROBE))
        torch.set_num_threads(machine.THREADS)

    @cached_property
    def backend(self) -> Backend:
        """What computes in this process."""
        precision, place = getattr(self.parameters, "precision", "auto"), runner.placement(self.cell)
        return registry.get("backend", registry.backend())(precision, place.tokens, place.again)

    @cached_property
    def keeper(self) -> Keeper | None:
        """What keeps the states that a training goes on from after it was ended; None where none are to be kept."""
        if not (when := saving.when()):
            return None
        code = f"{self.cell.id} {self.cell.code()} {self.cell.code(registry.SHARDED)}"  # whatever the number of ranks
        return Keeper(self.folder / RESUME, code, self.backend, when)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of this phase's training."""
        return self.parameters.recipe(self.cell.phase)

    @cached_property
    def task(self) -> Task:
        """The task that this phase learns and is evaluated on."""
        return Mixture(self.data, self.model_card) if self.data.sets else tasks.of(self.data, self.model_card)

    @cached_property
    def rows(self) -> DatasetDict:
        """The splits of this phase's data set; of a mixture what its sets have in common."""
        return self.task.rows()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the wall time of the block to that of ``step``, in seconds."""
        began = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began

    def generator(self, stream: str, stage: int = 0) -> np.random.Generator:
        """An explicit generator for one purpose (one of STREAMS) and stage, fixed by the cell's seed.

        The streams do not depend on model, rung or condition, so cells of one seed see the same examples in the same
        order: the comparison between conditions is paired.
        """
        phase = list(cells.PARAMETERS).index(self.cell.phase)
        return np.random.default_rng([self.parameters.seed, phase, STREAMS.index(stream), *([stage] if stage else [])])

    def starting_point(self) -> nn.Module:
        """The encoder this cell starts from: the cut pretrained model, or the parent's checkpoint. Where ranks will
        work on it, its shapes.

        A parent of phase 2 that has not been run yet is run first. Raises XlscaleError when inputs may be longer than
        the encoder can read, and for an objective that ranks cannot share.
        """
        if self.job and self.training_sets() and not _objective(self.recipe).shared(self.task):
            field = f"{cells.PREFIX[self.cell.phase]}objective"
            expected = f"supervised or augmentation, on single sets, where {self.job.place.ranks} ranks train"
            raise XlscaleError(f"{self.cell.id}: {field}: expected {expected}, got {self.recipe.objective}")
        encoder, longest = self._encoder(), PROBE_LENGTH
        if self.cell.phase != "pretrained":
            longest = self.recipe.max_length
        if longest > (most := ladder.longest_input(encoder)):
            field = f"{cells.PREFIX.get(self.cell.phase, '')}max_length"
            expected = f"expected at most {most} for {self.model_card.name}"
            raise XlscaleError(f"{self.cell.id}: {field}: {expected}, got {longest}")
        return encoder

    def _encoder(self) -> nn.Module:
        parent = self.cell.parent
        checkpoint = runner.ensure(parent) / CHECKPOINT if parent and parent.phase == "intermediate" else None
        recipe = None if self.cell.phase == "pretrained" else self.recipe
        frozen = not self.training_sets() or _method(recipe).frozen
        if self.job:
            encoder = ladder.empty(self.model_card, self.parameters.layers)
            encoder.get_input_embeddings().weight.requires_grad_(False)
            return encoder
        rung = (self.model_card, self.parameters.layers, self.backend.device)
        with self.timed("load"):
            if checkpoint is None:
                return self.backend.place(_method(recipe).start(*rung, frozen), frozen)
            before = parent.parameters.recipe("intermediate")
            return self.backend.place(_method(before).load(*rung, before, checkpoint), frozen)

    def training_sets(self) -> list[DataCard]:
        """The data sets whose training splits this phase trains on, one after another: its own comes last."""
        before = self.data.stages if self.cell.phase == "target" else []
        return [*map(data_card, before), self.data] if self.data.trained else []

    def train(self, encoder: nn.Module) -> tuple[nn.Module | None, TrainingLog | None]:
        """Train ``encoder`` in place by the recipe, on every training set in turn; gives the head and the log.

        After intermediate training the encoder's checkpoint is written. Both are None where nothing is trained. Raises
        Diverged.
        """
        if not (sets := self.training_sets()):
            return None, None
        _method(self.recipe).prepare(encoder, self.recipe, self._drawn("adapters"))
        if self.job:
            return None, self.job.left.log
        stages = [self.task if card is self.data else tasks.of(card, self.model_card) for card in sets]
        objective, head = _objective(self.recipe), self._head(stages[0], encoder)
        self.backend.join(encoder, head)
        with self.timed("tokenise"):
            parts = [[self._inputs(one, i, objective) for one in task.parts] for i, task in enumerate(stages)]
            inputs = [task.joined(its) for task, its in zip(stages, parts, strict=True)]
        others = twins.of(self.cell) if self.backend.ranks == 1 else []
        kept = twins.Kept(self.cell, inputs, others) if others else None
        if kept and (found := kept.load(encoder, head)):
            self.placed["trained_in"], log = found
        else:
            models = [Model(encoder, self.backend, task, head) for task in stages]
            log = self._finetuned(models, inputs, objective)
            if kept:
                kept.save(encoder, head, log)
        if self.cell.phase == "intermediate":
            _method(self.recipe).save(encoder, self.folder / CHECKPOINT)
        return head, log

    def _finetuned(self, models: list[Model], inputs: list[Encoded], objective: Objective) -> TrainingLog:
        """The log of the training by stages, each with its view of the one encoder and its inputs."""
        done = self.keeper.logs if self.keeper else []
        logs = [TrainingLog(**log) for log in done]  # what these left is in the state of a later one
        with self.timed("train"):
            for stage in range(len(done), len(models)):
                generator = self.generator("order", stage)
                try:
                    logs.append(
                        loop.finetune(models[stage], inputs[stage], self.recipe, generator, objective, self.keeper)
                    )
                except torch.OutOfMemoryError as error:
                    raise XlscaleError(f"{self.cell.id}: out of GPU memory: {error}") from None
        if self.keeper:
            self.seconds["train"] += self.keeper.spent
        return TrainingLog.merged(logs)

    def _head(self, task: Task, encoder: nn.Module) -> nn.Module:
        return task.head_of(encoder, self._drawn("head")).to(self.backend.device)

    def _drawn(self, stream: str) -> torch.Generator:
        """A generator of torch's, for the purpose ``stream``."""
        return generator_from(self.generator(stream))

    def _inputs(self, task: Task, stage: int, objective: Objective) -> Encoded:
        """The inputs of one data set that one stage trains on, with shuffled labels for a placebo of this phase."""
        recipe, rows = self.recipe, self._rows_of(task)
        chosen = loop.sample(len(rows["train"]), recipe.examples, self.generator("examples", stage))
        sampled = rows["train"].select(chosen)
        if (made := objective.rows(sampled, recipe, self.generator("rows", stage), rows["train"])) is sampled:
            inputs = token_cache.encoded(task, rows, "train", self.model_card, recipe.max_length, chosen)
        else:
            inputs = token_cache.anew(task, made, self.model_card, recipe.max_length)
        inputs = task.training_inputs(inputs, self.generator("windows", stage))
        inputs = loop.to_budget(inputs, recipe.tokens, self.generator("tokens", stage))
        shuffled = self.cell.phase == "intermediate" and self.parameters.placebo
        return task.shuffled(inputs, self.generator("placebo", stage)) if shuffled else inputs

    def evaluate(
        self, encoder: nn.Module, head: nn.Module | None = None, split: str = "test"
    ) -> tuple[pd.DataFrame, dict[str, Score]]:
        """The prediction table of a split of this phase's data set, and the scores per language; of several ranks the
        first has them."""
        if self.job:
            predictions = self.job.predictions(split)
            return predictions, self.task.scores(predictions)
        self.backend.join(encoder, head)
        own = zip(self.task.parts, self.task.heads(head), strict=True)
        models = [Model(encoder, self.backend, task, its) for task, its in own]
        tables, languages, inputs = zip(*(self._predicted(one, split) for one in models), strict=True)
        if self.backend.rank:
            return pd.DataFrame(), {}
        predictions = self.task.together(tables)
        scores = self.task.scores(predictions)
        if self.cell.phase == "intermediate" and len(models) == 1:
            with self.timed("evaluate"):
                self._measure(scores, languages[0], encoder, inputs[0])
        return predictions, scores

    def _rows_of(self, task: Task) -> DatasetDict:
        return self.rows if task is self.task else task.rows()

    def _predicted(self, model: Model, split: str) -> tuple[pd.DataFrame, list[str], Encoded]:
        """The predictions of a split, the language of each of its rows, and its inputs."""
        splits = self._rows_of(model.task)
        rows, length, index = splits[split], PROBE_LENGTH, None
        if self.cell.phase != "pretrained":
            length, index = self.recipe.max_length, model.task.test_rows(rows, self.recipe.test_items)
        with self.timed("tokenise"):
            encoded = token_cache.encoded(model.task, splits, split, self.model_card, length, index)
        rows = rows if index is None else rows.select(index)
        with self.timed("evaluate"):
            outputs = evaluate.run(model, encoded)
            predictions = pd.DataFrame() if self.backend.rank else model.task.predictions(rows, encoded, outputs)
        return predictions, rows["language"], encoded

    def _measure(self, scores: dict[str, Score], languages: list[str], encoder: nn.Module, encoded: Encoded) -> None:
        """Add to ``scores`` what the objective measures beside them of the rows, which are in ``languages``."""
        objective = _objective(self.recipe)
        start, end = (lambda: Model(self._encoder(), self.backend)), Model(encoder, self.backend)
        if measured := objective.measured(start, end, encoded, self.recipe):
            for language, means in pd.DataFrame(measured).groupby(np.array(languages)).mean().iterrows():
                scores[language].others.update(means.round(5).to_dict())

    def finish(
        self, encoder: nn.Module, predictions: pd.DataFrame, languages: dict[str, Score], log: TrainingLog | None = None
    ) -> Result:
        """Write ``predictions.parquet`` and the result of this cell, and return the result."""
        total, non_embedding = ladder.parameter_counts(encoder)
        values = {language: score.value for language, score in languages.items()}
        with atomic(self.folder / "predictions.parquet") as path:
            predictions.to_parquet(path, index=False, compression="zstd")
        if self.job:
            self.seconds |= self.job.left.seconds
            environment, peak = self.job.left.environment, self.job.left.peak_memory_gb
        else:
            environment, peak = self.environment(), machine.peak_memory_gb()
        result = Result(
            **self.cell.spec(),
            status="complete",
            value=zero_shot_mean(values),
            english=values.get("en"),
            languages=languages,
            total_parameters=total,
            non_embedding_parameters=non_embedding,
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
            train_tokens=log.tokens if log else 0,
            trainable_parameters=ladder.trainable(encoder) if log else 0,
            train_flops=self._train_flops(encoder, log) if log else 0.0,
            losses=[round(x, 5) for x in log.losses] if log else [],
            peak_memory_gb=round(peak, 3),
            environment=environment,
            fingerprint=self.cell.code(environment["backend"]),
            predictions_sha256=digest(predictions),
        )
        # The runner renames it to result.json after it has checked it: an executed notebook is no proof of completion.
        write_json(self.folder / runner.PENDING, result.model_dump())
        if CELL_FOLDER not in os.environ:  # by hand; else the runner does, when it has checked the result
            runner.clear(self.folder)
        return result

    def environment(self) -> dict[str, Any]:
        """What is recorded of the machine and of how the cell was placed on it."""
        return machine.environment(self.backend.dtype, self.backend.device, self.backend.ranks) | self._placed()

    def _placed(self) -> dict[str, Any]:
        """What computed, and how a batch was divided: no part of the cell's identity."""
        whole: dict[str, Any] = {"backend": registry.backend()} | self.placed
        if self.backend.ranks > 1:
            whole = {"backend": registry.SHARDED, "ranks": self.backend.ranks}
        if self.keeper and self.keeper.resumed is not None:
            whole["resumed_after_step"] = self.keeper.resumed
        if self.backend.tokens is None:
            return whole
        return whole | {"micro_batch_tokens": self.backend.tokens, "layers_recomputed": self.backend.again}

    def _train_flops(self, encoder: nn.Module, log: TrainingLog) -> float:
        return _method(self.recipe).passes * log.tokens * ladder.flops_per_token(encoder, log.mean_length)


def _objective(recipe: Recipe) -> Objective:
    return registry.get("objective", recipe.objective)()


def _method(recipe: Recipe | None) -> Method:
    """The method of a recipe, and the default one where nothing is trained."""
    return registry.get("method", recipe.method if recipe else Recipe.model_fields["method"].default)()


def open_cell(phase: Phase, namespace: dict[str, Any]) -> OpenCell:
    """Open the cell that a notebook's parameters describe. ``namespace`` is the notebook's ``globals()``.

    What they leave None and a training needs is as the study has it that ``study`` names. Run by hand it works in
    ``runs/by-hand/``, so that exploring never touches the cells of a sweep. Raises XlscaleError naming the parameter.
    """
    where = f"{NOTEBOOK[phase].name}, cell 'parameters'"
    notebook.check_parameters(where)
    values = {name: namespace[name] for name in cells.PARAMETERS[phase].model_fields if name in namespace}
    if "study" in namespace:
        values = studies.completed(values, namespace["study"])
    cell = cells.make(phase, values, where)
    folder = Path(os.environ.get(CELL_FOLDER) or RUNS / "by-hand" / cell.id)
    folder.mkdir(parents=True, exist_ok=True)
    run = OpenCell(cell, folder)
    read = [data_card(name) for card in (*run.training_sets(), run.data) for name in card.members]
    for card in [run.model_card, *read]:  # before anything expensive
        if card.source:
            locked(card.name)
    return run

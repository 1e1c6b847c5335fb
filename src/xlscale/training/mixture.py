"""Several data sets as one: multi-task training, one head per task, a batch of one of them in every step.

How they are mixed: ``training.order``. As Phang et al. 2020 (arXiv:2005.13013) train on several intermediate tasks at
once; the heads are thrown away. What is minimised on a batch is the objective's to say, as on one set alone. A set's
examples, windows and shuffled labels are those of a cell of the same seed that is trained on it alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from torch import nn

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.cards.schema import DataCard, ModelCard
from xlscale.data.batches import Batch, Encoded
from xlscale.experiment.results import Score
from xlscale.metrics.predictions import COLUMNS, SCORES, by_language
from xlscale.tasks.base import Task
from xlscale.training.order import PART

SHOWN = ["split", "language", "item", "group"]  # the columns that all families have


class Mixture(Task):
    """The tasks of a mixture's sets, its ``parts``, in the order of its card."""

    def __init__(self, card: DataCard, model: ModelCard | None = None):
        super().__init__(card, model)
        self.parts = [tasks.of(data_card(name), model) for name in card.sets]
        self.divisible = "mean" if all(task.divisible == "mean" for task in self.parts) else "whole"

    def head_of(self, encoder: nn.Module, generator: torch.Generator) -> nn.ModuleList:
        """A fresh head for each task."""
        return nn.ModuleList(task.head_of(encoder, generator) for task in self.parts)

    def heads(self, head: nn.ModuleList) -> list[nn.Module]:
        """Each task's own."""
        return [*head]

    def joined(self, inputs: Sequence[Encoded]) -> Encoded:
        """The inputs of all tasks, as the function ``joined`` puts them together."""
        return joined(inputs)

    def batch_outputs(self, head: nn.ModuleList, hidden: torch.Tensor, mask: torch.Tensor, batch: Batch):
        """What the task that the batch is of makes of it; its shape is that family's."""
        part, own = _apart(batch)
        return self.parts[part].batch_outputs(head[part], hidden, mask, own)

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The loss () of the task that the batch is of."""
        part, own = _apart(batch)
        return self.parts[part].loss(outputs, own)

    def count(self, batch: Batch) -> int:
        """As the task counts that the batch is of."""
        part, own = _apart(batch)
        return self.parts[part].count(own)

    def rows(self) -> DatasetDict:
        """The splits that all sets have, with the columns that all families have and the set's name."""
        found = [(task.card.name, task.rows()) for task in self.parts]
        shared = [split for split in self.card.splits if all(split in rows for _, rows in found)]
        parts = {split: [_named(rows[split], name) for name, rows in found] for split in shared}
        return DatasetDict({split: concatenate_datasets(rows) for split, rows in parts.items()})

    def predictions(self, rows: Dataset, encoded: Encoded, outputs: list[np.ndarray]) -> pd.DataFrame:
        """Not to be had at once: see ``together``."""
        raise NotImplementedError

    def together(self, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """The prediction tables of all tasks as one, a column ``set`` besides; a score that a family does not have is 0
        there."""
        named = [
            table.assign(set=task.card.name, item=[f"{task.card.name}/{item}" for item in table["item"]])
            for task, table in zip(self.parts, tables, strict=True)
        ]
        found = pd.concat(named, ignore_index=True)
        scores = [name for name in SCORES if name in found]
        found = found.astype({"gold": str, "prediction": str}).fillna(dict.fromkeys(scores, 0.0))
        return found[[*COLUMNS, *(name for name in scores if name not in COLUMNS), "set"]]

    def scores(self, predictions: pd.DataFrame) -> dict[str, Score]:
        """In every language the share of all items, of whatever set, that are right as a whole, and beside it each
        set's own metric."""
        values, others = by_language(self.card.metric, predictions), {}
        for task in self.parts:
            own = predictions[predictions["set"] == task.card.name]
            for language, value in by_language(task.card.metric, own).items():
                others.setdefault(language, {})[task.card.name] = value
        return {
            language: Score(items=len(part), value=values[language], others=others[language])
            for language, part in predictions.groupby("language", sort=True)
        }


def _named(rows: Dataset, name: str) -> Dataset:
    return rows.select_columns(SHOWN).add_column("set", [name] * len(rows))


def joined(parts: Sequence[Encoded]) -> Encoded:
    """The inputs of several sets one after another. Of the targets, PART is the number of an input's set, and
    ``<number>.<name>`` are those of that set, 0 for inputs of others."""
    sizes = [len(one) for one in parts]
    firsts = np.cumsum([0, *sizes])
    targets = {PART: np.repeat(np.arange(len(parts)), sizes)}
    for part, one in enumerate(parts):
        for name, values in one.targets.items():
            whole = np.zeros((firsts[-1], *values.shape[1:]), values.dtype)
            whole[firsts[part] : firsts[part + 1]] = values
            targets[f"{part}.{name}"] = whole
    rows = np.cumsum([0, *(one.row.max(initial=-1) + 1 for one in parts)])
    row = np.concatenate([one.row + before for one, before in zip(parts, rows[:-1], strict=True)])
    offsets = np.cumsum([0, *np.concatenate([one.lengths for one in parts])])
    return Encoded(np.concatenate([one.ids for one in parts]), offsets, row, targets)


def _apart(batch: Batch) -> tuple[int, Batch]:
    """The number of the set that a batch of ``joined`` is of, and the batch as it is of that set alone."""
    part = int(batch.targets[PART][0])
    start = f"{part}."
    own = {name.removeprefix(start): values for name, values in batch.targets.items() if name.startswith(start)}
    return part, Batch(batch.ids, batch.mask, batch.index, own)

"""What a recorded cell says, recomputed from what it follows from: its parameters, its predictions, labels and cards.

Belongs here: everything but seconds, operations, machines and the like, which follow from nothing that is recorded and
are held by ``core.manifest``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetDict
from safetensors import safe_open

from xlscale import tasks
from xlscale.cards.catalogue import data_card, model_card
from xlscale.cards.schema import DataCard
from xlscale.core import registry
from xlscale.core.files import XlscaleError, expect_plain, relative
from xlscale.core.strict import SHORT
from xlscale.data import schema
from xlscale.experiment import cells
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import Result, Score, split_of
from xlscale.metrics.predictions import SCORES, by_language, digest, zero_shot_mean
from xlscale.models import ladder
from xlscale.models import store as converted
from xlscale.tasks.base import Task

# Of one cell, far beyond what any costs: seconds (three years), tokens, operations, parameters, gigabytes.
LONGEST, MOST_TOKENS, MOST_FLOPS, MOST_PARAMETERS, MOST_MEMORY = 10**8, 10**15, 10**27, 10**13, 10**6
ROUNDING = 1e-6  # predictions are stored in float32
KEY = ["language", "item"]
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")


class Check:
    """Holds results against what they follow from. One serves a whole record: what cells share is read once."""

    def __init__(self) -> None:
        self._cells: dict = {}
        self._sizes: dict[tuple[str, int], tuple[int | None, int | None]] = {}

    def __call__(self, result: Result, card: DataCard, predictions: Path) -> None:
        """Raise XlscaleError with one line that names file and field, unless everything follows that can.

        ``card``: of the data set that the cell was evaluated on.
        """
        spec = {"id": result.id, "phase": result.phase, "parameters": result.parameters}
        cell = cells.from_spec(spec, f"cell {result.id}", self._cells)
        follows = {"parent": cell.spec()["parent"], **{f"reads.{name}": sha256 for name, sha256 in cell.reads}}
        found = {"parent": result.parent, **{f"reads.{name}": sha256 for name, sha256 in result.reads.items()}}
        for field in sorted(follows.keys() | found.keys()):
            if found.get(field) != follows.get(field):
                raise XlscaleError(f"cell {cell.id}: {field}: expected {follows.get(field)}, got {found.get(field)}")
        _check_costs(result, card)
        if result.status == "complete":
            self._check_sizes(result)
            _check_scores(result, cell, card, predictions)
        elif result.value is not None or result.predictions_sha256 is not None or result.languages:
            raise XlscaleError(f"cell {cell.id}: value: expected none of a failed cell, nor predictions")

    def _check_sizes(self, result: Result) -> None:
        """Numbers of parameters are those of the rung, or the same in all its cells if the model is not here."""
        rung = result.parameters["model"], result.parameters["layers"]
        stated = result.total_parameters, result.non_embedding_parameters
        follows = self._sizes.setdefault(rung, _sizes(*rung) or stated)
        if stated != follows:
            raise XlscaleError(f"cell {result.id}: total, non_embedding_parameters: expected {follows}, got {stated}")


@cache
def _sizes(model: str, layers: int) -> tuple[int, int] | None:
    card = model_card(model)
    try:
        if card.source:
            return ladder.parameter_counts(ladder.empty(card, layers))
        # The same from the heads of the files, without the seconds that it takes to import the model's code.
        folder = converted.converted(card)
    except XlscaleError:  # not on this machine
        return None
    with safe_open(folder / converted.ENCODER, "np") as rest, safe_open(folder / converted.EMBEDDINGS, "np") as words:
        sizes = {name: prod(rest.get_slice(name).get_shape()) for name in rest.keys()}  # noqa: SIM118
        embeddings = prod(words.get_slice(converted.WORD_EMBEDDINGS).get_shape())
    cut = {name: _LAYER.match(name) for name in sizes}
    own = sum(size for name, size in sizes.items() if cut[name] is None or int(cut[name][1]) < layers)
    return own + embeddings, own


def _check_costs(result: Result, card: DataCard) -> None:
    """What follows from nothing is at least possible, and nothing of it is said of a training that there was not."""
    trained = result.phase != "pretrained" and card.trained
    costs = {
        "train_tokens": (result.train_tokens, trained * MOST_TOKENS),
        "train_flops": (result.train_flops, trained * MOST_FLOPS),
        "trainable_parameters": (result.trainable_parameters, trained * MOST_PARAMETERS),
        "peak_memory_gb": (result.peak_memory_gb, MOST_MEMORY),
    }
    limits = {name: trained * LONGEST if name == "train" else LONGEST for name in result.seconds}
    costs |= {f"seconds: {name}": (result.seconds[name], limits[name]) for name in limits}
    for field, (value, most) in costs.items():
        if value is not None and not 0 <= value <= most:
            why = "" if most else ", as nothing is trained"
            raise XlscaleError(f"cell {result.id}: {field}: expected 0 to {most:g}{why}, got {SHORT.repr(value)}")
    if result.losses and not trained:
        raise XlscaleError(f"cell {result.id}: losses: expected none, as nothing is trained, got {len(result.losses)}")
    if not isinstance(machine := result.environment.get("machine", ""), str):
        raise XlscaleError(f"cell {result.id}: environment: machine: expected a text, got {SHORT.repr(machine)}")


def _check_scores(result: Result, cell: Cell, card: DataCard, path: Path) -> None:
    where = relative(path)
    items = read_predictions(path, [*KEY, "prediction"], ["score", *SCORES])
    try:
        found = digest(items)
        if found != result.predictions_sha256:
            raise XlscaleError(f"{where}: predictions_sha256: expected {result.predictions_sha256}, got {found}")
        if card.family != "mining" and not np.isfinite(items["score"].to_numpy()).all():
            raise ValueError("score: expected finite numbers")
        asked = _asked_of(cell, card)
        follow = _scores(card, items, asked) if asked else _as_said(card, items)
    except ValueError as error:
        raise XlscaleError(f"{where}: {error}") from None
    _compare(result, follow, where)
    if asked and not _measures(cell):
        _check_others(result, follow, {"words_cut"} if card.family == "tagging" else set(), where)


def _measures(cell: Cell) -> bool:
    """Whether the objective of an intermediate training measures more than its task's scores: of inputs, not of
    predictions, so that it cannot be told from them."""
    if cell.phase != "intermediate":
        return False
    objective = registry.get("objective", cell.parameters.recipe(cell.phase).objective)
    return objective.measured.__qualname__ != "Objective.measured"


def _check_others(result: Result, follow: dict[str, Score], more: set[str], where: str) -> None:
    """Raise XlscaleError where a language has a score that does not follow and is not one of ``more``."""
    for language, said in sorted(result.languages.items()):
        if unknown := said.others.keys() - follow[language].others.keys() - more:
            raise XlscaleError(f"{where}: {language}: expected no score {SHORT.repr(min(unknown))}")


def _compare(result: Result, follow: dict[str, Score], where: str) -> None:
    """Raise XlscaleError unless items, values and other scores of every language are those that follow."""
    for language in sorted(follow.keys() | result.languages.keys()):
        mine, said = follow.get(language), result.languages.get(language)
        if mine is None or said is None or mine.items != said.items or not _near(mine.value, said.value):
            raise XlscaleError(f"{where}: languages: {language}: expected {_short(mine)}, got {_short(said)}")
        for name, value in mine.others.items():
            if not _near(value, said.others.get(name)):
                raise XlscaleError(f"{where}: {language}: {name}: expected {value}, got {said.others.get(name)}")
    values = {language: score.value for language, score in follow.items()}
    for name, value in (("value", zero_shot_mean(values)), ("english", values.get("en"))):
        if not _near(value, getattr(result, name)):
            raise XlscaleError(f"{where}: {name}: expected {value} of {result.id}, got {getattr(result, name)}")


def _near(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) <= ROUNDING


def _short(score: Score | None) -> str:
    return "no such language" if score is None else f"{score.value} of {score.items} items"


def _asked_of(cell: Cell, card: DataCard) -> Asked | None:
    """What a cell is evaluated on, None where that is not on this machine."""
    recipe = None if cell.phase == "pretrained" else cell.parameters.recipe(cell.phase)
    return _asked(card.name, split_of(cell.phase, cell.parameters.model_dump()), recipe.test_items if recipe else None)


def _as_said(card: DataCard, items: pa.Table) -> dict[str, Score]:
    """The scores per language that follow from what predictions say of themselves, without others."""
    counts = dict(zip(*np.unique(items["language"].to_numpy(), return_counts=True), strict=True))
    values = by_language(card.primary_metric, items)
    return {language: Score(items=int(counts[language]), value=value) for language, value in values.items()}


def _scores(card: DataCard, items: pa.Table, asked: Asked) -> dict[str, Score]:
    """The scores per language that follow from predictions and labels. Raises ValueError for predictions of other
    items, or right ones called wrong."""
    task, texts = tasks.of(card), {name: _texts(items[name]) for name in [*KEY, "prediction"]}
    gold = asked.of(texts["language"], texts["item"])
    for name, values in _right(task, texts["prediction"], gold, texts["language"]).items():
        said = items[name].to_numpy() if name in items.column_names else values
        if len(wrong := np.flatnonzero(said != values.astype(said.dtype))):
            where = f"{texts['language'][wrong[0]]} {texts['item'][wrong[0]]!r}"
            raise ValueError(f"{name}: expected {values[wrong[0]]} by the label, in {where}, got {said[wrong[0]]}")
    columns = {
        name: pd.Series(values, dtype=object) for name, values in (("gold", gold), ("prediction", texts["prediction"]))
    }
    table = items.to_pandas().assign(**columns)
    if card.family != "tagging":
        return task.scores(table)
    # Words without a position are not recorded.
    scores = task.scores(table.assign(gold=[" ".join(tags) for tags in gold], cut=0))
    for score in scores.values():
        del score.others["words_cut"]
    return scores


@dataclass
class Asked:
    """What cells are evaluated on: of every item that is predicted language, item and what is right, in the order of
    the data set."""

    languages: np.ndarray
    items: np.ndarray
    gold: np.ndarray

    def of(self, languages: np.ndarray, items: np.ndarray) -> np.ndarray:
        """What is right for these items. Raises ValueError unless they are what is asked, each once."""
        if np.array_equal(languages, self.languages) and np.array_equal(items, self.items):
            return self.gold  # in the order in which cells leave them
        place = {key: i for i, key in enumerate(zip(self.languages, self.items, strict=True))}
        given = list(zip(languages, items, strict=True))
        for what, other in (("no", set(given) - place.keys()), ("a", place.keys() - set(given))):
            if other:
                language, item = min(other)
                raise ValueError(
                    f"item: expected {what} prediction of {item!r} in {language} ({len(other)} such items)"
                )
        if len(given) != len(place):
            raise ValueError(f"item: expected {len(place)} predictions, got {len(given)}")
        return self.gold[[place[key] for key in given]]


@cache
def _asked(name: str, split: str, items: int | None) -> Asked | None:
    """What cells are evaluated on, ``items`` per language at most; None for a family without GOLD, and where the data
    set is not on this machine."""
    card = data_card(name)
    if card.family not in schema.GOLD:
        return None
    try:
        rows = _splits(name)[split]
    except XlscaleError:
        if card.bundled:
            raise
        return None
    if items is not None:
        rows = rows.select(tasks.of(card).test_rows(rows, items))
    contexts = ["context"] if card.family == "span_qa" else []  # in which a prediction may be a place
    columns = rows.select_columns([*KEY, schema.GOLD[card.family], *contexts]).to_dict()
    languages, names = (np.array(columns[name], object) for name in KEY)
    # Of retrieval, the English rows are what is searched.
    kept = languages != "en" if card.family == "retrieval" else np.ones(len(rows), bool)
    true = [str(one) if card.family == "multiple_choice" else one for one in columns[schema.GOLD[card.family]]]
    gold = np.empty(len(rows), object)
    for i, one in enumerate(zip(true, columns["context"], strict=True) if contexts else true):
        gold[i] = one  # one by one: numpy would take lists of one length for a table
    return Asked(languages[kept], names[kept], gold[kept])


@cache
def _splits(name: str) -> DatasetDict:
    card = data_card(name)
    return tasks.of(card).rows()


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    column = column.combine_chunks()
    return np.array(column.dictionary.to_pylist(), object)[column.indices.to_numpy()]


def _right(task: Task, predicted: np.ndarray, gold: np.ndarray, languages: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of SCORES that follow from predictions and what is right."""
    if task.card.family == "span_qa":
        both = [
            task._score(task.answer(mine, context), answers, language)
            for mine, (answers, context), language in zip(predicted, gold, languages, strict=True)
        ]
        return dict(zip(("correct", "f1"), np.array(both, np.float32).reshape(-1, 2).T, strict=True))
    if task.card.family != "tagging":
        return {"correct": (predicted == gold).astype(np.float32)}
    tags = [text.split() for text in predicted]
    if wrong := [i for i, (mine, true) in enumerate(zip(tags, gold, strict=True)) if len(mine) != len(true)]:
        raise ValueError(
            f"prediction: expected a tag for each of {len(gold[wrong[0]])} words, got {len(tags[wrong[0]])}"
        )
    correct = np.array([mine == true for mine, true in zip(tags, gold, strict=True)], np.float32)
    return {"correct": correct, **task.counts(tags, list(gold))}


def read_predictions(path: Path, names: list[str], scores: list[str]) -> pa.Table:
    """Columns of one cell's predictions: ``names`` as dictionaries of strings, and those of ``scores`` that it has.

    Raises XlscaleError with one line when the file is missing, is not whole, lacks one of ``names``, ``correct`` or a
    ``score`` that is asked for, or holds no texts or numbers there.
    """
    try:
        types = _types(path, [*names, *scores], {*names, "correct", *({"score"} & {*scores})})
        for name, kind in types.items():
            expected, plain = "texts", kind.value_type if pa.types.is_dictionary(kind) else kind
            right = pa.types.is_string(plain) or pa.types.is_large_string(plain)
            if name not in names:
                expected, right = "numbers", pa.types.is_floating(kind) or pa.types.is_integer(kind)
            if not right:
                raise XlscaleError(f"{relative(path)}: column {name!r}: expected {expected}, got {kind}")
        with pq.ParquetFile(path, read_dictionary=names) as file:
            return file.read([*types], use_threads=False)
    except FileNotFoundError:
        raise XlscaleError(f"{relative(path)}: not found, expected the predictions of a recorded cell") from None
    except (pa.ArrowException, OSError) as error:
        raise XlscaleError(f"{relative(path)}: not a readable Parquet file ({' '.join(str(error).split())})") from None


def _types(path: Path, wanted: list[str], needed: set[str]) -> dict[str, pa.DataType]:
    """The types of the columns ``wanted`` that there are. Raises XlscaleError for what is no plain file, one of
    ``needed`` that is missing, and one that is there twice."""
    expect_plain(path)
    columns = pq.read_schema(path)
    if missing := sorted(needed - set(columns.names)):
        raise XlscaleError(f"{relative(path)}: column {missing[0]!r} is missing, expected in predictions")
    if twice := [name for name in wanted if columns.names.count(name) > 1]:
        raise XlscaleError(f"{relative(path)}: column {twice[0]!r}: expected once")
    return {name: columns.field(name).type for name in wanted if name in columns.names}

"""The plan of a study: what each kind of its cells takes on given hardware, and what all of them take.

Cells of one kind differ in seed, condition or target's parent alone, and take the same. A plan reads cells; it changes
none, and no cell knows of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pandas as pd

from xlscale.cards.catalogue import data_card, model_card
from xlscale.core.files import Phase, XlscaleError
from xlscale.experiment import recipe as recipes
from xlscale.experiment.cells import NONE, PREFIX, PROBE, Cell, training_of
from xlscale.experiment.recipe import ADAPTER, Recipe
from xlscale.experiment.results import split_of
from xlscale.planning import lengths, placement, profile
from xlscale.planning.hardware import GIB, Hardware
from xlscale.planning.lengths import Work
from xlscale.planning.placement import FLOAT, HALF, MOMENTS, Load, Memory, Method, Placement

PROBE_LENGTH = 128  # tokens, of phase 1
EVALUATED = 8192  # of a batch where nothing trains
ALL = 10**9  # items
WIDE = {"rank": 16, "alpha": 32.0, "adapted": "linear"}  # adapters of a training that has none in the study
VECTORS = ("retrieval", "ranking", "mining")  # families that keep a vector per input until all are there
KEPT = 2  # resume states of a running cell
# Bytes of a predicted row on disk, by family: means of the record; of ranking, where nothing is recorded, 20 names.
ROW = {"classification": 13, "tagging": 34, "span_qa": 57, "multiple_choice": 38, "retrieval": 8, "mining": 20}
ROW |= {"ranking": 250, "lexicon": 8, "text": 14, "mixture": 20}
FILES = 1e5  # bytes: result, specification and executed notebook of a cell


@dataclass(frozen=True)
class Kind:
    """What cells have in common that take the same. ``name``: the data set of the phase; ``method``: how the model is
    trained, or how that was trained which is only evaluated; "full" of a pretrained one. ``shared``: another cell's
    training serves it."""

    phase: Phase
    model: str
    layers: int
    name: str
    split: str
    recipe: Recipe
    method: Method
    shared: bool = False

    @property
    def sets(self) -> list[str]:
        """The data sets that are trained on, one after another; none of what is only evaluated."""
        if self.phase == "pretrained" or not data_card(self.name).trained:
            return []
        return [*(data_card(self.name).stages if self.phase == "target" else []), self.name]

    def load(self, method: Method, step: int) -> Load:
        """What is to be placed where it is trained by ``method``, in batches of at most ``step`` tokens."""
        recipe = profile.recipe_of("full", frozen=self.recipe.frozen)
        if method != "full":
            own = {field: getattr(self.recipe, field) for field in ADAPTER} if self.recipe.method != "full" else WIDE
            recipe = profile.recipe_of("lora", **own)
        found = profile.of(self.model, self.layers, recipe)
        return Load(found, method, bool(self.sets), step, self.recipe.max_length or PROBE_LENGTH)


def kinds(cells: Iterable[Cell], method: Method | None = None) -> Counter[Kind]:
    """How many cells there are of each kind; with ``method`` as if every training were by it. Raises XlscaleError for
    one that is none."""
    if method and method not in placement.METHODS:
        raise XlscaleError(f"method: expected one of {', '.join(placement.METHODS)}, got {method!r}")
    raw: Counter[tuple] = Counter()  # of plain values, as there are thousands of cells of a few hundred kinds
    trainings: set[str] = set()
    for cell in cells:
        p, values, before, name, split = cell.parameters, None, None, PROBE, split_of(cell.phase, vars(cell.parameters))
        shared = False
        if cell.phase != "pretrained":
            values = tuple(getattr(p, PREFIX[cell.phase] + field) for field in Recipe.model_fields)
            name = getattr(p, cell.phase)
        if cell.phase == "target":
            before = p.intermediate_method if p.intermediate != NONE else None
            shared = (same := repr(training_of(vars(p)))) in trainings and data_card(name).trained
            trainings.add(same)
        raw[cell.phase, p.model, p.layers, name, split, values, before, shared] += 1
    found: Counter[Kind] = Counter()
    for (phase, model, layers, name, split, values, before, shared), count in raw.items():
        fields = dict(zip(Recipe.model_fields, values, strict=True)) if values else recipes.unused("")
        kind = Kind(phase, model, layers, name, split, Recipe(**fields), "full", shared)
        trained = kind.recipe.method if kind.sets or kind.recipe.method in recipes.PACKED else before
        found[replace(kind, method=(method or trained) if trained else "full")] += count
    return found


@dataclass(frozen=True)
class Cost:
    """What one cell takes. ``placement``: None where it fits nowhere, and then hours are NaN; ``instead``: of a
    training that does not fit one GPU, what would. ``operations``: floating-point; ``hours``: of a GPU, ``starting``
    those before anything computes. Bytes: ``weights``, ``host``, ``checkpoint``, ``predictions``, and ``resume``, which
    is there while it runs.
    """

    train: Work
    evaluated: Work
    placement: Placement | None
    instead: str
    operations: float
    hours: float
    starting: float
    weights: float
    host: float
    checkpoint: float
    predictions: float
    resume: float


def cost(kind: Kind, hardware: Hardware, count: bool = True) -> Cost:
    """What a cell of this kind takes. ``count``: see ``lengths``."""
    train, steps, step = training(kind, count)
    train = train.times(0 if kind.shared else 1)
    load = kind.load(kind.method, step)
    longest, items = load.length, kind.recipe.test_items or ALL
    evaluated = lengths.evaluation(kind.name, kind.model, kind.split, items, longest, count)
    place = placement.choose(load, hardware)
    alone = place and place.gpus == 1
    loads = {} if alone or not kind.sets else {method: kind.load(method, step) for method in placement.METHODS}
    operations = hours = starting = math.nan
    weights, trained = HALF * load.profile.parameters, load.profile.trained if load.trains else 0.0
    if place:
        operations, seconds = _time(kind, load, place, (train, steps), evaluated, hardware)
        starting = place.gpus * (hardware.start_seconds + weights / hardware.read_gb_per_second / 1e9) / 3600
        hours = place.gpus * seconds / 3600 + starting
    vectors = FLOAT * evaluated.inputs * load.profile.width if data_card(kind.name).family in VECTORS else 0.0
    return Cost(
        train=train,
        evaluated=evaluated,
        placement=place,
        instead=placement.instead(loads, kind.method, place, hardware) if loads else "",
        operations=operations,
        hours=hours,
        starting=starting,
        weights=weights,
        # Weights on their way to the GPU, in float32; what is written of them, as tensors and as a file; or vectors.
        host=hardware.host_gib * GIB + max(FLOAT * load.profile.parameters, 2 * FLOAT * trained, vectors),
        checkpoint=FLOAT * trained if kind.phase == "intermediate" else 0.0,
        predictions=evaluated.rows * ROW[data_card(kind.name).family] + FILES,
        resume=KEPT * (FLOAT + MOMENTS) * trained,
    )


def place(cell: Cell, hardware: Hardware) -> Placement | None:
    """Where one cell fits; None where it does nowhere."""
    (kind,) = kinds([cell])
    return placement.choose(kind.load(kind.method, training(kind)[2]), hardware)


def training(kind: Kind, count: bool = True) -> tuple[Work, float, int]:
    """What all epochs over all sets read; steps; and tokens of a batch at most, which are a micro-batch's in
    evaluation."""
    recipe, read, steps, step = kind.recipe, [], 0.0, 0
    for name in kind.sets:
        one = lengths.training(name, kind.model, recipe.examples, recipe.max_length, count)
        a_row = one.tokens / one.rows
        rows = min(one.rows, recipe.tokens / a_row) if recipe.tokens else one.rows
        batch = recipe.batch_size or max(1.0, recipe.batch_tokens / a_row)
        times = recipe.steps * batch / rows if recipe.steps else recipe.epochs
        read.append(one.times(times * rows / one.rows))
        steps += times * rows / batch
        inputs = math.ceil(batch * one.inputs / one.rows)
        step = max(step, recipe.batch_tokens or inputs * recipe.max_length)
    return lengths.together(read), steps, step or EVALUATED


def _time(
    kind: Kind, load: Load, place: Placement, training: tuple[Work, float], evaluated: Work, hardware: Hardware
) -> tuple[float, float]:
    """Floating-point operations, and seconds on all GPUs of the placement together."""
    (train, steps), found = training, load.profile
    at_once, others = place.gpus * place.tokens, (place.gpus - 1) / place.gpus
    passed, trained = evaluated.tokens * found.operations("forward", evaluated.length), 0.0
    gathers, scattered = evaluated.tokens / at_once, 0.0
    if train.tokens:
        a_token = found.operations("step_again" if place.again else "step", train.length)
        if data_card(kind.name).family == "ranking" and load.step > at_once:
            a_token += found.operations("forward", train.length)  # the vectors of the whole batch come first
        trained = train.tokens * a_token
        passes = steps * math.ceil(train.tokens / steps / at_once)
        gathers, scattered = gathers + 2 * passes, passes * FLOAT * found.trained
    slow = hardware.four_bit if kind.method == "qlora" else 1.0
    work = {"trained": trained, "evaluated": passed}
    seconds = sum(one / hardware.reached(what, found.parameters) for what, one in work.items()) / place.gpus
    moved = others * (gathers * HALF * found.parameters + scattered)
    return trained + passed, max(seconds * slow, moved / (hardware.link_gb_per_second * 1e9))


def table(cells: Iterable[Cell], hardware: Hardware, method: Method | None = None, count: bool = True) -> pd.DataFrame:
    """A row per kind of cell: its fields, ``cells``, and what one of them takes (``Cost``, ``Memory``). Unless
    ``count``, it is the same on every machine, whatever data are there."""
    return pd.DataFrame(_rows(kinds(cells, method), hardware, count))


def _rows(counted: Counter[Kind], hardware: Hardware, count: bool) -> Iterator[dict]:
    for kind, cells in counted.items():
        found = cost(kind, hardware, count)
        values = {name: value for name, value in vars(found).items() if name not in ("train", "evaluated", "placement")}
        for role, work in (("train", found.train), ("evaluated", found.evaluated)):
            values |= {f"{role}_{name}": value for name, value in vars(work).items()}
        place = found.placement
        memory = place.memory if place else Memory(*[math.nan] * 5)
        yield {
            "model": kind.model,
            "download": _download(kind.model, found.weights),
            "phase": kind.phase,
            "data": kind.name,
            "method": kind.method if kind.sets else "none",
            "cells": cells,
            **values,
            "gpus": place.gpus if place else 0,
            "micro": place.tokens if place else 0,
            "again": bool(place and place.again),
            **vars(memory),
            "gpu": memory.total,
        }


def _download(model: str, weights: float) -> float:
    """Bytes of a model's files in bfloat16, with what is not loaded of them."""
    published = getattr(model_card(model).parameters, "published", None)
    return HALF * published if isinstance(published, int) else weights

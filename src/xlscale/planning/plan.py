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
from xlscale.core.files import Phase
from xlscale.experiment import recipe as recipes
from xlscale.experiment.cells import NONE, PREFIX, PROBE, Cell
from xlscale.experiment.recipe import ADAPTER, Recipe
from xlscale.planning import lengths, placement, profile
from xlscale.planning.hardware import GIB, Hardware
from xlscale.planning.lengths import BASES, Work
from xlscale.planning.placement import FLOAT, HALF, MOMENTS, Method, Placement
from xlscale.planning.profile import Profile

PROBE_LENGTH = 128  # tokens, of phase 1
ALL = 10**9
VECTORS = ("retrieval", "ranking", "mining")  # families that keep a vector per input until all are there
KEPT = 2  # resume states of a running cell
# Bytes of a predicted row on disk, by family: means of the record; of ranking, where nothing is recorded, 20 names.
ROW = {"classification": 13, "tagging": 34, "span_qa": 57, "multiple_choice": 38, "retrieval": 8, "mining": 20}
ROW |= {"ranking": 250}
FILES = 1e5  # bytes: result, specification and executed notebook of a cell


@dataclass(frozen=True)
class Kind:
    """What cells have in common that take the same. ``before``: how the model came to be that is trained, or only
    evaluated; ``name``: the data set of the phase."""

    phase: Phase
    model: str
    layers: int
    name: str
    split: str
    recipe: Recipe
    before: Method

    @property
    def trained(self) -> bool:
        """Whether anything trains."""
        return self.phase != "pretrained" and data_card(self.name).trained

    @property
    def method(self) -> Method:
        """How it trains, or how what is only evaluated was trained."""
        return self.recipe.method if self.trained else self.before

    @property
    def sets(self) -> list[str]:
        """The data sets that are trained on, one after another."""
        return [*(data_card(self.name).stages if self.phase == "target" else []), self.name] if self.trained else []


def kinds(cells: Iterable[Cell], method: Method | None = None) -> Counter[Kind]:
    """How many cells there are of each kind; with ``method`` as if every training were by it."""
    raw: Counter[tuple] = Counter()
    for cell in cells:
        p = cell.parameters
        if cell.phase == "pretrained":
            raw[cell.phase, p.model, p.layers, PROBE, "test", None, "none"] += 1
            continue
        prefix = PREFIX[cell.phase]
        values = tuple(getattr(p, prefix + field) for field in Recipe.model_fields)
        after = cell.phase == "target" and p.intermediate != NONE
        split = p.split if cell.phase == "target" else "dev"
        raw[cell.phase, p.model, p.layers, getattr(p, cell.phase), split, values, p.intermediate_method if after else "none"] += 1
    found: Counter[Kind] = Counter()
    for (phase, model, layers, name, split, values, before), count in raw.items():
        recipe = Recipe(**recipes.unused("")) if values is None else Recipe(**dict(zip(Recipe.model_fields, values, strict=True)))
        kind = Kind(phase, model, layers, name, split, recipe, before)
        found[_by(kind, method) if method else kind] += count
    return found


def _by(kind: Kind, method: Method) -> Kind:
    """The kind as if every training were by ``method``, with adapters beside every matrix where it has some."""
    before = method if kind.before != "none" else "none"
    if not kind.trained:
        return replace(kind, before=before)
    fields = {"method": "full" if method == "full" else "lora", "frozen": "word_embeddings"}
    if kind.recipe.method != "lora" or method == "full":
        wide = {"rank": 16, "alpha": 32.0, "adapted": "linear"}
        fields |= {field: wide[field] if method != "full" else Recipe.model_fields[field].default for field in ADAPTER}
    # A recipe by the name of qlora is none that a cell could have: see ``_profile``.
    return replace(kind, before=before, recipe=kind.recipe.model_copy(update=fields | {"method": method}))


def _profile(kind: Kind) -> Profile:
    """The model's profile, of qlora that of adapters beside weights of the same shapes."""
    update = {"method": "lora"} if kind.recipe.method == "qlora" else {}
    own = {field: getattr(kind.recipe, field) for field in ("frozen", *ADAPTER)}
    return profile.of(kind.model, kind.layers, profile.recipe_of(kind.recipe.method if not update else "lora", **own))


@dataclass(frozen=True)
class Cost:
    """What one cell takes. ``placement``: None where it fits nowhere; then ``instead`` says what would, and hours are
    NaN. ``operations``: floating-point; ``starting``: of ``hours``, those before anything computes. Bytes: ``host``,
    ``checkpoint``, ``predictions``, and ``resume``, which is there while it runs."""

    train: Work
    evaluated: Work
    placement: Placement | None
    instead: str
    operations: float
    hours: float
    starting: float
    host: float
    checkpoint: float
    predictions: float
    resume: float


def cost(kind: Kind, hardware: Hardware) -> Cost:
    """What a cell of this kind takes."""
    found = _profile(kind)
    train, step, steps = _training(kind)
    longest = kind.recipe.max_length or PROBE_LENGTH
    items = kind.recipe.test_items or ALL
    evaluated = lengths.evaluation(kind.name, kind.model, kind.split, items, longest)
    method = kind.method if kind.trained or kind.before == "qlora" else "none"
    place = placement.choose(found, method, step, longest, hardware)
    instead = "" if place else _instead(kind, found, step, longest, hardware)
    operations = hours = starting = math.nan
    if place:
        operations, wall = _time(kind, found, place, (train, steps, step), evaluated, hardware)
        weights = HALF * found.parameters
        starting = place.gpus * (hardware.start_seconds + weights / hardware.read_gb_per_second / 1e9) / 3600
        hours = place.gpus * wall / 3600 + starting
    trained = found.trained if kind.trained else 0.0
    vectors = FLOAT * evaluated.inputs * found.width if data_card(kind.name).family in VECTORS else 0.0
    return Cost(
        train=train,
        evaluated=evaluated,
        placement=place,
        instead=instead,
        operations=operations,
        hours=hours,
        starting=starting,
        # Weights on their way to the GPU; what is written of them, once as tensors and once as a file; or vectors.
        host=hardware.host_gib * GIB + max(HALF * found.parameters, 2 * FLOAT * trained, vectors),
        checkpoint=FLOAT * trained if kind.phase == "intermediate" else 0.0,
        predictions=evaluated.rows * ROW[data_card(kind.name).family] + FILES,
        resume=KEPT * (FLOAT + MOMENTS) * trained,
    )


def _training(kind: Kind) -> tuple[Work, int, float]:
    """What all epochs over all sets read; tokens of a batch at most; and steps."""
    recipe, all_of, step, steps = kind.recipe, Work(0, 0, 0, BASES[0]), 0, 0.0
    for name in kind.sets:
        one = lengths.training(name, kind.model, recipe.examples, recipe.max_length)
        a_row = one.tokens / one.rows
        rows = min(one.rows, recipe.tokens / a_row) if recipe.tokens else one.rows
        batch = recipe.batch_size or max(1.0, recipe.batch_tokens / a_row)
        times = recipe.steps * batch / rows if recipe.steps else recipe.epochs
        share = times * rows / one.rows
        basis = BASES[max(BASES.index(all_of.basis), BASES.index(one.basis))]
        all_of = Work(
            all_of.rows + share * one.rows, all_of.inputs + share * one.inputs, all_of.tokens + share * one.tokens, basis
        )
        steps += times * rows / batch
        longest = recipe.batch_tokens or math.ceil(recipe.batch_size * one.inputs / one.rows) * recipe.max_length
        step = max(step, longest)
    return all_of, step or placement.TRIED[0][0], steps


def _instead(kind: Kind, found: Profile, step: int, longest: int, hardware: Hardware) -> str:
    profiles: dict[Method, Profile] = {"none": found}
    for method in placement.METHODS:
        other = _by(replace(kind, recipe=kind.recipe), method) if method != kind.recipe.method else kind
        profiles[method] = _profile(other)
    return placement.what_would(profiles, kind.method, step, longest, hardware)


def _time(
    kind: Kind,
    found: Profile,
    place: Placement,
    training: tuple[Work, float, int],
    evaluated: Work,
    hardware: Hardware,
) -> tuple[float, float]:
    """Floating-point operations, and seconds of wall time on all GPUs of the placement together."""
    (train, steps, step), gpus = training, place.gpus
    operations = evaluated.tokens * found.operations("forward", evaluated.length) if evaluated.tokens else 0.0
    gathers = evaluated.tokens / (gpus * place.tokens)
    if train.tokens:
        again = "step_again" if place.again else "step"
        a_token = found.operations(again, train.length)
        if data_card(kind.name).family == "ranking" and step > gpus * place.tokens:
            a_token += found.operations("forward", train.length)  # vectors of the whole batch come first
        operations += train.tokens * a_token
        gathers += 2 * steps * math.ceil(train.tokens / steps / (gpus * place.tokens))
    slow = hardware.four_bit if kind.method == "qlora" else 1.0
    rate = hardware.teraflops * 1e12 * hardware.reached(found.parameters) * gpus
    others = (gpus - 1) / gpus
    moved = others * gathers * HALF * found.parameters + (others * gathers / 2 * FLOAT * found.trained if train.tokens else 0)
    return operations, max(operations * slow / rate, moved / (hardware.link_gb_per_second * 1e9))


def table(cells: Iterable[Cell], hardware: Hardware, method: Method | None = None) -> pd.DataFrame:
    """A row per kind of cell: its fields, ``cells``, and what one of them takes (``Cost``, ``Memory``)."""
    return pd.DataFrame(_rows(kinds(cells, method), hardware))


def _rows(counted: Counter[Kind], hardware: Hardware) -> Iterator[dict]:
    for kind, count in counted.items():
        found = cost(kind, hardware)
        values = {name: value for name, value in vars(found).items() if name not in ("train", "evaluated", "placement")}
        for role, work in (("train", found.train), ("evaluated", found.evaluated)):
            values |= {f"{role}_{name}": value for name, value in vars(work).items()}
        place = found.placement
        memory = vars(place.memory) | {"gpu": place.memory.total} if place else {}
        yield {
            "model": kind.model,
            "size": model_card(kind.model).parameters.trained if model_card(kind.model).parameters else math.nan,
            "phase": kind.phase,
            "data": kind.name,
            "method": kind.method if kind.trained else "none",
            "cells": count,
            **values,
            "gpus": place.gpus if place else 0,
            "micro": place.tokens if place else 0,
            "again": bool(place and place.again),
            **memory,
        }

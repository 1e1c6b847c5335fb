"""A cell: one notebook executed for one set of parameters. Its parameters, what identifies it, the code behind it.

``spec.json -> result.json + predictions.parquet + executed.ipynb``. This module knows no engine and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import create_model, model_validator

from xlscale.cards.catalogue import data_card, model_card
from xlscale.core import fingerprint, registry
from xlscale.core.files import RUNS, Phase, XlscaleError, digest
from xlscale.core.strict import Name, Strict, parse
from xlscale.experiment import checks, conditions, recipe
from xlscale.experiment.conditions import NONE, PREFIX, Role
from xlscale.experiment.recipe import Count, Recipe, Seed

PROBE = "udhr"  # the data set that phase 1 is evaluated on
EVALUATED = ("target", "split", "test_items")  # parameters of a target that say what is evaluated, and how much of it
OF_TRAINING = ("family", "labels", "tags", "unanswerable", "stages")  # fields of a card


class PretrainedParameters(Strict):
    """Phase 1: a rung of a public pretrained model."""

    model: Name
    layers: Count


class _IntermediateParameters(PretrainedParameters):
    intermediate: Name
    placebo: bool  # the same data and steps, labels shuffled
    precision: Literal["auto", "bf16", "float32"]
    seed: Seed

    def recipe(self, role: Role) -> Recipe:
        """The recipe of the training on the data set that plays ``role``."""
        return recipe.of(self.model_dump(), PREFIX[role])


IntermediateParameters = create_model(
    "IntermediateParameters",
    __base__=_IntermediateParameters,
    __doc__="Phase 2: the rung is trained on an English intermediate task; the recipe's fields are None without one.",
    **recipe.flattened(PREFIX["intermediate"]),
)


class _TargetParameters(IntermediateParameters):
    target: Name
    split: Literal["test", "dev"] = "test"  # what is evaluated; dev, which is English, to choose hyperparameters

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_is_not_used(cls, values: Any) -> Any:
        # So that one checkpoint, and one run, serve every cell that differs only in what it does not use.
        if not isinstance(values, dict):
            return values
        values = dict(values)
        untrained = _untrained(values.get("target"))
        if values.get("intermediate") == NONE:
            values |= recipe.unused(PREFIX["intermediate"]) | {"placebo": False}
        if untrained:
            held = values.get("method") if values.get("intermediate") == NONE else None  # else as the parent has it
            values |= recipe.unused(PREFIX["target"], recipe.TRAINING)
            values |= {"method": held} if held in recipe.PACKED else {}
        if untrained and values.get("intermediate") == NONE:
            values["seed"] = 0
        return values


TargetParameters = create_model(
    "TargetParameters",
    __base__=_TargetParameters,
    __doc__="Phase 3: fine-tuning on the English part of a target task, evaluation on every other language.",
    **recipe.flattened(PREFIX["target"]),
)


def _untrained(target: Any) -> bool:
    """Whether a target is known and has nothing to train on; what is unknown is reported where it is checked."""
    try:
        return isinstance(target, str) and not data_card(target).trained
    except XlscaleError:
        return False


PARAMETERS: dict[Phase, type[Strict]] = {
    "pretrained": PretrainedParameters,
    "intermediate": IntermediateParameters,
    "target": TargetParameters,
}
Parameters = PretrainedParameters | IntermediateParameters | TargetParameters


@dataclass(frozen=True)
class Cell:
    """A cell: phase, checked parameters, sha256 of what it reads, parent. Made by ``make``."""

    phase: Phase
    parameters: Parameters
    reads: tuple[tuple[str, str], ...]  # (name of what is read, sha256)
    parent: Cell | None
    id: str

    @property
    def folder(self) -> Path:
        """Where this cell's spec, result, predictions and executed notebook lie."""
        return RUNS / self.id

    @property
    def condition(self) -> str:
        """See ``conditions.condition``."""
        return conditions.condition(self.parameters.model_dump())

    def code(self, computed_by: str | None = None) -> str:
        """Fingerprint of the present code behind this cell, on the backend of this name, by default the one here."""
        return code(self.phase, self.parameters.model_dump(), computed_by)

    def spec(self) -> dict[str, Any]:
        """What ``spec.json`` holds: all of the cell's identity, readable."""
        return {
            "id": self.id,
            "phase": self.phase,
            "parameters": self.parameters.model_dump(),
            "reads": dict(self.reads),
            "parent": self.parent.id if self.parent else None,
        }

    def lineage(self) -> list[Cell]:
        """This cell after all its ancestors, oldest first."""
        return [*(self.parent.lineage() if self.parent else []), self]


def parts(phase: Phase, parameters: Mapping[str, Any], computed_by: str | None = None) -> tuple[str, ...]:
    """The modules of the parts that a cell's parameters name: reader, task family, objective and method, and the
    backend that computes, by default the one here. Raises XlscaleError for an unknown card or part."""
    found = [("reader", model_card(parameters["model"]).reader), ("backend", computed_by or registry.backend())]
    read = [PROBE] if phase == "pretrained" else [parameters[phase], *_stages(phase, parameters[phase])]
    found += [("task", data_card(one).family) for name in read for one in data_card(name).members]
    if phase != "pretrained":
        # Which a recipe from before there were others does not name.
        fields = {kind: Recipe.model_fields[kind] for kind in get_args(recipe.Part)}
        chosen = {kind: parameters.get(PREFIX[phase] + kind, field.default) for kind, field in fields.items()}
        if data_card(parameters[phase]).trained:
            found += chosen.items()
        elif chosen["method"] in recipe.PACKED:
            found.append(("method", chosen["method"]))
    return tuple(sorted({registry.module(kind, name) for kind, name in found}))


def code(phase: Phase, parameters: Mapping[str, Any], computed_by: str | None = None) -> str:
    """Fingerprint of the present code behind a cell with these parameters. Raises as ``parts`` does."""
    return fingerprint.of_phase(phase, parts(phase, parameters, computed_by))


def training_of(parameters: Mapping[str, Any]) -> list[Any]:
    """What the parameters of a target cell and its card say of its training. Cells of which that is the same may share
    one, as those of XQuAD and MLQA, which are both trained on SQuAD."""
    card = data_card(parameters["target"])
    shared = {name: value for name, value in parameters.items() if name not in EVALUATED}
    return [shared, card.splits.get("train"), *(getattr(card, field) for field in OF_TRAINING)]


def make(
    phase: Phase, values: dict[str, Any], where: str = "parameters", made: dict[Parameters, Cell] | None = None
) -> Cell:
    """Check ``values`` strictly and give the cell that they identify.

    ``made`` holds cells by their parameters and takes the new ones, ancestors included: who makes many cells passes
    one, so that each is made once and shared. Raises XlscaleError with one line naming ``where`` and the field: an
    unknown name, a wrong type, a value out of range, an unknown model, rung or data set, or a training field that is
    missing.
    """
    if not isinstance(phase, str) or phase not in PARAMETERS:
        raise XlscaleError(f"{where}: phase: expected one of {', '.join(PARAMETERS)}, got {phase!r}")
    parameters = parse(PARAMETERS[phase], values, where)
    made = {} if made is None else made
    if parameters not in made:
        checks.check(phase, parameters, where)
        parent = _parent(phase, parameters, where, made)
        reads = _reads(phase, parameters)
        identity = digest([phase, _identifying(parameters), reads, parent.id if parent else None])
        name = f"{_slug(phase, parameters)}-{identity[:10]}"
        made[parameters] = Cell(phase, parameters, tuple(reads), parent, name)
    return made[parameters]


def from_spec(spec: dict[str, Any], where: str, made: dict[Parameters, Cell] | None = None) -> Cell:
    """The cell of a ``spec.json``; ``made`` as in ``make``.

    Raises XlscaleError when the data or model it names have changed since.
    """
    if not isinstance(spec, dict) or not {"phase", "parameters"} <= spec.keys():
        raise XlscaleError(f"{where}: expected the fields phase and parameters")
    cell = make(spec["phase"], spec["parameters"], where, made)
    if cell.id != spec.get("id"):
        found = spec.get("id")
        raise XlscaleError(f"{where}: id: expected {cell.id} for these parameters, data and model, got {found}")
    return cell


def _identifying(parameters: Parameters) -> dict[str, Any]:
    """The parameters that are part of an identity: a field that has a default only where it differs from that, so that
    a field that comes later leaves the identities from before as they were."""
    fields = type(parameters).model_fields
    return {
        name: value
        for name, value in parameters.model_dump().items()
        if fields[name].is_required() or value != fields[name].default
    }


def _parent(phase: Phase, parameters: Parameters, where: str, made: dict[Parameters, Cell]) -> Cell | None:
    if phase == "pretrained":
        return None
    older = "intermediate" if phase == "target" and parameters.intermediate != NONE else "pretrained"
    return make(older, {name: getattr(parameters, name) for name in PARAMETERS[older].model_fields}, where, made)


def _reads(phase: Phase, parameters: Parameters) -> list[tuple[str, str]]:
    """What the notebook reads: bytes, and those fields of a card that change what is computed from them."""
    if phase == "pretrained":
        card = model_card(parameters.model)
        rung = card.healed_rung(parameters.layers)
        healed = [("healed", rung.sha256)] if rung else []
        texts = [("prefix", card.prefix), ("separator", card.separator), ("end", card.end)]
        # At their defaults they are not part of an identity, as those of data.
        read = {"attention": card.attention, "pooling": card.pooling}
        texts += [(name, value) for name, value in read.items() if value != type(card).model_fields[name].default]
        tokens = [(name, digest(text)) for name, text in texts if text is not None]
        return [(card.name, card.member_sha256), *healed, *tokens, _data_read(PROBE)]
    name = getattr(parameters, phase)
    beside = checks.BESIDE.get(getattr(parameters, f"{PREFIX[phase]}objective"))
    too = [getattr(parameters, PREFIX[phase] + beside[0])] if beside else []
    return [_data_read(one) for one in (*data_card(name).members, *_stages(phase, name), *too)]


def _stages(phase: Phase, name: str) -> list[str]:
    return data_card(name).stages if phase == "target" else []


def _data_read(name: str) -> tuple[str, str]:
    card = data_card(name)
    read = [card.sha256, card.labels] if card.labels else [card.sha256]
    # At their defaults they are not part of an identity, so cells from before there were any keep theirs.
    how = {"tags": card.tags, "normalisation": card.normalisation, "unanswerable": card.unanswerable}
    if other := {field: value for field, value in how.items() if value != type(card).model_fields[field].default}:
        read.append(other)
    return name, digest(read) if len(read) > 1 else card.sha256


def _slug(phase: Phase, parameters: Parameters) -> str:
    parts = [phase, parameters.model, f"k{parameters.layers}"]
    if phase != "pretrained":
        parts += [parameters.intermediate] + (["shuffled"] if parameters.placebo else [])
    if phase == "target":
        parts += [parameters.target]
    if phase != "pretrained":
        parts += [f"s{parameters.seed}"]
    return "-".join(parts)

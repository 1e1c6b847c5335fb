"""A cell: one notebook executed for one set of parameters, what identifies it, and the result it must leave.

``spec.json -> result.json + predictions.parquet + executed.ipynb``. This module knows no engine and no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xlscale.cards.catalogue import data_card, model_card
from xlscale.core.files import RUNS, Phase, XlscaleError, digest
from xlscale.core.strict import Name, Strict, parse

NONE = "none"
SHORTEST_WINDOW = 64  # tokens: room for a question and some context
SHUFFLED = ", shuffled labels"  # what a placebo's condition ends in

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Length = Annotated[int, Field(ge=16, le=512)]


class PretrainedParameters(Strict):
    """Phase 1: a rung of a public pretrained model."""

    model: Name
    layers: Count


class IntermediateParameters(PretrainedParameters):
    """Phase 2: the rung is trained on an English intermediate task. The fields are None where there is none."""

    intermediate: Name
    placebo: bool = False  # the same data and steps, labels shuffled
    intermediate_examples: Count | None = None
    intermediate_epochs: Count | None = None
    intermediate_learning_rate: Rate | None = None
    intermediate_batch_size: Count | None = None
    intermediate_max_length: Length | None = None  # tokens
    intermediate_test_items: Count | None = None  # at most this many items of the held-out English part
    intermediate_tokens: Count | None = None  # of an epoch: so many of the examples as hold them; None: all examples
    precision: Literal["auto", "bf16", "float32"] = "auto"
    seed: int = Field(ge=0)


class TargetParameters(IntermediateParameters):
    """Phase 3: fine-tuning on the English part of a target task, evaluation on every other language."""

    target: Name
    examples: Count | None = None
    epochs: Count | None = None
    learning_rate: Rate | None = None
    batch_size: Count | None = None
    max_length: Length  # tokens
    test_items: Count  # at most this many test items per language
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
            values |= dict.fromkeys(_INTERMEDIATE_ONLY) | {"placebo": False}
        if untrained:
            values |= dict.fromkeys(_TARGET_TRAINING)
        if untrained and values.get("intermediate") == NONE:
            values["seed"] = 0
        return values


def _untrained(target: Any) -> bool:
    """Whether a target is known and has nothing to train on; what is unknown is reported where it is checked."""
    try:
        return isinstance(target, str) and not data_card(target).trained
    except XlscaleError:
        return False


# Parameters that came later: at these values they are not part of an identity, so cells from before keep theirs.
_LATER = {"split": "test", "intermediate_tokens": None}
_INTERMEDIATE_ONLY = [name for name in IntermediateParameters.model_fields if name.startswith("intermediate_")]
_TARGET_TRAINING = ["examples", "epochs", "learning_rate", "batch_size"]
PARAMETERS = {
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
        """The intermediate training as a label: 'none', '<set>' or '<set>, shuffled labels'."""
        return condition(self.parameters.model_dump())

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


def condition(parameters: dict[str, Any]) -> str:
    """The intermediate training of a cell's parameters as a label: 'none', '<set>' or '<set>, shuffled labels'."""
    return parameters.get("intermediate", NONE) + (SHUFFLED if parameters.get("placebo") else "")


def make(
    phase: Phase, values: dict[str, Any], where: str = "parameters", made: dict[Parameters, Cell] | None = None
) -> Cell:
    """Check ``values`` strictly and give the cell that they identify.

    ``made`` holds cells by their parameters and takes the new ones, ancestors included: who makes many cells passes
    one, so that each is made once and shared. Raises XlscaleError with one line naming ``where`` and the field: an
    unknown name, a wrong type, a value out of range, an unknown model, rung or data set, or a training field that is
    missing.
    """
    if phase not in PARAMETERS:
        raise XlscaleError(f"{where}: phase: expected one of {', '.join(PARAMETERS)}, got {phase!r}")
    parameters = parse(PARAMETERS[phase], values, where)
    made = {} if made is None else made
    if parameters not in made:
        _check(phase, parameters, where)
        parent = _parent(phase, parameters, where, made)
        reads = _reads(phase, parameters)
        values = {k: v for k, v in parameters.model_dump().items() if k not in _LATER or v != _LATER[k]}
        identity = digest([phase, values, reads, parent.id if parent else None])
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


def _check(phase: Phase, parameters: Parameters, where: str) -> None:
    rungs = _named(where, "model", model_card, parameters.model).rungs
    if parameters.layers not in rungs:
        raise XlscaleError(f"{where}: layers: expected one of {rungs} of {parameters.model}, got {parameters.layers}")
    needed: list[str] = []
    if phase == "intermediate" or getattr(parameters, "intermediate", NONE) != NONE:
        _check_role(parameters.intermediate, "intermediate", where)
        needed += [name for name in _INTERMEDIATE_ONLY if name not in _LATER]
    if phase == "target":
        _check_role(parameters.target, "target", where)
        needed += _TARGET_TRAINING if data_card(parameters.target).trained else []
    for name in needed:
        if getattr(parameters, name) is None:
            raise XlscaleError(f"{where}: {name}: expected a number, got nothing")
    for field, prefix in (("intermediate", "intermediate_"), ("target", "")):
        if phase == field or (field == "intermediate" and f"{prefix}examples" in needed):
            _check_size(parameters, getattr(parameters, field), prefix, where)
    if phase == "target" and parameters.split not in (splits := data_card(parameters.target).splits):
        raise XlscaleError(f"{where}: split: expected one of {', '.join(splits)} for {parameters.target}, got dev")


def _check_role(name: str, role: str, where: str) -> None:
    card = _named(where, role, data_card, name)
    if card.role != role:
        raise XlscaleError(f"{where}: {role}: expected a card with role: {role}, {name!r} has role: {card.role}")


def training_rows(name: str) -> int | None:
    """Rows of a data set's training split, or of its largest stage where there are several, each of which takes so many
    as it has; None where a card does not know."""
    sizes = [[*data_card(one).splits.get("train", {}).values()] for one in (name, *data_card(name).stages)]
    return None if any(None in size for size in sizes) else max(sum(size) for size in sizes)


def _check_size(parameters: Parameters, name: str, prefix: str, where: str) -> None:
    card = data_card(name)
    examples, length = getattr(parameters, f"{prefix}examples"), getattr(parameters, f"{prefix}max_length")
    rows = training_rows(name)
    if examples is not None and rows is not None and examples > rows:
        raise XlscaleError(
            f"{where}: {prefix}examples: expected at most {rows}, the training rows of {name}, got {examples}"
        )
    if card.family == "span_qa" and length < SHORTEST_WINDOW:
        raise XlscaleError(
            f"{where}: {prefix}max_length: expected at least {SHORTEST_WINDOW} for span QA, got {length}"
        )


def _named(where: str, field: str, load: Any, name: str) -> Any:
    """``load(name)``, an unknown name being reported with the place and the field that hold it."""
    try:
        return load(name)
    except XlscaleError as error:
        raise XlscaleError(f"{where}: {field}: {error}") from None


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
        return [(card.name, card.member_sha256), *healed, ("prefix", digest(card.prefix)), _data_read("udhr")]
    name = parameters.target if phase == "target" else parameters.intermediate
    stages = data_card(name).stages if phase == "target" else []
    return [_data_read(one) for one in (name, *stages)]


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

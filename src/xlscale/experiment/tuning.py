"""How the learning rates of studies were chosen: what a study states about it, and what ``tuned.json`` holds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from xlscale.core import manifest
from xlscale.core.files import STUDIES, read_json, relative
from xlscale.core.strict import Name, Strict, parse
from xlscale.experiment.conditions import Role
from xlscale.experiment.recipe import Count, Rate, Seed

TUNED = "tuned.json"  # beside the studies; written by `make tune` from the record


class Tuned(Strict):
    """What ``tuned.json`` holds: the studies that were tried, and the rates that they chose, by model and layers."""

    studies: dict[Role, Name] = Field(default={}, alias="from")
    rates: dict[Role, dict[Name, dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}$")], Rate]]]


class Tuning(Strict):
    """How the learning rates were chosen: what was tried, with one seed, and how it scored in development (0 to 1).

    ``tried`` and ``scores`` go by phase ("intermediate", "target") and number of layers, and have one shape.
    """

    seed: Seed
    intermediate: Name  # the set that the rates of all intermediate sets were tried on
    target: Name
    examples: dict[Count, Count]  # by number of layers
    tried: dict[Role, dict[Count, list[Rate]]]
    scores: dict[Role, dict[Count, list[Annotated[float, Field(ge=0, le=1)]]]]
    note: str = ""  # what the choice rests on besides these scores; printed in the paper

    @model_validator(mode="after")
    def _same_shape(self) -> Tuning:
        shapes = [
            {phase: {k: len(values) for k, values in rungs.items()} for phase, rungs in table.items()}
            for table in (self.tried, self.scores)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError("scores: expected one score for each value tried")
        if any(set(rungs) - set(self.examples) for rungs in self.tried.values()):
            raise ValueError("examples: expected a number for each rung tried")
        return self


def tuned() -> dict[str, dict[str, dict[int, float]]]:
    """The learning rates that tuning chose: phase -> model -> layers -> rate. Raises XlscaleError without the file, and
    where it is not as the manifest says."""
    path = STUDIES / TUNED
    manifest.verify(path, STUDIES)
    chosen = parse(Tuned, read_json(path), relative(path)).rates
    return {
        phase: {model: {int(k): rate for k, rate in rungs.items()} for model, rungs in models.items()}
        for phase, models in chosen.items()
    }

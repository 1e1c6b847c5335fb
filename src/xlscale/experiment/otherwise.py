"""What of a study's recipe is otherwise: for one model, in an arm, and where the recipe is that of a card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from xlscale.cards.catalogue import data_card
from xlscale.core.strict import Distinct, Name, Strict
from xlscale.experiment import checks
from xlscale.experiment.conditions import NONE
from xlscale.experiment.recipe import Count, Rate, Recipe, Size

if TYPE_CHECKING:
    from xlscale.experiment.studies import Study

LARGE = 24  # layers from which on a model takes the learning rate that a reference gives for large ones
ALL = 10_000_000  # items: more than any target has


class ModelRecipe(Strict):
    """What of the recipes of a study is otherwise for one model: how it is trained, and how fast."""

    method: Name | None = None
    rank: Count | None = None
    alpha: Size | None = None
    adapted: Literal["query_value", "linear"] | None = None
    learning_rate: Rate | Annotated[list[Rate], Field(min_length=1), Distinct] | None = None


class Arm(Strict):
    """Further conditions of a study: sets that are trained on by other recipes than its own, or targets that are. What
    is left out is as the study has it."""

    intermediate: Annotated[list[Name], Field(min_length=1), Distinct]
    recipe: dict[Name, Any] = {}  # fields of the intermediate recipe
    target: dict[Name, Any] = {}  # fields of the recipes of all targets

    @model_validator(mode="after")
    def _compared(self) -> Arm:
        if "test_items" in self.target:
            raise ValueError("target: test_items: expected as the study has it, or gains would be over other items")
        if self.target and NONE not in self.intermediate:
            raise ValueError(
                "intermediate: expected none too, which sets with the same target training are compared with"
            )
        return self


def beside(study: Study) -> set[str]:
    """The sets that objectives of a study read beside those that they train on."""
    parts = [study.intermediate_recipe, *study.target_recipes.values(), *study.intermediate_recipes.values()]
    changes = [*(part if isinstance(part, dict) else vars(part) for part in parts if part != "reference")]
    changes += [one for arm in study.arms.values() for one in (arm.recipe, arm.target)]
    read = [(one, checks.BESIDE[one["objective"]][0]) for one in changes if one.get("objective") in checks.BESIDE]
    return {one.get(field, Recipe.model_fields[field].default) for one, field in read}


def of_card(name: str, layers: int) -> dict[str, Any]:
    """What the recipe of a card says for a model with ``layers`` layers, on all training rows."""
    known = data_card(name).recipe
    stated = {
        "examples": checks.training_rows(name) or ALL,  # of a set that nobody has counted, what the fetch will find
        "epochs": known.epochs,
        "learning_rate": (layers >= LARGE and known.large_learning_rate) or known.learning_rate,
        "batch_size": known.batch_size,
        "max_length": known.max_length,
        "warmup_steps": known.warmup_steps,
        "weight_decay": known.weight_decay,
    }
    return {field: value for field, value in stated.items() if value is not None}

"""The recipe of a training: every hyperparameter, each in one place, the same for intermediate and target training.

A knob that comes later gets a field with a default here, and is used where it matters; nothing else has to know. At
its default it is no part of a cell's identity, so cells from before keep theirs. Papermill passes flat parameters:
``flattened`` is where a recipe becomes some, ``of`` where it is put together again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from xlscale.core.strict import Name, OneZero, Strict, parse

LEAST = 1e-12  # far from where float32 rounds a rate to none


def _felt(number: float) -> float:
    if number < LEAST:
        raise ValueError(f"expected at least {LEAST}, which float32 does not round to none")
    return number


Count = Annotated[int, Field(ge=1, le=10**12)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, lt=1), AfterValidator(_felt)]
Share = Annotated[float, Field(ge=0, lt=1), OneZero]
Size = Annotated[float, Field(ge=0, le=1000), OneZero]  # beyond it nothing is left of a word's embedding, or of a loss
Positive = Annotated[float, Field(gt=0, le=1000)]
Few = Annotated[int, Field(ge=1, le=1000)]
Length = Annotated[int, Field(ge=16, le=512)]  # tokens
Part = Literal["objective", "method"]
ADAPTER = ("rank", "alpha", "adapted")  # the fields that a training and the one that goes on from it have in common
PACKED = ("qlora",)  # methods that hold the pretrained weights in another way, also where nothing is trained

# Objective or method -> the fields that no other reads, but for one that is beside it here: elsewhere they would make
# another cell of the same training.
ONLY: dict[tuple[Part, str], tuple[str, ...]] = {
    ("objective", "adversarial"): ("norm", "radius", "ascent_steps", "ascent_size"),
    ("objective", "smoothing"): ("sigma",),
    ("objective", "augmentation"): ("copies", "synonyms"),
    ("objective", "lexical"): ("word_layer", "margin", "pooling"),
    ("objective", "mlm_cotraining"): ("text", "text_weight"),
    ("method", "full"): ("frozen",),
    ("method", "lora"): ADAPTER,
    ("method", "qlora"): ADAPTER,
}
# A field -> the objectives or methods that read it.
READERS = {name: [part for part, own in ONLY.items() if name in own] for names in ONLY.values() for name in names}
# Objective -> the families of tasks that it can train, where these are not all.
FAMILIES: dict[str, tuple[str, ...]] = {
    "augmentation": ("classification",),
    "distillation": (),
    "lexical": ("lexicon",),
    "masked_lm": ("text",),
    "translation_lm": ("text",),
}
# Family -> the objectives that can train it, where these are not all.
OBJECTIVES: dict[str, tuple[str, ...]] = {"lexicon": ("lexical",), "text": ("masked_lm", "translation_lm")}


class Recipe(Strict):
    """The hyperparameters of one training, and how much is evaluated after it. None: not trained, or another field says
    it."""

    examples: Count | None  # training rows, sampled without repetition
    epochs: Count | None
    learning_rate: Rate | None  # the highest, after warm-up
    batch_size: Count | None  # rows
    max_length: Length | None  # tokens of an input
    test_items: Count | None  # at most, per language
    tokens: Count | None = None  # of an epoch: rows are sampled up to this budget (the token-matched arm); None: all
    steps: Count | None = None  # instead of epochs
    batch_tokens: Count | None = None  # of the rows of a batch together, instead of batch_size
    warmup: Share = 0.1  # share of the steps
    warmup_steps: Annotated[int, Field(ge=0, le=10**12)] | None = None  # instead of warmup
    weight_decay: Share = 0.0  # AdamW's, decoupled
    clip: Annotated[float, Field(gt=0, le=10**9), AfterValidator(_felt)] = 1.0  # largest norm of the gradient
    objective: Name = "supervised"  # of ``training.objectives``
    method: Name = "full"  # of ``training.methods``
    frozen: Literal["word_embeddings", "nothing"] = "word_embeddings"  # what stays as pretrained
    # Of the objective adversarial: the ball around every word embedding, and the search in it.
    norm: Literal["l2", "linf"] = "l2"
    radius: Size = 0.1
    ascent_steps: Few = 3
    ascent_size: Positive | None = None  # of a step; None: all of them together cross the ball
    sigma: Size = 0.025  # of the objective smoothing: standard deviation of the noise on every entry of an embedding
    copies: Few = 3  # of the objective augmentation: of every training row
    synonyms: Name = "synonyms"  # of the same: a card of family lexicon
    # Of the objective lexical: the layer in which the words of a pair come together, and what of an input is pooled.
    word_layer: Count = 2
    margin: Annotated[float, Field(ge=0, le=2), OneZero] = 0.4
    pooling: Literal["all", "words"] = "all"
    text: Name = "unlabelled"  # of the objective mlm_cotraining: a card of family text
    text_weight: Size = 1.0  # of the same: of the loss on it
    mixing_cap: Count | None = None  # of a mixture: examples of a set that count in how often it comes; None: all
    # Of the methods lora and qlora, Hu et al. 2021: the rank of the updates, what they are scaled by (alpha / rank),
    # and the matrices that have one.
    rank: Annotated[int, Field(ge=1, le=8192)] = 8  # no model here is wider
    alpha: Annotated[float, Field(gt=0, le=8192)] = 16.0
    adapted: Literal["query_value", "linear"] = "query_value"

    @model_validator(mode="after")
    def _one_of_two(self) -> Recipe:
        for one, other in (("epochs", "steps"), ("batch_size", "batch_tokens")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"{other}: expected nothing beside {one}, got {getattr(self, other)}")
        if self.warmup_steps is not None and self.warmup != Recipe.model_fields["warmup"].default:
            raise ValueError(f"warmup: expected nothing beside warmup_steps, got {self.warmup}")
        return self

    @model_validator(mode="after")
    def _of_the_parts(self) -> Recipe:
        for name, read_by in READERS.items():
            if (value := getattr(self, name)) == _UNREAD[name]:
                continue
            if not any(getattr(self, kind) == part for kind, part in read_by):
                parts = " or ".join(part for _, part in read_by)
                raise ValueError(f"{name}: expected with {read_by[0][0]} {parts} alone, got {value!r}")
        return self


_UNREAD = {name: Recipe.model_fields[name].default for name in READERS}
NEEDED = [name for name, field in Recipe.model_fields.items() if field.is_required()]
TRAINING = [name for name in Recipe.model_fields if name not in ("max_length", "test_items")]  # of no use untrained


def lacking(values: Mapping[str, Any], trained: bool) -> list[str]:
    """The fields that a training, or an evaluation without one, needs and that ``values`` leave None."""
    either = {"epochs": "steps", "batch_size": "batch_tokens"}
    needed = [name for name in NEEDED if trained or name not in TRAINING]
    return [name for name in needed if values.get(name) is None and values.get(either.get(name, name)) is None]


def said(values: Mapping[str, Any], prefix: str) -> list[str]:
    """Objective and method of the recipe whose flat fields begin with ``prefix``, each with what it alone reads, as far
    as they are not the defaults: what a condition is called after. Rates, sizes and lengths are no part of it."""
    defaults, found = {name: field.default for name, field in Recipe.model_fields.items()}, []
    for kind in get_args(Part):
        part = values.get(prefix + kind, defaults[kind])
        own = {name: values.get(prefix + name, defaults[name]) for name in ONLY.get((kind, part), ())}
        other = " and ".join(f"{name} {value}" for name, value in own.items() if value != defaults[name])
        if other or part != defaults[kind]:
            found.append(f"{part} with {other}" if other else part)
    return found


def flattened(prefix: str) -> dict[str, tuple[Any, Any]]:
    """The fields of a recipe, for ``pydantic.create_model``, each name after ``prefix``."""
    return {prefix + name: (field.annotation, field) for name, field in Recipe.model_fields.items()}


def unused(prefix: str, names: Iterable[str] = Recipe.model_fields) -> dict[str, Any]:
    """Flat values that say that nothing uses the fields ``names``."""
    fields = Recipe.model_fields
    return {prefix + name: None if fields[name].is_required() else fields[name].default for name in names}


def of(values: Mapping[str, Any], prefix: str, where: str = "parameters") -> Recipe:
    """The recipe whose flat fields begin with ``prefix``. Raises XlscaleError naming ``where`` and the field."""
    return parse(
        Recipe, {name: values[prefix + name] for name in Recipe.model_fields if prefix + name in values}, where
    )

"""Whether what a cell's parameters say goes together: known names, and recipes that can train what they train."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from xlscale.cards.catalogue import data_card, model_card
from xlscale.cards.schema import DataCard
from xlscale.core import registry
from xlscale.core.files import Phase, XlscaleError
from xlscale.experiment import recipe
from xlscale.experiment.conditions import NONE, PREFIX, Role
from xlscale.experiment.recipe import Recipe

if TYPE_CHECKING:
    from xlscale.experiment.cells import Parameters, TargetParameters

LEXICON, LEXICAL = "lexicon", "lexical"  # a role, and the objective that is trained on data of it
UNLABELLED = "unlabelled"  # the role of text, which is trained on like intermediate data
# Objective -> the field that names a set which it reads, too, and of which family that is.
BESIDE = {"augmentation": ("synonyms", "lexicon"), "mlm_cotraining": ("text", "text")}
SHORTEST_WINDOW = 64  # tokens: room for a question and some context


def check(phase: Phase, parameters: Parameters, where: str) -> None:
    """Raise XlscaleError with one line naming ``where`` and the field: an unknown model, rung or data set, a training
    field that is missing, or one that does not go with another."""
    rungs = _named(where, "model", model_card, parameters.model).rungs
    if parameters.layers not in rungs:
        raise XlscaleError(f"{where}: layers: expected one of {rungs} of {parameters.model}, got {parameters.layers}")
    if phase == "intermediate" or getattr(parameters, "intermediate", NONE) != NONE:
        _check_training(parameters, "intermediate", where)
    if phase == "target":
        _check_training(parameters, "target", where)
        _check_method(parameters, where)
        if parameters.split not in (splits := data_card(parameters.target).splits):
            raise XlscaleError(f"{where}: split: expected one of {', '.join(splits)} for {parameters.target}, got dev")


def _check_training(parameters: Parameters, role: Role, where: str) -> None:
    """Check the data set that plays ``role`` and the recipe of its training."""
    name, prefix = getattr(parameters, role), PREFIX[role]
    chosen = recipe.of(parameters.model_dump(), prefix, where)
    card = _named(where, role, data_card, name)
    besides = card.role == UNLABELLED or (card.role == LEXICON and card.task)
    if card.role != role and not (role == "intermediate" and besides):
        lexicon = role == "intermediate" and card.role == LEXICON  # none of whose pairs are kept apart
        expected = "a lexicon with metric and chance" if lexicon else f"a card with role: {role}"
        raise XlscaleError(f"{where}: {role}: expected {expected}, {name!r} has role: {card.role}")
    if card.role == UNLABELLED and parameters.placebo:
        raise XlscaleError(f"{where}: placebo: expected false for {name}, which has no labels to shuffle, got true")
    if chosen.mixing_cap is not None and not card.sets:
        raise XlscaleError(f"{where}: {prefix}mixing_cap: expected of a mixture alone, got it of {name}")
    if missing := recipe.lacking(chosen.model_dump(), card.trained):
        raise XlscaleError(f"{where}: {', '.join(prefix + name for name in missing)}: expected a number, got nothing")
    if card.trained and parameters.seed == 0:
        raise XlscaleError(f"{where}: seed: expected at least 1 where {name} is trained on, 0 stands for no training")
    for kind in ("objective", "method"):
        _named(where, prefix + kind, partial(registry.module, kind), getattr(chosen, kind))
    for stage in card.stages:
        _check_stage(_named(where, f"{name}: stages", data_card, stage), card, f"{where}: {name}: stages")
    _check_objective(chosen, trained := [data_card(one) for one in (*card.members, *card.stages)], where, prefix)
    if chosen.objective == LEXICAL and chosen.word_layer > parameters.layers:
        expected = f"at most {parameters.layers}, the layers of this rung"
        raise XlscaleError(f"{where}: {prefix}word_layer: expected {expected}, got {chosen.word_layer}")
    rows = training_rows(name)
    if chosen.examples is not None and rows is not None and chosen.examples > rows:
        expected = f"at most {rows}, the training rows of {name}"
        raise XlscaleError(f"{where}: {prefix}examples: expected {expected}, got {chosen.examples}")
    if any(one.family == "span_qa" for one in trained) and chosen.max_length < SHORTEST_WINDOW:
        expected = f"at least {SHORTEST_WINDOW} for span QA"
        raise XlscaleError(f"{where}: {prefix}max_length: expected {expected}, got {chosen.max_length}")


def _check_stage(stage: DataCard, card: DataCard, where: str) -> None:
    """Check that a stage can use its target's head, has training rows, and has no stages of its own."""
    if stage.name == card.name:
        raise XlscaleError(f"{where}: expected other sets than the target, got {stage.name}")
    for field in ("family", "labels", "tags"):
        got, own = getattr(stage, field), getattr(card, field)
        if got != own and None not in (got, own):  # before it is fetched, nobody may know a set's labels
            raise XlscaleError(f"{where}: expected sets with {field} {own}, as the target, {stage.name} has {got}")
    if stage.stages or (stage.splits and not stage.trained):
        what = "a stage itself" if stage.stages else "no training rows"
        raise XlscaleError(f"{where}: expected sets with training rows and no stages, {stage.name} has {what}")
    if card.splits and not card.trained:
        raise XlscaleError(f"{where}: expected none for a target that is not trained, got {stage.name}")


def _check_method(parameters: TargetParameters, where: str) -> None:
    """Check that target training goes on with the adapters of intermediate training, which are never merged."""
    before, after = (getattr(parameters, f"{PREFIX[role]}method") for role in ("intermediate", "target"))
    if after in recipe.PACKED and parameters.intermediate != NONE and before != after:
        expected = f"{after}, as in target training, which packs pretrained weights alone"
        raise XlscaleError(f"{where}: {PREFIX['intermediate']}method: expected {expected}, got {before}")
    if before == Recipe.model_fields["method"].default or not data_card(parameters.target).trained:
        return
    for name in ("method", *recipe.ADAPTER):
        expected, got = (getattr(parameters, PREFIX[role] + name) for role in ("intermediate", "target"))
        if expected != got:
            raise XlscaleError(f"{where}: {name}: expected {expected}, as in intermediate training, got {got}")


def _check_objective(chosen: Recipe, cards: list[DataCard], where: str, prefix: str) -> None:
    """Check that the objective can train the families of the data sets, and what it reads beside them."""
    for card in cards:
        if card.trained and card.family not in recipe.FAMILIES.get(chosen.objective, (card.family,)):
            raise XlscaleError(
                f"{where}: {prefix}objective: expected one for {card.name} of family {card.family}, "
                f"got {chosen.objective!r}, which takes {', '.join(recipe.FAMILIES[chosen.objective]) or 'no task'}"
            )
        if card.trained and chosen.objective not in (known := recipe.OBJECTIVES.get(card.family, (chosen.objective,))):
            raise XlscaleError(
                f"{where}: {prefix}objective: expected {', '.join(known)} for {card.name}, got {chosen.objective!r}"
            )
    if chosen.objective in BESIDE:
        field, family = BESIDE[chosen.objective]
        known = _named(where, prefix + field, data_card, name := getattr(chosen, field))
        if known.family != family or not known.bundled or "en" not in known.splits.get("train", {}):
            raise XlscaleError(f"{where}: {prefix}{field}: expected a bundled {family} with English rows, got {name!r}")


def training_rows(name: str) -> int | None:
    """Rows of a data set's training split, or of its largest stage where there are several, each of which takes so many
    as it has; None where a card does not know."""
    card = data_card(name)
    sizes = [[*data_card(one).splits.get("train", {}).values()] for one in (*card.members, *card.stages)]
    return None if any(None in size for size in sizes) else max(sum(size) for size in sizes)


def _named(where: str, field: str, load: Any, name: str) -> Any:
    """``load(name)``, an unknown name being reported with the place and the field that hold it."""
    try:
        return load(name)
    except XlscaleError as error:
        kind = field.rpartition("_")[2]  # a registry names what it has, as the field does
        raise XlscaleError(f"{where}: {field}: {str(error).removeprefix(f'{kind}: ')}") from None

"""What a cell left of a decoder, as a whole language model that other programs read: trained weights in their places,
adapters merged."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open

from xlscale.cards.catalogue import model_card
from xlscale.core import registry
from xlscale.core.files import XlscaleError
from xlscale.experiment import recipe, results
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import CHECKPOINT, Result
from xlscale.models import ladder, language_model
from xlscale.training.methods.lora import LoRA

PUBLISHED, TRAINED = "as published", "the trained weights, float32, in the place of the published ones"
MERGED = "adapters merged into the published weights, in the type of those"
PACKED = f"{MERGED}, which were in four bits when the adapters were trained"


def check(cell: Cell) -> Result:
    """The result of a cell that left a language model. Raises XlscaleError for another one."""
    if cell.phase == "target":
        raise XlscaleError(
            f"{cell.id}: expected a pretrained or an intermediate cell, which leaves a model, got a target"
        )
    language_model.check(model_card(cell.parameters.model), cell.parameters.layers)
    if (result := results.result_of(cell, cell.folder.parent)) is None:
        raise XlscaleError(f"{cell.id}: expected a cell that has been run here; run `make cell ID={cell.id}`")
    if result.status == "failed":
        raise XlscaleError(f"{cell.id}: expected a complete cell, it has failed ({result.reason})")
    if cell.phase == "intermediate" and not (cell.folder / CHECKPOINT).exists():
        raise XlscaleError(
            f"{cell.id}: {CHECKPOINT}: expected what the cell left, found nothing; remove its result.json "
            f"and run `make cell ID={cell.id}`"
        )
    return result


def write(cell: Cell, folder: Path) -> str:
    """Write the language model of a cell that ``check`` has passed into ``folder``, a new one, and say what is in it.

    ``full``: the trained weights as they are, float32. ``lora`` and ``qlora``: the product of the adapters is added by
    PEFT to the published weights, and rounded to the type of those. All else, the LM head too, is as published.
    """
    card, layers = model_card(cell.parameters.model), cell.parameters.layers
    if cell.phase == "pretrained":
        language_model.write(card, folder, {}, as_published=True)
        return PUBLISHED
    chosen, checkpoint = cell.parameters.recipe("intermediate"), cell.folder / CHECKPOINT
    method = registry.get("method", chosen.method)()
    adapted = isinstance(method, LoRA)
    # Beside the published weights, whether adapters were trained so or beside weights in four bits.
    encoder = (LoRA() if adapted else method).load(card, layers, torch.device("cpu"), chosen, checkpoint)
    replaced = _merged(encoder) if adapted else _trained(encoder, checkpoint)
    language_model.write(card, folder, replaced, as_published=adapted)
    return PACKED if chosen.method in recipe.PACKED else MERGED if adapted else TRAINED


def _merged(encoder: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that have adapters beside them, with these in them."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # here: it takes seconds

    found = {}
    for name, module in encoder.named_modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
            found[f"{name}.weight"] = module.get_base_layer().weight.detach()
    return found


def _trained(encoder: torch.nn.Module, checkpoint: Path) -> dict[str, torch.Tensor]:
    with safe_open(checkpoint, "pt") as file:
        names = [name.removeprefix(ladder.MODEL) for name in file.keys()]  # noqa: SIM118
    return {name: encoder.get_parameter(name).detach() for name in names}

"""A step in parts: losses and gradients of the whole batch, in every family."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import FIXTURES, recipe

from xlscale.cards.catalogue import data_card
from xlscale.commands import cell as command
from xlscale.core import registry
from xlscale.core.files import XlscaleError
from xlscale.data.batches import Encoded
from xlscale.engine import phase, runner
from xlscale.experiment import cells
from xlscale.models import ladder
from xlscale.planning import hardware
from xlscale.tasks.base import Task
from xlscale.tasks.tagging import IGNORED
from xlscale.training import loop, micro_batches
from xlscale.training.backends.cpu import CPU
from xlscale.training.mixture import Mixture
from xlscale.training.model import Model

sys.path.append(str(FIXTURES))
import families

FAMILIES = [family for family in families.FAMILIES if family != "lexicon"]
LENGTH = 48


class Small(CPU):
    """A processor that holds so many tokens at a time."""

    def __init__(self, tokens: int | None, precision: str = "float32"):
        super().__init__(precision)
        self.tokens = tokens


def _task(family: str, card) -> tuple[Task, Encoded]:
    return families.inputs(family, card, recipe(max_length=LENGTH, examples=400 if family == "span_qa" else 24))


def _gradients(card, task, inputs, backend, objective="supervised", **values):
    """Loss, gradients and what was read of all inputs in one step."""
    encoder = ladder.load(card, 1)
    head = task.head_of(encoder, torch.Generator().manual_seed(2))
    model = Model(encoder, backend, task, head)
    made = registry.get("objective", objective)()
    chosen = recipe(objective=objective, max_length=LENGTH, batch_size=8, **values)
    made.begin(model, chosen, np.random.default_rng(3))
    with backend.working(encoder) as weights:
        loss, read = micro_batches.gradients(made, model, weights, inputs, np.arange(len(inputs)))
        found = [parameter.grad for parameter in [*weights.parameters, *head.parameters()]]
    return loss, [gradient for gradient in found if gradient is not None], read


def _far(found, expected) -> float:
    """The distance of gradients as a share of their norm; some are nothing but rounding, as those of keys' biases."""
    one, other = (torch.cat([gradient.ravel() for gradient in side]) for side in (found, expected))
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("tokens", [1, 150, 400])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_the_whole_batch(layout, family, tokens):
    card = layout("xlm-r")
    task, inputs = _task(family, card)
    loss, expected, whole = _gradients(card, task, inputs, Small(None))
    value, found, parts = _gradients(card, task, inputs, Small(tokens))
    assert len(whole) == 1 < len(parts)
    assert value == pytest.approx(loss, rel=1e-5) and len(found) == len(expected)
    assert _far(found, expected) < 1e-5
    # All inputs once, none too large but a single row, and rows whole.
    assert np.concatenate([batch.index for batch in parts]).tolist() == list(range(len(inputs)))
    for batch in parts:
        own = {*inputs.row[batch.index].tolist()}
        assert batch.ids.numel() <= tokens or len(own) == 1
        assert np.isin(inputs.row, [*own]).sum() == len(batch.index)


def test_a_whole_training_in_parts_gives_its_losses(layout):
    card = layout("qwen2.5")
    task, inputs = _task("tagging", card)
    chosen = recipe(epochs=3, batch_size=8, learning_rate=1e-3, max_length=LENGTH)
    losses = []
    for tokens in (None, 64):
        encoder = ladder.load(card, 2)
        head = task.head_of(encoder, torch.Generator().manual_seed(2))
        log = loop.finetune(Model(encoder, Small(tokens), task, head), inputs, chosen, np.random.default_rng(5))
        losses.append(log.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 9


@pytest.mark.parametrize("name", ["xlm-r", "xlm-r-xl", "mmbert", "eurobert", "qwen2.5", "llama-3.1", "gemma-3"])
@pytest.mark.parametrize("method", [{}, {"method": "lora", "rank": 4, "alpha": 8.0, "adapted": "linear"}])
def test_layers_that_are_computed_again_change_no_bit(layout, name, method):
    """Of models whose configuration has dropout, too, which stays off."""
    card = layout(name)
    task, inputs = _task("classification", card)
    chosen = recipe(epochs=2, batch_size=8, learning_rate=1e-3, max_length=LENGTH, **method)
    losses, kept = [], []
    for again in (False, True):
        encoder = ladder.load(card, 2)
        registry.get("method", chosen.method)().prepare(encoder, chosen, torch.Generator().manual_seed(1))
        head = task.head_of(encoder, torch.Generator().manual_seed(2))
        model = Model(encoder, CPU("float32", again=again), task, head)
        losses.append(loop.finetune(model, inputs, chosen, np.random.default_rng(5)).losses)
        assert not any(module.training for module in encoder.modules())
        kept.append(_kept(model, inputs))
    assert losses[0] == losses[1]
    assert kept[1] < 0.7 * kept[0]


def _kept(model: Model, inputs: Encoded) -> int:
    """Bytes that a forward pass keeps beside parameters."""
    found = {}

    def keep(tensor):
        found[tensor.untyped_storage()._cdata] = tensor
        return tensor

    own = {parameter.untyped_storage()._cdata for parameter in model.encoder.parameters()}
    with model.backend.working(model.encoder), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.outputs(model.batch(inputs, np.arange(len(inputs))))
    return sum(tensor.untyped_storage().nbytes() for name, tensor in found.items() if name not in own)


def test_a_cell_is_placed_as_planned_and_says_so(target_values, tmp_path, monkeypatch):
    cell = cells.make("target", target_values | {"intermediate": "none", "precision": "float32"})
    told = {}
    for tokens in (None, 200):
        planned = {} if tokens is None else {cell.id: (tokens, True)}
        monkeypatch.setenv(runner.PLACEMENT, json.dumps(planned))
        run = phase.OpenCell(cell, tmp_path)
        encoder = run.starting_point()
        _, log = run.train(encoder)
        told[tokens] = log.losses, run._placed()
    assert told[200][0] == pytest.approx(told[None][0], rel=1e-3)
    assert told[None][1] == {"backend": "cpu"}
    assert told[200][1] == {"backend": "cpu", "micro_batch_tokens": 200, "layers_recomputed": True}


def test_a_gpu_gets_what_fits_it(target_values, monkeypatch):
    cell = cells.make("target", target_values)
    gpu = type("Properties", (), {"total_memory": 80 * hardware.GIB})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    found = command._placed(cell)
    assert found.keys() == {one.id for one in cell.lineage()}
    assert found[cell.id] == (16 * 48, False, 1)  # a whole batch
    gpu.total_memory = 4.05 * hardware.GIB  # of which 4 are not to be had
    with pytest.raises(
        XlscaleError, match=f"{cell.parent.parent.id if cell.parent.parent else cell.parent.id}: expected"
    ):
        command._placed(cell)


def test_gradients_of_rounded_weights_add_up_in_float32(layout):
    card = layout("xlm-r")
    task, inputs = _task("classification", card)
    _, exact, _ = _gradients(card, task, inputs, Small(None))
    _, found, parts = _gradients(card, task, inputs, Small(1, "bf16"))
    assert len(parts) == 24 and {gradient.dtype for gradient in found} == {torch.float32}
    assert _far(found, exact) < 0.02


def test_a_part_with_nothing_to_learn_counts_nothing(layout):
    card = layout("xlm-r")
    task, inputs = _task("tagging", card)
    tags = inputs.targets["tag"].copy()
    tags[:3] = IGNORED
    inputs = replace(inputs, targets=inputs.targets | {"tag": tags})
    loss, expected, _ = _gradients(card, task, inputs, Small(None))
    value, found, _ = _gradients(card, task, inputs, Small(1))
    assert value == pytest.approx(loss, rel=1e-5)
    assert _far(found, expected) < 1e-5


@pytest.mark.parametrize(
    ("family", "objective", "values"),
    [
        ("ranking", "smoothing", {"sigma": 0.01}),
        ("ranking", "adversarial", {"radius": 0.1}),
        ("classification", "mlm_cotraining", {"text_weight": 0.5, "text": "unlabelled"}),
    ],
)
def test_what_cannot_be_divided_is_read_whole(layout, family, objective, values):
    card = layout("xlm-r")
    task, inputs = _task(family, card)
    assert len(_gradients(card, task, inputs, Small(1), objective, **values)[2]) == 1


def test_a_mixture_is_divided_where_all_of_its_sets_are():
    mixture = data_card("topic").model_copy(update={"sets": ["topic", "interface_tags"]})
    assert Mixture(mixture).divisible == "mean"
    assert Mixture(mixture.model_copy(update={"sets": ["topic", "lareqa"]})).divisible == "whole"

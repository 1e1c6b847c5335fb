"""QLoRA: what four bits hold, what is computed from them, and what a cell that trains so says of its size."""

import numpy as np
import pytest
import torch
from conftest import recipe
from test_lora import CELL as ADAPTED
from torch import nn
from torch.nn.functional import linear

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError
from xlscale.data import load
from xlscale.engine import phase, runner
from xlscale.experiment import cells
from xlscale.models import ladder
from xlscale.training import loop
from xlscale.training.backends.cpu import CPU
from xlscale.training.methods.lora import LoRA
from xlscale.training.methods.qlora import BLOCK, QLoRA
from xlscale.training.model import Model

HERE = torch.device("cpu")
CHOSEN = {"method": "qlora", "rank": 4, "alpha": 12.0, "adapted": "linear", "epochs": 6, "batch_size": 8}
# Dettmers et al. 2023, appendix E.
NF4 = """-1.0 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453 -0.28444138169288635 -0.18477343022823334
    -0.09105003625154495 0.0 0.07958029955625534 0.16093020141124725 0.24611230194568634 0.33791524171829224
    0.44070982933044434 0.5626170039176941 0.7229568362236023 1.0"""
IDS = torch.tensor([[5, 6, 7, 8, 9, 2], [5, 7, 9, 8, 6, 2]])


def _started(card, layers=1, precision="float32") -> nn.Module:
    return CPU(precision).place(QLoRA().start(card, layers, HERE, True), True)


def _states(encoder: nn.Module) -> torch.Tensor:
    return encoder(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state


def _matrices(encoder: nn.Module) -> dict[str, nn.Linear]:
    return {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and ladder.ADAPTER not in name
    }


def _unpacked(matrix: nn.Linear) -> torch.Tensor:
    """What four bits hold: the identity through the layer, without its bias."""
    found = matrix(torch.eye(matrix.in_features)).detach().T
    return found if matrix.bias is None else found - matrix.bias.detach()[:, None]


@pytest.mark.parametrize("name", ["xlm-r", "qwen2.5", "gemma-3"])
def test_a_weight_is_the_nearest_of_sixteen_values_times_the_largest_of_its_block(layout, name):
    values = np.array(NF4.split(), dtype=float)
    packed, plain = _started(layout(name)), ladder.load(layout(name), 1)
    assert _matrices(packed).keys() == _matrices(plain).keys()
    for place, matrix in _matrices(packed).items():
        blocks = plain.get_submodule(place).weight.detach().double().numpy().reshape(-1, BLOCK)
        scales = np.abs(blocks).max(1, keepdims=True)
        nearest = values[np.abs((blocks / scales)[..., None] - values).argmin(-1)] * scales
        found = _unpacked(matrix).double().numpy().reshape(-1, BLOCK)
        # The scales are in eight bits themselves, and a weight may be as near to two values.
        assert np.abs(found - nearest).max() < 0.01 * scales.max(), place
        assert matrix.weight.numel() * 2 == blocks.size and matrix.weight.dtype == torch.uint8


@pytest.mark.parametrize("name", ["xlm-r", "qwen2.5", "llama-3.1"])
def test_gradients_of_adapters_are_those_beside_the_unpacked_matrices(layout, name):
    packed, plain = _started(layout(name)), ladder.load(layout(name), 1)
    for place, matrix in _matrices(packed).items():
        plain.get_submodule(place).weight.data = _unpacked(matrix)
    gradients = []
    for encoder in (packed, plain):
        LoRA().prepare(encoder, recipe(**CHOSEN), torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(2)
        for parameter in ladder.adapters(encoder).values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        states = _states(encoder)
        states.square().sum().backward()
        gradients.append({name: one.grad for name, one in encoder.named_parameters() if one.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == ladder.adapters(packed).keys()
    for place, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][place], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_loss_falls_and_nothing_moves_but_the_adapters(e5, precision):
    encoder, task = _started(e5, precision=precision), tasks.of(data_card("topic"))
    chosen = recipe(**CHOSEN | {"learning_rate": 5e-3})
    QLoRA().prepare(encoder, chosen, torch.Generator().manual_seed(1))
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    rows = load.splits(data_card("topic"))["train"].select(range(48))
    inputs = task.encode(rows, ladder.tokenizer(e5), e5.prefix, 24)
    model = Model(encoder, CPU(precision), task, task.head(384, torch.Generator().manual_seed(0)))
    losses = loop.finetune(model, inputs, chosen, np.random.default_rng(0)).losses
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    moved = {name for name, parameter in encoder.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == ladder.adapters(encoder).keys()


def test_sizes_and_costs_are_those_of_the_weights_and_not_of_what_they_are_packed_in(e5):
    plain, packed = ladder.load(e5, 1), _started(e5)
    assert ladder.parameter_counts(packed) == ladder.parameter_counts(plain)
    assert ladder.flops_per_token(packed, 20.0) == ladder.flops_per_token(plain, 20.0)


def test_a_matrix_is_multiplied_as_the_working_type_has_it(e5):
    encoder = _started(e5)
    place, matrix = next(iter(_matrices(encoder).items()))
    weight = _unpacked(matrix)
    values = torch.randn(4, matrix.in_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), CPU("bf16").working(encoder):
        found = matrix(values.bfloat16())
    expected = linear(values.bfloat16(), weight.bfloat16(), matrix.bias.bfloat16())
    assert found.dtype == torch.bfloat16, place
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_packed_weights_follow_from_the_pretrained_ones_alone(e5):
    one, other = _started(e5, 2), _started(e5, 2)
    for place, matrix in _matrices(one).items():
        assert torch.equal(matrix.weight, other.get_submodule(place).weight)


def test_rows_that_do_not_end_with_a_block_are_refused(e5, monkeypatch):
    encoder = ladder.load(e5, 1)
    encoder.pooled = nn.Linear(96, 8)
    monkeypatch.setattr(ladder, "load", lambda *_, **__: encoder)
    with pytest.raises(XlscaleError, match=r"full or lora for e5_small \(96 columns in pooled, no multiple of 64\)"):
        _started(e5)


CELL = ADAPTED | {"intermediate_method": "qlora"}


@pytest.mark.parametrize("target", ["topic", "udhr"])
def test_what_follows_on_intermediate_training_has_its_adapters_beside_four_bits(
    target_values, tmp_path, monkeypatch, target
):
    trained = {"method": "qlora"} if target == "topic" else {}
    cell = cells.make("target", target_values | CELL | {"target": target} | trained)
    parent = phase.OpenCell(cell.parent, tmp_path)
    encoder = parent.starting_point()
    parent.train(encoder)
    left = {name: parameter.detach().clone() for name, parameter in ladder.adapters(encoder).items()}
    states = _states(encoder)
    monkeypatch.setattr(runner, "ensure", lambda _: tmp_path)
    run = phase.OpenCell(cell, tmp_path)
    again = run.starting_point()
    assert torch.equal(_states(again), states)
    assert all(torch.equal(parameter, left[name]) for name, parameter in ladder.adapters(again).items())
    head, log = run.train(again)
    result = run.finish(again, *run.evaluate(again, head), log)
    assert (result.total_parameters, result.non_embedding_parameters) == ladder.parameter_counts(
        ladder.load(run.model_card, 1)
    )
    assert 0 <= result.value <= 100


def test_without_training_four_bits_are_evaluated_where_a_study_says_so(target_values):
    none = target_values | {"layers": 1, "target": "udhr", "intermediate": "none"}
    plain, packed = (cells.make("target", none | {"method": one}) for one in ("lora", "qlora"))
    assert plain.parameters.method == "full" and packed.parameters.method == "qlora"
    assert plain.id != packed.id and packed.condition == "none, qlora target training"
    assert all("qlora" in " ".join(cells.parts(one.phase, one.parameters.model_dump())) for one in (packed,))
    assert "qlora" not in " ".join(cells.parts(plain.phase, plain.parameters.model_dump()))
    # After intermediate training it is as that left it.
    after = cells.make("target", target_values | CELL | {"target": "udhr", "method": "qlora"})
    assert after.parameters.method == "full" and after.parent.parameters.intermediate_method == "qlora"
    encoder = phase.OpenCell(packed, packed.folder).starting_point()
    assert {one.weight.dtype for one in _matrices(encoder).values()} == {torch.uint8}

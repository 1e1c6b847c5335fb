"""LoRA: what trains, what it computes, what is written, and how a cell goes on with the adapters of its parent."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import recipe
from safetensors.numpy import load_file
from torch import nn

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError
from xlscale.data import load
from xlscale.engine import phase, runner
from xlscale.experiment import cells
from xlscale.experiment.recipe import Recipe
from xlscale.models import ladder
from xlscale.tasks.base import Task
from xlscale.training import loop
from xlscale.training.backends.cpu import CPU
from xlscale.training.methods.lora import LoRA
from xlscale.training.model import Model

ARCHITECTURES = ["xlm-r", "xlm-r-xl", "mmbert", "eurobert", "qwen2.5", "llama-3.1", "gemma-3-text", "gemma-3"]
LORA = {"method": "lora", "rank": 4, "alpha": 12.0, "adapted": "linear", "epochs": 2, "batch_size": 8}
IDS = torch.tensor([[5, 6, 7, 8, 9, 2], [5, 7, 9, 8, 6, 2]])


def _prepared(card, **values) -> tuple[nn.Module, Recipe]:
    encoder, chosen = ladder.load(card, 1), recipe(**LORA | {"learning_rate": 5e-3} | values)
    LoRA().prepare(encoder, chosen, torch.Generator().manual_seed(1))
    return encoder, chosen


def _states(encoder: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return encoder(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state


@pytest.fixture
def topic() -> Task:
    return tasks.of(data_card("topic"))


def _trained(encoder, task, chosen, tokenizer, prefix="", precision="float32") -> list[float]:
    rows = load.splits(data_card("topic"))["train"].select(range(48))
    head = task.head(encoder.config.hidden_size, torch.Generator().manual_seed(0))
    inputs = task.encode(rows, tokenizer, prefix, 24)
    model = Model(encoder, CPU(precision), task, head)
    return loop.finetune(model, inputs, chosen, np.random.default_rng(0)).losses


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("adapted", ["query_value", "linear"])
def test_adapters_add_the_scaled_product_to_the_matrices_that_they_are_beside(layout, name, adapted):
    card = layout(name)
    if (name, adapted) == ("mmbert", "query_value"):  # query, key and value are one matrix there
        with pytest.raises(XlscaleError, match="adapted: expected linear for ModernBertModel, got query_value"):
            _prepared(card, adapted=adapted)
        return
    encoder, _ = _prepared(card, adapted=adapted)
    plain = ladder.load(card, 1)
    assert torch.equal(_states(encoder), _states(plain))  # one of the two is zero at the start
    added, generator = ladder.adapters(encoder), torch.Generator().manual_seed(2)
    for parameter in added.values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    places = sorted({one.partition(ladder.ADAPTER)[0] for one in added})
    linear = [one for one, module in plain.named_modules() if isinstance(module, nn.Linear)]
    assert places == sorted(linear) if adapted == "linear" else len(places) == 2
    for place in places:
        a, b = (added[f"{place}.lora_{part}.default.weight"] for part in "AB")
        assert a.shape[0] == b.shape[1] == 4
        plain.get_submodule(place).weight.data += 12.0 / 4 * (b @ a)
    torch.testing.assert_close(_states(encoder), _states(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_loss_falls_and_nothing_moves_but_the_adapters(e5, topic, precision):
    encoder, chosen = _prepared(e5, epochs=6)
    before = {name: parameter.clone() for name, parameter in encoder.named_parameters()}
    losses = _trained(encoder, topic, chosen, ladder.tokenizer(e5), e5.prefix, precision)
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    moved = {name for name, parameter in encoder.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == ladder.adapters(encoder).keys()
    assert ladder.trainable(encoder) == sum(before[name].numel() for name in moved)


@pytest.mark.parametrize("name", ["qwen2.5", "gemma-3-text"])
def test_decoders_learn_by_adapters_alone(layout, name, topic):
    card = layout(name)
    encoder, chosen = _prepared(card, epochs=6, learning_rate=2e-2)
    losses = _trained(encoder, tasks.of(data_card("topic"), card), chosen, ladder.tokenizer(card))
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert all(parameter.any() for parameter in ladder.adapters(encoder).values())


def test_adapters_follow_from_the_generator_whatever_the_global_state(e5):
    first = ladder.adapters(_prepared(e5)[0])
    state = torch.random.manual_seed(99).get_state()
    second = ladder.adapters(_prepared(e5)[0])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    other = ladder.load(e5, 1)
    LoRA().prepare(other, recipe(**LORA), torch.Generator().manual_seed(2))
    assert not torch.equal(*(next(iter(found.values())) for found in (first, ladder.adapters(other))))


def test_sizes_and_costs_are_those_of_the_model_without_adapters(e5):
    plain, adapted = ladder.load(e5, 1), _prepared(e5)[0]
    assert ladder.parameter_counts(adapted) == ladder.parameter_counts(plain)
    assert ladder.flops_per_token(adapted, 20.0) == ladder.flops_per_token(plain, 20.0)


def test_a_fresh_process_gives_equal_states_from_the_adapters_alone(e5, topic, tmp_path):
    encoder, chosen = _prepared(e5)
    _trained(encoder, topic, chosen, ladder.tokenizer(e5), e5.prefix)
    LoRA().save(encoder, tmp_path / "checkpoint.safetensors")
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert kept.keys() == {ladder.MODEL + name for name in ladder.adapters(encoder)}
    code = f"""
import sys, numpy as np, torch
from pathlib import Path
from xlscale.cards.catalogue import model_card
from xlscale.experiment.recipe import Recipe
from xlscale.training.methods.lora import LoRA
torch.manual_seed(4)
folder = Path(sys.argv[1])
chosen = Recipe.model_validate_json((folder / "recipe.json").read_text())
encoder = LoRA().load(model_card("e5_small"), 1, torch.device("cpu"), chosen, folder / "checkpoint.safetensors")
torch.set_num_threads({torch.get_num_threads()})
ids = torch.tensor({IDS.tolist()})
with torch.no_grad():
    states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
np.save(folder / "states.npy", states.numpy())
"""
    (tmp_path / "recipe.json").write_text(chosen.model_dump_json())
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
    assert np.array_equal(np.load(tmp_path / "states.npy"), _states(encoder).numpy())


def test_a_file_of_other_adapters_is_refused(e5, tmp_path):
    encoder, chosen = _prepared(e5, adapted="query_value")
    LoRA().save(encoder, tmp_path / "checkpoint.safetensors")
    for other, expected in (({"rank": 8}, "expected float32 of shape"), ({"adapted": "linear"}, "missing")):
        with pytest.raises(XlscaleError, match=rf"checkpoint.safetensors: model\..*lora_.*{expected}"):
            LoRA().load(
                e5, 1, torch.device("cpu"), chosen.model_copy(update=other), tmp_path / "checkpoint.safetensors"
            )


CELL = {
    "layers": 1,
    "precision": "float32",
    "examples": 24,
    "max_length": 16,
    "learning_rate": 5e-3,
    "test_items": 4,
    **{f"intermediate_{name}": value for name, value in {"examples": 24, "max_length": 16, "batch_size": 8}.items()},
    "intermediate": "vitaminc",
    "intermediate_learning_rate": 5e-3,
    "intermediate_test_items": 4,
}
BOTH = {"method": "lora", "intermediate_method": "lora", "rank": 4, "intermediate_rank": 4}


def test_target_training_goes_on_with_the_adapters_of_its_parent(target_values, tmp_path, monkeypatch):
    cell = cells.make("target", target_values | CELL | BOTH)
    parent = phase.OpenCell(cell.parent, tmp_path)
    encoder = parent.starting_point()
    parent.train(encoder)
    left = {name: parameter.detach().clone() for name, parameter in ladder.adapters(encoder).items()}
    assert all(parameter.any() for parameter in left.values())
    monkeypatch.setattr(runner, "ensure", lambda _: tmp_path)
    run = phase.OpenCell(cell, tmp_path)
    encoder = run.starting_point()
    assert all(torch.equal(parameter, left[name]) for name, parameter in ladder.adapters(encoder).items())
    head, log = run.train(encoder)
    after = ladder.adapters(encoder)
    assert after.keys() == left.keys() and not any(
        torch.equal(parameter, left[name]) for name, parameter in after.items()
    )
    result = run.finish(encoder, *run.evaluate(encoder, head), log)
    assert result.trainable_parameters == sum(parameter.numel() for parameter in left.values())
    assert (result.total_parameters, result.non_embedding_parameters) == ladder.parameter_counts(encoder)
    assert result.train_flops == 2 * log.tokens * ladder.flops_per_token(encoder, log.mean_length)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"intermediate_method": "lora"}, "method: expected lora, as in intermediate training, got full"),
        (BOTH | {"rank": 8}, "rank: expected 4, as in intermediate training, got 8"),
        (BOTH | {"adapted": "linear"}, "adapted: expected query_value, as in intermediate training, got linear"),
        ({"rank": 4}, "rank: expected with method lora or qlora alone, got 4"),
        ({"method": "qlora"}, "intermediate_method: expected qlora, as in target training, which packs .*, got full"),
        ({"method": "lora", "frozen": "nothing"}, "frozen: expected with method full alone, got 'nothing'"),
        ({"method": "lora", "alpha": 0.0}, "alpha: .*greater than 0"),
    ],
)
def test_what_does_not_go_together_is_refused_when_a_cell_is_made(target_values, values, message):
    with pytest.raises(XlscaleError, match=message):
        cells.make("target", target_values | CELL | values)


def test_adapters_beside_what_full_training_left_and_none_beside_nothing(target_values):
    assert (
        cells.make("target", target_values | CELL | {"method": "lora"}).parent.parameters.intermediate_method == "full"
    )
    plain = cells.make("target", target_values | CELL)
    assert plain.id != cells.make("target", target_values | CELL | {"method": "lora"}).id
    retrieval = target_values | CELL | {"target": "udhr", "intermediate_method": "lora"}
    assert cells.make("target", retrieval).parameters.method == "full"  # nothing is trained there

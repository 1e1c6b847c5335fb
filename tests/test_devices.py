"""Nothing that a model computes lies on another device than the model: shown without a GPU, on tensors that pretend to
be on one. What a GPU itself gives: tests/test_gpu.py."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FIXTURES, recipe
from torch import nn

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.core import machine, registry
from xlscale.core.files import XlscaleError
from xlscale.data import load
from xlscale.models import ladder
from xlscale.training import evaluate
from xlscale.training.backends.cpu import CPU
from xlscale.training.model import Model
from xlscale.training.objectives import distillation

sys.path.append(str(FIXTURES))
import families
import pretended
from families import FAMILIES, OBJECTIVES, OF_FAMILY

COVERED = [(family, OF_FAMILY.get(family, "supervised")) for family in FAMILIES]
COVERED += [("classification", objective) for objective in ("smoothing", "mlm_cotraining")]
COVERED += [("text", "translation_lm")]
PLAIN = {"max_length": 48, "batch_size": 8}
WIDTH = 16


class Elsewhere(CPU):
    """A processor that calls itself another device."""

    device = pretended.DEVICE


class Words(nn.Module):
    """An encoder whose states are its word embeddings: what the library computes is not in question here."""

    def __init__(self, rows: int):
        super().__init__()
        self.words = nn.Embedding(rows, WIDTH)
        self.words.weight = nn.Parameter(torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(1)))
        self.config = SimpleNamespace(hidden_size=WIDTH, pad_token_id=1, bos_token_id=0, num_hidden_layers=2)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words

    def forward(self, input_ids, attention_mask=None, output_hidden_states=False):
        states = self.words(input_ids)
        return SimpleNamespace(last_hidden_state=states, hidden_states=[states] * 3)


def _loss(card, family, objective, backend) -> tuple[torch.Tensor, list[np.ndarray]]:
    """The loss of one batch, and outputs."""
    own = {"objective": objective} | OBJECTIVES.get(objective, {})
    chosen = recipe(**PLAIN | own | {"examples": 400 if family == "span_qa" else 8})
    task, inputs = families.inputs(family, card, chosen)
    encoder = Words(600).to(backend.device)
    head = task.head_of(encoder, torch.Generator().manual_seed(2)).to(backend.device)
    made, model = registry.get("objective", objective)(), Model(encoder, backend, task, head)
    made.begin(model, chosen, np.random.default_rng(3))
    loss = made.loss(model, model.batch(inputs, np.arange(len(inputs))))
    return loss, evaluate.run(model, inputs)


# Each with an encoder's tokens or a decoder's; with those of the other, too, in make test-full.
NAMES = ["xlm-r", "qwen2.5"]
CASES = [
    pytest.param(name, *one, marks=[] if n % 2 == i else pytest.mark.again)
    for n, one in enumerate(COVERED)
    for i, name in enumerate(NAMES)
]


@pytest.mark.parametrize(("name", "family", "objective"), CASES)
def test_loss_and_outputs_are_on_the_device_of_the_model(layout, monkeypatch, name, family, objective):
    card = layout(name)
    with torch.no_grad():
        expected, states = _loss(card, family, objective, CPU("float32"))
        monkeypatch.setattr(nn.Module, "to", pretended.move)
        with pretended.Moving():
            loss, found = _loss(card, family, objective, Elsewhere("float32"))
    assert isinstance(loss, pretended.Pretended) and loss.device == pretended.DEVICE
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(found, states, strict=True))


def test_vectors_of_retrieval_and_a_teachers_states_come_back(layout, monkeypatch):
    card = layout("xlm-r")
    task = tasks.of(data_card("udhr"), card)
    inputs = task.encode(load.splits(task.card)["test"].select(range(8)), ladder.tokenizer(card), "", 48)
    encoder = Words(600)
    plain = distillation.teach(distillation.HiddenStates(encoder, CPU("float32")), inputs)
    vectors = evaluate.run(Model(encoder, CPU("float32"), task), inputs)
    monkeypatch.setattr(nn.Module, "to", pretended.move)
    with torch.no_grad(), pretended.Moving():
        model = Model(encoder.to(pretended.DEVICE), Elsewhere("float32"), task)
        assert np.allclose(np.stack(evaluate.run(model, inputs)), np.stack(vectors), atol=1e-6)
        teacher = distillation.teach(distillation.HiddenStates(encoder, Elsewhere("float32")), inputs)
        found = teacher.of(model.batch(inputs, np.arange(8)))
    assert found.device == pretended.DEVICE and np.allclose(teacher.hidden, plain.hidden, atol=1e-3)


def test_the_pretence_tells_what_is_elsewhere():
    there, here = pretended.Pretended(torch.ones(3)), torch.ones(3)
    with torch.no_grad():
        assert torch.equal((there + there).cpu(), 2 * here) and (there * 2.0).device == pretended.DEVICE
        assert type(there.cpu()) is torch.Tensor
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            there + here


def test_a_device_that_is_none_or_not_here_is_one_line(monkeypatch):
    monkeypatch.setenv(registry.DEVICE, "tpu")
    with pytest.raises(XlscaleError, match="XLSCALE_DEVICE: expected one of cpu, cuda, got 'tpu'"):
        registry.backend()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(XlscaleError, match="XLSCALE_DEVICE: expected an NVIDIA GPU that torch .* sees, found none"):
        registry.get("backend", "cuda")()
    monkeypatch.delenv(registry.DEVICE)
    assert registry.backend() == "cpu"


def test_a_gpu_is_named_by_the_machine_type_and_asked_for_its_precision(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Test 1")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2_500_000_000)
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda native=native, **_: native)
        assert machine.precision("auto", gpu) == expected
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    told = machine.environment(torch.bfloat16, gpu)
    assert "NVIDIA Test 1, driver" in told["machine"] and "sdpa, bfloat16" in told["machine"]
    assert "CUBLAS" not in told["machine"] and told["peak_gpu_gb"] == 2.5
    assert machine.machine_type(torch.bfloat16) != told["machine"]

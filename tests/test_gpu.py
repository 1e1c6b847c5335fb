"""What a GPU computes beside the processor, and what a cell says of it. ``make test-gpu``; without a GPU, nothing of it
runs. Its memory beside the plan's: benchmarks/gpu.py, held by tests/test_plan.py."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import FIXTURES, recipe

from xlscale.core import machine, registry
from xlscale.models import ladder
from xlscale.training import evaluate, loop
from xlscale.training.methods.base import Method
from xlscale.training.model import Model

sys.path.append(str(FIXTURES))
import covering
import families
from families import FAMILIES, OBJECTIVES, OF_FAMILY

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="expected a GPU that torch sees")

ARCHITECTURES = ["xlm-r", "xlm-r-xl", "mmbert", "eurobert", "qwen2.5", "llama-3.1", "gemma-3-text", "gemma-3"]
# Every family, objective and method, and every architecture: a set of what a study of GPUs would run.
COVERED = [(name, "classification", "supervised") for name in ARCHITECTURES]
COVERED += [(name, family, OF_FAMILY.get(family, "supervised")) for name in ("xlm-r", "qwen2.5") for family in FAMILIES]
COVERED += [("xlm-r", "classification", objective) for objective in OBJECTIVES]
COVERED += [("llama-3.1", "text", "translation_lm"), ("xlm-r", "text", "translation_lm")]
PLAIN = {"epochs": 5, "batch_size": 8, "learning_rate": 1e-3, "max_length": 64, "examples": 16}
LORA = {"method": "lora", "rank": 4, "alpha": 8.0, "adapted": "linear"}


def _run(card, family, objective, backend, precision, place=(), **values) -> tuple[list[float], list[np.ndarray]]:
    """Losses of a training, and the outputs for what was trained on; the same draws on every backend."""
    own = {"objective": objective} | OBJECTIVES.get(objective, {})
    chosen = recipe(**PLAIN | own | values)
    method: Method = registry.get("method", chosen.method)()
    place = registry.get("backend", backend)(precision, *place)
    task, inputs = families.inputs(family, card, chosen)
    encoder = place.place(ladder.load(card, 2), method.frozen)
    method.prepare(encoder, chosen, torch.Generator().manual_seed(1))
    head = task.head_of(encoder, torch.Generator().manual_seed(2)).to(place.device)
    model = Model(encoder, place, task, head)
    log = loop.finetune(model, inputs, chosen, np.random.default_rng(5))
    return log.losses, evaluate.run(model, inputs)


@pytest.mark.parametrize("method", [{}, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(("name", "family", "objective"), COVERED)
def test_losses_are_those_of_the_processor(layout, name, family, objective, method):
    card = layout(name)
    expected, states = _run(card, family, objective, "cpu", "float32", **method)
    exact, found = _run(card, family, objective, "cuda", "float32", **method)
    assert len(expected) == 10 or family in ("span_qa", "text")
    assert exact == pytest.approx(expected, rel=2e-3)
    assert all(a == pytest.approx(b, abs=2e-2) for a, b in zip(found, states, strict=True))
    rounded, _ = _run(card, family, objective, "cuda", "bf16", **method)
    assert rounded == pytest.approx(expected, rel=2e-2, abs=2e-2)


def test_training_twice_gives_the_same_bit_for_bit(layout):
    for name, family in (("xlm-r", "tagging"), ("qwen2.5", "span_qa"), ("xlm-r", "text"), ("gemma-3", "ranking")):
        objective = OF_FAMILY.get(family, "supervised")
        one, other = (_run(layout(name), family, objective, "cuda", "auto") for _ in range(2))
        assert one[0] == other[0], (name, family)
        assert all(np.array_equal(a, b) for a, b in zip(one[1], other[1], strict=True)), (name, family)


@pytest.mark.parametrize("family", ["classification", "multiple_choice", "span_qa", "ranking", "tagging", "text"])
@pytest.mark.parametrize("name", ["xlm-r", "qwen2.5"])
def test_micro_batches_and_layers_that_are_computed_again_change_nothing_but_rounding(layout, name, family):
    objective = OF_FAMILY.get(family, "supervised")
    if objective == "supervised":
        whole, _ = _run(layout(name), family, objective, "cuda", "float32", **LORA)
        parts, _ = _run(layout(name), family, objective, "cuda", "float32", (150, True), **LORA)
        assert parts == pytest.approx(whole, rel=1e-4)
    halves = [_run(layout(name), family, objective, "cuda", "auto", (150, True), **LORA)[0] for _ in range(2)]
    assert halves[0] == halves[1] and np.isfinite(halves[0]).all()


def test_what_does_not_train_is_in_the_working_type(layout):
    backend = registry.get("backend", "cuda")("auto")
    assert backend.dtype == torch.bfloat16 == machine.precision("auto", torch.device("cuda"))
    card, chosen = layout("qwen2.5"), recipe(**PLAIN | LORA)
    encoder = backend.place(ladder.load(card, 2), True)
    registry.get("method", "lora")().prepare(encoder, chosen, torch.Generator().manual_seed(1))
    types = {name: parameter.dtype for name, parameter in encoder.named_parameters()}
    assert {types[name] for name in ladder.adapters(encoder)} == {torch.float32}
    assert types["embed_tokens.weight"] == types["layers.0.mlp.up_proj.base_layer.weight"] == torch.bfloat16
    assert types["layers.0.input_layernorm.weight"] == torch.float32
    assert {parameter.device.type for parameter in encoder.parameters()} == {"cuda"}
    # Embeddings of a model that was published in float32 stay as they are.
    encoder = ladder.load(card, 1)
    encoder.get_input_embeddings().weight.data += 1e-5
    assert backend.place(encoder, True).get_input_embeddings().weight.dtype == torch.float32


def test_cells_of_every_pair_are_those_of_the_processor(elsewhere, tmp_path):
    found = {}
    for device in ("cpu", "cuda"):
        command = [sys.executable, FIXTURES / "covering.py", tmp_path / device, elsewhere]
        done = subprocess.run(
            command, env=os.environ | {registry.DEVICE: device}, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stderr[-3000:]
        cells = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        found[device] = {cell["id"]: cell["losses"] for cell in cells}
    assert found["cuda"].keys() == found["cpu"].keys() and len(found["cpu"]) > len(covering.combinations())
    for name, losses in found["cpu"].items():
        assert found["cuda"][name] == pytest.approx(losses, rel=2e-2, abs=2e-2), name


def test_cells_run_on_it_and_say_so(elsewhere, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FIXTURES)
    import elsewhere as made

    places = {f"XLSCALE_{name}": str(tmp_path / name.lower()) for name in ("CACHE", "LOCKS", "RUNS")}
    environment = os.environ | made.environment(elsewhere) | places | {registry.DEVICE: "cuda"}

    def run(*command) -> None:
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    run(FIXTURES / "phases.py", "xtreme_r_fixture")
    found = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/result.json")]
    assert found and {result["status"] for result in found} == {"complete"}
    for result in found:
        told = result["environment"]
        assert told["backend"] == "cuda" and torch.cuda.get_device_name() in told["machine"]
        assert told["peak_gpu_gb"] > 0
    # By the command line, which plans how they fit this GPU; and the same comes out.
    target = next(result for result in found if result["losses"] and result["parent"] and "target" in result["id"])
    for result in found:
        if result["id"] in (target["id"], target["parent"]):
            shutil.rmtree(tmp_path / "runs" / result["id"])
    run("-m", "xlscale", "run", "--", target["id"])
    again = json.loads((tmp_path / "runs" / target["id"] / "result.json").read_text())
    assert again["environment"]["micro_batch_tokens"] > 0 and not again["environment"]["layers_recomputed"]
    assert again["predictions_sha256"] == target["predictions_sha256"] and again["losses"] == target["losses"]

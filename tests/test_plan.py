"""The planner against torch's own bytes and operations on the CPU, against the record, and against its README row."""

import json
import math
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FIXTURES
from scipy import stats
from torch import distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from xlscale.cards import catalogue
from xlscale.cards.schema import ModelCard
from xlscale.core import fingerprint, registry
from xlscale.core.files import NOTEBOOK, ROOT, XlscaleError
from xlscale.core.strict import parse
from xlscale.experiment import cells, studies
from xlscale.models import hf, ladder
from xlscale.planning import hardware, lengths, placement, plan, profile, report
from xlscale.planning.hardware import GIB
from xlscale.planning.placement import Load
from xlscale.planning.plan import Kind
from xlscale.planning.profile import Profile, recipe_of
from xlscale.record import store

sys.path.append(str(FIXTURES))
import models as made

ARCHITECTURES = ["xlm-r", "xlm-r-xl", "mmbert", "eurobert", "qwen2.5", "llama-3.1", "gemma-3-text"]
METHODS = {"full": {}, "lora": {"rank": 4, "alpha": 8.0, "adapted": "linear"}}
LAYERS, ROWS, LENGTH, WORDS = 4, 6, 48, 600
H100, CARD = hardware.load("h100"), (hardware.FOLDER / "h100.yaml").read_text(encoding="utf-8")
FULL = "xtreme_r_7b_70b"


def card(name: str) -> ModelCard:
    """Of a tiny model with four layers of one of the fixtures' architectures, of which no file is anywhere. No window
    of attention is shorter than the inputs."""
    kind, numbers, _, begin = made.LAYOUTS[name]
    numbers = {key: value for key, value in numbers.items() if key != "layer_types"}
    numbers |= {"num_hidden_layers": LAYERS, "vocab_size": WORDS}
    numbers |= {key: 512 for key in ("sliding_window", "local_attention") if key in numbers}
    numbers |= {f"{token}_token_id": 1 for token in ("pad", "bos", "eos", "cls", "sep", "mask")}
    values = {"name": "tiny", "title": name, "reader": "hf", "rungs": [LAYERS], "prefix": ""}
    values |= dict.fromkeys(("licence", "origin", "trained_on"), "ours")
    values["source"] = {"kind": "hub", "repository": "nobody/nothing", "schema_read": "tests"}
    values["architecture"] = {"model_type": kind, "config": numbers, "read": "tests"}
    return parse(ModelCard, values | ({} if begin is None else made.CAUSAL), "card")


@cache
def measured(name: str, method: str) -> Profile:
    return profile.measured(card(name), LAYERS, recipe_of(method, **METHODS[method]))


def _real(card: ModelCard, method: str, attention: str, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """The model with random weights on the CPU, by the library alone."""
    stated = card.architecture
    config = hf._cut(AutoConfig.for_model(stated.model_type, **stated.config), card, LAYERS)
    torch.manual_seed(1)
    model = AutoModel.from_config(config, attn_implementation=attention, **hf._bare(hf._class(config)))
    model.get_input_embeddings().weight.requires_grad_(False)
    registry.get("method", method)().prepare(model, recipe_of(method, **METHODS[method]), torch.Generator())
    model = model if dtype == torch.float32 else model.to(dtype)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def _loss(model: nn.Module, again: bool) -> torch.Tensor:
    """A loss that reads every token by a float32 head, layers computed again in the backward pass or not."""
    if again:
        model.train()
        model.activation_checkpointing_enable({"use_reentrant": False})
    else:
        model.eval()
    head = nn.Linear(model.config.hidden_size, 2)
    states = model(input_ids=torch.randint(5, WORDS, (ROWS, LENGTH))).last_hidden_state
    return head(states.float()).sum()


CASES = [(name, method, again) for name in ARCHITECTURES for method in METHODS for again in (False, True)]


@pytest.mark.parametrize(("name", "method", "again"), CASES)
def test_what_a_forward_pass_keeps_is_what_torch_keeps(name, method, again):
    found = measured(name, method)
    model, kept = _real(card(name), method, "sdpa"), {}
    own = {tensor.data_ptr() for tensor in [*model.parameters(), *model.buffers()]}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        _loss(model, again)
    real = sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in own)
    expected = (found.checkpointed if again else found.saved) * ROWS * LENGTH
    assert expected == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize(("name", "method", "again"), CASES)
def test_operations_are_those_that_torch_counts(name, method, again):
    found = measured(name, method)
    model, tokens = _real(card(name), method, "eager"), ROWS * LENGTH
    with FlopCounterMode(display=False) as counter:
        loss = _loss(model, again)
        forward, scores = counter.get_total_flops(), counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
        loss.backward()
    # Fused attention computes its scores once more in the backward pass: one of the two products of a forward pass.
    whole = counter.get_total_flops() + scores / 2
    kind = "step_again" if again else "step"
    assert tokens * found.operations("forward", LENGTH) == pytest.approx(forward, rel=0.01)
    assert tokens * found.operations(kind, LENGTH) == pytest.approx(whole, rel=0.01)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS)
def test_states_are_as_many_bytes_as_torch_holds(name, method):
    model = _real(card(name), method, "sdpa")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    masters = [nn.Parameter(parameter.detach().float()) for parameter in trained]
    optimizer = torch.optim.AdamW(masters, 1e-4, fused=True)
    _loss(model, again=False).backward()
    for master, parameter in zip(masters, trained, strict=True):
        master.grad = parameter.grad.float()
    optimizer.step()
    moments = [value for state in optimizer.state.values() for value in state.values() if value.numel() > 1]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    if method == "full":  # word embeddings, which stay as they were published
        frozen = [parameter.float() for parameter in frozen]
    found = measured(name, method)
    memory = placement.memory(Load(found, method, True, 512, 128), 1, 512, False)
    for field, tensors in {
        "weights": [*frozen, *masters],
        "gathered": trained,
        "gradients": [master.grad for master in masters],
        "optimizer": moments,
    }.items():
        assert getattr(memory, field) == pytest.approx(sum(tensor.nbytes for tensor in tensors), rel=0.02), field


@pytest.fixture
def four_ranks():
    """A mesh of four ranks that stand for nothing: collectives of shapes alone."""
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    yield init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


def test_a_shard_of_four_is_what_torchs_tracker_of_shards_says(four_ranks):
    found, policy = measured("qwen2.5", "full"), MixedPrecisionPolicy(torch.bfloat16, torch.float32)
    with FakeTensorMode():
        model = _real(card("qwen2.5"), "full", "sdpa", torch.float32)
        for module in [*model.layers, model]:
            fully_shard(module, mesh=four_ranks, mp_policy=policy)
        optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], 1e-4, fused=True)
        tracker, after = FSDPMemTracker(model, optimizer), []
        with tracker:
            for _ in range(2):  # in the second step there are moments
                tracker.reset_mod_stats()
                loss = model(input_ids=torch.randint(5, WORDS, (ROWS, LENGTH))).last_hidden_state.float().sum()
                after = [tracker.get_tracker_snapshot("current")]
                loss.backward()
                after.append(tracker.get_tracker_snapshot("current"))
                optimizer.step()
                optimizer.zero_grad()
    forward, backward = (
        {kind.name: size for kind, size in one[torch.device("cpu")].items() if kind != "Total"} for one in after
    )
    memory = placement.memory(Load(found, "full", True, ROWS * LENGTH, LENGTH), 4, ROWS * LENGTH, False)
    assert memory.weights == pytest.approx(forward["SHARDED_PARAM"], rel=0.01)
    assert memory.optimizer == pytest.approx(forward["OPT"], rel=0.01)
    assert memory.activations == pytest.approx(forward["ACT"], rel=0.05)
    assert memory.gradients == pytest.approx(backward["SHARDED_GRAD"], rel=0.01)
    layers = 2 * 2 * found.layer + 6 * found.layer  # of two layers, and of one's gradients: during a pass alone
    assert memory.gathered - layers == pytest.approx(forward["UNSHARDED_PARAM"], rel=0.01)


def _four_bits(weights: np.ndarray) -> list[np.ndarray]:
    """A matrix as NF4 with double quantisation: codes two to a byte, their scales in eight bits, the scales' scales."""
    blocks = weights.reshape(-1, 64)
    scales = np.abs(blocks).max(1)
    codes = np.clip(np.round(blocks / scales[:, None] * 7 + 8), 0, 15).astype(np.uint8).reshape(-1, 2)
    packed = codes[:, 0] << 4 | codes[:, 1]
    of_scales = scales.reshape(-1, 256)
    steps = np.abs(of_scales).max(1).astype(np.float32)
    return [packed, np.round(of_scales / steps[:, None] * 255).astype(np.uint8), steps]


def test_weights_in_four_bits_take_what_their_layout_takes():
    weights = np.random.default_rng(0).normal(size=(1024, 512))
    parts = _four_bits(weights)
    assert placement.FOUR_BITS * weights.size == sum(part.nbytes for part in parts)
    found = replace(_profile(), matrices=weights.size, parameters=weights.size + 1000.0, adapters=10.0, trained=10.0)
    memory = placement.memory(Load(found, "qlora", True, 512, 128), 1, 512, False)
    assert memory.weights == sum(part.nbytes for part in parts) + 2 * 1000 + 4 * 10


def _profile(**changes: float) -> Profile:
    """A model of ten layers, all of which train, with 5e9 parameters and 1e6 bytes kept per token."""
    numbers = dict.fromkeys(Profile.__dataclass_fields__, 0.0)
    numbers |= {"layers": 10, "parameters": 5e9, "trained": 5e9, "layer": 5e8, "layer_trained": 5e8, "width": 100}
    numbers |= {"saved": 1e6, "saved_layer": 1e5, "checkpointed": 1e4, "forward": 1e10, "step": 3e10}
    return Profile(**numbers | {"step_again": 4e10, "attention_forward": 1e6} | changes)


def test_one_gpu_comes_before_several_and_keeping_before_computing_again():
    small = Load(_profile(parameters=1e9, trained=1e9), "full", True, 32 * 384, 384)
    place = placement.choose(small, H100)
    assert (place.gpus, place.tokens, place.again) == (1, 8064, False)  # 21 inputs of 384 tokens
    # Masters, their gradients, two moments, a copy, and its gradients of one micro-batch of two.
    assert place.memory.total == (4 + 4 + 8 + 2 + 2) * 1e9 + 8064 * 1e6
    assert placement.choose(replace(small, step=1000), H100).tokens == 768
    four = placement.choose(replace(small, profile=_profile()), hardware.Hardware(**vars(H100) | {"memory_gib": 40}))
    assert four.gpus == 4 and four.memory.weights == 4 * 5e9 / 4
    assert four.memory.gathered == 2 * 2 * 5e8 + (2 + 4) * 5e8  # two layers, and a layer's gradients
    again = placement.choose(Load(_profile(saved=8e6), "full", True, 32 * 384, 384), H100)
    assert again.memory.total <= 75.6 * GIB and (again.gpus, again.again) == (2, False)


def test_what_does_not_fit_is_named_with_what_would():
    huge = _profile(parameters=3e10, trained=3e10, matrices=2.9e10, layer=3e9, layer_trained=3e9)
    narrow = replace(huge, trained=1e8, adapters=1e8, layer_trained=1e7)
    loads = {
        method: Load(huge if method == "full" else narrow, method, True, 4096, 128) for method in placement.METHODS
    }
    assert placement.choose(loads["full"], H100) is None
    said = placement.instead(loads, "full", None, H100)
    assert said.startswith("full on 16 GPUs (") and "lora on 1 GPU (" in said and "qlora on 1 GPU (" in said
    several = placement.choose(replace(loads["lora"], profile=replace(narrow, parameters=6e10, layer=6e9)), H100)
    assert several.gpus > 1 and placement.instead(loads, "lora", several, H100).startswith("qlora on 1 GPU")
    assert placement.choose(loads["qlora"], replace_(H100, memory_gib=10.0)) is None  # 4 bits are not sharded


def replace_(card: hardware.Hardware, **changes: object) -> hardware.Hardware:
    return card.model_copy(update=changes)


@pytest.fixture(scope="module")
def full():
    """The plan of the full study, where nothing of it is on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        _elsewhere(patch)
        found = plan.table(studies.load(FULL).cells(), H100)
    _forget()
    return found


def _elsewhere(patch: pytest.MonkeyPatch) -> None:
    """As if no model were on this machine."""
    patch.setattr(lengths, "_tokenizes", lambda model: False)
    _forget()


def _forget() -> None:
    lengths.training.cache_clear()
    lengths.evaluation.cache_clear()


@pytest.fixture
def elsewhere_alone(monkeypatch):
    _elsewhere(monkeypatch)
    yield
    _forget()


def test_the_readme_has_what_the_plan_says(full):
    assert report.summary(FULL, full, H100) in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()


def test_every_model_of_the_full_study_is_placed_and_sized_as_its_card_says(full):
    assert (full["gpus"] > 0).all() and (full["gpu"] <= H100.room).all() and (full["hours"] > 0).all()
    sharded = {*full.loc[full["gpus"] > 1, "model"]}
    assert sharded == {"xlm_r_xxl", "llama31_70b", "qwen25_72b"}
    for name in full["model"].unique():
        card = catalogue.model_card(name)
        recipe = recipe_of("full") if name.startswith("xlm_r") else recipe_of("lora", **plan.WIDE)
        assert profile.of(name, max(card.rungs), recipe).parameters == card.parameters.trained, name
    text = report.lines("x", full, H100)
    assert sum(line.startswith("gemma3_27b") for line in text) == 3  # a line per phase
    assert any(line.startswith("qwen25_72b, lora: on 4 GPUs") and "qlora on 1 GPU" in line for line in text)
    assert "assumed: " in "\n".join(text)


def test_operations_of_a_large_model_are_those_of_the_usual_formula():
    card = catalogue.model_card("qwen25_7b")
    found = profile.of("qwen25_7b", 28, recipe_of("full"))
    usual = ladder.flops_per_token(hf.described(card, 28), 384)
    assert found.operations("forward", 384) == pytest.approx(usual, rel=0.01)
    assert found.operations("step", 384) == pytest.approx(3 * usual, rel=0.01)


def test_a_plan_of_recorded_cells_has_the_recorded_tokens_and_operations():
    known, seen = store.results(), 0
    for kind, group in _by_kind(studies.load("pilot").cells()).items():
        if not kind.sets or kind.layers != 2:
            continue
        results, found = [known[cell.id] for cell in group], plan.cost(kind, H100)
        assert found.train.basis == found.evaluated.basis == "counted"
        assert found.train.tokens == pytest.approx(np.mean([one.train_tokens for one in results]), rel=0.005)
        operations = found.train.tokens * kind.load("full", 512).profile.operations("step", found.train.length)
        assert operations == pytest.approx(np.mean([one.train_flops for one in results]), rel=0.02)
        assert found.evaluated.rows == sum(score.items for score in results[0].languages.values())
        seen += 1
    assert seen == 3


def _by_kind(found: list[cells.Cell]) -> dict[Kind, list[cells.Cell]]:
    groups: dict[Kind, list[cells.Cell]] = {}
    for cell in found:
        (kind,) = plan.kinds([cell])
        groups.setdefault(kind, []).append(cell)
    return groups


def test_every_cell_is_of_one_kind_and_a_method_changes_what_trains_alone():
    found = studies.load("pilot").cells()
    counted = plan.kinds(found)
    assert sum(counted.values()) == len(found) and len(counted) < len(found) / 3
    other = plan.kinds(found, "qlora")
    assert sum(other.values()) == len(found)
    assert {kind.method for kind in other if kind.sets} == {"qlora"}
    assert {kind.method for kind in other if kind.phase == "pretrained"} == {"full"}


def test_hours_are_operations_over_what_is_reached_and_cells_in_bytes():
    machine = replace_(
        H100,
        utilisation=hardware.Utilisation(trained={0: 0.5}, evaluated={0: 0.25}),
        teraflops=1.0,
        start_seconds=0.0,
        read_gb_per_second=1e9,
    )
    (kind,) = {kind for kind in plan.kinds(studies.load("smoke").cells()) if kind.name == "topic"}
    found = plan.cost(kind, machine)
    load = kind.load("full", 8)
    trained = found.train.tokens * load.profile.operations("step", found.train.length)
    passed = found.evaluated.tokens * load.profile.operations("forward", found.evaluated.length)
    assert found.operations == pytest.approx(trained + passed)
    assert found.hours == pytest.approx((trained / 5e11 + passed / 2.5e11) / 3600)
    assert found.checkpoint == 0 and found.resume == 2 * 12 * load.profile.trained
    slow = replace_(machine, start_seconds=36.0)
    assert plan.cost(kind, slow).hours - found.hours == pytest.approx(0.01)


def test_the_card_has_what_was_measured():
    whole, parts = json.loads((ROOT / "benchmarks" / "gpu.json").read_text(encoding="utf-8"))
    assert "H100" in whole["machine"] and (whole["parts"], parts["parts"]) == (1, 2)
    rows = pd.DataFrame(whole["rows"])
    for what, stated in H100.utilisation.model_dump().items():
        found = rows.groupby(np.digitize(rows["parameters"], sorted(stated)[1:]))[f"share_{what}"]
        assert found.agg(stats.hmean).round(2).tolist() == [stated[size] for size in sorted(stated)]
    # Memory: within 2% where adapters train; of full training a tenth. In one micro-batch, its gradients come as
    # activations go.
    for run in (whole, parts):
        for row in run["rows"]:
            way, layers = plan.WIDE if row["method"] == "lora" else {}, max(catalogue.model_card(row["model"]).rungs)
            found = profile.of(row["model"], layers, recipe_of(row["method"], **way))
            load = Load(found, row["method"], True, run["parts"] * row["tokens"], 256)
            planned = placement.memory(load, 1, row["tokens"], row["again"]).total / GIB
            assert planned == pytest.approx(row["planned_gib"], abs=0.01)
            assert row["peak_gib"] == pytest.approx(planned, rel=0.02 if row["method"] == "lora" else 0.101)


def test_on_several_gpus_what_is_gathered_may_take_longer_than_what_is_computed():
    load = Load(_profile(), "full", True, 1024, 128)
    place = placement.Placement(4, 256, False, placement.memory(load, 4, 256, False))
    (kind,) = {kind for kind in plan.kinds(studies.load("smoke").cells()) if kind.name == "topic"}
    work = lengths.Work(100, 100, 10_000, "assumed")
    nothing = lengths.Work(0, 0, 0, "assumed")
    operations, seconds = plan._time(kind, load, place, (work, 10.0), nothing, replace_(H100, teraflops=1e6))
    # Ten steps of a pass each: weights in 2 bytes to and fro, gradients in 4, three quarters of them from elsewhere.
    assert seconds == pytest.approx(0.75 * 10 * (2 * 2 + 4) * 5e9 / 3e11)
    assert operations == pytest.approx(10_000 * 3e10)


def test_lengths_are_cut_and_capped_and_candidates_are_read_whole(elsewhere_alone, monkeypatch):
    whole = lengths.evaluation("lareqa", "xlm_r_base", "test", 10**9, 352)
    few = lengths.evaluation("lareqa", "xlm_r_base", "test", 10, 352)
    assert whole.basis == "measured" and few.inputs - few.rows == whole.inputs - whole.rows == 13014
    assert few.rows == 110 and whole.rows == pytest.approx(13090, abs=6)
    assert lengths.evaluation("mewslix_100k", "xlm_r_base", "test", 10**9, 64).inputs == pytest.approx(115_000, abs=11)
    pairs = lengths.training("xquad", "xlm_r_base", 1000, 384)
    assert (pairs.rows, pairs.tokens, pairs.length) == (1000, 193_000, 193)
    assert lengths.training("xquad", "xlm_r_base", 1000, 100).length == 100
    assert lengths.training("xquad_shifts", "xlm_r_base", 10, 384).tokens == 1930  # a variant, by its original
    decoder = lengths.training("xquad", "qwen25_7b", 1000, 384)
    assert decoder.basis == "assumed" and decoder.length == pytest.approx(193 * 1.1)
    assert lengths.training("tydiqa", "xlm_r_base", 10**6, 384).rows == 3696  # all that there are
    monkeypatch.setattr(lengths, "stated", lambda: lengths.Lengths(vocabularies=VOCABULARIES, sets={}))
    lengths.training.cache_clear()
    unknown = lengths.training("xquad", "xlm_r_base", 1000, 384)
    assert (unknown.basis, unknown.length) == ("longest", 384)


VOCABULARIES = {name: lengths.Vocabulary(en=1.0, other=1.0) for name in ("xlm-roberta", "default")}


def test_every_set_of_the_planned_studies_has_a_length():
    for name in (FULL, "xtreme_r_encoders", "phang2020"):
        study = studies.load(name)
        for data in {*study.targets, *study.intermediate} - {"none"}:
            card = catalogue.data_card(data)
            splits = ["train", *(["test"] if card.role == "target" else ["dev"])]
            assert all(lengths._part(card, split)[1] != "longest" for split in splits if split in card.splits), data


def test_nothing_that_a_cell_runs_knows_of_a_plan():
    for phase in NOTEBOOK:
        every = [registry.module(kind, part) for kind, parts in registry.PARTS.items() for part in parts]
        assert not [name for name in fingerprint.modules_of_phase(phase, every) if "planning" in name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: h100\n", "title: Field required"),
        ("{memory_gib: -1}", "Field required"),
        ("name: [", "not valid YAML"),
        (CARD.replace("989", "1.0e-300"), "teraflops: .* greater than or equal to 0.001"),
        (CARD.replace("read_gb_per_second: 2.0", "read_gb_per_second: 5.0e-324"), "read_gb_per_second: "),
        (CARD.replace("reserved_gib: 4.0", "reserved_gib: 90"), "reserved_gib: expected less than memory_gib, 79.6"),
        (CARD.replace("2.5 ", "1e308 "), "price_per_hour: "),
        (CARD.replace("NVIDIA H100 SXM, 80 GB", '"two\\nlines"'), "title: expected one line"),
    ],
)
def test_a_broken_hardware_card_is_one_line(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(hardware, "FOLDER", tmp_path)
    (tmp_path / "h100.yaml").write_text(text)
    with pytest.raises(XlscaleError, match=f"h100.yaml: .*{message}"):
        hardware.load("h100")


def test_an_unknown_hardware_and_a_model_without_shape_are_told(monkeypatch):
    with pytest.raises(XlscaleError, match="unknown hardware 'a100': expected one of h100"):
        hardware.load("a100")
    card = catalogue.model_card("qwen25_7b").model_copy(update={"architecture": None})
    monkeypatch.setattr(profile, "model_card", lambda name: card)
    with pytest.raises(XlscaleError, match="qwen25_7b: not fetched, .*make data-fetch CARD=qwen25_7b"):
        profile.of("qwen25_7b", 28, recipe_of("full", frozen="nothing"))


def test_a_machine_has_a_gpu_whatever_the_card_of_its_kind_allows(monkeypatch):
    monkeypatch.setattr(hardware, "load", lambda name: H100.model_copy(update={"gpus": [2, 4]}))
    assert hardware.here(80.0).gpus == [1] and hardware.here(80.0, 2).gpus == [1, 2]


def test_lengths_name_cards(tmp_path, monkeypatch):
    path = tmp_path / "lengths.yaml"
    monkeypatch.setattr(lengths, "PATH", path)
    path.write_text("vocabularies: {default: {en: 1, other: 1}}\nsets: {gone: {basis: assumed}}\n")
    with pytest.raises(XlscaleError, match="lengths.yaml: sets: unknown data 'gone'"):
        lengths.stated.__wrapped__()
    for entry, told in (
        (
            "udhr: {basis: assumed, test: {tokens: 9, candidates: 100000}}",
            "udhr: test: candidates: expected fewer than",
        ),
        (
            "udhr: {basis: assumed, test: {tokens: 9, rows: 5}}",
            "udhr: test: rows: expected one for each language at le",
        ),
    ):
        path.write_text(f"vocabularies: {{default: {{en: 1, other: 1}}}}\nsets: {{{entry}}}\n")
        with pytest.raises(XlscaleError, match=f"lengths.yaml: sets: {told}"):
            lengths.stated.__wrapped__()
    path.write_text("vocabularies: {}\nsets: {}\n")
    with pytest.raises(XlscaleError, match="vocabularies: expected an entry 'default'"):
        lengths.stated.__wrapped__()
    path.write_text("vocabularies: {}\nsets: {xnli: {basis: assumed, test: {tokens: 0}}}\n")
    with pytest.raises(XlscaleError, match="sets.xnli.test.tokens: .*greater than 0"):
        lengths.stated.__wrapped__()


def test_what_fits_nowhere_is_in_no_sum_and_said(elsewhere_alone):
    found = [cell for cell in studies.load(FULL).cells() if cell.parameters.model == "qwen25_7b"][:3]
    tiny = replace_(H100, memory_gib=16.0, gpus=[1])
    table = plan.table(found, tiny)
    assert (table["gpus"] == 0).any() and math.isnan(table.loc[table["gpus"] == 0, "hours"].iloc[0])
    lines = report.lines("x", table, tiny)
    assert "of them do not fit and are in no sum" in lines[0]
    assert any("does not fit" in line and "qlora on 1 GPU" in line for line in lines)

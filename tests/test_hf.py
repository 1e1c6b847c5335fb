"""Models in the layout of transformers: rungs, checkpoints, precision, in an encoder and a decoder."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from conftest import Hub
from safetensors.torch import load_file, save_file
from test_layouts import assert_padding_changes_nothing
from transformers import AutoConfig, AutoModel

from xlscale.acquire import ensure
from xlscale.cards import catalogue, places
from xlscale.cards.schema import ModelCard
from xlscale.commands import check
from xlscale.core.files import XlscaleError
from xlscale.core.strict import parse
from xlscale.data.batches import Batch
from xlscale.models import behaviour, hub_files, ladder
from xlscale.training.backends.cpu import CPU
from xlscale.training.backends.precision import MasterWeights

hidden_states = CPU("float32").hidden_states

TEXTS = ["cat house water book", "猫 水", "gato casa agua libro kat huis"]


@pytest.fixture(params=["tiny-xlm-r", "tiny-decoder"])
def card(request, given, monkeypatch) -> ModelCard:
    values = {
        "name": request.param.replace("-", "_"),
        "title": request.param,
        "reader": "hf",
        "rungs": [1, 2, 3],
        "prefix": "",
        "licence": "",
        "origin": "",
        "trained_on": "",
        "source": {"kind": "hub", "repository": f"xlscale-fixtures/{request.param}", "schema_read": "tests"},
    }
    values |= {"attention": "causal", "end": "<end>"} if "decoder" in request.param else {}
    made = parse(ModelCard, values, "card")
    ensure.fetch(made)
    return made


def batch_of(card) -> Batch:
    found = ladder.tokenizer(card)(TEXTS)["input_ids"]
    longest = max(map(len, found))
    pad = ladder.tokenizer(card).pad_token_id
    ids = torch.tensor([one + [pad] * (longest - len(one)) for one in found])
    mask = torch.tensor([[True] * len(one) + [False] * (longest - len(one)) for one in found])
    return Batch(ids, mask, np.arange(len(found)), {})


def test_a_rung_gives_the_hidden_states_of_the_library_s_own_model(card):
    batch = batch_of(card)
    whole = AutoModel.from_pretrained(hub_files.folder(card), dtype=torch.float32).eval()
    with torch.inference_mode():
        states = whole(input_ids=batch.ids, attention_mask=batch.mask.long(), output_hidden_states=True)
        deepest = hidden_states(ladder.load(card, 3), batch)
        second = hidden_states(ladder.load(card, 2), batch)
    inside = batch.mask
    torch.testing.assert_close(deepest[inside], states.last_hidden_state[inside], atol=1e-5, rtol=1e-4)
    # A decoder's last norm stands behind the last layer that is left.
    expected = states.hidden_states[2]
    expected = whole.norm(expected) if "decoder" in card.name else expected
    torch.testing.assert_close(second[inside], expected[inside], atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing(card):
    assert_padding_changes_nothing(ladder.load(card, 2), batch_of(card))


def test_a_checkpoint_holds_all_but_the_word_embeddings(card, tmp_path):
    model = ladder.load(card, 2)
    word = model.get_input_embeddings().weight
    assert not word.requires_grad and sum(p.requires_grad for p in model.parameters()) > 5
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter is not word:
                parameter.add_(0.01)
    path = tmp_path / "checkpoint.safetensors"
    ladder.save_checkpoint(model, path)
    again = ladder.load(card, 2, path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert path.stat().st_size < 4 * sum(p.numel() for p in model.parameters())
    with pytest.raises(XlscaleError, match="not expected in this rung"):
        ladder.load(card, 1, path)
    with pytest.raises(XlscaleError, match=r"rung|layers: expected one of \[1, 2, 3\], got 7"):
        ladder.load(card, 7)


def test_sizes_are_counted_without_weights(card):
    shapes, model = ladder.empty(card, 2), ladder.load(card, 2)
    assert next(shapes.parameters()).is_meta
    assert ladder.parameter_counts(shapes) == ladder.parameter_counts(model)
    total, rest = ladder.parameter_counts(model)
    assert total - rest == model.get_input_embeddings().weight.numel()
    products = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name)
    assert ladder.flops_per_token(model, 10.0) == 2.0 * products + 4.0 * 2 * model.config.hidden_size * 10.0


def test_bfloat16_trains_float32_masters(card):
    model, batch = ladder.load(card, 2), batch_of(card)
    with torch.inference_mode():
        exact = hidden_states(model, batch)[batch.mask]
    with MasterWeights(model, torch.bfloat16) as weights:
        states = hidden_states(model, batch)
        rounded = states[batch.mask]
        assert 0 < (rounded - exact).abs().max() < 0.2
        states.square().mean().backward()
        weights.grads_to_masters()
        assert weights.parameters and all(
            p.grad is not None and p.grad.dtype == torch.float32 for p in weights.parameters
        )
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    with torch.inference_mode():
        assert torch.equal(hidden_states(model, batch)[batch.mask], exact)


def test_the_tokenizer_adds_no_token_that_the_model_lacks(card):
    tokenizer = ladder.tokenizer(card)
    assert tokenizer.pad_token_id is not None
    assert len(tokenizer) <= ladder.empty(card, 1).get_input_embeddings().num_embeddings


@pytest.fixture
def own(card, monkeypatch, tmp_path):
    """A copy of the model's folder that is read from now on, to be damaged."""
    folder = tmp_path / "own" / card.source.repository
    shutil.copytree(hub_files.folder(card), folder)
    monkeypatch.setenv(places.HUB, str(tmp_path / "own"))
    return folder


def unlock(card):
    catalogue.lock_path(card.name).unlink()
    catalogue.clear_caches()


def test_files_are_those_of_the_lock_or_it_is_one_line(card, own):
    config = own / "config.json"
    whole = config.read_text()
    config.write_text(whole.replace("32", "33"))
    with pytest.raises(XlscaleError, match=r"config\.json: sha256: expected [0-9a-f]{64} as in .*locks/tiny_"):
        ladder.load(card, 1)
    config.unlink()
    with pytest.raises(XlscaleError, match=r"not on this machine, expected xlscale-fixtures/.* below \$XLSCALE_HUB"):
        ladder.load(card, 1)
    unlock(card)
    with pytest.raises(XlscaleError, match=r"not fetched, expected .*; run `make data-fetch"):
        ladder.load(card, 1)


def test_other_weights_of_the_same_size_are_refused(card, own):
    weights = own / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-400] + bytes(400))
    for use in (lambda: ladder.load(card, 1), lambda: ensure.fetch(card), lambda: check._hash(card)):
        with pytest.raises(XlscaleError, match=r"model\.safetensors: sha256: expected [0-9a-f]{64} as in .*, got "):
            use()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_clone_without_what_lies_in_git_lfs_is_told_as_one(card, own, name):
    (own / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n")
    unlock(card)
    with pytest.raises(
        XlscaleError, match=rf"{name}: expected the file, got a pointer of git-LFS to it; in a clone: git"
    ):
        ensure.fetch(card)
    assert catalogue.lock(card.name) is None


def test_a_file_that_was_damaged_in_the_cache_can_be_had_again(card, given, monkeypatch):
    unlock(card)
    Hub(given / "hub", monkeypatch)
    ensure.fetch(card)
    weights = places.FETCHED / card.source.repository / ("c" * 40) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-400] + bytes(400))
    with pytest.raises(XlscaleError, match=rf"; remove it, then `make data-fetch CARD={card.name}`$"):
        ensure.fetch(card)
    weights.unlink()
    ensure.fetch(card)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
def test_files_that_the_lock_does_not_know_are_refused(card, own, name):
    (own / name).write_text('{"pad_token": "<s>"}')
    with pytest.raises(XlscaleError, match=rf"{name}: expected no such file, .*locks/tiny_.*json has none"):
        ladder.tokenizer(card)


def test_nothing_is_locked_that_is_no_whole_model(card, own):
    unlock(card)
    (own / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.safetensors", "b": "2.safetensors"}}'
    )
    with pytest.raises(
        XlscaleError, match=r"2\.safetensors: not found, expected as in model\.safetensors\.index\.json"
    ):
        ensure.fetch(card)
    (own / "model.safetensors.index.json").unlink()
    for name, message in (("tokenizer.json", r"tokenizer\.json"), ("model.safetensors", r"model\.safetensors")):
        whole = (own / name).read_bytes()
        (own / name).unlink()
        with pytest.raises(XlscaleError, match=f"expected {message}, found config"):
            ensure.fetch(card)
        (own / name).write_bytes(whole)
    assert catalogue.lock(card.name) is None


@pytest.mark.parametrize("text", ['{"model_type": "unheard_of"}', '{"model_type": ', "{}"])
def test_what_transformers_cannot_read_is_one_line(card, own, text):
    (own / "config.json").write_text(text)
    unlock(card)
    with pytest.raises(
        XlscaleError, match="expected a model that transformers can read|config.json: not valid JSON"
    ) as error:
        ensure.fetch(card)
    assert "\n" not in str(error.value) and catalogue.lock(card.name) is None


def test_an_interrupted_fetch_locks_nothing(card, given, monkeypatch, tmp_path):
    remote = tmp_path / "remote"
    shutil.copytree(given / "hub" / card.source.repository, remote / card.source.repository)
    (remote / card.source.repository / "sub").mkdir()
    (remote / card.source.repository / "sub" / "other.safetensors").write_bytes(b"")
    unlock(card)
    hub = Hub(remote, monkeypatch, broken="model.safetensors")
    with pytest.raises(XlscaleError, match=r"model\.safetensors: could not be downloaded \(reset by peer\)"):
        ensure.fetch(card)
    assert catalogue.lock(card.name) is None
    hub.broken = ""
    ensure.fetch(card)
    found = catalogue.locked(card.name)
    assert (
        found.files.keys() == {path for path, _ in hub.given} >= {"config.json", "tokenizer.json", "model.safetensors"}
    )
    assert found.revisions == {card.source.repository: "c" * 40}
    assert ladder.load(card, 1) is not None
    hub.asked.clear()
    ensure.fetch(card)
    assert not hub.asked
    hub.moves_on("d" * 40)
    unlock(card)
    ensure.fetch(card)
    assert catalogue.locked(card.name).revisions == {card.source.repository: "d" * 40} and len(hub.given) == len(
        found.files
    )


def test_a_model_is_packaged_or_has_a_source():
    values = catalogue.model_card("e5_small").model_dump() | {"package": None}
    with pytest.raises(XlscaleError, match="package, member, member_sha256: a model has all of them, or a source"):
        parse(ModelCard, values, "card")


class Trap:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def change(folder, **fields):
    """Write other fields into a model's configuration."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize(
    "name", ["adapter_model.bin", "pytorch_model.bin", "sub/other.safetensors", "../x.safetensors"]
)
def test_a_file_that_the_configuration_names_is_never_opened(card, own, tmp_path, name):
    """The weights are those of model.safetensors, whatever else there is and whatever the configuration says."""
    expected = ladder.load(card, 2).state_dict()
    unlock(card)
    change(own, transformers_weights=name)
    other = own / name
    other.parent.mkdir(exist_ok=True)
    if name.endswith(".bin"):
        other.write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    else:
        save_file({key: value + 1 for key, value in load_file(own / "model.safetensors").items()}, other)
    (own / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "other/model"})
    )
    ensure.fetch(card)
    assert catalogue.locked(card.name).files.keys() == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    }
    found = ladder.load(card, 2).state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], value) for key, value in expected.items())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("fields", [{"return_dict": False}, {"chunk_size_feed_forward": 7}])
def test_the_configuration_does_not_say_what_a_model_returns_or_how_it_is_computed(card, own, fields):
    """Else the first batch would break, perhaps after hours."""
    batch = batch_of(card)
    with torch.inference_mode():
        expected = hidden_states(ladder.load(card, 2), batch)
        unlock(card)
        change(own, **fields)
        ensure.fetch(card)
        assert torch.equal(hidden_states(ladder.load(card, 2), batch), expected)


def test_a_longest_input_that_is_no_number_is_refused_before_it_is_locked(card, own):
    about = json.loads((own / "tokenizer_config.json").read_text()) | {"model_max_length": "long"}
    (own / "tokenizer_config.json").write_text(json.dumps(about))
    unlock(card)
    with pytest.raises(XlscaleError, match=r"tokenizer_config\.json: model_max_length: expected a number"):
        ensure.fetch(card)
    assert catalogue.lock(card.name) is None


@pytest.mark.parametrize("name", ["consolidated.safetensors", "._model.safetensors", "model.fp16.safetensors"])
def test_other_weights_beside_the_real_ones_are_neither_locked_nor_read(card, own, name):
    expected = ladder.load(card, 1).state_dict()
    unlock(card)
    (own / name).write_bytes(b"of another layout")
    ensure.fetch(card)
    assert name not in catalogue.locked(card.name).files
    assert all(torch.equal(value, expected[key]) for key, value in ladder.load(card, 1).state_dict().items())


def test_weights_in_several_files_are_those_of_the_index(card, own):
    expected = ladder.load(card, 3).state_dict()
    whole = load_file(own / "model.safetensors")
    (own / "model.safetensors").unlink()
    parts = {key: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, key in enumerate(sorted(whole))}
    for name in {*parts.values()}:
        save_file({key: whole[key] for key, part in parts.items() if part == name}, own / name)
    (own / hub_files.INDEX).write_text(json.dumps({"weight_map": parts}))
    unlock(card)
    ensure.fetch(card)
    assert {*parts.values(), hub_files.INDEX} < catalogue.locked(card.name).files.keys()
    assert all(torch.equal(value, expected[key]) for key, value in ladder.load(card, 3).state_dict().items())
    for broken in ('{"weight_map": {"a": "../other.safetensors"}}', '{"weight_map": {"a": "model.bin"}}', "[]", "{}"):
        (own / hub_files.INDEX).write_text(broken)
        with pytest.raises(XlscaleError, match="weight_map: expected "):
            ladder.load(card, 1)


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "finite"), (float("inf"), "finite"), (None, "float type")]
)
def test_weights_are_finite_and_of_float_type(card, own, value, message):
    tensors = load_file(own / "model.safetensors")
    key = next(name for name in tensors if name.endswith(("q_proj.weight", "query.weight")))
    if value is None:
        tensors[key] = tensors[key].long()
    else:
        tensors[key][0, 0] = value
    save_file(tensors, own / "model.safetensors")
    unlock(card)
    with pytest.raises(XlscaleError, match=f"expected finite weights|missing among the weights of {message}"):
        ensure.fetch(card)
        ladder.load(card, 3)


def refused_before_it_is_locked(card, message):
    unlock(card)
    with pytest.raises(XlscaleError, match=message) as error:
        ensure.fetch(card)
    assert catalogue.lock(card.name) is None and all(len(line) <= 300 for line in str(error.value).split("\n"))


@pytest.mark.parametrize("damage", ["missing", "shape", "rows", "none"])
def test_weights_that_are_not_those_of_the_configuration_are_refused_before_they_are_locked(card, own, damage):
    """Else they are once a cell of a study begins, on another machine perhaps."""
    tensors = load_file(own / "model.safetensors")
    key = next(name for name in tensors if name.endswith(("q_proj.weight", "query.weight")))
    word = next(name for name in tensors if name.endswith(("embed_tokens.weight", "word_embeddings.weight")))
    if damage == "missing":
        del tensors[key]
    elif damage == "shape":
        tensors[key] = tensors[key].reshape(16, 64)
    elif damage == "rows":
        tensors[word] = tensors[word][:-1].clone()
    else:
        tensors = {"x": torch.ones(3)}
    save_file(tensors, own / "model.safetensors")
    rows = json.loads((own / "config.json").read_text())["vocab_size"]
    message = {
        "missing": rf"{key}: missing among the weights of float type \(1 tensors\)",
        "shape": rf"{key}: expected the shape \[32, 32\] of config\.json, got \[16, 64\]",
        "rows": rf"{word}: expected the shape \[{rows}, 32\] of config\.json, got \[{rows - 1}, 32\]",
        "none": r"expected [\d,]+ weights of float type as by its config\.json, got 3$",
    }
    refused_before_it_is_locked(card, message[damage])


@pytest.mark.parametrize("part", ["distance_embedding.weight", "q.bias", "lora_A.weight"])
def test_a_weight_that_a_part_of_the_model_would_do_without_is_refused(card, own, part):
    """Another configuration computes with it: here it would be left out, and nothing would say so."""
    tensors = load_file(own / "model.safetensors")
    key = next(name for name in tensors if name.endswith(("q_proj.weight", "query.weight")))
    more = f"{key.removesuffix('.weight').rpartition('.')[0]}.{part}"
    save_file(tensors | {more: torch.ones(3)}, own / "model.safetensors")
    refused_before_it_is_locked(card, rf"{more}: expected no such weight, config\.json gives .*attn|attention.* none$")


@pytest.mark.parametrize("head", ["lm_head.weight", "pooler.dense.weight", "cls.predictions.bias", "vision.0.weight"])
def test_heads_and_other_parts_beside_the_layers_are_left_out(card, own, head):
    expected = ladder.load(card, 2).state_dict()
    save_file(load_file(own / "model.safetensors") | {head: torch.ones(3)}, own / "model.safetensors")
    unlock(card)
    ensure.fetch(card)
    found = ladder.load(card, 2).state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_text_is_cut_at_its_end_whatever_a_tokenizer_says(card, own):
    long = " ".join(TEXTS)
    expected = ladder.tokenizer(card)(long, truncation=True, max_length=6)["input_ids"]
    told = own / "tokenizer_config.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"truncation_side": "left", "padding_side": "left"}))
    unlock(card)
    ensure.fetch(card)
    assert ladder.tokenizer(card)(long, truncation=True, max_length=6)["input_ids"] == expected


@pytest.mark.parametrize("old", ["{}", "model.language_model.{}", "gamma"])
def test_a_tensor_that_is_there_twice_is_refused(card, own, old):
    """The second would count without a word, also under another name of the same tensor."""
    tensors = load_file(own / "model.safetensors")
    (own / "model.safetensors").unlink()
    save_file(tensors, own / "model-1.safetensors")
    first = max(tensors, key=lambda name: (name.endswith("LayerNorm.weight"), name))
    again = old.format(first) if old != "gamma" else first.replace("LayerNorm.weight", "LayerNorm.gamma")
    save_file({again: tensors[first] * 0}, own / "model-2.safetensors")
    names = dict.fromkeys(tensors, "model-1.safetensors") | {again: "model-2.safetensors"}
    (own / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    refused_before_it_is_locked(
        card, rf"model-2\.safetensors: {again}: expected once, got {first} of model-1\.safetensors too"
    )


CONFIGURED = {
    '"hidden_size": 32, "hidden_size": 64': "'hidden_size': expected o",
    '"x": NaN': "expected a finite number, got NaN",
    '"x": -1e999': "expected a finite number, got -1e999",
    '"num_labels": 100000000': "num_labels: expected at most 100000",
    '"vision_config": {"num_labels": 100000000}': "num_labels: expected at most 100000",
    f'"x": "{"x" * 2**20}"': "expected at most 1,048,576 bytes",
    '"quantization_config": {"quant_method": "gptq"}': "expected none",
    '"pad_token_id": -1': "pad_token_id: expected the id of a token",
    '"layer_norm_eps": 1e6': "layer_norm_eps: expected 0 to 0.001, got 1e.06",
    '"layer_norm_eps": -1.0': "layer_norm_eps: expected 0 to 0.001, got -1",
}


@pytest.mark.parametrize(
    ("name", "added", "message"),
    [
        *(("config.json", *case) for case in CONFIGURED.items()),
        ("tokenizer.json", '"version": "1.0"', "key 'version': expected once"),
        ("tokenizer_config.json", '"model_max_length": 0', "model_max_length: expected a number above"),
        ("tokenizer_config.json", '"model_max_length": true', "model_max_length: expected a number"),
    ],
)
def test_a_file_of_a_model_means_one_thing(card, own, name, added, message):
    about = own / name
    stated = {
        key: one
        for key, one in json.loads(about.read_text()).items()
        if key not in ("model_max_length", "pad_token_id", "layer_norm_eps")
    }
    about.write_text(f"{{{added}, {json.dumps(stated)[1:]}")
    refused_before_it_is_locked(card, message)


def test_a_token_around_a_text_that_the_embeddings_lack_is_refused_before_it_is_locked(card, own):
    content = json.loads((own / "tokenizer.json").read_text())
    special = {"id": "<far>", "ids": [10**6], "tokens": ["<far>"]}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<far>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<far>": special},
    }
    (own / "tokenizer.json").write_text(json.dumps(content))
    refused_before_it_is_locked(card, r"tokenizer\.json: expected ids below \d+, the embeddings' rows, got 1000000$")


@pytest.mark.parametrize("damage", ["states", "run"])
def test_a_model_whose_states_cannot_be_computed_is_one_line_as_it_is_loaded(card, own, damage):
    """Weights may be finite, and what follows from them not."""
    if damage == "states":
        tensors = load_file(own / "model.safetensors")
        key = next(name for name in tensors if name.endswith(("q_proj.weight", "query.weight")))
        save_file(tensors | {key: torch.full_like(tensors[key], 3e38)}, own / "model.safetensors")
    else:
        about = json.loads((own / "config.json").read_text())
        change = (
            {"pad_token_id": None} if "roberta" in about["model_type"] else {"layer_types": ["sliding_attention"] * 3}
        )
        (own / "config.json").write_text(json.dumps(about | change))
    unlock(card)
    ensure.fetch(card)
    with pytest.raises(XlscaleError, match="expected a model that transformers can read") as error:
        ladder.load(card, 3)
    assert "its states are not finite" in str(error.value) or damage == "run"


def test_whole_numbers_that_are_no_weights_stay_out(card, own):
    """Older checkpoints keep the positions as well."""
    expected = ladder.load(card, 1).state_dict()
    tensors = load_file(own / "model.safetensors") | {"embeddings.position_ids": torch.arange(10)[None]}
    save_file(tensors, own / "model.safetensors")
    unlock(card)
    ensure.fetch(card)
    assert all(torch.equal(value, expected[key]) for key, value in ladder.load(card, 1).state_dict().items())


def test_a_tokenizer_without_padding_and_end_is_refused_before_it_is_locked(card, own):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (own / name).unlink(missing_ok=True)
    unlock(card)
    with pytest.raises(XlscaleError, match=r"tokenizer\.json: expected a token for padding, or for the end of a text"):
        ensure.fetch(card)
    assert catalogue.lock(card.name) is None


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused_before_it_is_locked(card, own):
    """Else the first text with one of them ends a cell, perhaps after hours."""
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    unlock(card)
    with pytest.raises(XlscaleError, match=r"tokenizer\.json: expected ids below 20, the embeddings' rows, got \d+$"):
        ensure.fetch(card)
    assert catalogue.lock(card.name) is None


def test_a_tokenizer_file_outside_the_folder_is_not_opened(card, own):
    (own.parent / "tokenizer.1.0.json").write_text((own / "tokenizer.json").read_text())
    about = json.loads((own / "tokenizer_config.json").read_text()) | {
        "fast_tokenizer_files": ["../tokenizer.1.0.json"]
    }
    (own / "tokenizer_config.json").write_text(json.dumps(about))
    unlock(card)
    with pytest.raises(XlscaleError, match=r"fast_tokenizer_files: expected files beside it, got '\.\./tokenizer"):
        ensure.fetch(card)


def test_a_model_of_two_halves_is_refused_before_its_weights_are_downloaded(card, given, monkeypatch, tmp_path):
    remote = tmp_path / "remote"
    shutil.copytree(given / "hub" / card.source.repository, remote / card.source.repository)
    AutoConfig.for_model("mt5", num_layers=3, vocab_size=700).save_pretrained(remote / card.source.repository)
    unlock(card)
    hub = Hub(remote, monkeypatch)
    with pytest.raises(XlscaleError, match="model_type: expected an encoder or a decoder, mt5 is both"):
        ensure.fetch(card)
    assert catalogue.lock(card.name) is None
    assert {path for path, _ in hub.given} == {"config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize("kind", ["camembert", "xmod", "rembert", "mpnet", "albert", "bert", "big_bird", "electra"])
def test_encoders_need_no_pooler(card, own, kind):
    """Each kind of encoder with random weights, saved as for masked language models: without the pooler."""
    size = {
        "vocab_size": 700,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    more = {"languages": ["en_XX"], "default_language": "en_XX"} if kind == "xmod" else {}
    config = AutoConfig.for_model(kind, **size, **more, embedding_size=32, max_position_embeddings=80)
    config.architectures = None
    model = AutoModel.from_config(config)
    kept = {key: value for key, value in model.state_dict().items() if not key.startswith("pooler")}
    card = card.model_copy(update={"attention": "bidirectional"})  # of the folder that was a decoder's, too
    config.save_pretrained(own)
    save_file({key: value.contiguous() for key, value in kept.items()}, own / "model.safetensors")
    unlock(card)
    ensure.fetch(card)
    found = ladder.load(card, 3).state_dict()
    assert not [key for key in found if key.startswith("pooler")]
    assert all(torch.equal(value, kept[key]) for key, value in found.items())


def test_a_link_that_leads_out_of_the_folder_is_refused(card, own, tmp_path):
    (own / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (own / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(XlscaleError, match=r"tokenizer\.json': expected the path of a file below "):
        ladder.tokenizer(card)


@pytest.mark.parametrize("kind", ["bloom", "mpt", "xglm", "gpt2", "bert", "roberta", "deberta-v2"])
def test_how_a_model_attends_is_seen_where_its_class_does_not_tell(kind):
    """A decoder's card that says nothing is that of an encoder: a mean over states of which the first saw nothing."""
    sizes = {"vocab_size": 20, "hidden_size": 16, "d_model": 16, "num_hidden_layers": 2, "num_layers": 2, "n_layers": 2}
    sizes |= {"num_attention_heads": 2, "attention_heads": 2, "n_heads": 2, "ffn_dim": 16, "intermediate_size": 16}
    torch.manual_seed(1)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **sizes), attn_implementation="eager").eval()
    causal = kind in ("bloom", "mpt", "xglm", "gpt2")
    card, words = catalogue.model_card("xlm_r_base"), ["bidirectional", "causal"]
    behaviour.check_attention(model, card.model_copy(update={"attention": words[causal]}))
    with pytest.raises(
        XlscaleError, match=rf"attention: expected {words[causal]}, as that of .*, got {words[not causal]}$"
    ):
        behaviour.check_attention(model, card.model_copy(update={"attention": words[not causal]}))

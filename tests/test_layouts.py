"""Every architecture of the cards as the hub has it: files of a language model, in bfloat16, in parts with an index."""

import json
import re

import numpy as np
import pytest
import torch
import yaml
from conftest import write
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMaskedLM

from xlscale.cards import catalogue
from xlscale.cards.schema import ModelCard
from xlscale.commands import data
from xlscale.core.files import XlscaleError
from xlscale.data.batches import Batch
from xlscale.models import hub_files, ladder
from xlscale.training.backends.cpu import CPU
from xlscale.training.backends.precision import MasterWeights

TEXTS = ["cat house water book", "猫 水", "gato casa agua libro kat huis", "tree"]
ENCODERS, DECODERS = ["xlm-r", "xlm-r-xl", "mmbert", "eurobert"], ["qwen2.5", "llama-3.1", "gemma-3-text"]
SEEING = "gemma-3"  # which is a decoder inside a model that also sees
hidden_states = CPU("float32").hidden_states


@pytest.fixture(params=[*ENCODERS, *DECODERS, SEEING])
def card(request, layout) -> ModelCard:
    return layout(request.param)


def batch_of(card: ModelCard) -> Batch:
    tokenizer = ladder.tokenizer(card)
    found = tokenizer(TEXTS, padding=True, return_tensors="pt")
    return Batch(found["input_ids"], found["attention_mask"].bool(), np.arange(len(TEXTS)), {})


def whole(card: ModelCard) -> torch.nn.Module:
    """The library's own model, read from the folder by the class that it was saved by."""
    kind = AutoModelForMaskedLM if card.title in ENCODERS else AutoModelForCausalLM
    kind = AutoModelForImageTextToText if card.title == SEEING else kind
    return kind.from_pretrained(hub_files.folder(card), dtype=torch.float32, attn_implementation="eager").eval()


def test_a_layout_is_the_hub_s(card):
    """Else these tests would say nothing about it: names with what is before them there, bfloat16, an index."""
    folder = hub_files.folder(card)
    parts = json.loads((folder / hub_files.INDEX).read_text())["weight_map"]
    assert len({*parts.values()}) == 2
    first = {"xlm-r": "roberta.", "xlm-r-xl": "roberta.", SEEING: "language_model.model."}.get(card.title, "model.")
    assert any(name.startswith(first) for name in parts)
    for name in {*parts.values()}:
        with safe_open(folder / name, "pt") as file:
            assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_hidden_states_are_those_of_the_library_s_own_language_model(card):
    batch, model = batch_of(card), ladder.load(card, 2)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    with torch.inference_mode():
        expected = whole(card).base_model(input_ids=batch.ids, attention_mask=batch.mask.long()).last_hidden_state
        found = hidden_states(model, batch)
    torch.testing.assert_close(found[batch.mask], expected[batch.mask], atol=1e-5, rtol=1e-4)


def test_what_stays_of_the_type_of_its_file_computes_the_same(card):
    plain, published = ladder.load(card, 2), ladder.load(card, 2, as_published=True)
    rounds = "gemma" in card.name  # a factor on its word embeddings would be rounded
    assert {one.dtype for one in published.parameters()} == {torch.float32 if rounds else torch.bfloat16}
    placed = CPU("float32").place(published, True)
    assert all(torch.equal(one, other) for one, other in zip(placed.parameters(), plain.parameters(), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(placed.buffers(), plain.buffers(), strict=True))
    with torch.inference_mode():
        assert torch.equal(hidden_states(placed, batch_of(card)), hidden_states(plain, batch_of(card)))


def assert_padding_changes_nothing(model: torch.nn.Module, batch: Batch) -> None:
    """The hidden states of each input of a padded batch are those of the input alone."""
    with torch.inference_mode():
        together = hidden_states(model, batch)
        for i, length in enumerate(batch.mask.sum(1).tolist()):
            one = Batch(batch.ids[i : i + 1, :length], batch.mask[i : i + 1, :length], np.array([i]), {})
            torch.testing.assert_close(together[i, :length], hidden_states(model, one)[0], atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing(card):
    assert_padding_changes_nothing(ladder.load(card, 2), batch_of(card))


@pytest.mark.parametrize("padded", [True, False])
def test_bfloat16_gives_nearly_what_float32_does_and_trains_its_masters(card, padded):
    model, batch = ladder.load(card, 2), batch_of(card)
    if not padded:  # then there is no mask
        batch = Batch(batch.ids[:, :2], batch.mask[:, :2], batch.index, {})
        assert batch.mask.all()
    with torch.inference_mode():
        exact = hidden_states(model, batch)[batch.mask]
    with MasterWeights(model, torch.bfloat16) as weights:
        rounded = hidden_states(model, batch)[batch.mask]
        rounded.square().mean().backward()
        weights.grads_to_masters()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in weights.parameters)
    assert 0 < ((rounded - exact).norm() / exact.norm()).item() < 0.03
    with torch.inference_mode():
        assert torch.equal(hidden_states(model, batch)[batch.mask], exact)


def test_a_checkpoint_gives_back_the_trained_rung(card, tmp_path):
    model, path = ladder.load(card, 1), tmp_path / "rung.safetensors"
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    ladder.save_checkpoint(model, path)
    again = ladder.load(card, 1, path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_of_a_model_that_sees_only_what_reads_is_loaded(layout):
    card = layout(SEEING)
    model, stored = ladder.load(card, 2), dict(hub_files.tensors_of(hub_files.folder(card)))
    assert [name for name in stored if name.startswith("vision_tower.")]
    assert not [name for name, _ in model.named_parameters() if "vision" in name]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, stored[f"language_model.model.{name}"].float())


def test_the_command_that_a_message_advises_gets_a_model(layout, tmp_path, monkeypatch, capsys):
    """`make data-fetch CARD=<model>`, of a model that was not fetched."""
    card = layout("qwen2.5")
    write(tmp_path, {f"models/{card.name}.yaml": yaml.safe_dump(card.model_dump(exclude_none=True))})
    monkeypatch.setattr(catalogue, "MANIFEST", tmp_path)
    catalogue.lock_path(card.name).unlink()
    catalogue.clear_caches()
    with pytest.raises(XlscaleError, match="not fetched") as error:
        ladder.load(card, 1)
    assert data.fetch(re.findall(r"; run `make data-fetch CARD=(\w+)`", str(error.value)))
    assert f"{card.name}: 6 files as in " in capsys.readouterr().out
    assert ladder.load(card, 1) is not None


@pytest.mark.parametrize(
    ("field", "stated", "found"),
    [("num_attention_heads", 4, 2), ("num_hidden_layers", 3, 2), ("model_type", "qwen2", "gemma3")],
)
def test_a_model_s_own_configuration_is_what_its_card_says(layout, field, stated, found):
    numbers = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    values = {"model_type": "gemma3", "config": {"text_config": numbers, "vision_config": {"hidden_size": 9}}}
    assert layout(SEEING, architecture=values | {"read": "tests"})
    (values if field == "model_type" else values["config"]["text_config"])[field] = stated
    catalogue.lock_path("gemma_3").unlink()
    catalogue.clear_caches()
    with pytest.raises(
        XlscaleError, match=rf"config\.json: {field}: expected {stated} as in the model's card, got {found}"
    ):
        layout(SEEING, architecture=values | {"read": "tests"})
    assert catalogue.lock("gemma_3") is None  # known before weights are downloaded

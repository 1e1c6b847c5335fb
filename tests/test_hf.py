"""Models in the layout of transformers: rungs, checkpoints, precision, in an encoder and a decoder."""

import shutil

import numpy as np
import pytest
import torch
from conftest import Hub
from transformers import AutoModel

from xlscale.acquire import ensure
from xlscale.cards import catalogue, places
from xlscale.cards.schema import ModelCard
from xlscale.commands import check
from xlscale.core.files import XlscaleError
from xlscale.core.strict import parse
from xlscale.data.batches import Batch
from xlscale.models import hf, ladder
from xlscale.training.backends.cpu import CPU, MasterWeights

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
    whole = AutoModel.from_pretrained(hf.folder(card), dtype=torch.float32).eval()
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
    model, batch = ladder.load(card, 2), batch_of(card)
    with torch.inference_mode():
        together = hidden_states(model, batch)
        for i, length in enumerate(batch.mask.sum(1).tolist()):
            one = Batch(batch.ids[i : i + 1, :length], batch.mask[i : i + 1, :length], np.array([i]), {})
            torch.testing.assert_close(together[i, :length], hidden_states(model, one)[0], atol=1e-5, rtol=1e-4)


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
    shutil.copytree(hf.folder(card), folder)
    monkeypatch.setenv(places.HUB, str(tmp_path / "own"))
    return folder


def test_files_are_those_of_the_lock_or_it_is_one_line(card, own):
    config = own / "config.json"
    whole = config.read_text()
    config.write_text(whole.replace("32", "33"))
    with pytest.raises(XlscaleError, match=r"config\.json: sha256: expected [0-9a-f]{64} as in .*locks/tiny_"):
        ladder.load(card, 1)
    config.unlink()
    with pytest.raises(XlscaleError, match=r"not on this machine, expected xlscale-fixtures/.* below \$XLSCALE_HUB"):
        ladder.load(card, 1)
    catalogue.lock_path(card.name).unlink()
    catalogue.clear_caches()
    with pytest.raises(XlscaleError, match=r"not fetched, expected .*; run `make data-fetch"):
        ladder.load(card, 1)


def test_other_weights_of_the_same_size_are_refused(card, own):
    weights = own / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-400] + bytes(400))
    for use in (lambda: ladder.load(card, 1), lambda: ensure.fetch(card), lambda: check._hash(card)):
        with pytest.raises(XlscaleError, match=r"model\.safetensors: sha256: expected [0-9a-f]{64} as in .*, got "):
            use()


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json", "more.safetensors"])
def test_files_that_the_lock_does_not_know_are_refused(card, own, name):
    (own / name).write_text('{"pad_token": "<s>"}')
    with pytest.raises(XlscaleError, match=rf"{name}: expected no such file, .*locks/tiny_.*json has none"):
        ladder.tokenizer(card)


def test_nothing_is_locked_that_is_no_whole_model(card, own):
    catalogue.lock_path(card.name).unlink()
    catalogue.clear_caches()
    (own / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.safetensors", "b": "2.safetensors"}}'
    )
    with pytest.raises(
        XlscaleError, match=r"2\.safetensors: not found, expected as in model\.safetensors\.index\.json"
    ):
        ensure.fetch(card)
    (own / "model.safetensors.index.json").unlink()
    for name, message in (("tokenizer.json", r"tokenizer\.json"), ("model.safetensors", r"\*\.safetensors")):
        whole = (own / name).read_bytes()
        (own / name).unlink()
        with pytest.raises(XlscaleError, match=f"expected {message}, found config"):
            ensure.fetch(card)
        (own / name).write_bytes(whole)
    assert catalogue.lock(card.name) is None


@pytest.mark.parametrize("text", ['{"model_type": "unheard_of"}', '{"model_type": ', "{}"])
def test_what_transformers_cannot_read_is_one_line(card, own, text):
    (own / "config.json").write_text(text)
    catalogue.lock_path(card.name).unlink()
    catalogue.clear_caches()
    ensure.fetch(card)
    with pytest.raises(XlscaleError, match="expected a model that transformers can read") as error:
        ladder.load(card, 1)
    assert "\n" not in str(error.value)


def test_an_interrupted_fetch_locks_nothing(card, given, monkeypatch, tmp_path):
    remote = tmp_path / "remote"
    shutil.copytree(given / "hub" / card.source.repository, remote / card.source.repository)
    (remote / card.source.repository / "sub").mkdir()
    (remote / card.source.repository / "sub" / "other.safetensors").write_bytes(b"")
    catalogue.lock_path(card.name).unlink()
    catalogue.clear_caches()
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
    catalogue.lock_path(card.name).unlink()
    catalogue.clear_caches()
    ensure.fetch(card)
    assert catalogue.locked(card.name).revisions == {card.source.repository: "d" * 40} and len(hub.given) == len(
        found.files
    )


def test_a_model_is_packaged_or_has_a_source():
    values = catalogue.model_card("e5_small").model_dump() | {"package": None}
    with pytest.raises(XlscaleError, match="package, member, member_sha256: a model has all of them, or a source"):
        parse(ModelCard, values, "card")

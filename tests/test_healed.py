"""Healed rungs on disk: four bits per weight, and every fault in one line."""

import numpy as np
import pytest
import torch

from xlscale.cards import catalogue, schema
from xlscale.core.files import XlscaleError, sha256_file
from xlscale.experiment import cells
from xlscale.models import healed, ladder, store


def test_four_bits_keep_every_value_within_half_a_step():
    difference = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
    values, scales = healed.pack(difference)
    assert values.nbytes * 2 == difference.size and len(scales) * healed.BLOCK == difference.size
    found = healed.unpack(values, scales, difference.shape)
    steps = np.repeat(scales.astype(np.float32), healed.BLOCK).reshape(difference.shape)
    assert (np.abs(found - difference) <= 0.51 * steps).all()
    assert not healed.unpack(*healed.pack(np.zeros((1, 32), np.float32)), (1, 32)).any()


def _with(card, rung):
    recipe = schema.Healing(text="unlabelled", batch_size=8, max_length=16, seed=1, rungs={1: rung})
    return card.model_copy(update={"healed": recipe})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A rung whose parameters were moved, the file of the difference, and a card that names it."""
    card = catalogue.model_card("e5_small")
    cut, moved = ladder.load(card, 1), ladder.load(card, 1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            if name != store.WORD_EMBEDDINGS:
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    path = tmp_path_factory.mktemp("healed") / "k1.safetensors"
    healed.write(cut, moved, path, store.WORD_EMBEDDINGS, {})
    # A card could not name a file outside the checkout.
    rung = schema.HealedRung.model_construct(epochs=1, learning_rate=1e-3, file=str(path), sha256=sha256_file(path))
    return moved, path, _with(card, rung)


def test_a_card_with_a_healed_rung_loads_it(written):
    moved, path, card = written
    found, cut = ladder.load(card, 1), ladder.load(catalogue.model_card("e5_small"), 1)
    for name, parameter in found.named_parameters():
        wanted, before = moved.get_parameter(name), cut.get_parameter(name)
        if name == store.WORD_EMBEDDINGS:
            assert torch.equal(parameter, before)
        else:
            assert (parameter - wanted).abs().max() < 0.2 * (wanted - before).abs().max()
    assert path.stat().st_size < 0.6 * sum(p.numel() for n, p in moved.named_parameters() if n != store.WORD_EMBEDDINGS)
    other = (ladder.load(one, 2).get_parameter(name) for one in (card, catalogue.model_card("e5_small")))
    assert torch.equal(*other)


def test_another_rung_or_another_file_is_one_line(written, tmp_path):
    _, path, card = written
    with pytest.raises(XlscaleError, match=r"encoder.layer.1.\S+: expected the difference of shape"):
        healed.add(ladder.load(catalogue.model_card("e5_small"), 2), path, store.WORD_EMBEDDINGS)
    with pytest.raises(XlscaleError, match="sha256: expected"):
        ladder.load(_with(card, card.healed_rung(1).model_copy(update={"sha256": "0" * 64})), 1)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(XlscaleError, match="expected a safetensors file"):
        healed.add(ladder.load(catalogue.model_card("e5_small"), 1), broken, store.WORD_EMBEDDINGS)


def test_a_healed_rung_is_another_cell(written, monkeypatch):
    _, _, card = written
    before = cells.make("pretrained", {"model": "e5_small", "layers": 1}, "here")
    monkeypatch.setattr(cells, "model_card", lambda name: card)
    after = cells.make("pretrained", {"model": "e5_small", "layers": 1}, "here")
    other = cells.make("pretrained", {"model": "e5_small", "layers": 2}, "here")
    assert before.id != after.id
    assert dict(after.reads)["healed"] == card.healed_rung(1).sha256 and "healed" not in dict(other.reads)

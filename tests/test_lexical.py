"""Targeted Lexical Injection: the loss, its gradient, what is pooled, and which pairs are trained on."""

import numpy as np
import pytest
import torch
from conftest import recipe
from datasets import Dataset
from test_objectives import drawn, slope
from torch import nn
from transformers import BertConfig, BertModel

from xlscale import tasks
from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError
from xlscale.data import load
from xlscale.data.batches import Batch, Encoded, collate
from xlscale.metrics.lexicon import POOLINGS
from xlscale.models import ladder
from xlscale.tasks import lexicon
from xlscale.training import loop
from xlscale.training.backends.cpu import CPU
from xlscale.training.model import Model
from xlscale.training.objectives import lexical


@pytest.fixture
def model() -> Model:
    """Three layers in float64, without a head."""
    config = BertConfig(
        vocab_size=11, hidden_size=6, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8, attn_implementation="eager",
    )  # fmt: skip
    encoder = drawn(BertModel(config, add_pooling_layer=False).double(), 3)
    for norm in (module for module in encoder.modules() if isinstance(module, nn.LayerNorm)):
        nn.init.ones_(norm.weight)  # with random ones, what leaves a layer is the same for all inputs
        nn.init.zeros_(norm.bias)
    return Model(encoder, InDouble("float32"))


class InDouble(CPU):
    """A backend that leaves hidden states in float64."""

    def hidden_states(self, encoder, batch, layer=None):
        found = encoder(input_ids=batch.ids, attention_mask=batch.mask, output_hidden_states=True)
        return found.hidden_states[layer]


@pytest.fixture
def pairs() -> Batch:
    """Four pairs, of which the first and the last have one English name."""
    ids = torch.tensor([[2, 3, 4, 0], [2, 5, 6, 7], [2, 8, 0, 0], [2, 9, 10, 0], [2, 4, 4, 3], [2, 6, 0, 0],
                        [2, 3, 4, 0], [2, 10, 7, 0]])  # fmt: skip
    targets = {"name": [0, 0, 1, 1, 2, 2, 0, 0], "start": [1] * 8, "stop": (ids > 0).sum(1).tolist()}
    return Batch(ids, ids > 0, np.arange(8), {name: torch.tensor(values) for name, values in targets.items()})


def begun(model: Model, **values) -> lexical.Lexical:
    objective = lexical.Lexical()
    objective.begin(model, recipe(objective="lexical", **values), np.random.default_rng(0))
    return objective


def by_the_formula(hidden: np.ndarray, batch: Batch, margin: float, pooling: str) -> float:
    """The loss from hidden states (inputs, tokens, width), pair by pair."""
    mask, name = batch.mask.numpy(), batch.targets["name"].tolist()
    means = [h[m][int(pooling == "words") :].mean(0) for h, m in zip(hidden, mask, strict=True)]
    unit = [mean / np.linalg.norm(mean) for mean in means]
    losses = []
    for i in range(0, len(unit), 2):
        negatives = [unit[i + 1] @ unit[j] for j in range(0, len(unit), 2) if name[j] != name[i]]
        losses.append(max(0, margin + max(negatives) - unit[i + 1] @ unit[i]))
    return float(np.mean(losses))


@pytest.mark.parametrize("pooling", ["all", "words"])
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_the_loss_is_that_of_the_formula_and_its_gradient_that_of_finite_differences(model, pairs, pooling, layer):
    def wanted() -> float:
        with torch.no_grad():
            hidden = model.encoder(pairs.ids, pairs.mask, output_hidden_states=True).hidden_states[layer]
        return by_the_formula(hidden.numpy(), pairs, 1.9, pooling)

    loss = begun(model, word_layer=layer, margin=1.9, pooling=pooling).loss(model, pairs)
    loss.backward()
    assert loss.item() == pytest.approx(wanted(), rel=1e-12)
    checked = 0
    for name, parameter in model.encoder.named_parameters():
        above = name.startswith(tuple(f"encoder.layer.{i}." for i in range(layer, 3)))
        assert (parameter.grad is None) >= above  # nothing beyond the layer learns
        if parameter.grad is not None:
            place = np.unravel_index(int(parameter.grad.abs().argmax()), parameter.shape)
            found = slope(wanted, parameter, place)
            assert parameter.grad[place].item() == pytest.approx(found, rel=1e-4, abs=1e-8), name
            checked += abs(found) > 1e-5
    assert checked > 10 * layer


def test_a_pair_that_is_right_by_the_margin_or_has_no_negative_costs_nothing(model, pairs):
    assert begun(model, margin=0.0).loss(model, _part(pairs, [0, 1, 6, 7])).item() == 0  # one English name
    lone = begun(model).loss(model, _part(pairs, [2, 3]))
    lone.backward()
    assert lone.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.encoder.parameters())


def _pairs(rows: Dataset, tokenizer, prefix: str, max_length: int) -> Encoded:
    return tasks.of(data_card("lexicon")).encode(rows, tokenizer, prefix, max_length)


def _part(batch: Batch, index: list[int]) -> Batch:
    targets = {name: values[index] for name, values in batch.targets.items()}
    return Batch(batch.ids[index], batch.mask[index], np.array(index), targets)


def test_a_layer_that_the_rung_lacks_is_one_line(model):
    with pytest.raises(XlscaleError, match="^word_layer: expected at most 3, the layers of this rung, got 4$"):
        begun(model, word_layer=4)
    with pytest.raises(ValueError, match="margin: expected with objective lexical alone, got 0.1"):
        recipe(margin=0.1)


@pytest.fixture(scope="module")
def swahili():
    rows = load.splits(data_card("lexicon"))["train"]
    return rows.select([i for i, language in enumerate(rows["language"]) if language == "sw"][:120])


def test_every_pair_is_two_inputs_with_the_place_of_its_word(e5, swahili):
    tokenizer, few = ladder.tokenizer(e5), swahili.select(range(40))
    encoded = _pairs(few, tokenizer, e5.prefix, 16)
    words = [word for pair in zip(few["source"], few["text"], strict=True) for word in pair]
    for i, word in enumerate(words):
        ids = encoded.ids_of(i)
        start, stop = (encoded.targets[name][i] for name in ("start", "stop"))
        assert stop == len(ids) - 1
        assert tokenizer.decode(ids[:start], skip_special_tokens=True).strip() == e5.prefix.strip()
        if len(ids) < 16:
            assert tokenizer.decode(ids[start:stop]).strip() == word
    chosen = recipe(epochs=1, batch_size=5)
    for index in loop.batches(encoded, chosen, np.random.default_rng(1)):
        assert (index[::2] % 2 == 0).all() and (index[1::2] == index[::2] + 1).all()
        names = collate(encoded, index, 0).targets["name"]
        assert torch.equal(names[::2], names[1::2])


def test_equal_english_names_are_one_name(e5, swahili):
    encoded = _pairs(swahili.select([3, 5, 3]), ladder.tokenizer(e5), e5.prefix, 16)
    assert encoded.targets["name"].tolist() == [0, 0, 1, 1, 0, 0]
    with pytest.raises(XlscaleError, match=r"^'query: .*': expected a word of which 3 tokens hold something"):
        _pairs(swahili, ladder.tokenizer(e5), e5.prefix, 3)


def test_trained_and_control_pairs_share_no_english_name_in_any_language():
    rows = load.splits(data_card("lexicon"))["train"]
    trained, control = lexicon.apart(rows)
    assert len(trained) + len(control) == len(rows) and 0.07 < len(control) / len(rows) < 0.13
    names = [{name.casefold() for name in part["source"]} for part in (trained, control)]
    assert not names[0] & names[1]
    assert {*trained["language"]} == {*control["language"]} == {*rows["language"]}


def test_the_last_layer_is_the_last_hidden_state(e5, swahili):
    encoded = _pairs(swahili.select(range(4)), ladder.tokenizer(e5), e5.prefix, 16)
    model, batch = Model(ladder.load(e5, 2), CPU("float32")), collate(encoded, np.arange(8), 1)
    with torch.no_grad():
        layers = [model.hidden_states(batch, layer) for layer in (0, 1, 2)]
        assert torch.equal(layers[2], model.hidden_states(batch))
        assert not torch.equal(layers[0], layers[1])
        shorter = Model(ladder.load(e5, 1), CPU("float32"))
        assert torch.allclose(layers[1], shorter.hidden_states(batch), atol=1e-6)


def test_what_every_input_begins_with_makes_words_alike(e5, swahili):
    """Why the choice of what is pooled has to be said: nothing was trained here."""
    encoded = _pairs(swahili, ladder.tokenizer(e5), e5.prefix, 16)
    model = Model(ladder.load(e5, 1), CPU("float32"))
    of_all, of_words = lexical.word_vectors(model, encoded, 1)
    cosine = [(found[::2] * found[1::2]).sum(1).mean() for found in (of_all, of_words)]
    assert cosine[0] > cosine[1] + 0.02
    for found in (of_all, of_words):
        assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("pooling", ["all", "words"])
def test_the_loss_falls_and_pairs_come_together(e5, swahili, pooling):
    trained, _ = lexicon.apart(swahili)
    encoded = _pairs(trained.select(range(32)), ladder.tokenizer(e5), e5.prefix, 16)
    model = Model(ladder.load(e5, 2), CPU("float32"))

    def apart() -> float:
        """How much nearer a word is to its own English name than to the nearest other, at most once a name."""
        found = lexical.word_vectors(model, encoded, 1)[POOLINGS.index(pooling)]
        cosine, name = found[1::2] @ found[::2].T, encoded.targets["name"][::2]
        return float((cosine.diagonal() - np.where(name[:, None] == name, -1, cosine).max(1)).mean())

    before = apart()
    chosen = recipe(objective="lexical", word_layer=1, pooling=pooling, epochs=8, batch_size=16, learning_rate=2e-3)
    losses = loop.finetune(model, encoded, chosen, np.random.default_rng(2)).losses
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    assert apart() > before + 0.1

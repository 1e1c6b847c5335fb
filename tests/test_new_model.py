"""make new-model: the card of every kind of model that can be read, and what a folder lacks."""

import json
import shutil

import pytest
from conftest import FIXTURES

from xlscale.acquire import ensure, new_model
from xlscale.cards import catalogue
from xlscale.commands import check, new
from xlscale.core.files import XlscaleError
from xlscale.models import hf, ladder


@pytest.fixture
def models(monkeypatch):
    monkeypatch.syspath_prepend(FIXTURES)
    import models

    return models


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty manifest, and no lock."""
    (tmp_path / "manifest" / "models").mkdir(parents=True)
    for module in (catalogue, new_model):
        monkeypatch.setattr(module, "MANIFEST", tmp_path / "manifest")
    monkeypatch.setattr(catalogue, "LOCKS", tmp_path / "locks")
    catalogue.clear_caches()
    yield tmp_path
    catalogue.clear_caches()


KINDS = ["xlm-r", "mmbert", "eurobert", "qwen2.5", "llama-3.1", "gemma-3"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_of_a_folder_is_that_of_its_model(models, place, monkeypatch, kind):
    folder = models.layout(place, kind)
    said = new.model(str(folder), "name=mine_2; rungs=1 2; licence=MIT; origin=this test; trained_on=nothing")
    assert f"export XLSCALE_MINE={folder}" in said and "only you can say" not in said
    monkeypatch.setenv("XLSCALE_MINE", str(folder))
    card = catalogue.model_card("mine_2")
    ensure.fetch(card)
    catalogue.clear_caches()
    model = ladder.load(card := catalogue.model_card("mine_2"), 2)
    assert ladder.parameter_counts(model) == (card.parameters.trained, card.parameters.non_embedding)
    assert ladder.parameter_counts(hf.described(card, 1)) == ladder.parameter_counts(ladder.load(card, 1))
    assert (card.attention == "causal") == (card.end == card.separator == models.END)
    assert check.table([card])["verdict"].tolist() == ["agrees"]


def test_what_only_a_person_can_say_is_named_until_it_is_said(models, place, monkeypatch):
    monkeypatch.setenv("XLSCALE_XLMR", str(folder := models.layout(place, "xlm-r")))
    assert "licence, origin, trained_on: only you can say" in new.model(str(folder))
    ensure.fetch(catalogue.model_card("xlm_r"))
    catalogue.clear_caches()
    (verdict,) = check.table([catalogue.model_card("xlm_r")])["verdict"]
    assert verdict.startswith("data_manifest/models/xlm_r.yaml: licence, origin, trained_on: expected what only you")
    before = (place / "manifest" / "models" / "xlm_r.yaml").read_bytes()
    with pytest.raises(XlscaleError, match=r"xlm_r.yaml: expected nothing there"):
        new.model(str(folder), "licence=mine")
    with pytest.raises(XlscaleError, match="SET: variable: expected one that nothing else has"):
        new.model(str(folder), "name=xlm_r_2")
    for variable in ("XLSCALE_RESULTS", "XLSCALE_HUB"):
        with pytest.raises(XlscaleError, match=f"variable: expected one that nothing else .* got {variable}, which"):
            new.model(str(folder), f"name=xlm_r_2; variable={variable}")
    assert (place / "manifest" / "models" / "xlm_r.yaml").read_bytes() == before


def without(folder, name):
    (folder / name).unlink()


def changed(folder, name, **values):
    (path := folder / name).write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "stated", "expected"),
    [
        (
            lambda folder: shutil.rmtree(folder),
            "",
            "expected a folder with config.json, tokenizer.json and safetensors",
        ),
        (lambda folder: without(folder, "tokenizer.json"), "", "tokenizer.json"),
        (lambda folder: changed(folder, "config.json", num_hidden_layers="2"), "", "num_hidden_layers, a number"),
        (lambda folder: changed(folder, "config.json", num_hidden_layers=-1), "", "config.json: expected model_type"),
        (lambda folder: changed(folder, "config.json", hidden_size=96), "", "expected"),
        (
            lambda folder: changed(folder, "config.json", model_type="nobody"),
            "",
            "expected a model that transformers can",
        ),
        (lambda folder: (folder / "config.json").write_text("[]"), "", "model_type, a name"),
        (
            lambda folder: changed(folder, "tokenizer_config.json", eos_token=None),
            "",
            "end, separator: expected special",
        ),
        (lambda folder: None, "rungs=3", "SET: rungs: expected numbers from 1 to 2"),
        (lambda folder: None, "rungs=\N{ARABIC-INDIC DIGIT ONE}", "SET: rungs: expected numbers from 1 to 2"),
        (lambda folder: None, "rungs=x", "SET: rungs: expected numbers from 1 to 2"),
        (lambda folder: None, "layers=2", "SET: expected some of name, title, rungs"),
        (lambda folder: None, "name=Mine", "SET: name: expected a letter, then"),
        (lambda folder: None, "variable=HOME", "variable"),
    ],
)
def test_a_folder_that_is_no_model_gets_a_line_and_no_card(models, place, spoil, stated, expected):
    spoil(folder := models.layout(place, "qwen2.5"))
    with pytest.raises(XlscaleError) as raised:
        new.model(str(folder), stated)
    assert expected in str(raised.value) and "\n" not in str(raised.value)
    assert not [*(place / "manifest").rglob("*.yaml")]

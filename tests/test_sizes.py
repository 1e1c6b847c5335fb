"""The cards' numbers of parameters, by the library's own classes with the cards' architectures, on the meta device."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMaskedLM

from xlscale.cards import catalogue
from xlscale.cards.architecture import Parameters
from xlscale.models import hf, ladder

# The class that a published total is of; of XLM-R the encoder with its pooler, of mmBERT the encoder alone.
WHOLE = {
    "qwen2": AutoModelForCausalLM,
    "llama": AutoModelForCausalLM,
    "gemma3_text": AutoModelForCausalLM,
    "gemma3": AutoModelForImageTextToText,
    "eurobert": AutoModelForMaskedLM,
}
CARDS = {name: card for name in catalogue.names("models") if (card := catalogue.model_card(name)).architecture}
LADDERS = {
    "xlm_r": ["base", "large", "xl", "xxl"],
    "qwen25": ["0_5b", "1_5b", "3b", "7b", "14b", "32b", "72b"],
    "llama31": ["8b", "70b"],
    "gemma3": ["1b", "4b", "12b", "27b"],
    "mmbert": ["small", "base"],
    "eurobert": ["210m", "610m", "2_1b"],
}


def test_every_ladder_has_its_cards_from_small_to_large():
    found = [[f"{family}_{size}" for size in sizes] for family, sizes in LADDERS.items()]
    assert sorted(CARDS) == sorted(name for names in found for name in names)
    for names in found:
        sizes = [CARDS[name].parameters.non_embedding for name in names]
        assert sizes == sorted(sizes)
    causal = {name for name, card in CARDS.items() if card.attention == "causal"}
    assert causal == {name for name in CARDS if name.startswith(("qwen", "llama", "gemma"))}


@pytest.mark.parametrize("name", CARDS)
def test_the_numbers_of_parameters_are_those_of_the_architecture(name):
    card = CARDS[name]
    stated = card.architecture
    with torch.device("meta"):
        kind = WHOLE.get(stated.model_type, AutoModel)
        whole = kind.from_config(AutoConfig.for_model(stated.model_type, **stated.config))
    assert card.parameters.agrees(sum(parameter.numel() for parameter in whole.parameters()))
    rung = hf.described(card, max(card.rungs))  # whose attention has to be the card's
    assert ladder.parameter_counts(rung) == (card.parameters.trained, card.parameters.non_embedding)
    assert card.rungs == [len(list(getattr(rung, "layers", None) or rung.encoder.layer))]


MILLIONS = {"gemma3_1b": 698, "gemma3_4b": 3209, "gemma3_12b": 10759, "gemma3_27b": 25600}  # of its report
MILLIONS |= {"mmbert_base": 110, "mmbert_small": 42}  # of its card


@pytest.mark.parametrize("name", MILLIONS)
def test_non_embedding_parameters_are_those_of_the_authors_tables(name):
    assert round(CARDS[name].parameters.non_embedding / 1e6) == MILLIONS[name]


DIGITS = [(310, 310, True), (310, 311, False), ("3.5B", 3_482_485_760, True), ("3.5B", 3_560_000_000, False)]


@pytest.mark.parametrize(("published", "counted", "agrees"), [*DIGITS, ("140M", 140_493_696, True)])
def test_a_published_number_counts_with_its_digits(published, counted, agrees):
    assert Parameters(published=published, read="x", trained=1, non_embedding=1).agrees(counted) == agrees

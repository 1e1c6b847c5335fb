"""What things are called in the paper: data sets, metrics, conditions, rungs, and the direction of an effect."""

from __future__ import annotations

import pandas as pd

from xlscale.cards import catalogue
from xlscale.cards.schema import DataCard, ModelCard
from xlscale.core.format import listing, slug
from xlscale.experiment.conditions import NONE, SHUFFLED

METRICS = {
    "accuracy": "accuracy",
    "p_at_1": "precision at 1",
    "f1": "F1",
    "span_f1": "span F1",
    "token_accuracy": "token accuracy",
    "mining_f1": "F1 of pairs",
    "map_at_20": "mAP@20",
}
POINTS = "percentage points"
# Arms of studies that are called after a method, as the field writes it.
ARMS = {"lora": "LoRA", "masked_lm": "masked LM", "translation_lm": "translation LM", "cotraining": "MLM co-training"}
# Marks an intermediate set beside a target whose own data it contains: no primary test.
OVERLAPS = ", contains data of this target"
DIRECTIONS = ("increased", "decreased", "no detectable change", "not estimable")


def title(name: str) -> str:
    """The title on a card, or the name where there is no card."""
    card = _card(name)
    return card.title if card else name


def metric(name: str) -> str:
    """The primary metric on a data card in words, "value" where there is no card."""
    card = _card(name)
    return METRICS[card.primary_metric] if isinstance(card, DataCard) else "value"


def _card(name: str) -> DataCard | ModelCard | None:
    kinds = ("data", catalogue.SOURCES, catalogue.MIXTURES, "models")
    kind = next((kind for kind in kinds if name in catalogue.names(kind)), None)
    if kind is None:
        return None
    return catalogue.model_card(name) if kind == "models" else catalogue.data_card(name)


def label(condition: str, overlaps: bool = False) -> str:
    """A condition for a legend: the data set's title, its type where it has one, what is not plain about the training,
    whether labels were shuffled, and OVERLAPS if so."""
    name, *parts = condition.split(", ")
    kind = getattr(_card(name), "type", None)
    kind = f" ({kind})" if kind in ("general", "domain") else ""
    shown = "no intermediate training" if name == NONE else title(name) + kind
    called = [shown, *(ARMS.get(part, part.replace("_", " ")) for part in parts)]
    return ", ".join(called) + (OVERLAPS if overlaps else "")


def key(condition: str) -> str:
    """A condition as a part of a key: "squad_wiki, shuffled labels" is "squad_wiki_shuffled"."""
    return slug(condition.replace(SHUFFLED, " shuffled"))


def family(name: str) -> str:
    """A task family in words."""
    return "question answering" if name == "span_qa" else name.replace("_", " ")


def layers(*counts: int) -> str:
    """Rungs with their noun: "1 layer", "1, 2 and 4 layers"."""
    return f"{listing(counts)} layer{'' if counts == (1,) else 's'}"


def direction(low: float, high: float, words: tuple[str, str, str, str] = DIRECTIONS) -> str:
    """What an interval says about the sign of an effect.

    ``words`` are those for an interval above zero, below zero, around zero, and for no interval.
    """
    up, down, neither, unknown = words
    if pd.isna(low):
        return unknown
    return up if low > 0 else down if high < 0 else neither

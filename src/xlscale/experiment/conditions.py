"""What cells are compared by: their condition, as a label.

Belongs here: how conditions are called and which is the baseline of which. A record knows cells, not studies: there a
label follows from parameters alone, and says whatever is not plain training. In a study, what is plain is what it
states, and what differs is an arm and called by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from xlscale.cards.schema import NONE
from xlscale.experiment import recipe

Role = Literal["intermediate", "target"]  # of a data set that is trained on
PREFIX: dict[Role, str] = {"intermediate": "intermediate_", "target": ""}  # of the flat fields of its recipe
SHUFFLED = ", shuffled labels"  # what a placebo's condition ends in
OF_TARGET = " target training"  # what ends a part of a condition that is about target training


def condition(parameters: Mapping[str, Any]) -> str:
    """What a cell's parameters are compared by, as a label: 'none' or '<set>', what is not plain about the intermediate
    training and then about the target training, and whether labels were shuffled: 'none, adversarial target training',
    'lexicon, lexical with word_layer 4, lora, shuffled labels'. Cells of one label differ in rates, sizes and seeds."""
    parts = [parameters.get("intermediate", NONE), *recipe.said(parameters, PREFIX["intermediate"])]
    parts += [part + OF_TARGET for part in recipe.said(parameters, PREFIX["target"])]
    return ", ".join(parts) + (SHUFFLED if parameters.get("placebo") else "")


def named(name: str, arm: str | None, placebo: bool) -> str:
    """A condition as a study calls it: 'none', '<set>' or '<set>, <arm>', and whether labels were shuffled."""
    return ", ".join([name, *([arm] if arm else [])]) + (SHUFFLED if placebo else "")


def plain(label: str) -> bool:
    """Whether a condition is none, or a set, and all training is plain."""
    return ", " not in label


def untreated(label: str, known: Collection[str] = ()) -> str | None:
    """The condition that the gain of another one is over: the same target training without intermediate training, or,
    where there is none before it, plain target training; None for that.

    ``known``: the conditions of a study, where an arm that has other target training has it without intermediate
    training too.
    """
    first, *parts = label.removesuffix(SHUFFLED).split(", ")
    if first == NONE:
        return NONE if parts else None
    if (same := ", ".join([NONE, *parts])) in known:
        return same
    return ", ".join([NONE, *(part for part in parts if part.endswith(OF_TARGET))])

"""Mixtures: several intermediate sets that are trained on as one, with a card of their own and no file.

What is trained on, and so the identity of a cell, are the sets; the card says which they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Annotated

from pydantic import Field

from xlscale.cards.schema import DataCard, SetName
from xlscale.core.files import XlscaleError, digest
from xlscale.core.lines import Title
from xlscale.core.strict import Distinct, Name, Strict, Text


class Mixture(Strict):
    """A file of ``mixtures/``."""

    name: SetName
    title: Title
    sets: Annotated[list[Name], Field(min_length=1), Distinct]
    description: Text


def card(mixture: Mixture, cards: Sequence[DataCard], where: str) -> DataCard:
    """The card of a mixture of ``cards``: what it has of them is their sum, their mean or what all have in common.

    Raises XlscaleError naming ``where`` for a set that is no intermediate set.
    """
    if odd := [one for one in cards if one.role != "intermediate"]:
        raise XlscaleError(f"{where}: sets: expected intermediate sets, got {odd[0].name!r} of role {odd[0].role}")
    types = {one.type for one in cards}
    # Not checked by the schema, which is that of a set with a file.
    return DataCard.model_construct(
        name=mixture.name,
        title=mixture.title,
        version=1,
        role="intermediate",
        family="mixture",
        type=types.pop() if len(types) == 1 else "mixed",
        metric="accuracy",
        chance=fmean(one.chance for one in cards),
        languages=[],
        splits=_sums(cards),
        sha256=digest([[one.name, one.sha256] for one in cards]),
        sets=mixture.sets,
        overlaps_targets=sorted({target for one in cards for target in one.overlaps_targets}),
        licence="; ".join(dict.fromkeys(one.licence for one in cards)),
        citation="; ".join(dict.fromkeys(one.citation for one in cards)),
        description=mixture.description,
        limits="Those of its sets.",
    )


def _sums(cards: Sequence[DataCard]) -> dict[str, dict[str, int | None]]:
    """Rows per split and language of all sets together; None where one of them does not know."""
    found: dict[str, dict[str, int | None]] = {}
    for split, languages in ((split, one.splits[split]) for one in cards for split in one.splits):
        sums = found.setdefault(split, {})
        for language, rows in languages.items():
            before = sums.get(language, 0)
            sums[language] = None if None in (before, rows) else before + rows
    return found

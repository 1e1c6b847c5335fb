"""Variants: the card of a data set that is another one with less, or other, training or test data.

A variant never goes by its original's name, so that its scores are never taken for the original's. Its file in
``sources/`` names the original and states what differs; the rest is the original's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from xlscale.cards.languages import Language, Languages
from xlscale.cards.schema import DataCard
from xlscale.cards.sources import Reference, Repository, Rows, Split, SplitSource
from xlscale.core.lines import Line, Title
from xlscale.core.strict import Distinct, Name, Strict, Text, parse


class Source(Strict):
    """What a variant adds to its original's source. Parts stand in place of the original's of the same split."""

    origins: dict[Name, Repository] = {}
    parts: list[SplitSource] = []


class Variant(Strict):
    """A file of ``sources/`` with ``variant_of``. ``splits`` says which splits and languages there are."""

    name: Name
    variant_of: Name
    title: Title
    differs: Text  # from the original, in a sentence or two, for whoever compares scores
    version: Rows = 1
    languages: Languages
    splits: dict[Split, dict[Language, Rows | None]]
    stages: Annotated[list[Name], Distinct] | None = None  # None: the original's
    recipe: Reference | None = None  # likewise
    licence: Line | None = None  # likewise
    source: Source = Field(default_factory=Source)


def card(variant: Variant, original: DataCard, where: str) -> DataCard:
    """The card of a variant of ``original``. Raises XlscaleError naming ``where`` and the field where it is none."""
    stated = variant.model_dump(exclude={"source"}, exclude_none=True)
    values = original.model_dump() | {"benchmarks": [], "cost": None} | stated
    if "train" not in variant.splits:
        values |= {"recipe": None, "stages": []}
    parts = [part.model_dump() for part in _parts(variant, original)]
    origins = {name: origin.model_dump() for name, origin in (original.source.origins | variant.source.origins).items()}
    places = [place for part in parts for place in part["places"]]
    used = {place[field] for place in places for field in ("origin", "labels_origin")}
    values["source"] |= {"origins": {name: origins[name] for name in origins if name in used}, "parts": parts}
    return parse(DataCard, values, where)


def _parts(variant: Variant, original: DataCard) -> Iterator[SplitSource]:
    """The original's parts of the variant's splits, cut to its languages, then the variant's own."""
    own = {part.split for part in variant.source.parts}
    for part in original.source.parts:
        if part.split in variant.splits and part.split not in own:
            wanted = {*variant.splits[part.split], *variant.languages}
            kept: Any = {code: name for code, name in part.named().items() if code in wanted}
            if kept:
                yield part.model_copy(update={"languages": kept})
    yield from variant.source.parts

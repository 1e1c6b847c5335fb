"""What text to train on without labels, and lexicons, keep away from: all that tasks test, or tune on, by the bundled
files. (The labelled intermediate sets have rules of their own, see ``intermediate``.)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from xlscale.cards import catalogue
from xlscale.data import load


class Held(NamedTuple):
    """What a split keeps away from: names of items, groups and pages, and texts."""

    names: frozenset[str]
    texts: tuple[str, ...]


def held(split: str, roles: Iterable[str] = ("target", "intermediate")) -> Held:
    """What ``split`` (train or dev) keeps away from, in the files of all sets of these ``roles`` that are bundled.

    Train keeps away from what is tested or tuned on, dev from what is tested or trained on: the same items, groups and
    pages, in whatever language, and near-duplicates of the texts, of their English originals, of questions and choices.
    """
    names, texts = set(), set()
    for card in map(catalogue.data_card, catalogue.names("data")):
        if card.role not in roles or not card.bundled:
            continue
        rows = load.table(card).to_pandas()
        rows = rows[rows["split"] != split]
        names |= {*rows["item"], *rows["group"], *map(page, rows["item"])}
        for column in (load.TEXT[card.family], "original", "question"):
            texts |= set(rows[column].dropna()) if column in rows else set()
        texts |= {choice for choices in rows.get("choices", ()) for choice in choices}
    return Held(frozenset(names), tuple(sorted(texts)))


def page(name: str) -> str:
    """The page of an item that is named "page#place"; the name itself where there is no page."""
    return name.partition("#")[0] or name

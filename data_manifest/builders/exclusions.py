"""What a split keeps away from, and how what is too near to it is left out.

Two rules say what that is. Text to train on without labels, and lexicons, keep away from all that tasks test, or tune
on: ``from_all_tasks``, here. The labelled sets keep away from the sets before them: ``intermediate.from_earlier_sets``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, TypeVar

from xlscale.cards import catalogue
from xlscale.data import load
from xlscale.data.schema import TEXT
from xlscale.data.similarity import NEAR, nearest

Item = TypeVar("Item")


class Exclusions(NamedTuple):
    """What a split keeps away from: names (of groups, and of items and pages where a builder compares those), texts,
    and choices that are too short to be compared by runs of words (see ``contamination``)."""

    names: frozenset[str]
    texts: frozenset[str]
    short: frozenset[str] = frozenset()


def drop_near_duplicates(
    items: Iterable[Item], texts_of: Callable[[Item], Iterable[str]], excluded: Collection[str]
) -> list[Item]:
    """The ``items``, in their order, none of whose texts is a near-duplicate of an excluded one (``similarity``)."""
    items = list(items)
    texts = [(index, text) for index, item in enumerate(items) for text in texts_of(item)]
    near = nearest([text for _, text in texts], sorted(excluded))
    close = {index for (index, _), share in zip(texts, near, strict=True) if share >= NEAR}
    return [item for index, item in enumerate(items) if index not in close]


def first_of_each(items: Iterable[Item], key: Callable[[Item], str]) -> list[Item]:
    """The ``items``, in their order, without those whose key an earlier one has."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(key(item), item)
    return list(first.values())


def from_all_tasks(split: str, roles: Sequence[str] = ("target", "intermediate")) -> Exclusions:
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
        names |= {*rows["item"], *rows["group"], *map(page_of, rows["item"])}
        for column in (TEXT[card.family], "original", "question"):
            texts |= set(rows[column].dropna()) if column in rows else set()
        texts |= {choice for choices in rows.get("choices", ()) for choice in choices}
    return Exclusions(frozenset(names), frozenset(texts))


def page_of(name: str) -> str:
    """The page of an item that is named "page#paragraph"; the name itself where there is no page."""
    return name.partition("#")[0] or name

"""What the English intermediate sets have in common: their size, how they are split, and what they keep away from.

Dev is dealt first; what shares its origin, or is a near-duplicate of one of its texts, is not trained on. Every set
keeps away from the sets before it in ``ORDER``, by their bundled files, and none is built from a set after it. Target
tasks come first, so they never depend on intermediate data.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from data_manifest.builders.exclusions import Exclusions, drop_near_duplicates
from xlscale.cards import catalogue
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data import contamination, load
from xlscale.data.schema import TEXT, Row, shuffled
from xlscale.data.similarity import NEAR, containment, normal

# What was there before, or is a target task, and then the sets that are built to go with all before them.
ORDER = (
    "squad_amazon",
    "squad_wiki",
    "topic",
    "udhr",
    "symbol_group",
    "interface_tags",
    "help_retrieval",
    "summary_choice",
    "squad_v1",
    "squad_nyt",
    "squad_reddit",
    "wordnet_class",
    "vitaminc",
    "social_iqa",
    "wikihow",
    "package_role",
    "help_module",
    "help_next",
    "review_next",
    "medical_reviews",  # the last: it is not bundled, and no other set may need it in order to be built
)
FIRST = ORDER.index("squad_v1")  # of those that keep away from what is before them
ROWS = {"dev": 300, "train": 2000}  # in the order in which they are dealt
AT_MOST = 4  # dev items of one group, so that dev does not come from few origins


class Item(NamedTuple):
    """An item that is not yet in a split: its name, what it comes from, its text, and its family's other columns."""

    name: str
    group: str
    text: str
    fields: dict[str, Any]


def from_earlier_sets(card: DataCard, split: str, also: Sequence[str] = ()) -> Exclusions:
    """What ``split`` (train or dev) of a set must keep away from, in the bundled files of the sets before it.

    Train keeps away from what is tested or tuned on, dev from what is tested or trained on. A target task that is made
    from one of the same packages is avoided whole, groups included: to repeat its training text would be a second dose
    of it. ``also`` names further sets to be avoided whole.
    """
    mine = {(package.client, package.name) for package in card.packages}
    groups, texts, choices = set(), set(), set()
    for other in map(catalogue.data_card, _before(card.name)):
        shared = mine & {(package.client, package.name) for package in other.packages}
        whole = other.name in also or (other.role == "target" and bool(shared))
        rows = load.table(other).to_pandas()
        rows = rows if whole else rows[rows["split"] != split]
        groups |= set(rows["group"]) if whole else set()
        texts |= set(rows[TEXT[other.family]]) | set(rows["original"].dropna() if "original" in rows else ())
        choices |= {choice for of_row in rows.get("choices", ()) for choice in of_row}
    return _exclusions(groups, texts, choices)


def _before(name: str) -> tuple[str, ...]:
    """The sets that a set keeps away from; none for the first ones, and for one that is not in ``ORDER``."""
    index = ORDER.index(name) if name in ORDER else 0
    return ORDER[:index] if index >= FIRST else ()


def drop_excluded(items: Sequence[Item], excluded: Exclusions) -> list[Item]:
    """The ``items`` that are of no excluded group, repeat nothing that is excluded, and are no near-duplicates of it.

    What an item says is its text and its choices; as in ``contamination``, a short choice is compared by equality only,
    and two short choices may be equal.
    """
    texts, short = set(map(normal, excluded.texts)), set(map(normal, excluded.short))
    left = [
        item
        for item in items
        if item.group not in excluded.names
        and normal(item.text) not in short
        and texts.isdisjoint(map(normal, _said(item)))
    ]
    return drop_near_duplicates(left, lambda item: [item.text, *_long(_choices(item))], excluded.texts)


def split(
    card: DataCard,
    items: Iterable[Item],
    seed: str,
    finish: Callable[[list[Item]], list[Item]] | None = None,
    rows: Mapping[str, int] = ROWS,
    also: Sequence[str] = (),
    scarce: bool = False,
) -> list[Row]:
    """Rows of dev and train, ``rows[split]`` each, with as even a share of every label as the items allow.

    No two of the rows have the same text; no group and no near-duplicate is in both splits. Dev takes ``AT_MOST`` items
    of a group, of whatever group, or, where items are ``scarce``, of those that cost train the fewest items. ``finish``
    gives the items of one split the columns that they get from each other; ``also`` is that of ``from_earlier_sets``.
    Raises XlscaleError when there are too few items.
    """
    items = {normal(" ".join(_said(item))): item for item in shuffled(items, seed, key=lambda item: item.name)}
    left, chosen = list(items.values()), []
    for name, size in rows.items():
        free = drop_excluded(left, from_earlier_sets(card, name, also))
        part = _even(_few_of_each(free, scarce) if name == "dev" else free, size)
        if len(part) < size:
            raise XlscaleError(f"{card.name}: {name}: expected {size} rows, got {len(part)}")
        left = drop_excluded(left, _exclusions_of(part))
        chosen += [_row(name, item) for item in (finish(part) if finish else part)]
    return chosen


def multiple_choice(correct: str, distractors: Sequence[str], key: str) -> dict[str, Any]:
    """Columns ``choices`` and ``answer`` of a multiple-choice row; ``key`` alone decides on the order."""
    choices = shuffled([correct, *distractors], key)
    return {"choices": choices, "answer": choices.index(correct)}


def _choices(item: Item) -> Sequence[str]:
    return item.fields.get("choices", ())


def _said(item: Item) -> list[str]:
    """What an item says: its text, and its choices."""
    return [item.text, *_choices(item)]


def _long(choices: Iterable[str]) -> list[str]:
    """The choices that are long enough to be compared by runs of words."""
    return [choice for choice in choices if len(normal(choice).split()) >= contamination.SHORT]


def _exclusions_of(items: Sequence[Item]) -> Exclusions:
    choices = {choice for item in items for choice in _choices(item)}
    return _exclusions({item.group for item in items}, {item.text for item in items}, choices)


def _exclusions(groups: Set[str], texts: Set[str], choices: Set[str]) -> Exclusions:
    """Long choices are compared as texts are, short ones by themselves."""
    long = set(_long(choices))
    return Exclusions(frozenset(groups), frozenset(texts | long), frozenset(choices - long))


def _few_of_each(items: Sequence[Item], scarce: bool) -> list[Item]:
    """The first ``AT_MOST`` items of every group, one group after the other."""
    groups = defaultdict(list)
    for index, item in enumerate(items):
        groups[item.group].append(index)
    order = list(groups.values())
    if scarce:
        texts = [item.text for item in items]
        near = containment(texts, texts) >= NEAR
        # What train loses with a group, by what dev gains: the group itself and all that resembles it.
        order.sort(key=lambda group: len({*group, *near[group].indices}) / min(AT_MOST, len(group)))
    return [items[index] for group in order for index in group[:AT_MOST]]


def _even(items: Iterable[Item], size: int) -> list[Item]:
    """The first ``size`` items, as even over their labels as they allow; in the order given."""
    items, turns = list(items), Counter()
    ranked = []
    for index, item in enumerate(items):
        label = item.fields.get("label", item.fields.get("answer"))
        ranked.append((turns[label], index))
        turns[label] += 1
    return [items[index] for index in sorted(index for _, index in sorted(ranked)[:size])]


def _row(name: str, item: Item) -> Row:
    return {"split": name, "language": "en", "item": item.name, "group": item.group, "text": item.text} | item.fields

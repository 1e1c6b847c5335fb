"""Medical reviews from MultiEmo in BIG-bench's source package: sentences with a sentiment, and ten translations.

Two cards are made of one choice of sentences: ``medical_reviews`` has their English, ``medical_reviews_translated`` all
eleven languages. A sentence is taken in all languages or in none, and an item has the same name in all of them. Its
group is the review that it comes from, found by its Polish words, so no review is on both sides of the split.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any, NamedTuple

from data_manifest.builders import bigbench
from data_manifest.builders.exclusions import Exclusions, drop_near_duplicates
from data_manifest.builders.intermediate import AT_MOST, ROWS, from_earlier_sets
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.schema import Row, shuffled
from xlscale.data.similarity import normal

SEED = "medical_reviews 1"
LANGUAGES = ("de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "zh")
ORIGINAL = "pl"  # what the others were translated from
KEPT = {"medical_reviews": ("en",), "medical_reviews_translated": LANGUAGES}
SHORTEST, LONGEST = 60, 240  # characters of the English sentence; 240 keep every language within 96 tokens or nearly
SENTENCES = 800  # of a sentiment, sampled before the costly search for near-duplicates
# Characters that a language is told by; the others share the Latin script.
SCRIPTS = {"ja": r"[\u3040-\u30ff]", "ru": r"[\u0400-\u04ff]", "zh": r"[\u4e00-\u9fff]"}


class Sentence(NamedTuple):
    """A sentence in all languages: its name, the review that it comes from, its sentiment, language -> text."""

    name: str
    group: str
    label: str
    texts: dict[str, str]


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the set that ``card`` names; raises XlscaleError when there are too few, or for a wrong canary string."""
    sentences = {f"multiemo/medicine_sentence_{language}/task.json": language for language in LANGUAGES}
    reviews = f"multiemo/medicine_text_{ORIGINAL}/task.json"
    found = bigbench.read_all(files[0], [*sentences, reviews], card)
    by_language = {language: found[member]["examples"] for member, language in sentences.items()}
    items = sample(aligned(by_language), Reviews(example["input"] for example in found[reviews]["examples"]))
    # Both cards keep away from the same texts, else they would not hold the same sentences.
    first = card.model_copy(update={"name": "medical_reviews"})
    excluded = {split: from_earlier_sets(first, split) for split in ROWS}
    return [
        {
            "split": split,
            "language": language,
            "item": item.name,
            "group": item.group,
            "text": item.texts[language],
            "label": item.label,
        }
        for split, part in deal(items, excluded, ROWS).items()
        for language in KEPT[card.name]
        for item in part
    ]


class Reviews:
    """The reviews, searched for a sentence by letters and digits alone: the sentences are spaced differently."""

    def __init__(self, texts: Iterable[str]):
        said = [_bare(text) for text in texts]
        self._starts = [0, *accumulate(len(text) + 1 for text in said)]
        self._all = "\n".join(said)

    def of(self, sentence: str) -> int | None:
        """The number of the only review with this sentence; None where none or several have it."""
        bare = _bare(sentence)
        first, last = self._all.find(bare), self._all.rfind(bare)
        numbers = {bisect(self._starts, position) - 1 for position in (first, last)}
        return numbers.pop() if bare and first >= 0 and len(numbers) == 1 else None


def _bare(text: str) -> str:
    return re.sub(r"\W+", "", text)


def aligned(examples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Sentence]:
    """The sentences that all languages have, of a fitting length, each once, and not yet with a group.

    The files of the languages have the same order up to where their labels first differ: the Portuguese one lacks
    1,273 sentences at its end.
    """
    seen: dict[str, set[str]] = {language: set() for language in examples}
    labels = (tuple(map(_label, rows)) for rows in zip(*examples.values(), strict=False))
    whole = takewhile(lambda of_row: len(set(of_row)) == 1, labels)
    for number, (label, *_) in enumerate(whole):
        texts = {language: " ".join(rows[number]["input"].split()) for language, rows in examples.items()}
        if not SHORTEST <= len(texts["en"]) <= LONGEST or not _translated(texts):
            continue
        said = {language: normal(text) for language, text in texts.items()}
        if any(said[language] in seen[language] for language in said):
            continue
        for language in said:
            seen[language].add(said[language])
        yield Sentence(f"medicine_sentence/{number}", "", label, texts)


def _label(example: Mapping[str, Any]) -> str:
    return next(choice for choice, score in example["target_scores"].items() if score)


def _translated(texts: Mapping[str, str]) -> bool:
    """Whether no language lacks the text, repeats another one's, or is written in the wrong script."""
    told = set(map(normal, texts.values()))
    scripts = all(bool(re.search(SCRIPTS[language], texts[language])) for language in SCRIPTS)
    return "" not in told and len(told) == len(texts) and scripts and not re.search(SCRIPTS["ja"], texts["zh"])


def sample(found: Iterable[Sentence], reviews: Reviews) -> list[Sentence]:
    """At most SENTENCES of every sentiment, those of one known review, in an order that SEED and their names decide."""
    by_label: dict[str, list[Sentence]] = {}
    for item in shuffled(found, SEED, key=lambda item: item.name):
        by_label.setdefault(item.label, []).append(item)
    chosen = [item for of_label in by_label.values() for item in of_label[:SENTENCES]]
    numbers = [reviews.of(item.texts[ORIGINAL]) for item in chosen]
    known = [
        item._replace(group=f"medicine_text/{number}")
        for item, number in zip(chosen, numbers, strict=True)
        if number is not None
    ]
    return shuffled(known, SEED, key=lambda item: item.name)


def deal(
    items: Sequence[Sentence], excluded: Mapping[str, Exclusions], rows: Mapping[str, int]
) -> dict[str, list[Sentence]]:
    """Split -> sentences, as many of every sentiment; ``excluded`` is what each split keeps away from.

    Dev is dealt first and takes at most AT_MOST sentences of a review; train keeps away, in every language, from its
    reviews and from near-duplicates of its sentences. Raises XlscaleError when there are too few.
    """
    labels = sorted({item.label for item in items})
    left, dealt = list(items), {}
    for split, size in rows.items():
        free, part, taken = drop_excluded(left, excluded[split]), [], {}
        most = AT_MOST if split == "dev" else size
        for item in free:
            of_label, of_group = (item.label, None), (None, item.group)
            if taken.get(of_label, 0) < size // len(labels) and taken.get(of_group, 0) < most:
                taken[of_label], taken[of_group] = taken.get(of_label, 0) + 1, taken.get(of_group, 0) + 1
                part.append(item)
        if len(part) < size:
            raise XlscaleError(f"medical_reviews: {split}: expected {size} rows of a language, got {len(part)}")
        texts = frozenset(text for item in part for text in item.texts.values())
        left = drop_excluded(left, Exclusions(frozenset(item.group for item in part), texts))
        dealt[split] = part
    return dealt


def drop_excluded(items: Sequence[Sentence], excluded: Exclusions) -> list[Sentence]:
    """The ``items`` that are of no excluded group and in no language an excluded text, or nearly one."""
    equal = set(map(normal, excluded.texts | excluded.short))
    left = [
        item
        for item in items
        if item.group not in excluded.names and equal.isdisjoint(map(normal, item.texts.values()))
    ]
    return drop_near_duplicates(left, lambda item: item.texts.values(), excluded.texts)

"""What comes next: which of four passages continues a text. Reviews, sentence by sentence.

The distractors are the correct passages of other texts of the same split. Each is a distractor three times and correct
once, so that a passage alone tells nothing. ``help_pages`` makes a set by the same rules.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_manifest.builders.bigbench import read
from data_manifest.builders.exclusions import first_of_each
from data_manifest.builders.intermediate import Item, split
from data_manifest.builders.squadshifts import MEMBERS
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data import overlap
from xlscale.data.schema import Row, shuffled
from xlscale.data.similarity import normal

SEED = "next_passage 1"
DISTRACTORS = 3
# Of these by likeness. With none, the choice that shares most words with the text is right 4 times in 10; with one or
# more, less often than by chance, as two sentences that follow each other share few words.
ALIKE = 0
# The set of questions that is made of the same reviews. Whatever it uses is left alone.
QUESTIONS = "squad_amazon"
SENTENCE = (20, 160)  # characters
GIVEN = 1  # sentences of the text
# The end of a sentence, also where a line break was lost ("... at all.As for the ...").
_END = re.compile(r"([.!?][\"')]*)\s+(?=[\"'(]*[A-Z])|(?<=[a-z])([.!?])(?=[A-Z][a-z ])")


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the set of reviews; group = reviews that the source grouped. Raises XlscaleError as ``split`` does."""
    data = read(files[0], f"squad_shifts/{MEMBERS[QUESTIONS]}", card)["data"]
    items = [item for article in data for item in _items(article)]
    return split(
        card, once(items), SEED, finish=lambda items: with_distractors(items, ALIKE), also=[QUESTIONS], scarce=True
    )


def continued(name: str, group: str, text: str, following: str) -> Item:
    """An item of which only the correct passage is known yet."""
    return Item(name, group, text, {"choices": [following], "answer": 0})


def once(items: Iterable[Item]) -> list[Item]:
    """The items without those whose correct passage is that of an earlier one."""
    return first_of_each(items, lambda item: normal(item.fields["choices"][0]))


def with_distractors(items: Sequence[Item], alike: int) -> list[Item]:
    """The items with distractors from each other, and as many correct passages at every index.

    ``alike`` of an item's distractors are those that share most with its text, the others are any; all are such that
    are not yet a distractor DISTRACTORS times, and the last items get what is left. Raises XlscaleError when items of
    too few groups are given.
    """
    items = shuffled(items, SEED, key=lambda item: item.name)
    passages = [item.fields["choices"][0] for item in items]
    likeness = overlap.shared([overlap.runs(item.text) for item in items], [overlap.runs(p) for p in passages])
    used: Counter[int] = Counter()
    done = []
    for i, (item, row) in enumerate(zip(items, likeness.toarray(), strict=True)):
        others = [*range(i + 1, len(items)), *range(i)]
        chosen = _distractors(items, [i], np.argsort(-row, kind="stable").tolist(), alike, used)
        chosen = _distractors(items, [i, *chosen], others, DISTRACTORS, used)
        used.update(chosen)
        answer = i % (DISTRACTORS + 1)
        choices = [passages[j] for j in shuffled(chosen, f"{SEED} {item.name}")]
        choices.insert(answer, passages[i])
        done.append(item._replace(fields={"choices": choices, "answer": answer}))
    return done


def _distractors(
    items: Sequence[Item], known: Sequence[int], ranked: Sequence[int], size: int, used: Mapping[int, int]
) -> list[int]:
    """Indices of ``size`` distractors: those known, but for the correct one that comes first, and then the first of
    ``ranked`` that are of different groups, fresh ones before those that are used up."""
    groups, chosen = {items[j].group for j in known}, list(known[1:])
    for fresh in (True, False):
        for j in ranked:
            if len(chosen) == size:
                return chosen
            if (used[j] < DISTRACTORS) == fresh and items[j].group not in groups:
                groups.add(items[j].group)
                chosen.append(j)
    if len(chosen) < size:
        raise XlscaleError(f"group: expected items of more than {size} groups, got {len(groups)}")
    return chosen


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, by their punctuation."""
    return _END.sub(lambda match: f"{match[0].rstrip()}\n", " ".join(text.split())).split("\n")


def runs(passages: Sequence[str], given: int, fits: Callable[[Sequence[str]], bool]) -> Iterator[int]:
    """Where runs of ``given`` passages and the next one begin, for those that fit and do not overlap."""
    start = 0
    while start + given < len(passages):
        if fits(passages[start : start + given + 1]):
            yield start
            start += given
        start += 1


def _items(article: dict[str, Any]) -> Iterator[Item]:
    """Runs of sentences in the reviews of an article: those of the text, and the next one."""
    for number, paragraph in enumerate(article["paragraphs"]):
        sentences = sentences_of(paragraph["context"])
        for start in runs(sentences, GIVEN, lambda run: all(SENTENCE[0] <= len(s) <= SENTENCE[1] for s in run)):
            name, text = f"{article['title']}/{number}/{start}", " ".join(sentences[start : start + GIVEN])
            yield continued(name, article["title"], text, sentences[start + GIVEN])

"""What comes next: which of four passages continues a text. Reviews, sentence by sentence.

The wrong passages are the right ones of other texts of the same split, and each stands three times for a wrong one and
once for the right one, so that a passage alone tells nothing. ``help_next`` makes its set with the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xlscale.cards import DataCard
from xlscale.data.bigbench import read
from xlscale.data.bundles import Row, shuffled
from xlscale.data.intermediate import Item, split
from xlscale.data.similarity import normal
from xlscale.data.squadshifts import MEMBERS
from xlscale.files import XlscaleError

SEED = "next_passage 1"
WRONG = 3
# The set of questions that is made of the same reviews. Whatever it uses is left alone.
QUESTIONS = "squad_amazon"
SENTENCE = (20, 200)  # characters
GIVEN = 1  # sentences that are told
# The end of a sentence, also where a line break was lost ("... at all.As for the ...").
_END = re.compile(r"([.!?][\"')]*)\s+(?=[\"'(]*[A-Z])|(?<=[a-z])([.!?])(?=[A-Z][a-z ])")


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the set of reviews; group = reviews that the source grouped. Raises XlscaleError as ``split`` does."""
    data = read(files[0], f"squad_shifts/{MEMBERS[QUESTIONS]}", card)["data"]
    items = [item for article in data for item in _items(article)]
    return split(card, items, SEED, finish=with_wrong, also=[QUESTIONS], scarce=True)


def continued(name: str, group: str, text: str, following: str) -> Item:
    """An item of which only the right passage is known yet."""
    return Item(name, group, text, {"choices": [following], "answer": 0})


def with_wrong(items: list[Item]) -> list[Item]:
    """The items with wrong passages from each other, as many right ones at every place.

    Raises XlscaleError when items of too few groups are given.
    """
    items = shuffled(items, SEED, key=lambda item: item.name)
    done = []
    for i, item in enumerate(items):
        known, wrong = {item.group}, []
        said = {normal(item.fields["choices"][0])}
        for other in items[i + 1 :] + items[:i]:
            passage = other.fields["choices"][0]
            if len(wrong) < WRONG and other.group not in known and normal(passage) not in said:
                wrong.append(passage)
                known.add(other.group)
                said.add(normal(passage))
        if len(wrong) < WRONG:
            raise XlscaleError(f"group: expected items of more than {WRONG} groups, got {len(known)}")
        place = i % (WRONG + 1)
        choices = [*wrong[:place], item.fields["choices"][0], *wrong[place:]]
        done.append(item._replace(fields={"choices": choices, "answer": place}))
    return done


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, by their punctuation."""
    return _END.sub(lambda match: f"{match[0].rstrip()}\n", " ".join(text.split())).split("\n")


def runs(passages: Sequence[str], told: int, fits: Callable[[Sequence[str]], bool]) -> Iterator[int]:
    """Where runs of ``told`` passages and the next one begin, for those that fit and do not overlap."""
    start = 0
    while start + told < len(passages):
        if fits(passages[start : start + told + 1]):
            yield start
            start += told
        start += 1


def _items(article: dict[str, Any]) -> Iterator[Item]:
    """Runs of sentences in the reviews of an article: those that are told, and the next one."""
    for number, paragraph in enumerate(article["paragraphs"]):
        sentences = sentences_of(paragraph["context"])
        for start in runs(sentences, GIVEN, lambda run: all(SENTENCE[0] <= len(s) <= SENTENCE[1] for s in run)):
            name, text = f"{article['title']}/{number}/{start}", " ".join(sentences[start : start + GIVEN])
            yield continued(name, article["title"], text, sentences[start + GIVEN])

"""Two sets from LibreOffice's English help, of pages that no target task may use and that the two do not share.

``help_module``: which application a paragraph is about, from the pages of the applications. ``help_next``: which of
four paragraphs comes next, from the pages that all applications have in common and most pages of the large ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data_manifest.builders import libreoffice
from data_manifest.builders.intermediate import Item, split
from data_manifest.builders.next_passage import DISTRACTORS, continued, once, runs, with_distractors
from xlscale.cards.schema import DataCard
from xlscale.data.schema import Row, sampled

SEED = "help_pages 1"
# First part of a page's name -> label. Impress and Draw share most of their functions and their help.
MODULES = {
    "sbasic": "Basic",
    "scalc": "Calc",
    "sdatabase": "Base",
    "sdraw": "Impress or Draw",
    "simpress": "Impress or Draw",
    "smath": "Math",
    "swriter": "Writer",
}
# Modules with more pages than help_module needs; it gets this share of them.
LARGE, SHARE = ("sbasic", "scalc", "swriter"), 0.3
PARAGRAPH = (40, 300)  # characters
FOLLOWING = (30, 120)  # of a paragraph that comes next
GIVEN = 2  # paragraphs or headings of the text ...
TEXT = (40, 200)  # ... and their characters
SENTENCES = (".", "?", "!", ":")  # how they end

Page = Mapping[str, str]


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the set that ``card`` names; group = page, item = page#paragraph. Raises XlscaleError as ``split``."""
    ours = card.name == "help_module"
    pages = libreoffice.pages(files[0], lambda page: not libreoffice.tested(page) and of_module(page) == ours)
    items = [item for page, texts in pages.items() for item in (_paragraphs if ours else _continued)(page, texts)]
    if ours:
        return split(card, items, SEED, scarce=True)
    # All distractors by likeness: otherwise the choice that shares most words with the text is right 3 times in 4.
    return split(card, once(items), SEED, finish=lambda items: with_distractors(items, DISTRACTORS), scarce=True)


def of_module(page: str) -> bool:
    """Whether a page is for ``help_module``; ``help_next`` gets the others and most of the large modules."""
    module = page.partition("/")[0]
    return module in MODULES and (module not in LARGE or sampled(page, SEED, SHARE))


def _paragraphs(page: str, texts: Page) -> Iterator[Item]:
    for paragraph, text in texts.items():
        if paragraph.startswith("par_") and PARAGRAPH[0] <= len(text) <= PARAGRAPH[1] and text.endswith(SENTENCES):
            yield Item(f"{page}#{paragraph}", page, text, {"label": MODULES[page.partition("/")[0]]})


def _continued(page: str, texts: Page) -> Iterator[Item]:
    """Runs of a page: the text, the last of it perhaps a heading, and the paragraph after it."""
    blocks = list(texts.items())
    for start in runs(blocks, GIVEN, _fit):
        *before, (paragraph, following) = blocks[start : start + GIVEN + 1]
        yield continued(f"{page}#{paragraph}", page, "\n".join(text for _, text in before), following)


def _fit(run: Sequence[tuple[str, str]]) -> bool:
    """Whether the last block of a run is a paragraph that reads as a sentence, and what comes before it says enough."""
    *before, (paragraph, following) = run
    return (
        paragraph.startswith("par_")
        and FOLLOWING[0] <= len(following) <= FOLLOWING[1]
        and following.endswith(SENTENCES)
        and TEXT[0] <= sum(len(text) for _, text in before) <= TEXT[1]
    )

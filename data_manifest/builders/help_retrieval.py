"""Help retrieval: for a sentence of LibreOffice's help in any language, find its English original among a thousand.

Aligned by the ids of paragraphs. Candidates and queries come from the pages that ``libreoffice.tested`` reserves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_manifest.builders import libreoffice
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.schema import Row, shuffled
from xlscale.data.similarity import NEAR, containment, nearest, normal, shingles

NAMES = {"en": "en-us", "zh": "zh-cn"}  # our code -> the package's, where they differ
SEED = "help_retrieval 1"
CANDIDATES, QUERIES = 1000, 300
LENGTH = (40, 250)  # characters of the English segment
STRETCH = 2.0  # by how much a translation may be shorter or longer than is usual in its language

Segment = tuple[str, str]  # page, paragraph id


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from the packages of English and the card's languages; group = item = page#paragraph id.

    The queries of every language are the same segments. Raises XlscaleError when a package is missing or there are too
    few segments.
    """
    debs = {code: _deb(card, files, code) for code in ["en", *card.languages]}
    english = libreoffice.pages(debs["en"])
    free = {text for page, texts in english.items() if not libreoffice.tested(page) for text in texts.values()}
    help_ = {"en": _flat({page: texts for page, texts in english.items() if libreoffice.tested(page)})}
    help_ |= {code: _flat(libreoffice.pages(debs[code], libreoffice.tested)) for code in card.languages}

    segments = _translated(_sentences(help_["en"], free), help_)
    chosen = _unambiguous(shuffled(segments, SEED, key=_name), help_)[:CANDIDATES]
    if len(chosen) < CANDIDATES:
        raise XlscaleError(f"{card.name}: test: expected {CANDIDATES} segments, got {len(chosen)}")
    return [
        {"split": "test", "language": code, "item": _name(segment), "group": _name(segment), "text": texts[segment]}
        for code, texts in help_.items()
        for segment in (chosen if code == "en" else chosen[:QUERIES])
    ]


def _deb(card: DataCard, files: Sequence[Path], code: str) -> Path:
    start = f"libreoffice-help-{NAMES.get(code, code)}_"
    found = next((path for path in files if path.name.startswith(start)), None)
    if found is None:
        raise XlscaleError(f"{card.name}: packages: expected a file {start}*.deb for language {code!r}")
    return found


def _flat(pages: Mapping[str, Mapping[str, str]]) -> dict[Segment, str]:
    return {(page, paragraph): text for page, texts in pages.items() for paragraph, text in texts.items()}


def _name(segment: Segment) -> str:
    return "#".join(segment)


def _sentences(english: Mapping[Segment, str], free: Iterable[str]) -> list[Segment]:
    """Segments that read as sentences, occur once in the whole help, and resemble nothing on a free page."""
    free = list(free)
    times = Counter(map(normal, [*english.values(), *free]))
    found = [
        segment
        for segment, text in english.items()
        if LENGTH[0] <= len(text) <= LENGTH[1] and text.endswith((".", "?", "!")) and times[normal(text)] == 1
    ]
    near = nearest([english[segment] for segment in found], free)
    return [found[i] for i in np.flatnonzero(near < NEAR)]


def _translated(segments: Iterable[Segment], help_: Mapping[str, Mapping[Segment, str]]) -> list[Segment]:
    """Segments with a translation in every language: not in English, not even in part, and of a usual length.

    A translation that is much shorter or longer than others tells that it was abridged, or that the English text was
    changed after it had been translated.
    """
    languages = [code for code in help_ if code != "en"]
    whole = [s for s in segments if all(s in help_[code] for code in languages)]
    ratios = np.array([[len(help_[code][s]) / len(help_["en"][s]) for code in languages] for s in whole])
    ratios = ratios.reshape(len(whole), len(languages))
    stretch = np.abs(np.log(ratios / np.median(ratios, axis=0))).max(axis=1, initial=0.0)
    return [
        segment
        for segment, worst in zip(whole, stretch, strict=True)
        if worst <= np.log(STRETCH)
        and not any(_in_english(help_["en"][segment], help_[code][segment]) for code in languages)
    ]


def _in_english(english: str, translation: str) -> bool:
    """Whether a translation equals the English text, or repeats a good part of it."""
    ours, theirs = shingles(english), shingles(translation)
    return len(ours & theirs) >= NEAR * min(len(ours), len(theirs))


def _unambiguous(segments: Sequence[Segment], help_: Mapping[str, Mapping[Segment, str]]) -> list[Segment]:
    """The segments without those that are too like an earlier one.

    Too like means near-duplicates in English, by the measure of ``similarity``, or equal translations in some
    language but for layout and case: otherwise a query would have two relevant candidates.
    """
    english = [help_["en"][segment] for segment in segments]
    close = containment(english, english) >= NEAR
    found: list[Segment] = []
    dropped: set[int] = set()
    seen: dict[str, set[str]] = {code: set() for code in help_}
    for i, segment in enumerate(segments):
        words = {code: normal(texts[segment]) for code, texts in help_.items()}
        if i in dropped or any(words[code] in seen[code] for code in help_):
            continue
        found.append(segment)
        dropped.update(close[i].indices.tolist())
        for code in help_:
            seen[code].add(words[code])
    return found

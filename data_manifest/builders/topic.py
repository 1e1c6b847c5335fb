"""Package topic: which section of the Debian archive a package belongs to, by its description.

English text to train on, descriptions translated by volunteers (DDTP) in 18 languages to test on. Split by source
package: whatever is tested in any language was never seen in English, neither as the same package, nor as another
package of the same source, nor as a near-duplicate by runs of four words (see ``similarity``). Texts that share a
looser template are not kept apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_manifest.builders import debian
from data_manifest.builders.exclusions import drop_near_duplicates
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.schema import Row, shuffled
from xlscale.data.similarity import normal

# Our code -> the code that the index is named after.
INDEX = {
    "cs": "cs",
    "da": "da",
    "de": "de",
    "es": "es",
    "fi": "fi",
    "fr": "fr",
    "it": "it",
    "ja": "ja",
    "ko": "ko",
    "nl": "nl",
    "pl": "pl",
    "pt": "pt",
    "pt_br": "pt_BR",
    "ru": "ru",
    "sk": "sk",
    "sr": "sr",
    "uk": "uk",
    "zh": "zh_CN",
}
SEED = "topic 1"
ROWS = {"train": 2000, "dev": 300, "test": 300}  # of one language
LIMIT = 400  # characters
SHORTEST = 60  # characters of the English text: less says too little
# Packages that only ease an upgrade: their text says nothing of a topic.
STUB = re.compile(r"transition(al)?\b.{0,20}package|dummy package|safely (be )?(removed|deleted)", re.IGNORECASE)


class Source(NamedTuple):
    """A source package, spoken for by one of its binary packages: its label and its text per language."""

    name: str
    label: str
    texts: dict[str, str]


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from Debian's indexes; group = source package, item = source package/binary package."""
    sources = _sources(files, card.labels)
    chosen = _tests(sources, card.labels)
    english = _english(chosen, sources, card.labels)
    rows = [_row("test", language, sources[name]) for language, names in chosen.items() for name in names]
    rows += [_row("test", "en", sources[name]) for name in english]

    tested = sorted({name for names in chosen.values() for name in names})
    left = [source for name, source in sources.items() if name not in set(tested)]
    left = drop_near_duplicates(left, _english_text, {sources[name].texts["en"] for name in tested})
    dev = _balanced(left, card.labels, ROWS["dev"])
    taken = {source.name for source in dev}
    rest = [source for source in left if source.name not in taken]
    rest = drop_near_duplicates(rest, _english_text, {source.texts["en"] for source in dev})
    train = _balanced(rest, card.labels, ROWS["train"])
    for split, part in (("dev", dev), ("train", train)):
        if len(part) < ROWS[split]:
            raise XlscaleError(f"{card.name}: {split}: expected {ROWS[split]} rows, got {len(part)}")
        rows += [_row(split, "en", source) for source in part]
    return rows


def _sources(files: Sequence[Path], labels: Sequence[str]) -> dict[str, Source]:
    """Every source package whose packages lie in exactly one of the sections, by name.

    One binary package speaks for it: the one translated into most languages, then the first by name.
    """
    index, english, translated, members = debian.by_source(files, INDEX, labels)
    sources, seen = {}, set()
    for name in shuffled(members, SEED):
        if len({index[package].section for package in members[name]}) > 1:
            continue
        best, texts = "", {}
        for package in sorted(members[name]):
            key = (package, index[package].description)
            found = _texts(english[key], {code: d[key] for code, d in translated.items() if key in d})
            if found and len(found) > len(texts):
                best, texts = package, found
        if texts and normal(texts["en"]) not in seen:
            seen.add(normal(texts["en"]))
            sources[name] = Source(f"{name}/{best}", index[best].section, texts)
    return sources


def _texts(english: str, translations: Mapping[str, str]) -> dict[str, str]:
    """Language -> text, English among them; without translations that leave the synopsis or the rest in English."""
    synopsis, rest = debian.short_and_long(english)
    texts = {"en": debian.cut(f"{synopsis}\n{rest}".strip(), LIMIT)}
    if len(texts["en"]) < SHORTEST or STUB.search(texts["en"]):
        return {}
    for code, translation in translations.items():
        short, long = debian.short_and_long(translation)
        # "<trans>" marks what nobody has translated yet.
        if "<trans>" in translation or normal(short) == normal(synopsis) or normal(long) == normal(rest):
            continue
        texts[code] = debian.cut(f"{short}\n{long}".strip(), LIMIT)
    return texts


def _tests(sources: Mapping[str, Source], labels: Sequence[str]) -> dict[str, list[str]]:
    """Language -> names of the sources to test on, at most ROWS["test"], as even over the sections as they allow.

    Languages with little text choose first. Sources that are tested in another language already come first, then
    those that exist in most languages, so that the languages are tested on parallel items as far as possible.
    """
    available = {code: [name for name, source in sources.items() if code in source.texts] for code in INDEX}
    used: Counter[str] = Counter()
    chosen = {}
    for code in sorted(INDEX, key=lambda code: (len(available[code]), code)):
        ranked = sorted(available[code], key=lambda name: (-used[name], -len(sources[name].texts)))
        chosen[code] = _even(_by_label(ranked, sources, labels), ROWS["test"])
        used.update(chosen[code])
    return chosen


def _english(chosen: Mapping[str, Sequence[str]], sources: Mapping[str, Source], labels: Sequence[str]) -> list[str]:
    """The English originals to test on: of the sources that most languages are tested on."""
    used = Counter(name for names in chosen.values() for name in names)
    ranked = sorted(used, key=lambda name: (-used[name], name))
    return _even(_by_label(ranked, sources, labels), ROWS["test"])


def _by_label(names: Sequence[str], sources: Mapping[str, Source], labels: Sequence[str]) -> dict[str, list[str]]:
    return {label: [name for name in names if sources[name].label == label] for label in labels}


def _even(ranked: Mapping[str, Sequence[str]], size: int) -> list[str]:
    """Up to ``size`` names, dealt in turn from the sections' ranked lists until these are used up."""
    turns = [(turn, section, name) for section, names in enumerate(ranked.values()) for turn, name in enumerate(names)]
    return [name for _, _, name in sorted(turns)[:size]]


def _balanced(sources: Sequence[Source], labels: Sequence[str], size: int) -> list[Source]:
    """Up to ``size`` of the sources, as even over the sections as they allow, earlier ones first."""
    by_name = {source.name: source for source in sources}
    return [by_name[name] for name in _even(_by_label(list(by_name), by_name, labels), size)]


def _english_text(source: Source) -> list[str]:
    """What of a source is compared."""
    return [source.texts["en"]]


def _row(split: str, language: str, source: Source) -> Row:
    """A row of the bundle; a translation brings its English original along."""
    return {
        "split": split,
        "language": language,
        "item": source.name,
        "group": source.name.partition("/")[0],
        "text": source.texts[language],
        "label": source.label,
        "original": None if language == "en" else source.texts["en"],
    }

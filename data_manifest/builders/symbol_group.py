"""Symbol group: which group an emoji belongs to, by its name and keywords, in 48 languages (CLDR annotations).

Split by families of symbols. Families are made of all symbols that CLDR annotates, those without a group included, so
that whoever takes names from CLDR for another purpose can leave out the families that are tested: see ``reserved``.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.schema import Row, shuffled
from xlscale.data.similarity import NEAR, containment, incidence, normal

# Our code -> CLDR's locales, where they differ; what the first one leaves open the second one says.
LOCALES = {"pt": ("pt-PT", "pt"), "tl": ("fil",)}
SEED = "symbol_group 1"
ROWS = {"test": 300, "dev": 200}  # of one language; all other families are for training
SHARE = {"test": 1 / 3, "dev": 1 / 4}  # of a group's families at most, so that small groups keep some for training

SAME_WORDS = 0.6  # Jaccard index of the words of two texts from which they count as relatives

# What tells the variants of one symbol apart, and says little by itself.
_ALIKE = {
    "person": "man men woman women people boy girl mr mrs mx santa",
    "clock": "one two three four five six seven eight nine ten eleven twelve thirty clock",
    "": "black white red orange yellow green blue purple brown grey pink light dark large medium small low high old "
    "older pregnant left right up down upwards downwards leftwards rightwards pointing facing oncoming first last "
    "1st 2nd 3rd letters latin uppercase lowercase numbers symbols o s",
}
_KINDS = {word: kind for kind, words in _ALIKE.items() for word in words.split()}
_DETAIL = re.compile(r":.*| showing .*|“.*?”")  # of a name
_WEAK = {"", "person", "face", "button"}
_GENDER = re.compile("\u200d[\u2640\u2642]$")  # zero width joiner, female or male sign


class Annotation(NamedTuple):
    """What CLDR says of a symbol in one language: its name, and keywords other than the name."""

    name: str
    keywords: tuple[str, ...]

    @property
    def text(self) -> str:
        """``name: keyword, keyword``, the same form in every language; the name alone where there is no keyword."""
        return f"{self.name}: {', '.join(self.keywords)}" if self.keywords else self.name


Annotations = Mapping[str, Annotation]  # symbol -> Annotation, of one language


class Division(NamedTuple):
    """Which symbols go where; families of tested symbols are reserved as a whole."""

    test: list[str]
    dev: list[str]
    train: list[str]
    reserved: frozenset[str]


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from CLDR's annotations and emojibase's groups; item = group = the symbol.

    Raises XlscaleError when there are too few symbols for a split.
    """
    texts, groups = _read(card, files)
    parts = _divide(card, texts, groups)
    rows = [_row("test", code, symbol, texts, groups) for code in texts for symbol in parts.test]
    rows += [_row(split, "en", s, texts, groups) for split in ("dev", "train") for s in getattr(parts, split)]
    return rows


def reserved(card: DataCard, files: Sequence[Path]) -> frozenset[str]:
    """The symbols that are tested, and all others of their families, of whatever group or none.

    Their names and keywords, in any language, must not be in training text, lexicons or unlabelled text. ``card`` is
    the card ``symbol_group`` and ``files`` are its package files. Raises XlscaleError as ``build`` does.
    """
    return _divide(card, *_read(card, files)).reserved


def _read(card: DataCard, files: Sequence[Path]) -> tuple[dict[str, Annotations], dict[str, str]]:
    """Annotations per language, English first, and the group of every symbol whose group is one of the labels."""
    with tarfile.open(files[0]) as package:
        texts = {
            code: annotations(package, LOCALES.get(code, (code,))) for code in dict.fromkeys(["en", *card.languages])
        }
    with tarfile.open(files[1]) as package:
        names = _json(package, "meta/groups.json")["groups"]
        emoji = _json(package, "en/data.json")
    groups = {_plain(entry["emoji"]): names.get(str(entry.get("group"))) for entry in emoji}
    usable = {symbol for symbol, annotation in texts["en"].items() if annotation.keywords}
    return texts, {symbol: group for symbol, group in groups.items() if group in card.labels and symbol in usable}


def annotations(package: tarfile.TarFile, locales: Sequence[str]) -> dict[str, Annotation]:
    """The annotations of a language, by symbol, from the npm package ``cldr-annotations-full``.

    Name and keywords come from the first of the ``locales`` that has them, each by itself, as CLDR's inheritance has
    it. The name is not repeated among the keywords. Symbols without a name are left out.
    """
    stated = [
        _json(package, f"annotations/{locale}/annotations.json")["annotations"]["annotations"] for locale in locales
    ]
    found = {}
    for symbol in dict.fromkeys(symbol for entries in stated for symbol in entries):
        name, words = (
            next((entries[symbol][field] for entries in stated if entries.get(symbol, {}).get(field)), [])
            for field in ("tts", "default")
        )
        name = " ".join(" ".join(name).split())
        keywords = [" ".join(word.split()) for word in words]
        if name:
            # Compared as written: the words of ``normal`` lack the vowel signs of Indic scripts.
            found[symbol] = Annotation(name, tuple(word for word in keywords if word.casefold() != name.casefold()))
    return found


def _json(package: tarfile.TarFile, name: str):
    return json.load(package.extractfile(f"package/{name}"))


def _plain(symbol: str) -> str:
    """Without the selector that asks for a coloured picture: CLDR leaves it out."""
    return symbol.replace("\ufe0f", "")


def _divide(card: DataCard, texts: Mapping[str, Annotations], groups: Mapping[str, str]) -> Division:
    """Families to test on first, then dev, each represented by one symbol; the rest is for training.

    Both are dealt in turn from the groups, as even as ``SHARE`` allows. To be tested a symbol must have a name
    and keywords in every language, and nowhere the English name.
    """
    members = list(families(texts))
    open_ = [[s for s in shuffled(family, SEED) if s in groups] for family in shuffled(members, SEED, key=min)]
    open_ = [family for family in open_ if family]

    able = [next((symbol for symbol in family if _everywhere(symbol, texts)), "") for family in open_]
    test = _deal(card, [symbol for symbol in able if symbol], [family[0] for family in open_], groups, "test")
    left = [family for family in open_ if not set(family) & set(test)]
    dev = _deal(card, [family[0] for family in left], [family[0] for family in left], groups, "dev")
    train = [symbol for family in left if not set(family) & set(dev) for symbol in family]
    out = frozenset(symbol for family in members if set(family) & set(test) for symbol in family)
    return Division(test, dev, shuffled(train, SEED), out)


def _deal(
    card: DataCard, ranked: Sequence[str], pool: Sequence[str], groups: Mapping[str, str], split: str
) -> list[str]:
    """ROWS[split] of the ``ranked`` symbols, dealt in turn from the groups, at most the split's share of the pool."""
    turns = []
    for index, label in enumerate(card.labels):
        most = int(SHARE[split] * sum(groups[symbol] == label for symbol in pool))
        of_label = [symbol for symbol in ranked if groups[symbol] == label][:most]
        turns += [(turn, index, symbol) for turn, symbol in enumerate(of_label)]
    if len(turns) < ROWS[split]:
        raise XlscaleError(f"{card.name}: {split}: expected {ROWS[split]} symbols, got {len(turns)}")
    return [symbol for _, _, symbol in sorted(turns)[: ROWS[split]]]


def _everywhere(symbol: str, texts: Mapping[str, Annotations]) -> bool:
    """Whether a symbol has a name and keywords in every language, and nowhere the English name."""
    known = [entries[symbol] for entries in texts.values() if symbol in entries]
    names = [annotation.name.casefold() for annotation in known if annotation.keywords]
    return len(names) == len(texts) and names[0] not in names[1:]


def families(texts: Mapping[str, Annotations]) -> Iterator[list[str]]:
    """The families of the symbols that have an English name; every symbol is in one.

    Symbols are relatives when one is the other with a gender sign, when their names are the same, in English without
    what tells variants apart (``base``) or in any other language as they are, or when their English texts are
    near-duplicates or hold nearly the same words; so are relatives of relatives.
    """
    english = texts["en"]
    symbols = sorted(english)
    parent = {symbol: symbol for symbol in symbols}

    def root(symbol: str) -> str:
        while parent[symbol] != symbol:
            symbol = parent[symbol]
        return symbol

    first: dict[tuple[str, str], str] = {}
    for code, known in texts.items():
        for symbol in sorted(parent.keys() & known.keys()):
            name = known[symbol].name
            key = (code, base(name) if code == "en" else name.casefold())
            parent[root(symbol)] = root(first.setdefault(key, symbol))
    for symbol in symbols:
        if (neutral := _GENDER.sub("", symbol)) in parent:
            parent[root(symbol)] = root(neutral)
    stated = [english[symbol].text for symbol in symbols]
    close = (containment(stated, stated) >= NEAR).toarray() | (_jaccard(stated) >= SAME_WORDS)
    for one, other in np.argwhere(close):
        parent[root(symbols[one])] = root(symbols[other])
    found = defaultdict(list)
    for symbol in symbols:
        found[root(symbol)].append(symbol)
    yield from found.values()


def _jaccard(texts: Sequence[str]) -> np.ndarray:
    """Shared words by all words of every two texts: shape (texts, texts), 0 to 1."""
    holds = incidence([set(normal(text).split()) for text in texts], {}).toarray()
    shared, size = holds @ holds.T, holds.sum(axis=1)
    return shared / (size[:, None] + size - shared)


def base(name: str) -> str:
    """An English name without colour, size, direction, age, gender, time of a clock, what is quoted or follows a colon.

    >>> base("man: red hair"), base("woman firefighter"), base("white large square"), base("two-thirty")
    ('person', 'firefighter', 'square', 'clock')
    """
    words = normal(_DETAIL.sub("", name)).split()
    kinds = list(dict.fromkeys(_KINDS.get(word, word) for word in words))
    return " ".join([kind for kind in kinds if kind not in _WEAK] or [kind for kind in kinds if kind] or words)


def _row(
    split: str, code: str, symbol: str, texts: Mapping[str, Annotations], groups: Mapping[str, str]
) -> dict[str, str]:
    return {
        "split": split,
        "language": code,
        "item": symbol,
        "group": symbol,
        "text": texts[code][symbol].text,
        "label": groups[symbol],
    }

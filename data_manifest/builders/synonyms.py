"""Synonyms of English words in WordNet: for training on texts in which some words are exchanged."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from data_manifest.builders.exclusions import from_all_tasks
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.schema import Row
from xlscale.data.similarity import normal

FOLDER = "package/dict/"
# Type of synset in a sense key, as in senseidx(5WN) -> the file; 5, an adjective satellite, stands with adjectives.
FILES = {"1": "data.noun", "2": "data.verb", "3": "data.adj", "4": "data.adv", "5": "data.adj"}
# One lower-case word of three letters or more: shorter ones are chemical symbols and units (as, he, in).
WORD = re.compile(r"[a-z]{3,}")
MOST = 8  # synonyms of a word, as in the file that the released code of RS-DA reads
# wndb(5WN): offset, lexicographer file, type, number of words (hexadecimal), the words with a number behind each.
SYNSET = re.compile(r"(\d{8}) \d\d [nvasr] ([0-9a-f]{2}) ")
SENSE = re.compile(r"(\S+)%([1-5]):\S+ (\d{8}) (\d+) (\d+)")  # senseidx(5WN): lemma, type, offset, number, tag count


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle: source = a word, text = a synonym of its most frequent sense, in WordNet's order.

    Left out are words that are, by themselves, a text or choice that a task tests or tunes on. Raises XlscaleError when
    the package lacks a file.
    """
    tested = {normal(text) for text in from_all_tasks("train", ("target", "intermediate", "unlabelled")).texts}
    with tarfile.open(files[0]) as package:
        lines = {name: _lines(package, name, files[0]) for name in ("index.sense", *FILES.values())}
    synsets = {name: _synsets(lines[name]) for name in FILES.values()}
    rows = []
    for word, (kind, offset) in sorted(_most_frequent(lines["index.sense"]).items()):
        others = dict.fromkeys(other for other in synsets[FILES[kind]][offset] if _is_word(other) and other != word)
        for other in [*others][:MOST]:
            names = {"item": f"word:{word}/{other}", "group": f"word:{word}"}
            rows.append({"split": "train", "language": "en", **names, "source": word, "text": other})
    return [row for row in rows if tested.isdisjoint([row["source"], row["text"]])]


def _lines(package: tarfile.TarFile, name: str, path: Path) -> list[str]:
    try:
        return package.extractfile(FOLDER + name).read().decode().splitlines()
    except KeyError:
        raise XlscaleError(f"{path.name}: expected a file {FOLDER}{name}, found none") from None


def _is_word(lemma: str) -> bool:
    return WORD.fullmatch(lemma) is not None and lemma not in ENGLISH_STOP_WORDS


def _synsets(lines: Iterable[str]) -> dict[str, list[str]]:
    """Offset -> the words of a synset, without an adjective's marker of where it stands; the licence is no synset."""
    found = {}
    for line in lines:
        if match := SYNSET.match(line):
            words = line[match.end() :].split()[: 2 * int(match[2], 16) : 2]
            found[match[1]] = [word.partition("(")[0] for word in words]
    return found


def _most_frequent(lines: Iterable[str]) -> Mapping[str, tuple[str, str]]:
    """Word -> type and offset of the sense that WordNet's tagged texts have most often; words that they lack are left
    out. Of equal ones the first of its part of speech counts, then the first part of speech."""
    best: dict[str, tuple[int, int, str, str]] = {}
    for word, kind, offset, number, count in _senses(lines):
        rank = (-count, number, kind, offset)
        if count and _is_word(word) and rank < best.get(word, (0, 0, "", "")):
            best[word] = rank
    return {word: (kind, offset) for word, (_, _, kind, offset) in best.items()}


def _senses(lines: Iterable[str]) -> Iterator[tuple[str, str, str, int, int]]:
    for line in lines:
        if match := SENSE.fullmatch(line.rstrip()):
            yield match[1], match[2], match[3], int(match[4]), int(match[5])

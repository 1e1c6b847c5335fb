"""Universal Dependencies in CoNLL-U, as XTREME's conversion has them (google-research/xtreme at 838c13b).

Words as written: one that is several syntactic words, such as German "zum", is one token with the tag of one of them
(third_party/ud-conversion-tools there). Which one follows from the tree, and where it does not, from RANKS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xlscale.acquire.external.readers import Record, text_lines
from xlscale.core.files import XlscaleError, relative

ID = re.compile(r"\d+([-.]\d+)?")  # a word, several words written as one, or a word that is not written
# Tags by preference, of words of which none is above the others; what a list lacks comes last. Of three languages there
# are lists of their own (conllu_to_conll.py there).
RANKS = {
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
}
RANK = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT"
Words = dict[int, list[str]]  # number of a word in its sentence -> its columns


def read(path: Path) -> Iterator[Record]:
    """``tokens`` and ``tags`` (UPOS) of every sentence; the language is what the file's name begins with.

    Sentences of which all words, or all but one, are "_" are left out: those of treebanks whose texts may not be passed
    on. Spaces and zero-width non-joiners within a word go. Raises XlscaleError naming the line.
    """
    rows: list[list[str]] = []
    ranks = RANKS.get(path.name.split("_")[0], RANK).split()
    for number, line in enumerate([*text_lines(path), ""], 1):
        if line and not line.startswith("#"):
            rows.append(line.split("\t"))
            if len(rows[-1]) != 10 or not ID.fullmatch(rows[-1][0]):
                raise XlscaleError(f"{relative(path)}, line {number}: expected 10 columns of CoNLL-U, the first an id")
        elif not line and rows:
            pairs = _written(rows, ranks, f"{relative(path)}, line {number}")
            missing = sum(word == "_" for word, _ in pairs)
            if not missing or missing < len(pairs) - 1:
                tokens = [word.replace(" ", "").replace("\u200c", "") for word, _ in pairs]
                yield {"tokens": tokens, "tags": [tag for _, tag in pairs]}
            rows = []


def _written(rows: list[list[str]], ranks: list[str], where: str) -> list[tuple[str, str]]:
    """Words as written, with their tags."""
    words = {int(row[0]): row for row in rows if row[0].isdigit()}
    joined = {}
    for row in rows:
        if "-" in row[0]:
            first, last = map(int, row[0].split("-"))
            joined[first] = last, row[1]
    if list(words) != [*range(1, len(words) + 1)] or any(last > len(words) for last, _ in joined.values()):
        raise XlscaleError(f"{where}: expected a sentence of words 1, 2, 3, ... before it, got ids {_ids(rows)}")
    found, first = [], 1
    while first <= len(words):
        last, form = joined.get(first, (first, words[first][1]))
        found.append((form, _tag(words, range(first, last + 1), ranks)))
        first = last + 1
    return found


def _ids(rows: list[list[str]]) -> str:
    return ", ".join(row[0] for row in rows)[:80]


def _tag(words: Words, span: range, ranks: list[str]) -> str:
    """The tag of the word of ``span`` with the fewest ancestors; of several the first by ``ranks``, then in order."""
    if len(span) == 1:
        return words[span[0]][3]
    depths = {number: len(_ancestors(words, number)) for number in span}
    highest = [words[number][3] for number in span if depths[number] == min(depths.values())]
    return min(highest, key=lambda tag: ranks.index(tag) if tag in ranks else len(ranks))


def _ancestors(words: Words, number: int) -> set[str]:
    """All that is above a word, the root "0" too, by the columns HEAD and DEPS; DEPS may have circles."""
    found, rest = set(), [str(number)]
    while rest:
        row = words.get(int(rest.pop()))
        heads = {row[6], *(one.split(":")[0] for one in row[8].split("|"))} if row else set()
        new = {head for head in heads if head.isdigit()} - found
        found |= new
        rest += new
    return found - {str(number)}

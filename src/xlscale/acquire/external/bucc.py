"""BUCC 2018 as XTREME's download leaves it: ``<code>-en.<dev or test>.<code or en>``, a line per sentence; the gold.

The gold pairs of dev lie beside it, in ``<code>-en.dev.gold``; those of test are taken out of the download.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xlscale.acquire.external.readers import Record, text_lines
from xlscale.core.files import XlscaleError, relative


def read(path: Path, labels: Path | None = None) -> Iterator[Record]:
    """``id`` and ``text`` of every sentence, and ``aligned``: the English one's id by the gold pairs, else its own.

    The gold pairs are those of ``labels``, or of the file beside. English sentences have no ``aligned``, and a gold
    file, which a place names so that it is pinned, has no sentences. Raises XlscaleError for a line of another form, a
    pair of a sentence that has one already, and a pair of no sentence.
    """
    if path.suffix == ".gold":
        return
    given = None if path.suffix == ".en" else labels or path.with_suffix(".gold")
    gold = _pairs(given) if given else {}
    for number, line in enumerate(text_lines(path), 1):
        name, tab, text = line.partition("\t")
        if not tab:
            raise XlscaleError(f"{relative(path)}, line {number}: expected an id, a tab and a sentence")
        yield {"id": name, "text": text} | ({"aligned": gold.pop(name, name)} if given else {})
    if gold:
        raise XlscaleError(f"{relative(given)}: expected ids of {relative(path)}, got {next(iter(gold))!r}")


def _pairs(path: Path) -> dict[str, str]:
    """Id of a sentence -> id of its English translation. Raises XlscaleError naming the line."""
    gold: dict[str, str] = {}
    for number, line in enumerate(text_lines(path), 1):
        where, pair = f"{relative(path)}, line {number}", [part.strip() for part in line.split("\t")]
        if len(pair) != 2 or not all(pair):
            raise XlscaleError(f"{where}: expected an id, a tab and an English id, got {line[:80]!r}")
        if pair[0] in gold:
            raise XlscaleError(f"{where}: expected each id once, got {pair[0]!r} again")
        gold[pair[0]] = pair[1]
    return gold

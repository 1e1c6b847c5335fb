"""Tatoeba's test sets as their authors keep them (Artetxe and Schwenk 2019), in the order that XTREME gives them.

``tatoeba.<language>-eng.<language>`` and ``tatoeba.<language>-eng.eng`` are parallel by line. XTREME leaves the first
as it is and sorts the English one, so that a sentence's label is the line of its translation there
(google-research/xtreme at 838c13b, utils_preprocess.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xlscale.acquire.external.readers import Record, text_lines
from xlscale.core.files import XlscaleError, relative

ENGLISH = ".eng"


def read(path: Path) -> Iterator[Record]:
    """Of the English file its lines, sorted: ``text``. Of the other one its lines as they stand: ``text``, and
    ``label``, the number of the translation in the sorted English file beside it, from 0.

    Raises XlscaleError where the files have not as many lines as each other.
    """
    beside = path.with_suffix(ENGLISH)
    english = [line.strip() for line in text_lines(beside)]
    order = sorted(range(len(english)), key=english.__getitem__)  # equal ones in the order in which they stand
    if path.suffix == ENGLISH:
        yield from ({"text": english[index]} for index in order)
        return
    lines = [*text_lines(path)]
    if len(lines) != len(english):
        raise XlscaleError(f"{relative(path)}: expected {len(english)} lines as in {beside.name}, got {len(lines)}")
    ranks = {index: rank for rank, index in enumerate(order)}
    yield from ({"text": line, "label": ranks[index]} for index, line in enumerate(lines))

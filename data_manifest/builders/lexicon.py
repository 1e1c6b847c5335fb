"""Names of symbols in many languages beside their English names (CLDR), of symbols that ``symbol_group`` neither tests
nor tunes on, nor any relative of these: for methods that teach a model which words mean the same."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data_manifest.builders import symbol_group
from data_manifest.builders.exclusions import from_all_tasks
from data_manifest.builders.symbol_group import Annotations
from xlscale.cards.catalogue import data_card
from xlscale.cards.schema import DataCard
from xlscale.data import load
from xlscale.data.contamination import SHORT
from xlscale.data.schema import Row
from xlscale.data.similarity import NEAR, nearest, normal

TASK = "symbol_group"
# A name that a set that is not bundled holds in a text that is tuned on, so that this one can be built without it.
LEFT_OUT = frozenset({("ja", "💮")})


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle: source = the English name, text = the name in the language; item = group = the symbol.

    Left out are names that equal the English one, and pairs of which a name is near to a tested or tuned text of the
    task; a long name (see ``contamination``) to one of any set, unlabelled text included.
    """
    texts = annotations(files[0])
    symbols = free(texts)
    rows = [
        {
            "split": "train",
            "language": code,
            "item": symbol,
            "group": symbol,
            "source": texts["en"][symbol].name,
            "text": known[symbol].name,
        }
        for code, known in texts.items()
        if code != "en"
        for symbol in symbols
        if symbol in known and known[symbol].name.casefold() != texts["en"][symbol].name.casefold()
        if (code, symbol) not in LEFT_OUT
    ]
    everywhere = sorted(from_all_tasks("train", ("target", "intermediate", "unlabelled")).texts)
    close = np.zeros(len(rows), dtype=bool)
    for names in ([row[column] for row in rows] for column in ("source", "text")):
        long = np.array([len(normal(name).split()) >= SHORT for name in names])
        close |= (nearest(names, _of_task()) >= NEAR) | (long & (nearest(names, everywhere) >= NEAR))
    return [rows[i] for i in np.flatnonzero(~close)]


def annotations(package: Path) -> dict[str, Annotations]:
    """Language -> symbol -> annotation, English and the languages of the task, from the npm package of CLDR."""
    languages = dict.fromkeys(["en", *data_card(TASK).languages])
    with tarfile.open(package) as archive:
        return {code: symbol_group.annotations(archive, symbol_group.LOCALES.get(code, (code,))) for code in languages}


def free(texts: Mapping[str, Annotations]) -> list[str]:
    """The symbols of all families none of which the task tests or tunes on, sorted.

    For what is tested this is the complement of ``symbol_group.reserved``, from the bundled file.
    """
    rows = _task()
    taken = set(rows.loc[rows["split"] != "train", "item"])
    return sorted(symbol for family in symbol_group.families(texts) if taken.isdisjoint(family) for symbol in family)


def _of_task() -> list[str]:
    """The task's test and dev texts in all languages, and the names in them by themselves."""
    rows = _task()
    texts = set(rows.loc[rows["split"] != "train", "text"])
    return sorted(texts | {text.partition(": ")[0] for text in texts})


def _task() -> pd.DataFrame:
    return load.table(data_card(TASK)).to_pandas()

"""How far the languages of all targets are from English in their grammar, from the vectors that lang2vec ships.

A distance is one less the cosine of two languages' vectors ``syntax_knn`` of URIEL (Littell et al. 2017): 103 features
such as the order of subject and verb, each 0 or 1, those that no source states being predicted from similar languages.
lang2vec's own table of distances is not in the package, and how that was made is not known well enough to make it
again: github.com/antonisa/lang2vec/issues/17.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xlscale.cards import catalogue
from xlscale.cards.languages import ENGLISH, canonical
from xlscale.cards.typology import COLUMNS, Distances
from xlscale.core.files import XlscaleError

FOLDER = "lang2vec/data/"
PREDICTED, STATED, FAMILIES = "feature_predictions.npz", "feature_averages.npz", "family_features.npz"
SYNTAX, FAMILY = "S_", "F_"  # what the names of features begin with
DIGITS = 4  # what processors agree on


def build(card: Distances, files: Sequence[Path]) -> str:
    """The table, as comma-separated values. A language's family is the one with the most languages that it is in; its
    vector is that of its codes in the source of which the most features are stated.

    Raises XlscaleError where the package lacks a file.
    """
    with zipfile.ZipFile(files[0]) as package:
        tables = {name: _read(package, name, files[0]) for name in (PREDICTED, STATED, FAMILIES)}
    codes = [str(code) for code in tables[PREDICTED]["langs"]]
    predicted, stated = (_of(tables[name], SYNTAX, codes)[1] for name in (PREDICTED, STATED))
    names, member = _of(tables[FAMILIES], FAMILY, codes)
    known = (stated >= 0).mean(1)
    index = _by_language(codes)
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(COLUMNS)
    for language in tested():
        row, english = (max(index[one], key=lambda place: known[place]) for one in (language.split("_")[0], ENGLISH))
        one, other = predicted[row], predicted[english]
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        inside = np.flatnonzero(member[index[language.split("_")[0]]].any(0))
        largest = max(inside, key=lambda place: member[:, place].sum(), default=None)
        family = f"isolate {codes[row]}" if largest is None else names[largest].removeprefix(FAMILY)
        table.writerow([language, codes[row], family, *(f"{x:.{DIGITS}f}" for x in (abs(1 - cosine), known[row]))])
    return lines.getvalue()


def tested() -> list[str]:
    """The languages that any target is tested in, and English, sorted."""
    cards = (catalogue.data_card(name) for name in (*catalogue.names("data"), *catalogue.names(catalogue.SOURCES)))
    return sorted({ENGLISH, *(code for card in cards if card.role == "target" for code in card.splits.get("test", {}))})


def _read(package: zipfile.ZipFile, name: str, path: Path) -> Mapping[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(package.read(FOLDER + name)), allow_pickle=False) as found:
            return {key: found[key] for key in ("feats", "data", "langs")}
    except KeyError as error:
        raise XlscaleError(f"{path.name}: expected {FOLDER}{name} with feats, data and langs ({error})") from None


def _of(table: Mapping[str, np.ndarray], prefix: str, codes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The names of the features that begin with ``prefix``, and their values for ``codes``, of which each file has an
    order of its own: float64 (codes, features), -1 where a source states nothing."""
    chosen = [i for i, name in enumerate(table["feats"]) if str(name).startswith(prefix)]
    place = {str(code): i for i, code in enumerate(table["langs"])}
    values = table["data"][[place[code] for code in codes]][:, chosen, 0]
    return [str(table["feats"][i]) for i in chosen], values.astype(np.float64)


def _by_language(codes: Iterable[str]) -> dict[str, list[int]]:
    """Our code of a language -> the indices of those of ``codes`` that mean it: a macrolanguage's and its parts'."""
    found: dict[str, list[int]] = {}
    for place, code in enumerate(codes):
        try:
            found.setdefault(canonical(code), []).append(place)
        except ValueError:  # a code that is no longer one
            continue
    return found

"""Randomized smoothing by data augmentation (RS-DA): plain training on texts in which words are exchanged for synonyms.

From Huang et al. 2021 (arXiv:2104.08645), as in the code that they released (uclanlp/Robust-XLT, perturb.py): of each
text n copies are made, and in each copy every word, a text being split at spaces, becomes one of itself and its
synonyms, all equally likely and independent of the other words. Of a pair both texts are. The label stays, and the
copies alone are trained on; the text as it was is among them by chance. They made 10 copies of PAWS-X and 3 of XNLI,
with counter-fitted neighbours as synonyms; OURS is another source of them, the card that the recipe's ``synonyms``
names, by default made from WordNet, and that copies are made anew for every cell, from its seed. A word is looked up as
it stands, with its capitals and with the punctuation that touches it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.table import InMemoryTable

from xlscale.cards.catalogue import data_card
from xlscale.data import load
from xlscale.experiment.recipe import Recipe
from xlscale.training.objectives.supervised import Supervised

COLUMNS = ("text", "second")  # that are perturbed, of classification


class Augmentation(Supervised):
    """The task's loss on perturbed copies of its texts. Without synonyms, one copy of each gives plain training."""

    def rows(
        self, rows: Dataset, recipe: Recipe, generator: np.random.Generator, whole: Dataset | None = None
    ) -> Dataset:
        """``recipe.copies`` perturbed copies of every row, those of a row one after another; nothing else."""
        known = synonyms(recipe.synonyms)
        table = rows.with_format("arrow")[:].take(np.repeat(np.arange(len(rows)), recipe.copies))
        for column in COLUMNS:
            if column in table.column_names:
                texts = [perturbed(text, known, generator) for text in table[column].to_pylist()]
                table = table.set_column(table.column_names.index(column), column, pa.array(texts, pa.string()))
        return Dataset(InMemoryTable(table))


def synonyms(card: str) -> dict[str, list[str]]:
    """Word -> its English synonyms, from a lexicon. Raises XlscaleError where its file is not as its card says."""
    found: dict[str, list[str]] = {}
    rows = load.table(data_card(card)).select(["language", "source", "text"])
    for language, word, other in zip(*rows.to_pydict().values(), strict=True):
        if language == "en":
            found.setdefault(word, []).append(other)
    return found


def perturbed(text: str, known: Mapping[str, Sequence[str]], generator: np.random.Generator) -> str:
    """``text`` with every word one of itself and its synonyms, each equally likely."""
    words = text.split(" ")
    for place, word in enumerate(words):
        if word in known:
            among = [*dict.fromkeys([word, *known[word]])]
            words[place] = among[generator.integers(len(among))]
    return " ".join(words)

"""Translation language modelling: masked language modelling on a text and the same in another language, side by side.

Conneau and Lample 2019 (arXiv:1901.07291), section 3.3: what is hidden in one of the two can be read from the other.
OURS is the parallel text, texts of one group in the card of unlabelled text, in any two languages rather than English
and another; a text without a partner is left out. Positions are not counted anew in the second text and there are no
embeddings of languages, which the models here do not have. Evaluated as ``masked_lm`` is, on single texts.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.table import InMemoryTable

from xlscale.experiment.recipe import Recipe
from xlscale.training.objectives.masked_lm import MaskedLM


class TranslationLM(MaskedLM):
    """The loss of ``masked_lm`` on pairs of texts."""

    def rows(
        self, rows: Dataset, recipe: Recipe, generator: np.random.Generator, whole: Dataset | None = None
    ) -> Dataset:
        """Each of ``rows`` that has partners with one of them as ``second``, all equally likely; partners are rows of
        its group in other languages, among ``whole``."""
        partners = defaultdict(list)
        known = (rows if whole is None else whole).select_columns(["group", "language", "text"])
        for group, language, text in zip(*known.to_dict().values(), strict=True):
            partners[group].append((language, text))
        kept, second = [], []
        for i, (group, language) in enumerate(zip(rows["group"], rows["language"], strict=True)):
            if others := [text for other, text in partners[group] if other != language]:
                kept.append(i)
                second.append(others[generator.integers(len(others))])
        table = rows.with_format("arrow")[:].take(np.array(kept, np.int64))
        return Dataset(InMemoryTable(table.append_column("second", pa.array(second, pa.string()))))

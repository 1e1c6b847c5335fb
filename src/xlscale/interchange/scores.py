"""The recorded scores as a tidy table: a row per cell, language and metric."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from xlscale.cards.catalogue import data_card
from xlscale.experiment.results import Result, split_of
from xlscale.record import store

COLUMNS = [*store.FACTS, "data_set", "split", "language", "metric", "primary", "items", "value"]


def tidy(known: Mapping[str, Result]) -> pd.DataFrame:
    """COLUMNS of all results that have scores, in order of cell, language and metric, the primary one first.

    ``value`` is as recorded: 0 to 1, and of ``words_cut`` a number of words.
    """
    rows = []
    for _, result in sorted(known.items()):
        name = store.data_set(result)
        about = store.describe(result) | {"data_set": name, "split": split_of(result.phase, result.parameters)}
        for language, score in sorted(result.languages.items()):
            values = {data_card(name).primary_metric: score.value, **dict(sorted(score.others.items()))}
            for i, (key, value) in enumerate(values.items()):
                own = {"language": language, "metric": key, "primary": i == 0, "items": score.items, "value": value}
                rows.append(about | own)
    return pd.DataFrame(rows, columns=COLUMNS)


def csv(known: Mapping[str, Result]) -> str:
    """``tidy`` as CSV, every value with all its digits."""
    return tidy(known).to_csv(index=False, lineterminator="\n")

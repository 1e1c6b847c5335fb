"""The recorded scores as a tidy table: a row per cell, language and metric."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from xlscale.cards import schema
from xlscale.cards.catalogue import data_card
from xlscale.experiment.results import Result
from xlscale.record import store

COLUMNS = [*store.FACTS, "data_set", "split", "language", "metric", "primary", "items", "value"]
_EVALUATED = {"pretrained": "test", "intermediate": "dev", "target": "test"}  # where the parameters name no split


def metric(name: str) -> str:
    """The primary metric of a data set, by its key; of text, that of its family."""
    card = data_card(name)
    return card.metric or schema.METRICS[card.family]


def split(result: Result) -> str:
    """The split that a cell was evaluated on."""
    return result.parameters.get("split", _EVALUATED[result.phase])


def tidy(known: Mapping[str, Result]) -> pd.DataFrame:
    """COLUMNS of all results that have scores, in order of cell, language and metric, the primary one first.

    ``value`` is as recorded: 0 to 1, and of ``words_cut`` a number of words.
    """
    rows = []
    for _, result in sorted(known.items()):
        name = store.data_set(result)
        about = store.describe(result) | {"data_set": name, "split": split(result)}
        for language, score in sorted(result.languages.items()):
            values = {metric(name): score.value, **dict(sorted(score.others.items()))}
            for i, (key, value) in enumerate(values.items()):
                own = {"language": language, "metric": key, "primary": i == 0, "items": score.items, "value": value}
                rows.append(about | own)
    return pd.DataFrame(rows, columns=COLUMNS)


def csv(known: Mapping[str, Result]) -> str:
    """``tidy`` as CSV, every value with all its digits."""
    return tidy(known).to_csv(index=False, lineterminator="\n")

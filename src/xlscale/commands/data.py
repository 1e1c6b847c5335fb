"""The verbs ``data fetch``, ``data check`` and ``add-source``: data, models and scores that are not in this repository.

Belongs here: which cards are meant, and what is printed. What is done: ``acquire``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from xlscale.acquire import ensure
from xlscale.cards import catalogue
from xlscale.cards.schema import DataCard, ModelCard
from xlscale.commands import check as checks
from xlscale.commands.options import stated
from xlscale.core.files import XlscaleError, bounded


def fetch(cards: list[str], study: str | None = None) -> bool:
    """Get what the cards, or those of a study, need, after saying how much that is; returns whether all of it came,
    with a line per card.

    Raises XlscaleError for an unknown study or card.
    """
    failed, chosen = 0, _chosen(cards, study)
    for card in chosen:  # before anything is downloaded
        for text in ensure.announced(card):
            print(bounded(f"{card.name}: to be fetched: {text}"), flush=True)
    for card in chosen:
        try:
            print(ensure.fetch(card), flush=True)
        except XlscaleError as error:
            print(_error(card.name, str(error)), file=sys.stderr)
            failed += 1
    return not failed


def check(cards: list[str], study: str | None = None) -> bool:
    """Print whether cards and locks say what is there, and where files of the user's are looked for; returns whether
    they do, with a line for each that does not.

    Raises XlscaleError for an unknown study or card.
    """
    chosen = _chosen(cards, study)
    found = checks.table(chosen)
    wrong = found[~found["verdict"].isin(checks.FINE)]
    found["verdict"] = found["verdict"].mask(found.index.isin(wrong.index), "see below")
    print(found.to_string(index=False), flush=True)
    if len(layout := checks.layout(chosen)):
        print(f"\nFiles that variables may name:\n{layout.to_string(index=False, justify='left')}", flush=True)
    for name, verdict in zip(wrong["card"], wrong["verdict"], strict=True):
        print(_error(name, verdict), file=sys.stderr)
    return wrong.empty


def _error(name: str, fault: str) -> str:
    """A line about a card, which is named once."""
    return bounded(f"error: {name}: {fault.removeprefix(f'{name}: ')}")


def _chosen(cards: list[str], study: str | None) -> list[DataCard | ModelCard]:
    data, models = checks.of_study(study) if study else ([], [])
    named = [member for name in cards for member in _members(name)]
    chosen = [*data, *map(catalogue.card, dict.fromkeys(named)), *models]
    if not chosen:
        raise XlscaleError("STUDY, CARD: expected the name of a study or of a card")
    return chosen


def _members(name: str) -> list[str]:
    """Of a mixture its sets, of which there are files; else the name itself."""
    return catalogue.data_card(name).members if name in catalogue.names(catalogue.MIXTURES) else [name]


def add_source(path: str, fields: str = "", replace: bool = False) -> str:
    """Add published scores as ``published.sources.add`` does. Raises XlscaleError as that does, and for a text that the
    paper's fonts cannot draw, which would stop it at the very end. Where a score was read is never set in the paper:
    that may be in any script. ``fields``: what the file does not say, "source_key=mine; params=8B"."""
    from xlscale.published import sources
    from xlscale.report import typeset

    def wrong(field: str, text: str) -> str:
        try:
            typeset.check_glyphs([] if field == "where_read" or text.isascii() else [text])
        except XlscaleError as error:
            return str(error)
        return ""

    return sources.add(Path(path), given=stated(fields), replace=replace, wrong=wrong)


def withdraw_source(key: str) -> str:
    """Take a source out as ``published.sources.withdraw`` does."""
    from xlscale.published import sources

    return sources.withdraw(key)

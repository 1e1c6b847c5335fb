"""Fetch or check data and models that are not in this repository: ``python -m xlscale.data.sources fetch|check``."""

from __future__ import annotations

import argparse
import sys

from xlscale.acquire import hub
from xlscale.acquire.external import convert
from xlscale.cards import catalogue, places
from xlscale.cards.schema import DataCard, ModelCard
from xlscale.cards.sources import Lock
from xlscale.commands import check
from xlscale.core.files import XlscaleError, digest, relative, write_json


def fetch(card: DataCard | ModelCard) -> str:
    """Download what is missing, convert it, check it against the lock or write one; a line that says what is there."""
    if isinstance(card, ModelCard):
        return _fetch_model(card)
    lock = convert.make(card, hub.fetch(card))
    rows = sum(n for languages in lock.splits.values() for n in languages.values())
    without = f" ({lock.dropped} left out: their answers are not where they are said to be)" if lock.dropped else ""
    where = relative(catalogue.lock_path(card.name))
    return f"{card.name}: {rows} rows{without} from {len(lock.files)} files, sha256 as in {where}"


def _fetch_model(card: ModelCard) -> str:
    from xlscale.models import hf

    commits = hub.fetch_model(card)
    card = places.at(card, commits)
    if catalogue.lock(card.name) is None:
        files = hf.hashes(hf.folder(card))
        revisions = {card.source.repository: commits.get(card.source.repository)} if card.source.repository else {}
        lock = Lock(card=card.name, sha256=digest(files), revisions=revisions, files=files)
        write_json(catalogue.lock_path(card.name), lock.model_dump())
        catalogue.forget()
    hf.checked(card)
    return (
        f"{card.name}: {len(catalogue.locked(card.name).files)} files as in {relative(catalogue.lock_path(card.name))}"
    )


def main(arguments: list[str] | None = None) -> int:
    """0 if everything was fetched, or agrees; else 1, with a line per card on standard error."""
    parser = argparse.ArgumentParser(prog="python -m xlscale.data.sources", description=__doc__, allow_abbrev=False)
    parser.add_argument("verb", choices=["fetch", "check"])
    parser.add_argument("cards", nargs="*", help="names of cards of data")
    parser.add_argument("--study", help="all data and models of a study")
    options = parser.parse_args(arguments)
    try:
        data, models = check.of_study(options.study) if options.study else ([], [])
        chosen = [*data, *map(catalogue.data_card, options.cards), *models]
        if not chosen:
            raise XlscaleError("STUDY, CARD: expected the name of a study or of a card")
    except XlscaleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return _check(chosen) if options.verb == "check" else _fetch(chosen)


def _check(chosen: list[DataCard | ModelCard]) -> int:
    found = check.table(chosen)
    wrong = found[~found["verdict"].isin(check.FINE)]
    found["verdict"] = found["verdict"].mask(found.index.isin(wrong.index), "see below")
    print(found.to_string(index=False), flush=True)
    for name, verdict in zip(wrong["card"], wrong["verdict"], strict=True):
        print(f"error: {name}: {verdict}", file=sys.stderr)
    return int(len(wrong) > 0)


def _fetch(chosen: list[DataCard | ModelCard]) -> int:
    failed = 0
    for card in chosen:
        if not card.source:
            continue
        try:
            print(fetch(card), flush=True)
        except XlscaleError as error:
            print(f"error: {card.name}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""``xlscale data``: get data and models that are not in this repository, or check those that are on this machine.

Belongs here: the verbs and what they print. What is done: ``acquire``.
"""

from __future__ import annotations

import argparse
import sys

from xlscale.acquire import ensure
from xlscale.cards import catalogue
from xlscale.cards.schema import DataCard, ModelCard
from xlscale.commands import check
from xlscale.core.files import XlscaleError

HELP = "get data and models that are not in this repository, or check those on this machine"
VERBS = {
    "fetch": "download, build or convert what is missing, and check it against its card or its lock",
    "check": "say whether data and models are reachable, and of the revision, hash and size that cards and locks state",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the verbs fetch and check, each with names of cards, or a study; ``run`` takes what it parses."""
    verbs = parser.add_subparsers(dest="data_verb", required=True)
    for name, text in VERBS.items():
        example = f"example: xlscale data {name} xnli xcopa\n         xlscale data {name} --study xtreme_r"
        raw = argparse.RawDescriptionHelpFormatter
        verb = verbs.add_parser(name, help=text, description=text, epilog=example, formatter_class=raw)
        verb.add_argument("cards", nargs="*", help="names of cards in data_manifest/: data/, sources/ or models/")
        verb.add_argument("--study", help="all data and models of a file in studies/")


def run(options: argparse.Namespace) -> bool:
    """Whether everything was fetched, or agrees; a line per card that does not goes to standard error.

    Raises XlscaleError for an unknown study or card.
    """
    data, models = check.of_study(options.study) if options.study else ([], [])
    chosen = [*data, *map(catalogue.card, options.cards), *models]
    if not chosen:
        raise XlscaleError("STUDY, CARD: expected the name of a study or of a card")
    return _check(chosen) if options.data_verb == "check" else _fetch(chosen)


def _check(chosen: list[DataCard | ModelCard]) -> bool:
    found = check.table(chosen)
    wrong = found[~found["verdict"].isin(check.FINE)]
    found["verdict"] = found["verdict"].mask(found.index.isin(wrong.index), "see below")
    print(found.to_string(index=False), flush=True)
    for name, verdict in zip(wrong["card"], wrong["verdict"], strict=True):
        print(f"error: {name}: {verdict}", file=sys.stderr)
    return wrong.empty


def _fetch(chosen: list[DataCard | ModelCard]) -> bool:
    failed = 0
    for card in chosen:
        try:
            print(ensure.fetch(card), flush=True)
        except XlscaleError as error:
            print(f"error: {card.name}: {error}", file=sys.stderr)
            failed += 1
    return not failed


def main(arguments: list[str] | None = None) -> int:
    """0 if everything was fetched, or agrees; else 1."""
    parser = argparse.ArgumentParser(prog="xlscale data", description=HELP, allow_abbrev=False)
    add_arguments(parser)
    try:
        return int(not run(parser.parse_args(arguments)))
    except XlscaleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""Data that are not bundled: built on this machine at first use, from the packages that their card pins, or from the
source that it describes (``data.sources``).

That is for sets whose licence does not clearly allow passing them on. Such a card says ``bundled: false``; its file
lies in the cache, and its sha256 and numbers of rows stand in the card as any other's, or in the source's lock.
"""

from __future__ import annotations

import fcntl
import importlib
from pathlib import Path

import pyarrow as pa

from xlscale.acquire.external import convert
from xlscale.acquire.packages import fetch_all
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError, atomic, relative, sha256_file
from xlscale.data import schema


def rebuild(card: DataCard, folder: Path | None = None) -> pa.Table:
    """The rows of a data set, built anew from the packages that its card pins. Raises XlscaleError."""
    builder = importlib.import_module(f"data_manifest.builders.{card.builder}")
    return schema.table(card.family, builder.build(card, fetch_all(card.packages, folder)))


def here(card: DataCard) -> bool:
    """Whether the file of a data set is on this machine, so that nothing has to be downloaded or built to use it."""
    return card.path.exists()


def ensure(card: DataCard) -> Path:
    """The file of a data set that is not bundled, built now if it is not there or is not the card's.

    Of several processes that need it at once, one builds it and the others wait. Raises XlscaleError, and leaves what
    was there, when a package cannot be had, or when the file that was built has not the card's sha256.
    """
    if card.source:
        return convert.ensure(card)
    if _as_in_card(card):
        return card.path
    card.path.parent.mkdir(parents=True, exist_ok=True)
    with open(card.path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _as_in_card(card):
            _build(card)
    return card.path


def _as_in_card(card: DataCard) -> bool:
    return here(card) and sha256_file(card.path) == card.sha256


def _build(card: DataCard) -> None:
    needed = ", ".join(f"{package.name} {package.version}" for package in card.packages)
    try:
        rows = rebuild(card)
    except XlscaleError as error:
        raise XlscaleError(f"data set {card.name} is not bundled but built from {needed}: {error}") from None
    with atomic(card.path) as temporary:
        schema.write(rows, temporary, card.canary)
        if (found := sha256_file(temporary)) != card.sha256:
            raise XlscaleError(
                f"{relative(card.path)}: sha256: expected {card.sha256} as in card {card.name}, built {found} from "
                f"{needed}; the bytes depend on pyarrow's version and on the bundled sets it keeps away from"
            )

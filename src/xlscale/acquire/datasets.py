"""Data sets that are not bundled and are built from the packages that their card pins.

That is for sets whose licence does not clearly allow passing them on. Such a card says ``bundled: false``; its file
lies in the cache, and its sha256 and numbers of rows stand in the card as any other's. The scripts that build it,
``data_manifest/builders/``, belong to the checkout and not to this package, and run in a process of their own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from filelock import FileLock

from xlscale.acquire import clients
from xlscale.acquire.packages import fetch_all
from xlscale.cards.schema import DataCard
from xlscale.core.files import ROOT, XlscaleError, one_line, sha256_file


def build(card: DataCard) -> Path:
    """The file of a data set that is not bundled, built now if it is not there or is not the card's.

    Of several processes that need it at once, one builds it and the others wait. Raises XlscaleError, and leaves what
    was there, when a package cannot be had, or when the file that was built has not the card's sha256.
    """
    if not current(card):
        card.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(card.path.with_suffix(".lock")):
            if not current(card):
                _build(card)
    return card.path


def current(card: DataCard) -> bool:
    """Whether the file is on this machine, and is that of the card."""
    return card.path.is_file() and sha256_file(card.path) == card.sha256


def _build(card: DataCard) -> None:
    """Run the card's builder, which puts the file in place if its sha256 is the card's."""
    needed = ", ".join(f"{package.name} {package.version}" for package in card.packages)
    try:
        fetch_all(card.packages)
        done = clients.run(
            [sys.executable, "-m", "data_manifest.builders", card.name],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
        )
        if done.returncode or not current(card):
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["the builder wrote no such file"]
            raise XlscaleError(one_line(said[-1].removeprefix("error: "), 600))
    except XlscaleError as error:
        raise XlscaleError(f"data set {card.name} is not bundled but built from {needed}: {error}") from None

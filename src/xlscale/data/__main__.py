"""Rebuild the bundled files from their packages and compare them with their cards: ``python -m xlscale.data``."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import yaml

from xlscale import cards
from xlscale.data import bundles
from xlscale.data.packages import fetch_all
from xlscale.files import MANIFEST, XlscaleError, relative, sha256_file, write_text


def rebuild(card: cards.DataCard, folder: Path | None = None) -> pa.Table:
    """The rows of a data set, built anew from the packages that its card pins. Raises XlscaleError."""
    builder = importlib.import_module(f"xlscale.data.{card.builder}")
    return bundles.table(card.family, builder.build(card, fetch_all(card.packages, folder)))


def check(card: cards.DataCard, rows: pa.Table) -> str:
    """Say that ``rows`` give the very file that the card describes. Raises XlscaleError when they do not."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.parquet"
        bundles.write(rows, path, card.canary)
        sha256 = sha256_file(path)
    if sha256 == card.sha256:
        return f"{card.name}: {len(rows)} rows, sha256 as in the card"
    same = card.path.exists() and bundles.read(card.path).equals(rows)
    why = "; the rows are the same, so pyarrow writes other bytes than the pinned version" if same else ""
    raise XlscaleError(f"{card.name}: sha256: expected {card.sha256}, rebuilt {sha256}{why}")


def update(card: cards.DataCard, rows: pa.Table) -> str:
    """Write the bundle, and its sha256 and numbers of rows into the card."""
    bundles.write(rows, card.path, card.canary)
    path = MANIFEST / "data" / f"{card.name}.yaml"
    fields = cards.read_yaml(path) | {"sha256": sha256_file(card.path), "splits": bundles.counts(rows)}
    write_text(path, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=110))
    return f"{card.name}: wrote {relative(card.path)} ({len(rows)} rows, {card.path.stat().st_size} bytes)"


def main(arguments: list[str] | None = None) -> int:
    """Rebuild and check every bundled file, or the named ones; 0 if all agree with their cards."""
    parser = argparse.ArgumentParser(prog="python -m xlscale.data", description=__doc__)
    parser.add_argument("names", nargs="*", help="data sets (default: all)")
    parser.add_argument("--packages", type=Path, help="folder with package files (default: $XLSCALE_PACKAGES)")
    parser.add_argument("--update", action="store_true", help="write the bundles and their cards instead of checking")
    options = parser.parse_args(arguments)
    failed = 0
    for name in options.names or cards.names("data"):
        try:
            card = cards.data_card(name)
            if card.builder is None:
                cards.verify(card.path, card.sha256, f"data set {name}")
                print(f"{name}: no builder, the file has the card's sha256")
                continue
            rows = rebuild(card, options.packages)
            print(update(card, rows) if options.update else check(card, rows), flush=True)
        except XlscaleError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())

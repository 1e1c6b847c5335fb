"""Rebuild the bundled files from their packages and compare them with their cards; then prove that nothing that is
tested is trained on: ``python -m data_manifest.builders``. With names it rebuilds these sets, and puts those that are
not bundled in place, which is how ``xlscale.acquire.datasets`` calls it. ``typology``, the table of languages, is no
data set, and is rebuilt like one."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import yaml

from data_manifest.builders import intermediate, typology
from xlscale.acquire.packages import fetch_all
from xlscale.cards import catalogue
from xlscale.cards import typology as languages
from xlscale.cards.schema import DataCard
from xlscale.core import files, strict
from xlscale.core.files import MANIFEST, XlscaleError, relative, sha256_file, write_text
from xlscale.data import contamination, schema
from xlscale.engine import processes

# After all tasks, which these keep away from; lexicons keep away from unlabelled text, too.
LAST = {"unlabelled": 1, "lexicon": 2}
LANGUAGES = "typology"


def ordered(names: Iterable[str]) -> list[str]:
    """Data sets in an order in which every set comes after those whose bundled files it is built from or against.

    Tasks stand as in ``intermediate.ORDER``, those that it does not name by name behind them (they keep away from
    nothing); then unlabelled text, then lexicons.
    """
    rank = {name: index for index, name in enumerate(intermediate.ORDER)}
    return sorted(names, key=lambda name: (LAST.get(catalogue.data_card(name).role, 0), rank.get(name, 1000), name))


def rebuild(card: DataCard, folder: Path | None = None) -> pa.Table:
    """The rows of a data set, built anew from the packages that its card pins. Raises XlscaleError."""
    builder = importlib.import_module(f"data_manifest.builders.{card.builder}")
    return schema.table(card.family, builder.build(card, fetch_all(card.packages, folder)))


def write(card: DataCard, rows: pa.Table, path: Path) -> None:
    """Write the rows of a data set as its bundle is written; of a lexicon hardly any value comes again."""
    schema.write(rows, path, card.canary, dictionary=card.family != "lexicon")


def check(card: DataCard, rows: pa.Table) -> str:
    """Say that ``rows`` give the very file that the card describes, and put it in place where it is not bundled.

    Raises XlscaleError when they do not.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.parquet"
        write(card, rows, path)
        sha256 = sha256_file(path)
    if sha256 == card.sha256:
        if not card.bundled:
            write(card, rows, card.path)
        return f"{card.name}: {len(rows)} rows, sha256 as in the card"
    same = card.bundled and card.path.exists() and schema.read(card.path).equals(rows)
    why = "the rows are the same, so pyarrow writes other bytes than the pinned version"
    why = why if same else "the bytes depend on pyarrow's version and the sets it keeps away from"
    raise XlscaleError(f"{card.name}: sha256: expected {card.sha256}, rebuilt {sha256}; {why}")


def update(card: DataCard, rows: pa.Table) -> str:
    """Write the bundle, and its sha256 and numbers of rows into the card."""
    write(card, rows, card.path)
    path = MANIFEST / "data" / f"{card.name}.yaml"
    fields = strict.read_yaml(path) | {"sha256": sha256_file(card.path), "splits": schema.counts(rows)}
    write_text(path, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=110))
    catalogue.clear_caches()
    return f"{card.name}: wrote {relative(card.path)} ({len(rows)} rows, {card.path.stat().st_size} bytes)"


def of_languages(folder: Path | None, update: bool) -> str:
    """Rebuild the table of languages and say that it is as its card has it, or write it and its hash into the card.

    Raises XlscaleError where it is not.
    """
    card = languages.card()
    table = typology.build(card, fetch_all([card.package], folder))
    sha256 = hashlib.sha256(table.encode()).hexdigest()
    if update:
        write_text(MANIFEST / card.file, table)
        text = languages.CARD.read_text(encoding="utf-8")
        write_text(languages.CARD, text.replace(card.sha256, sha256, 1))
    elif sha256 != card.sha256:
        raise XlscaleError(f"{card.name}: sha256: expected {card.sha256}, rebuilt {sha256}")
    return f"{card.name}: {table.count(chr(10)) - 1} languages, sha256 {'written' if update else 'as in the card'}"


def prove() -> int:
    """Print the short form of the leak proof over all cards, and a line per pair that leaks; how many these are.

    Sets that are not bundled are compared where they have been built on this machine. Raises XlscaleError when a file
    is not what its card says.
    """
    known = [catalogue.data_card(name) for name in ordered(catalogue.names("data"))]
    proofs = contamination.find([card for card in known if card.bundled or card.path.exists()])
    print(contamination.summary(proofs).to_string(index=False, float_format="{:.2f}".format))
    if absent := [card.name for card in known if not card.bundled and not card.path.exists()]:
        print(f"not compared, as they were not built on this machine: {', '.join(absent)}")
    print(f"{len(proofs)} pairs of splits compared, {int(proofs['leak'].sum())} leak", flush=True)
    for line in contamination.lines(proofs):
        print(f"error: {line}", file=sys.stderr)
    return int(proofs["leak"].sum())


def main(arguments: list[str] | None = None) -> int:
    """Rebuild and check every bundled file and prove that nothing leaks, or rebuild and check the named ones; 0 if all
    agree with their cards and nothing leaks."""
    parser = argparse.ArgumentParser(prog="python -m data_manifest.builders", description=__doc__)
    parser.add_argument("names", nargs="*", help="data sets (default: all)")
    parser.add_argument("--packages", type=Path, help="folder with package files (default: $XLSCALE_PACKAGES)")
    parser.add_argument("--update", action="store_true", help="write the bundles and their cards instead of checking")
    parser.add_argument("--proof", action="store_true", help="build nothing, only prove that nothing leaks")
    options = parser.parse_args(arguments)
    failed = 0
    for name in [] if options.proof else options.names or [*ordered(catalogue.names("data")), LANGUAGES]:
        try:
            if name == LANGUAGES:
                print(of_languages(options.packages, options.update), flush=True)
                continue
            card = catalogue.data_card(name)
            if card.builder is None:
                files.verify(card.path, card.sha256, f"data set {name}")
                print(f"{name}: no builder, the file has the card's sha256")
                continue
            rows = rebuild(card, options.packages)
            print(update(card, rows) if options.update else check(card, rows), flush=True)
        except XlscaleError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    if options.proof or not options.names:
        try:
            failed += prove()
        except XlscaleError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    return min(failed, 1)


if __name__ == "__main__":
    processes.die_with_parent()  # a killed `data fetch` leaves no builder behind
    sys.exit(main())

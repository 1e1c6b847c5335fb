"""``make crate``: the record in the formats of other people's tools, in one folder that is a Workflow Run RO-Crate.

Belongs here: which files a crate holds. What stands in those that are made for it: ``interchange``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from xlscale.acquire import new_card
from xlscale.cards import catalogue
from xlscale.cards.schema import DataCard
from xlscale.commands import options
from xlscale.core import manifest
from xlscale.core.files import MANIFEST, RESULTS, ROOT, XlscaleError, relative, verify, write_json, write_text
from xlscale.experiment.cells import NONE
from xlscale.experiment.results import Result
from xlscale.interchange import crate, croissant, model_index, scores
from xlscale.interchange.citation import Citation, citation
from xlscale.record import store


def build(study: str, out: str) -> str:
    """Write the crate of the record into the folder ``out``; returns a line about it. ``study`` says which record.

    The same record, cards and checkout give the same bytes. Raises XlscaleError for a folder that is not empty, and
    for a record that is not as its manifest says or has no cells.
    """
    folder = Path(out)
    options.check_out(folder, f"OUT={out}")
    manifest.check([RESULTS])
    if not (known := store.results()):
        raise XlscaleError(f"{relative(RESULTS)}: expected recorded cells; run `make record STUDY={study}`")
    data, stated = _data(known), manifest.stated([RESULTS])
    with options.begun(folder, f"OUT={out}"):
        _write(folder, known, data, cited := citation())
    if manifest.stated([RESULTS]) != stated:
        raise XlscaleError(f"{relative(RESULTS)}: expected a record that does not change meanwhile; run it again")
    write_json(folder / crate.METADATA, crate.metadata(folder, known, cited))
    return f"{folder / crate.METADATA}: {len(known)} cells, {len(data)} data sets"


def _write(folder: Path, known: dict[str, Result], data: list[DataCard], cited: Citation) -> None:
    """Write all that the metadata tell of."""
    _copy_all(folder, known)
    for card in data:
        _describe(folder / crate.DATA, card, cited)
    for result in known.values():
        if result.phase == "target" and result.status == "complete":
            write_text(folder / crate.MODEL_INDEX / f"{result.id}.yaml", model_index.card(result))
    write_text(folder / crate.SCORES, scores.csv(known))
    write_text(folder / crate.README, crate.readme(cited))


def _copy_all(folder: Path, known: dict[str, Result]) -> None:
    """Copy what is passed on as it is, but for the data."""
    for name in crate.FILES.keys() - {crate.CELLS, crate.SCORES, crate.README}:
        _copy(ROOT / name, folder / name)
    _copy(RESULTS / store.CELLS, folder / crate.CELLS)
    for result in known.values():
        if result.status == "complete":
            name = f"{result.id}.parquet"
            _copy(RESULTS / "predictions" / name, folder / crate.PREDICTIONS / name)
    for model in {result.parameters["model"] for result in known.values()}:
        _copy(MANIFEST / "models" / f"{model}.yaml", folder / crate.MODELS / f"{model}.yaml")


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)


def _data(recorded: dict[str, Result]) -> list[DataCard]:
    """The data sets whose bytes are known: a manifest tells hashes. Of what a user made of own files only what the
    recorded cells read, and nothing whose licence nobody has stated: its text would be passed on. Raises XlscaleError.
    """
    named = {result.parameters.get(role, NONE) for result in recorded.values() for role in ("intermediate", "target")}
    read = {member for name in named - {NONE} for member in catalogue.data_card(name).members}
    known = [*catalogue.names("data"), *filter(catalogue.lock, catalogue.names(catalogue.SOURCES))]
    cards = []
    for name in sorted(known):
        try:
            cards.append(catalogue.data_card(name))
        except XlscaleError as error:
            if name in read:
                raise
            print(f"left out: {error}")
    for card in cards:
        if card.name in read and "licence" in new_card.not_stated(card):
            where = relative(MANIFEST / "data" / f"{card.name}.yaml")
            raise XlscaleError(f"{where}: licence: expected that of data to be passed on, got {card.licence!r}")
    return [card for card in cards if card.name in read or card.source or card.builder]


def _describe(folder: Path, card: DataCard, cited: Citation) -> None:
    """Write the manifest of a data set; where its text may be passed on, which is where it is bundled, its table too,
    with a licence that has to lie beside it."""
    columns = None
    if card.bundled:
        columns = pq.read_schema(verify(card.path, card.sha256, f"the table of {card.name}"))
        _copy(card.path, folder / f"{card.name}.parquet")
        if (licence := card.path.with_suffix(".LICENSE")).exists():
            _copy(licence, folder / licence.name)
    write_json(folder / f"{card.name}.json", croissant.manifest(card, cited, columns))

"""A card of data as a Croissant manifest, the format of machine-learning data sets: mlcommons.org/croissant/1.1.

Belongs here: what a card says, in Croissant's words. No text of a data set gets into a manifest. Files elsewhere are
named by what they are in a registry or repository: package URLs (purl), git's addresses as SPDX has them, ``hf:`` for
the hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from xlscale.cards.catalogue import lock
from xlscale.cards.schema import DataCard
from xlscale.cards.sources import Package
from xlscale.data.schema import COLUMNS, LABELS
from xlscale.interchange.citation import Citation

VERSION = "http://mlcommons.org/croissant/1.1"
PARQUET = (
    "application/x-parquet"  # as mlcroissant and the hub call it; what is registered is application/vnd.apache.parquet
)
OTHER = "application/octet-stream"
TYPES = {  # by the end of a file's name
    ".deb": "application/vnd.debian.binary-package",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".parquet": PARQUET,
    ".tgz": "application/gzip",
    ".tsv": "text/tab-separated-values",
    ".whl": "application/zip",
}
SPLITS = {"train": "cr:TrainingSplit", "dev": "cr:ValidationSplit", "test": "cr:TestSplit"}
# The context of the specification's examples and of mlcroissant, with the terms of its appendix 1; that has http for
# schema.org, which mlcroissant refuses.
_TERMS = (
    "annotation arrayShape citeAs column containedIn equivalentProperty excludes extract field fileProperty fileObject "
    "fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path readLines recordSet references "
    "regex repeated replace samplingRate sdVersion separator source subField transform unArchive value"
)
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS.split()},
}
RECORDS = "records"


def manifest(card: DataCard, cited: Citation, columns: pa.Schema | None = None) -> dict[str, Any]:
    """The manifest of a data set. ``columns``: those of its Parquet file, where that lies beside the manifest; None
    where it does not, and the family's are told.

    The card of external data has to be locked: a hash is part of what a file is.
    """
    file = f"{card.name}.parquet"
    table = {
        "@type": "cr:FileObject",
        "@id": file,
        "name": file,
        "description": "All splits and languages, a row per item." if columns else _elsewhere(card),
        "contentUrl": file,
        "encodingFormat": PARQUET,
        "sha256": card.sha256,
    }
    origins = [*_origins(card)]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": card.name,
        "alternateName": card.title,
        "description": "\n\n".join(filter(None, [card.description, card.differs, card.limits, card.canary])),
        "url": _home(card, origins),
        "version": f"{card.version}.0.0",
        "license": {"@type": "sc:CreativeWork", "name": card.licence},
        "citeAs": card.citation,
        "creator": {
            "@type": "sc:Organization",
            "name": cited.author,
            "description": "who made this table of the work of those whom citeAs names",
        },
        "datePublished": cited.released,
        "inLanguage": sorted({code for languages in card.splits.values() for code in languages}),
        "keywords": [*filter(None, [card.role, card.family, card.type, card.metric, *card.benchmarks])],
        "distribution": [table, *origins],
        "recordSet": [_splits(card), _records(card, file, columns or COLUMNS[card.family])],
    }


def _elsewhere(card: DataCard) -> str:
    fetched = f"`make data-fetch CARD={card.name}`" if card.source else "the first run that reads it"
    return f"Not passed on: made on the user's machine, of the files that are named beside it, by {fetched}."


def _splits(card: DataCard) -> dict[str, Any]:
    fields = [{"@type": "cr:Field", "@id": f"splits/{name}", "dataType": kind} for name, kind in _OF_SPLIT.items()]
    data = [{"splits/name": name, "splits/url": SPLITS[name]} for name in SPLITS if name in card.splits]
    kind = {"@type": "cr:RecordSet", "@id": "splits", "name": "splits", "dataType": "cr:Split"}
    return kind | {"key": {"@id": "splits/name"}, "field": fields, "data": data}


_OF_SPLIT = {"name": "sc:Text", "url": "sc:URL"}


def _records(card: DataCard, file: str, columns: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": RECORDS,
        "name": RECORDS,
        "key": [{"@id": f"{RECORDS}/language"}, {"@id": f"{RECORDS}/item"}],
        "field": [_field(card, file, column) for column in columns],
    }


def _field(card: DataCard, file: str, column: pa.Field) -> dict[str, Any]:
    several = pa.types.is_list(column.type)
    kind = "sc:Integer" if pa.types.is_integer(column.type.value_type if several else column.type) else "sc:Text"
    made = {
        "@type": "cr:Field",
        "@id": f"{RECORDS}/{column.name}",
        "name": column.name,
        "dataType": [kind, "cr:Label"] if LABELS.get(card.family) == column.name else kind,
        "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
    }
    shape = {"isArray": True, "arrayShape": "-1"} if several else {}
    return made | shape | ({"references": {"field": {"@id": "splits/name"}}} if column.name == "split" else {})


def _origins(card: DataCard) -> Iterator[dict[str, Any]]:
    """The files that a data set was made from."""
    for package in card.packages:
        yield _file(package.file, _purl(package), package.sha256)
    found = lock(card.name) if card.source else None
    hubs = {one.address for one in card.source.origins.values() if one.kind == "hub"} if card.source else set()
    for path, (size, sha256) in found.files.items() if found else ():
        yield _file(path, _address(path, found.revisions, hubs), sha256) | {"contentSize": f"{size} B"}


def _file(name: str, address: str, sha256: str) -> dict[str, Any]:
    end = f".{name.rpartition('.')[2]}"
    kind = {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": address}
    return kind | {"encodingFormat": TYPES.get(end, OTHER), "sha256": sha256}


def _purl(package: Package) -> str:
    """The package URL: ``pkg:type/name@version``. An index of a release is no package; it is named by its hash."""
    name, version = package.name, quote(package.version, safe=":")
    if package.client == "pip":
        return f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    if package.client == "npm":
        return f"pkg:npm/{quote(name)}@{version}"
    if "/" in name:
        return f"pkg:generic/{quote(package.file)}?checksum=sha256:{package.sha256}"
    return f"pkg:deb/debian/{name}@{version}"


def _address(path: str, revisions: dict[str, str | None], hubs: set[str]) -> str:
    """Where a file of a lock is; of a folder of the user's, as it is called there."""
    for repository, revision in revisions.items():
        if revision and path.startswith(f"{repository}/"):
            rest = quote(path.removeprefix(f"{repository}/"))
            if repository in hubs:
                return f"hf://datasets/{repository}@{revision}/{rest}"
            return f"git+https://{repository}@{revision}#{rest}"
    return quote(path)


def _home(card: DataCard, origins: list[dict[str, Any]]) -> str:
    """The repository of external data, else the package of the first file; of a user's own, its table."""
    homes = [one.address for one in card.source.origins.values() if one.kind == "git"] if card.source else []
    made_of = origins[0]["contentUrl"] if origins else f"{card.name}.parquet"
    return f"https://{homes[0]}" if homes else made_of

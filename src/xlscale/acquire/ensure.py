"""All that a set of cards needs, acquired up front: what is read later is opened, and never downloaded, built or
converted.

Two doors, which differ in what may be asked of the hub: ``ensure`` asks it for nothing, ``fetch`` downloads from it.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow.parquet as pq

from xlscale.acquire import datasets, hub, models, packages, remote
from xlscale.acquire.external import convert
from xlscale.cards import catalogue, places
from xlscale.cards.schema import DataCard, ModelCard, Package
from xlscale.cards.sources import Gguf, Repository
from xlscale.core.files import XlscaleError, relative, verify
from xlscale.core.seals import sealed
from xlscale.models import hf, ladder, pairs, store


def ensure(data: Iterable[DataCard], model_cards: Iterable[ModelCard]) -> None:
    """Bring what these cards need to this machine, but for downloads from the hub.

    Pinned packages are downloaded, models converted and sets built from them; a set with a source that is locked is
    made from the files that are here. Bundled files are left to those who open them. Safe to call from several
    processes at once; does nothing, and needs no network, where all is here. Raises XlscaleError, a line per card
    that cannot be had, when the others have been acquired. Beside a set of pairs, a model cannot be had whose tokenizer
    does not mark the border of two texts.
    """
    sets, faults = [*data], []
    for card in [*sets, *model_cards]:
        try:
            _ensure(card)
            if isinstance(card, ModelCard) and card.source and any(map(_paired, sets)):
                pairs.check(ladder.tokenizer(card), f"card {card.name}")
        except XlscaleError as error:
            faults.append(str(error))
    if faults:
        raise XlscaleError("\n".join(dict.fromkeys(faults)))


def _ensure(card: DataCard | ModelCard) -> None:
    if isinstance(card, ModelCard):
        # What is locked is made from packages that are here. They may have terms: only ``fetch`` downloads them.
        here = isinstance(card.source, Gguf) and catalogue.lock(card.name) and not packages.missing(_packages(card))
        if card.package or here:
            models.convert(card)
        if card.source:
            hf.checked(card)
    elif card.source:
        convert.ensure(card)
    elif not card.bundled:
        datasets.build(card)


def _paired(card: DataCard) -> bool:
    """Whether a set that is here is read as pairs of texts."""
    if card.family == "classification":
        return card.path.exists() and "second" in pq.read_schema(card.path).names
    return card.family in ("multiple_choice", "span_qa")


def announced(card: DataCard | ModelCard) -> list[str]:
    """What ``fetch`` is going to download for a card: how much, from where, under which licence; a text per place.

    Nothing where all is here, and where ``fetch`` will say what is missing. Of packages nobody knows sizes before.
    """
    try:
        if card.source and isinstance(card, DataCard):
            return [] if catalogue.lock(card.name) and datasets.current(card) else remote.announced(card)
        if isinstance(card.source, Repository):
            sizes = hub.model_sizes(card)
            return [f"{remote.sized(sizes)} from {card.source.address}; licence: {card.licence}"] if sizes != [] else []
        needed = packages.missing(_packages(card))
        return [f"{one.name} {one.version} from {one.client}; licence: {one.licence}" for one in needed]
    except XlscaleError:
        return []


def _packages(card: DataCard | ModelCard) -> list[Package]:
    """The packages that a card is built or converted from, where it is not here."""
    if isinstance(card, ModelCard) and card.source:
        return [] if sealed(places.converted(card.source)) else card.source.parts
    if isinstance(card, ModelCard):
        return [] if sealed(store.path(card)) else [card.package]
    return [] if card.bundled or datasets.current(card) else card.packages


def fetch(card: DataCard | ModelCard) -> str:
    """Bring what a card needs to this machine, from the hub too, checked against its lock, which is written if there is
    none; a line that says what is there. Raises XlscaleError."""
    where = relative(catalogue.lock_path(card.name))
    if isinstance(card, ModelCard):
        if card.source:
            return f"{card.name}: {len(models.download(card).files)} files as in {where}"
        converted = relative(models.convert(card))
        return f"{card.name}: converted from {card.package.name} {card.package.version}, in {converted}"
    if card.source:
        lock = convert.make(card, remote.fetch(card))
        rows = sum(n for languages in lock.splits.values() for n in languages.values())
        other = catalogue.other_sizes(card.name)
        other = f"; not the sizes of the card: {other}" if other else ""
        without = f" ({lock.dropped} left out: their answers are not where they are said to be)" if lock.dropped else ""
        return f"{card.name}: {rows} rows{without} from {len(lock.files)} files, sha256 as in {where}{other}"
    if card.bundled:
        verify(card.path, card.sha256, f"data set {card.name} version {card.version}")
        return f"{card.name}: bundled, sha256 as in the card"
    return f"{card.name}: built from its packages, sha256 as in the card, in {relative(datasets.build(card))}"

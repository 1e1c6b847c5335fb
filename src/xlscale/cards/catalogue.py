"""The cards of this checkout by name, and the locks beside them.

Belongs here: finding, reading and remembering cards and locks. What they hold: ``schema`` and ``sources``.
"""

from __future__ import annotations

import os
from functools import cache, partial
from pathlib import Path
from typing import Literal

from xlscale.cards import mixtures, variants
from xlscale.cards.mixtures import Mixture
from xlscale.cards.schema import DataCard, ModelCard
from xlscale.cards.sources import Lock
from xlscale.cards.variants import Variant
from xlscale.core import manifest
from xlscale.core.files import MANIFEST, XlscaleError, digest, read_json, relative, write_json
from xlscale.core.strict import Schema, parse, read_yaml

# Cards of data that are not in this repository; where what was first fetched of them is pinned.
SOURCES = "sources"
MIXTURES = "mixtures"
BUILDERS = MANIFEST / "builders"  # not in every checkout: what is bundled is built already
LOCKS = Path(os.path.realpath(os.environ.get("XLSCALE_LOCKS") or MANIFEST / "locks"))


@cache
def _load(schema: type[Schema], folder: str, name: str) -> Schema:
    path = MANIFEST / folder / f"{name}.yaml"
    if name not in names(folder):  # and not a path that leads elsewhere
        known = ", ".join(names(folder) + (names(SOURCES) + names(MIXTURES) if folder == "data" else [])) or "none"
        raise XlscaleError(f"unknown {folder.rstrip('s')} {name!r}: expected one of {known}")
    values = read_yaml(path)
    if folder == SOURCES and isinstance(values, dict) and "variant_of" in values:
        variant = parse(Variant, values, relative(path))
        card = variants.card(variant, _original(variant, relative(path)), relative(path))
    else:
        card = parse(schema, values, relative(path))
    if card.name != name:
        raise XlscaleError(f"{relative(path)}: name: expected {name!r} as in the file's name, got {card.name!r}")
    if isinstance(card, DataCard):
        _check_data(card, folder, relative(path))
    return card


def _check_data(card: DataCard, folder: str, where: str) -> None:
    """Raise XlscaleError where a card lies in another folder than such cards do, or names a builder or a data set that
    there is not: of what overlaps, nobody would be told."""
    if (card.source is not None) != (folder == SOURCES):
        raise XlscaleError(f"{where}: source: expected in all cards of {SOURCES}/, and in no card of data/")
    if card.builder and BUILDERS.is_dir() and not (BUILDERS / f"{card.builder}.py").is_file():
        raise XlscaleError(f"{where}: builder: expected a module of {relative(BUILDERS)}, got {card.builder!r}")
    known = {*names("data"), *names(SOURCES)}
    named = {"overlaps_targets": card.overlaps_targets, "translates": [card.translates] if card.translates else []}
    for field, values in named.items():
        if lost := [name for name in values if name not in known]:
            raise XlscaleError(f"{where}: {field}: expected the name of a card, got {lost[0]!r}")


def _original(variant: Variant, where: str) -> DataCard:
    """The card that a variant is one of. Raises XlscaleError where there is none, or it is a variant itself."""
    name = variant.variant_of
    known = read_yaml(MANIFEST / SOURCES / f"{name}.yaml") if name in names(SOURCES) else None
    if not isinstance(known, dict) or "variant_of" in known:
        raise XlscaleError(f"{where}: variant_of: expected a card of {SOURCES} that is no variant itself, got {name!r}")
    return documented(name)


def lock_path(name: str) -> Path:
    """Where the lock of a card is, once something was fetched for it."""
    return LOCKS / f"{name}.json"


@cache
def lock(name: str) -> Lock | None:
    """The lock of a card, None before the first fetch. Raises XlscaleError for one that is broken, or that was changed
    since it was written."""
    path = lock_path(name)
    if not path.exists():
        return None
    try:
        manifest.verify(path, LOCKS)
    except XlscaleError as error:
        raise XlscaleError(f"{error}; remove it and run `make data-fetch CARD={name}`") from None
    values = read_json(path)
    if isinstance(values, dict) and isinstance(values.get("files"), dict):  # JSON has lists only
        files = values["files"].items()
        values |= {"files": {key: tuple(found) if isinstance(found, list) else found for key, found in files}}
    found = parse(Lock, values, relative(path))
    if found.card != name:
        raise XlscaleError(f"{relative(path)}: card: expected {name!r} as in the file's name, got {found.card!r}")
    return found


def write_lock(found: Lock) -> Lock:
    """The lock of a card whose source was fetched for the first time: ``found``, written, unless another process has
    written one meanwhile. Raises XlscaleError where that one does not agree."""
    path = lock_path(found.card)
    with manifest.alone(LOCKS):
        clear_caches()
        if (known := lock(found.card)) is None:
            manifest.write(LOCKS, {path.name: partial(write_json, value=found.model_dump())})
            clear_caches()
        elif known.sha256 != found.sha256:
            raise XlscaleError(
                f"{found.card}: sha256: expected {known.sha256[:16]} as in {relative(path)}, which another fetch has "
                f"written meanwhile, made {found.sha256}; fetch again, as it is now locked"
            )
    return known or found


def documented(name: str) -> DataCard:
    """A card with a source as it is written, with the numbers of rows that were read, whatever its lock says."""
    return _load(DataCard, SOURCES, name)


def _pinned(name: str) -> DataCard:
    """A card with a source, with what its lock says about it."""
    card, found = documented(name), lock(name)
    if found is None:
        described = digest(["not fetched", card.source.model_dump()])
        return card.model_copy(update={"sha256": described, "file": f"{name}.parquet"})
    # A file of its own for every content: fixtures and the real thing do not meet.
    pinned = {"sha256": found.sha256, "splits": found.splits, "file": f"{name}-{found.sha256[:12]}.parquet"}
    return card.model_copy(update=pinned | ({"labels": found.labels} if found.labels else {}))


def clear_caches() -> None:
    """Read every card anew from its file when it is next asked for: some were rewritten."""
    for known in (_load, lock, model_card, data_card):
        known.cache_clear()


def names(folder: Literal["data", "models", "sources", "mixtures"]) -> list[str]:
    """Names of all cards of a kind, sorted: "data" is in this repository or built from packages, "sources" is not,
    "mixtures" are several of them."""
    return sorted(path.stem for path in (MANIFEST / folder).glob("[!.]*.yaml"))


def locked(name: str) -> Lock:
    """The lock of a card with a source. Raises XlscaleError where nothing was fetched: only what is pinned is used."""
    if (found := lock(name)) is None:
        raise XlscaleError(
            f"{name}: not fetched, expected {relative(lock_path(name))}; run `make data-fetch CARD={name}`"
        )
    return found


def other_sizes(name: str) -> str:
    """The first split of a locked set whose number of rows is not what its card says, and how many more there are;
    nothing where all are."""
    found, here = [], locked(name).splits
    for split, languages in documented(name).splits.items():
        for language, rows in languages.items():
            got = here.get(split, {}).get(language, 0)
            if rows is not None and rows != got:
                found.append(f"{split}, {language}: expected {rows} rows as in the card, got {got}")
    return "".join(found[:1]) + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")


def card(name: str) -> DataCard | ModelCard:
    """The card of a data set or of a model. Raises XlscaleError for an unknown name or a broken card."""
    if name in (models := names("models")):
        return model_card(name)
    if name not in (data := names("data") + names(SOURCES)):
        known = ", ".join(data + names(MIXTURES) + models)
        raise XlscaleError(f"unknown card {name!r}: expected one of {known}")
    return data_card(name)


@cache
def model_card(name: str) -> ModelCard:
    """The card of a model. Raises XlscaleError for an unknown name or a broken card."""
    card = _load(ModelCard, "models", name)
    if card.source is None:
        return card
    found = lock(name)
    sha256 = found.sha256 if found else digest(["not fetched", card.source.model_dump()])
    return card.model_copy(update={"member_sha256": sha256})


def healed_card(name: str) -> ModelCard:
    """The card of a model with a healed ladder. Raises XlscaleError for another one."""
    if (card := model_card(name)).healed is None:
        raise XlscaleError(f"data_manifest/models/{name}.yaml: healed: expected the recipe of a healed ladder")
    return card


@cache
def data_card(name: str) -> DataCard:
    """The card of a data set. Raises XlscaleError for an unknown name or a broken card."""
    if name in names(SOURCES) and name in names("data"):
        raise XlscaleError(f"{name}: expected one card of this name, got data/{name}.yaml and {SOURCES}/{name}.yaml")
    if name in names(MIXTURES):
        return _mixture(name)
    return _pinned(name) if name in names(SOURCES) else _load(DataCard, "data", name)


def _mixture(name: str) -> DataCard:
    where = relative(MANIFEST / MIXTURES / f"{name}.yaml")
    if name in (*names("data"), *names(SOURCES)):
        raise XlscaleError(f"{where}: name: expected one that no data set has, got {name!r}")
    known = _load(Mixture, MIXTURES, name)
    if nested := [one for one in known.sets if one in names(MIXTURES)]:
        raise XlscaleError(f"{where}: sets: expected names of sets, got {nested[0]!r}, which is a mixture")
    try:
        return mixtures.card(known, [*map(data_card, known.sets)], where)
    except XlscaleError as error:
        raise error if where in str(error) else XlscaleError(f"{where}: sets: {error}") from None

"""Is what a study reads reachable, and of the revision, hash and size that cards and locks say: ``make data-check``."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import pandas as pd

from xlscale.acquire import git, hub, new_card
from xlscale.acquire.datasets import current
from xlscale.acquire.external import inputs
from xlscale.cards import catalogue, places
from xlscale.cards.schema import DataCard, ModelCard
from xlscale.cards.sources import Gguf, Repository
from xlscale.core import files
from xlscale.core.files import XlscaleError
from xlscale.core.progress import bar
from xlscale.experiment import studies
from xlscale.experiment.cells import NONE
from xlscale.report.markup import markdown

COLUMNS = ["card", "from", "reachable", "revision", "hash", "rows", "verdict"]
LOCKED, ELSEWHERE = "as locked", "other place"
NOT_CHECKED, NOT_BUILT = "not checked", "not built"  # of what is verified when it is first used
FINE = ("agrees", NOT_CHECKED, NOT_BUILT)


def overview(role: str) -> str:
    """A Markdown table of all cards with a source and of one role, as the README has it."""
    head = {
        "target": ("task", "family", "languages", "score"),
        "intermediate": ("set", "family", "type", "contains data of"),
    }
    rows = [(*head[role], "from", "status")]
    rows.append(("---",) * len(rows[0]))
    for card in map(catalogue.documented, catalogue.names(catalogue.SOURCES)):
        if card.role == role:
            origins = card.source.origins.values()
            english = "en" in card.splits.get("test", {}) and card.family not in ("retrieval", "mining")
            about = (str(len(card.languages) + english), card.metric)
            about = about if role == "target" else (card.type, ", ".join(card.overlaps_targets) or "-")
            where = ", ".join(dict.fromkeys(o.address or f"`{o.variable}`" for o in origins))
            rows.append((f"`{card.name}` {markdown(card.title)}", card.family, *about, where, _status(card)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _status(card: DataCard) -> str:
    """Which splits of a set can be had from files that somebody has seen, and without which languages."""
    unseen: dict[str, list[str]] = {}
    whole: dict[str, set[str]] = {}
    for part in card.source.parts:
        for code, name in part.named().items():
            whole.setdefault(part.split, set()).add(code)
            if not any(places.seen(card.source.origins, place, code, name) for place in part.places):
                unseen.setdefault(part.split, []).append(code)
    found = [
        split + (f" without {', '.join(dict.fromkeys(unseen[split]))}" if split in unseen else "")
        for split in whole
        if whole[split] - {*unseen.get(split, [])}
    ]
    if not found:
        return "runs on its fixture; unverified"
    return "verified" if not unseen else f"verified: {', '.join(found)}"


def of_study(name: str) -> tuple[list[DataCard], list[ModelCard]]:
    """The data sets that a study reads, stages included, and its models. Raises XlscaleError."""
    study = studies.load(name)
    named = [one for one in (*dict(study.sets()), *study.targets) if one != NONE]
    wanted = [member for one in named for member in catalogue.data_card(one).members]
    wanted += [stage for one in study.targets for stage in catalogue.data_card(one).stages]
    return [catalogue.data_card(one) for one in dict.fromkeys(wanted)], [
        catalogue.model_card(one) for one in study.models
    ]


def table(found: Iterable[DataCard | ModelCard]) -> pd.DataFrame:
    """A row per card: what COLUMNS say; the verdict is one of FINE, or what does not agree."""
    progress = bar(found, desc="data-check", unit="card")
    return pd.DataFrame([_row(card) for card in progress], columns=COLUMNS)


def layout(found: Iterable[DataCard | ModelCard]) -> pd.DataFrame:
    """A row per set of files that a variable may name: the card, the split, the files' names below the variable, and of
    how many languages they are here. ``{language}`` is a language as the source calls it, ``{code}`` as we do."""
    rows = []
    for card in (one for one in found if isinstance(one, DataCard) and one.source):
        origins = card.source.origins
        for part in card.source.parts:
            for place in (one for one in part.places if origins[one.origin].kind != "git"):
                files = places.told(origins, place, "{code}", "{language}")
                here = sum(bool(places.found(origins, place, code, name)) for code, name in part.named().items())
                rows.append((card.name, part.split, files, f"{here} of {len(part.languages)}"))
    return pd.DataFrame(rows, columns=["card", "split", "files", "here"]).drop_duplicates()


def _row(card: DataCard | ModelCard) -> tuple[str, ...]:
    *about, verdict = _files(card)
    if verdict in FINE and (lacking := new_card.not_stated(card)):
        where = f"data_manifest/{'data' if isinstance(card, DataCard) else 'models'}/{card.name}.yaml"
        verdict = f"{where}: {lacking}: expected what only you can say, got {new_card.NOT_STATED!r}"
    return (*about, verdict)


def _files(card: DataCard | ModelCard) -> tuple[str, ...]:
    if card.source:
        return _sourced(card)
    if isinstance(card, ModelCard):
        return card.name, f"{card.package.client} {card.package.name}", "-", card.package.version, "-", "-", NOT_CHECKED
    if not card.path.exists():
        return card.name, "packages", "-", "-", "-", _counted(card.splits), NOT_BUILT
    try:
        files.verify(card.path, card.sha256, f"data set {card.name}")
        return card.name, "bundled" if card.bundled else "packages", "-", "-", "agrees", _counted(card.splits), "agrees"
    except XlscaleError as error:
        return card.name, "bundled", "-", "-", "differs", "-", str(error)


def _sourced(card: DataCard | ModelCard) -> tuple[str, ...]:
    origins, packed = [], []  # of repositories and folders; of packages
    if isinstance(card, DataCard):
        origins = [*card.source.origins.values()]
    elif isinstance(card.source, Gguf):
        packed = [f"{one.client} {one.name}" for one in card.source.parts]
    else:
        origins = [card.source]
    known, problems = catalogue.lock(card.name), []
    try:
        hashed, fault = _hash(card), "" if known else "not fetched: there is no lock"
        if hashed == ELSEWHERE:
            fault = f"from another place than what was locked, only the rows can tell: make data-fetch CARD={card.name}"
    except XlscaleError as error:
        hashed, fault = "no", str(error)
    reachable, revisions = [], []
    for origin in origins:
        # Of a set that is locked, only where its files came from: other places would have done, and were not asked.
        if origin.kind == "folder" or (known and not known.revisions.get(origin.address)):
            continue
        pinned = origin.revision or (known.revisions[origin.address] if known else None)
        revisions.append(pinned[:10] if pinned else "unverified")
        if hashed not in (LOCKED, ELSEWHERE):  # what is here need not be had again
            answer = _unreachable(origin, pinned or "main", "model" if isinstance(card, ModelCard) else "dataset")
            reachable.append("no" if answer else "yes")
            problems += [answer] if answer else []
    other = catalogue.other_sizes(card.name) if isinstance(card, DataCard) and known else ""
    problems = [one for one in (fault, other, *problems) if one]  # what is here first: a line has its bounds
    where = ", ".join(dict.fromkeys(packed + [origin.address or f"${origin.variable}" for origin in origins]))
    rows = _counted(card.splits) if isinstance(card, DataCard) else "-"
    shown = ["/".join(dict.fromkeys(values)) or "-" for values in (reachable, revisions)]
    return card.name, where, *shown, hashed, rows, "; ".join(problems) or "agrees"


@cache
def _unreachable(origin: Repository, revision: str, kind: str) -> str:
    """Why the hub does not give a revision, or a git repository cannot be asked; nothing if they do."""
    if origin.kind == "git":
        return git.unreachable(origin)
    try:
        hub.commit(origin, revision, kind)
        return ""
    except XlscaleError as error:
        return str(error)


def _hash(card: DataCard | ModelCard) -> str:
    """Whether the files here are those of the lock. Raises XlscaleError where one is not, or is missing."""
    if isinstance(card, ModelCard):
        from xlscale.models import hf

        hf.checked(card)
        return LOCKED
    places.origins(card)  # raises where card and lock name different commits
    if catalogue.lock(card.name) and current(card):
        return LOCKED
    inputs.hashes(card)
    if not catalogue.lock(card.name):
        return "not locked"
    return ELSEWHERE if inputs.elsewhere(card) else LOCKED


def _counted(splits: dict[str, dict[str, int | None]]) -> str:
    sums = {split: [*languages.values()] for split, languages in splits.items()}
    return ", ".join(f"{split} {'?' if None in rows else sum(rows)}" for split, rows in sums.items())

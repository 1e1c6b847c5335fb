"""Cards: one YAML file per model and per data set, checked against a schema.

A card says what a thing is, where it came from, under which licence, and the sha256 of its bytes. Adding a model or
a data set of an existing family means adding a card and a file, no code.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from xlscale.files import CACHE, MANIFEST, XlscaleError, digest, read_json, relative, sha256_file
from xlscale.origins import Lock, Name, Origin, Reference, Sha256, Source, Strict

# Cards of data that are not in this repository; where what was first fetched of them is pinned.
SOURCES = "sources"
LOCKS = Path(os.environ.get("XLSCALE_LOCKS") or MANIFEST / "locks").resolve()


class Package(Strict):
    """A pinned package that files were read from."""

    client: Literal["pip", "npm", "apt"]
    name: str
    version: str
    file: str
    sha256: Sha256
    licence: str


class HealedRung(Strict):
    """How a cut rung was distilled to the whole model, and what has to be added to it: see ``xlscale.healing``."""

    epochs: int
    learning_rate: float
    file: str  # relative to data_manifest/
    sha256: Sha256

    @property
    def path(self) -> Path:
        """The bundled safetensors file."""
        return MANIFEST / self.file


class Healing(Strict):
    """The recipe by which the rungs of a ladder were distilled to the whole model."""

    text: Name  # card of the unlabelled text
    batch_size: int
    max_length: int
    seed: int
    rungs: dict[int, HealedRung]


class ModelCard(Strict):
    """A public pretrained model and the ladder of rungs that is cut from it."""

    name: Name
    title: str
    reader: Name  # module of xlscale.models that turns the weights into a config, tensors and a tokenizer
    package: Package | None = None
    member: str | None = None  # path of the weights inside the package
    member_sha256: Sha256 | None = None  # of a model from the hub: what its lock says
    source: Origin | None = None  # a folder in the transformers layout, instead of a package
    rungs: list[int]  # numbers of layers, the ladder
    healed: Healing | None = None  # None: rungs are cut, and that is all
    prefix: str  # what the model expects before a text
    licence: str
    origin: str
    trained_on: str
    notes: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        packaged = (self.package, self.member, self.member_sha256)
        if (None in packaged) if self.source is None else (packaged != (None, None, None)):
            raise ValueError("package, member, member_sha256: a model has all of them, or a source")
        return self

    def healed_rung(self, layers: int) -> HealedRung | None:
        """What has to be added to a rung; None where it is as it was cut."""
        return self.healed.rungs.get(layers) if self.healed else None


class Cost(Strict):
    """What all rows of a data set cost: tokens, and floating-point operations for one epoch over train (forward and
    backward) and one evaluation of each other split, at ``layers`` layers of ``model``. See ``data.cost``."""

    model: Name
    layers: int
    max_length: int  # tokens of an input, at most
    tokens: dict[Literal["train", "dev", "test"], int]
    tflop: dict[Literal["train", "dev", "test"], float]


class DataCard(Strict):
    """A data set: a target task, an intermediate task, unlabelled text or a lexicon, as one Parquet file.

    A set with a ``source`` is made of other people's files. Hash, numbers of rows and perhaps classes stand in its
    lock; until there is one, ``sha256`` is that of the source's description, ``splits`` is what was read about it.
    """

    name: Name
    title: str
    version: int
    role: Literal["target", "intermediate", "unlabelled", "lexicon"]
    family: Literal[
        *("classification", "multiple_choice", "retrieval", "mining", "ranking", "span_qa", "tagging"),
        *("text", "lexicon"),
    ]
    type: Literal["general", "domain"] | None = None  # of intermediate data
    metric: Literal["accuracy", "f1", "p_at_1", "span_f1", "token_accuracy", "mining_f1", "map_at_20"] | None = (
        None  # of tasks
    )
    chance: float | None = Field(default=None, ge=0, le=1)  # of tasks
    labels: list[str] | None = None  # classification: the classes, in the order of their ids; tagging: types of spans
    tags: Literal["bio", "plain"] = "bio"  # tagging: spans of types, or a label per word
    normalisation: Literal["squad", "mlqa"] = "squad"  # span_qa: of answers, in exact match and F1
    unanswerable: bool = False  # span_qa: some questions have no answer in their context
    languages: list[str]  # of the test split, English left out for zero-shot targets
    splits: dict[str, dict[str, int | None]]  # split -> language -> rows; None: nobody has read how many
    file: str | None = None  # relative to data_manifest/, or to data/ in the cache where it is not bundled
    bundled: bool = True  # False: built at first use from the packages, see data/fetched.py
    sha256: Sha256 | None = None
    builder: Name | None = None  # module of xlscale.data that rebuilds the file; None: the file came as it is
    packages: list[Package] = []
    source: Source | None = None  # other people's files, instead of packages
    benchmarks: list[Literal["xtreme-r", "xtreme"]] = []  # whose target it is
    stages: list[Name] = []  # of a target: sets that are trained on before its own training split, in this order
    doubles: list[Name] = []  # of an intermediate set: targets whose own data it holds, training or test
    translates: Name | None = None  # the set whose machine translation this is
    recipe: Reference | None = None
    licence: str
    citation: str
    description: str
    limits: str
    canary: str | None = None  # a canary string that has to travel with the data
    cost: Cost | None = None  # of tasks

    @model_validator(mode="after")
    def _consistent(self) -> DataCard:
        if self.role == "intermediate" and self.type is None:
            raise ValueError("type: an intermediate data set is 'general' or 'domain'")
        if self.family in ("classification", "tagging") and not (self.labels or self.source):
            raise ValueError(f"labels: a {self.family} data set lists its classes")
        if self.source and (self.bundled or self.file or self.sha256 or self.builder or self.packages):
            raise ValueError(
                "source: a data set with a source has bundled: false, no file, sha256, builder or packages"
            )
        if not self.source and (self.file is None or self.sha256 is None):
            raise ValueError("file, sha256: expected both where there is no source")
        if not self.source and not self.bundled and not (self.builder and self.packages):
            raise ValueError("bundled: a data set that is not bundled has a builder and packages")
        if (self.role in ("unlabelled", "lexicon")) != (self.family in ("text", "lexicon")):
            raise ValueError(f"family: a data set of role {self.role!r} cannot be of family {self.family!r}")
        if self.task != (self.metric is not None) or self.task != (self.chance is not None):
            raise ValueError("metric, chance: a task states both, unlabelled text and lexicons neither")
        return self

    @property
    def task(self) -> bool:
        """Whether it is a task: something to be learnt from labels or asked, unlike unlabelled text and lexicons."""
        return self.role in ("target", "intermediate")

    @property
    def trained(self) -> bool:
        """Whether the task has a training split; retrieval is evaluated as it is."""
        return "train" in self.splits

    @property
    def path(self) -> Path:
        """The Parquet file; not there before its first use where it is not bundled."""
        return MANIFEST / self.file if self.bundled else CACHE / "data" / self.file


Card = TypeVar("Card", bound=BaseModel)


def parse(schema: type[Card], value: object, where: str) -> Card:
    """Check ``value`` against ``schema``; raises XlscaleError with one line that names ``where`` and the field."""
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole)"
        got = "" if isinstance(first["input"], dict | BaseModel) else f", got {first['input']!r}"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise XlscaleError(f"{where}: {field}: {first['msg']}{got}{more}") from None


def read_yaml(path: Path) -> object:
    """Parse YAML with the safe loader; raises XlscaleError naming the file."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise XlscaleError(f"{relative(path)}: not found") from None
    except yaml.YAMLError as error:
        raise XlscaleError(f"{relative(path)}: not valid YAML ({' '.join(str(error).split())})") from None


@cache
def _load(schema: type[Card], folder: str, name: str) -> Card:
    path = MANIFEST / folder / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(names(folder) + (names(SOURCES) if folder == "data" else [])) or "none"
        raise XlscaleError(f"unknown {folder.rstrip('s')} {name!r}: expected one of {known}")
    card = parse(schema, read_yaml(path), relative(path))
    if card.name != name:
        raise XlscaleError(f"{relative(path)}: name: expected {name!r} as in the file's name, got {card.name!r}")
    return card


def lock_path(name: str) -> Path:
    """Where the lock of a card is, once something was fetched for it."""
    return LOCKS / f"{name}.json"


@cache
def lock(name: str) -> Lock | None:
    """The lock of a card, None before the first fetch. Raises XlscaleError for a broken one."""
    path = lock_path(name)
    if not path.exists():
        return None
    values = read_json(path)
    if isinstance(values, dict) and isinstance(values.get("files"), dict):  # JSON has lists only
        values |= {"files": {key: tuple(found) for key, found in values["files"].items() if isinstance(found, list)}}
    return parse(Lock, values, relative(path))


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


def forget() -> None:
    """Read every card anew from its file when it is next asked for: some were rewritten."""
    for known in (_load, lock, model_card, data_card):
        known.cache_clear()


def names(folder: Literal["data", "models", "sources"]) -> list[str]:
    """Names of all cards of a kind, sorted: "data" is in this repository or built from packages, "sources" is not."""
    return sorted(path.stem for path in (MANIFEST / folder).glob("*.yaml"))


def locked(name: str) -> Lock:
    """The lock of a card with a source. Raises XlscaleError where nothing was fetched: only what is pinned is used."""
    if (found := lock(name)) is None:
        raise XlscaleError(
            f"{name}: not fetched, expected {relative(lock_path(name))}; run `make data-fetch CARD={name}`"
        )
    return found


@cache
def model_card(name: str) -> ModelCard:
    """The card of a model. Raises XlscaleError for an unknown name or a broken card."""
    card = _load(ModelCard, "models", name)
    if card.source is None:
        return card
    found = lock(name)
    sha256 = found.sha256 if found else digest(["not fetched", card.source.model_dump()])
    return card.model_copy(update={"member_sha256": sha256})


@cache
def data_card(name: str) -> DataCard:
    """The card of a data set. Raises XlscaleError for an unknown name or a broken card."""
    return _pinned(name) if (MANIFEST / SOURCES / f"{name}.yaml").exists() else _load(DataCard, "data", name)


def verify(path: Path, expected: str, what: str) -> Path:
    """Return ``path`` if its sha256 is ``expected``; raises XlscaleError naming file, field and both hashes."""
    if not path.exists():
        raise XlscaleError(f"{relative(path)}: not found, expected {what}")
    found = sha256_file(path)
    if found != expected:
        raise XlscaleError(f"{relative(path)}: sha256: expected {expected} for {what}, got {found}")
    return path

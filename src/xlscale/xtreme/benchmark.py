"""What a benchmark scores: tasks, groups, languages, file formats and metrics, read from data_manifest/benchmarks/.

A task more, or a language more, is a line of YAML; only a file format that is not there yet needs code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from xlscale.cards.languages import Language
from xlscale.core.files import MANIFEST, XlscaleError, inside, relative
from xlscale.core.lines import Title
from xlscale.core.strict import Distinct, Name, Strict, Text, parse, read_yaml

# What can be computed from the files of each format; all are percentages.
METRICS = {
    "labels": r"accuracy",
    "json_labels": r"accuracy",
    "indices": r"accuracy",
    "tags": r"f1|precision|recall|accuracy",
    "answers": r"(mlqa_)?(exact_match|f1)",
    "pairs": r"f1|precision|recall",
    "ranking": r"map@[1-9][0-9]{0,5}",
}


class Task(Strict):
    """One task: a folder of its name in the predictions and in the labels, with a file per language in each."""

    name: Name
    title: Title
    group: Name
    format: Literal["labels", "json_labels", "indices", "tags", "answers", "pairs", "ranking"]
    file: str = Field(pattern=r"^[^/{}]*\{language\}[^/{}]*$")
    development: str | None = Field(default=None, pattern=r"^[^/{}]*\{language\}[^/{}]*$")  # pairs: sets the threshold
    labels: Annotated[list[Text], Field(min_length=1), Distinct] | None = None  # every label that may occur
    metrics: Annotated[list[str], Field(min_length=1), Distinct]  # what is shown
    score: Annotated[list[str], Field(min_length=1), Distinct]  # the metrics whose mean is the task's score
    languages: list[Language] = Field(min_length=1)
    candidates: dict[
        Language, Annotated[int, Field(ge=1)]
    ] = {}  # indices: how many there are, where it is not one per line
    parallel: bool = False  # what has one id, or where there are none one line, is the same item in every language

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        for metric in self.metrics:
            if not re.fullmatch(METRICS[self.format], metric):
                raise ValueError(f"metrics: {metric!r} cannot be computed from files of format {self.format!r}")
        if not set(self.score) <= set(self.metrics):
            raise ValueError("score: expected some of the metrics")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError("languages: expected each once")
        if (self.labels is not None) != (self.format in ("labels", "json_labels", "tags")):
            raise ValueError("labels: expected for labels, json_labels and tags, and for nothing else")
        if (self.development is not None) != (self.format == "pairs"):
            raise ValueError("development: expected for pairs, and for nothing else")
        if self.development == self.file:
            raise ValueError("development: expected other files than those that are scored")
        longest = max(self.languages, key=len)
        for field, pattern in {"file": self.file, "development": self.development}.items():
            if pattern and not inside(pattern.replace("{language}", longest)):
                raise ValueError(f"{field}: expected the name of a file")
        if self.candidates and self.format != "indices":
            raise ValueError("candidates: expected for indices, and for nothing else")
        if unknown := self.candidates.keys() - set(self.languages):
            raise ValueError(f"candidates: expected some of the languages, got {min(unknown)!r}")
        return self


class Benchmark(Strict):
    """The tasks of a benchmark, in the order in which they are printed."""

    name: Title
    title: Title
    citation: Title
    tasks: list[Task] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Benchmark:
        if len({task.name for task in self.tasks}) < len(self.tasks):
            raise ValueError("tasks: expected each name once")
        return self

    def groups(self) -> dict[str, list[str]]:
        """Names of the tasks of each group; a task is in one group."""
        found: dict[str, list[str]] = {}
        for task in self.tasks:
            found.setdefault(task.group, []).append(task.name)
        return found


def names() -> list[str]:
    """Names of the benchmarks that are described, sorted."""
    return sorted(path.stem.replace("_", "-") for path in (MANIFEST / "benchmarks").glob("[!.]*.yaml"))


def load(name: str) -> Benchmark:
    """Read a benchmark's description, by its name or from a file of yours, such as `make export` writes. Raises
    XlscaleError for an unknown name or a broken description."""
    if name.endswith(".yaml"):
        return parse(Benchmark, read_yaml(Path(name)), name)
    if name not in names():
        raise XlscaleError(f"unknown benchmark {name!r}: expected one of {', '.join(names())}, or a .yaml file")
    path = MANIFEST / "benchmarks" / f"{name.replace('-', '_')}.yaml"
    found = parse(Benchmark, read_yaml(path), relative(path))
    if found.name != name:
        raise XlscaleError(f"{relative(path)}: name: expected {name!r} as in the file's name, got {found.name!r}")
    return found

"""A folder of predictions against a folder of labels: ``<task>/test-<language>.<ext>`` in both, scored and averaged.

An average is over all languages of a task, all tasks of a group, all tasks of the benchmark, or it is not there: what
is missing is named, and never counts as zero or makes an average shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from xlscale.core.files import XlscaleError, printable
from xlscale.xtreme.answers import answer_items, score_answers
from xlscale.xtreme.benchmark import Benchmark, Task
from xlscale.xtreme.items import Items
from xlscale.xtreme.labels import (
    index_items,
    json_label_items,
    label_items,
    score_indices,
    score_json_labels,
    score_labels,
)
from xlscale.xtreme.pairs import pair_items, score_pairs
from xlscale.xtreme.ranking import ranking_items, score_ranking
from xlscale.xtreme.source import Source
from xlscale.xtreme.tags import score_tags, tag_items

FORMATS: dict[str, Callable[[Task, Source, Source], dict[str, float]]] = {
    "labels": score_labels,
    "json_labels": score_json_labels,
    "indices": score_indices,
    "tags": score_tags,
    "answers": score_answers,
    "pairs": score_pairs,
    "ranking": score_ranking,
}
ITEMS: dict[str, Callable[[Task, Source, Source], Items]] = {
    "labels": label_items,
    "json_labels": json_label_items,
    "indices": index_items,
    "tags": tag_items,
    "answers": answer_items,
    "pairs": pair_items,
    "ranking": ranking_items,
}


@dataclass(frozen=True)
class TaskScores:
    """The scores of a task: metric -> percentage for each language that is there, and why others are missing."""

    task: Task
    languages: dict[str, dict[str, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # language -> the file that is not there

    def average(self, metric: str) -> float | None:
        """Mean over all languages of the task, weighted equally; None if one is missing."""
        return None if self.missing else fmean(row[metric] for row in self.languages.values())

    @property
    def score(self) -> float | None:
        """Mean of the metrics that make the task's score; None if a language is missing."""
        return None if self.missing else fmean(self.average(metric) for metric in self.task.score)


@dataclass(frozen=True)
class Scores:
    """The scores of the tasks that were asked for, in the benchmark's order."""

    benchmark: Benchmark
    tasks: dict[str, TaskScores]
    ignored: list[str]  # what the predictions hold beyond that

    def groups(self) -> dict[str, float | None]:
        """Mean over the tasks of each group that was asked for whole; None if a language of one is missing."""
        groups = self.benchmark.groups().items()
        return {group: self._mean(names) for group, names in groups if set(names) <= self.tasks.keys()}

    def overall(self) -> float | None:
        """Mean over all tasks of the benchmark; None if not all were asked for or a language of one is missing."""
        names = [task.name for task in self.benchmark.tasks]
        return self._mean(names) if set(names) <= self.tasks.keys() else None

    def _mean(self, names: Sequence[str]) -> float | None:
        found = [self.tasks[name].score for name in names]
        return None if None in found else fmean(found)


def score_folders(
    benchmark: Benchmark, predictions: Path, labels: Path, names: Sequence[str] = (), allow_missing: bool = False
) -> Scores:
    """Score the tasks ``names``, or all of the benchmark.

    Raises XlscaleError for the first fault: an unknown task, a missing file (before anything is scored; not if
    ``allow_missing`` and something is there), and whatever the readers find in a file.
    """
    tasks = chosen(benchmark, names)
    absent = missing(benchmark, tasks, (predictions, labels), allow_missing)
    found = {task.name: _score_task(task, predictions, labels, absent[task.name]) for task in tasks}
    return Scores(benchmark, found, _ignored(predictions, tasks))


def missing(
    benchmark: Benchmark, tasks: Sequence[Task], folders: Sequence[Path], allow_missing: bool
) -> dict[str, dict[str, str]]:
    """By task and language the files that one of ``folders``, the labels last, lacks.

    Raises XlscaleError for a folder that is not there, and for the first such file; if ``allow_missing``, where there
    is nothing else.
    """
    for folder in folders:
        if not folder.is_dir():
            raise XlscaleError(f"{folder}: not found: expected a folder with a folder per task")
    absent = {task.name: _missing(task, *folders) for task in tasks}
    faults = [fault for found in absent.values() for fault in found.values()]
    if faults and not allow_missing:
        more = f" (and {len(faults) - 1} more: --allow-missing marks them in the table)" if len(faults) > 1 else ""
        raise XlscaleError(f"{faults[0]}{more}")
    if len(faults) == sum(len(task.languages) for task in tasks):
        raise XlscaleError(
            f"{folders[0]}: nothing to score: no task of {benchmark.name} has a file here and in {folders[-1]}"
        )
    return absent


def chosen(benchmark: Benchmark, names: Sequence[str]) -> list[Task]:
    """The tasks of these names, or all. Raises XlscaleError for an unknown one."""
    known = [task.name for task in benchmark.tasks]
    for name in names:
        if name not in known:
            raise XlscaleError(
                f"--tasks: unknown task {name!r}: expected some of {', '.join(known)} of {benchmark.name}"
            )
    return [task for task in benchmark.tasks if not names or task.name in names]


def sources(task: Task, language: str, *folders: Path) -> list[Source]:
    """A task's file of a language in each folder."""
    name = task.file.format(language=language)
    return [Source(folder / task.name / name, task.name, language) for folder in folders]


def _missing(task: Task, *folders: Path) -> dict[str, str]:
    found = {}
    for language in task.languages:
        for source in sources(task, language, *folders):
            if not source.path.is_file():
                found.setdefault(language, str(source.fault("not found")))
    return found


def _score_task(task: Task, predictions: Path, labels: Path, missing: dict[str, str]) -> TaskScores:
    score = FORMATS[task.format]
    languages = {
        language: score(task, *sources(task, language, predictions, labels))
        for language in task.languages
        if language not in missing
    }
    return TaskScores(task, languages, missing)


def _ignored(predictions: Path, tasks: Sequence[Task]) -> list[str]:
    """Files of languages that the benchmark has not, in the folders of the tasks: perhaps misspelt, so worth a word."""
    found = []
    for task in tasks:
        folder = predictions / task.name
        names = [form.format(language=one) for form in (task.file, task.development) if form for one in task.languages]
        if folder.is_dir():
            found += [printable(str(path)) for path in sorted(folder.iterdir()) if path.name not in names]
    return found

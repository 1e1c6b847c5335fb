"""Scores as text for a terminal and as a JSON file."""

from __future__ import annotations

from typing import Any

from xlscale.core.files import bounded
from xlscale.core.lines import each_bounded
from xlscale.xtreme.folders import Scores, TaskScores

WIDTH = 12  # languages side by side
NONE = "-"


def table(scores: Scores) -> str:
    """Every task by language, then the averages by task and group and over all; "-" where something is missing."""
    parts = [_languages(task) for task in scores.tasks.values()]
    parts.append(_averages(scores))
    parts += [f"missing: {fault}" for task in scores.tasks.values() for fault in task.missing.values()]
    unknown = [f"not scored, no such language in {scores.benchmark.title}: {path}" for path in scores.ignored]
    parts += [bounded("\n".join(unknown))] if unknown else []
    return each_bounded("\n".join(parts) + "\n")


def _languages(found: TaskScores) -> str:
    task = found.task
    lines = [f"{task.title} ({task.name}), %"]
    name_width = max(map(len, task.metrics))
    for first in range(0, len(task.languages), WIDTH):
        languages = task.languages[first : first + WIDTH]
        lines.append(" " * (name_width + 2) + "".join(f"{language:>7}" for language in languages))
        lines += [
            f"  {metric:<{name_width}}"
            + "".join(f"{_number(found.languages.get(language, {}).get(metric)):>7}" for language in languages)
            for metric in task.metrics
        ]
    return "\n".join(lines) + "\n"


def _averages(scores: Scores) -> str:
    rows = [("task", "group", "languages", "score", "averages over languages")]
    for found in scores.tasks.values():
        task = found.task
        averages = ", ".join(f"{metric} {_number(found.average(metric))}" for metric in task.metrics)
        present = f"{len(found.languages)} of {len(task.languages)}"
        rows.append((task.title, task.group, present, _number(found.score), averages))
    rows += [(f"mean of {group}", "", "", _number(value), "") for group, value in scores.groups().items()]
    if len(scores.tasks) == len(scores.benchmark.tasks):
        rows.append((f"mean of {scores.benchmark.title}", "", "", _number(scores.overall()), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    )


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def document(scores: Scores) -> dict[str, Any]:
    """All scores, unrounded percentages, for a JSON file; null where something is missing, which ``missing`` names."""
    return {
        "benchmark": scores.benchmark.name,
        "overall": scores.overall(),
        "groups": scores.groups(),
        "tasks": {
            name: {
                "group": found.task.group,
                "score": found.score,
                "score_is_mean_of": found.task.score,
                "averages": {metric: found.average(metric) for metric in found.task.metrics},
                "languages": {
                    metric: {
                        language: found.languages[language][metric] if language in found.languages else None
                        for language in found.task.languages
                    }
                    for metric in found.task.metrics
                },
                "missing": found.missing,
            }
            for name, found in scores.tasks.items()
        },
        "not_scored": scores.ignored,
    }

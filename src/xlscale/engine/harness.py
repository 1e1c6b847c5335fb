"""lm-evaluation-harness (Gao et al., EleutherAI), by which others prompt models: run as a process of its own on a
folder, and never imported.

Belongs here: how it is called, and the schema of what it writes. Its tasks are code and texts of others: they come from
the installed package, or from a folder that the user names.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from xlscale.core.files import HUB_ENVIRONMENT, XlscaleError, one_line, read_text, relative
from xlscale.core.format import listing
from xlscale.core.json_text import once
from xlscale.core.strict import SHORT, Sha256, Strict, parse
from xlscale.engine import processes

PACKAGE, EXTRA = "lm_eval", "prompted"
MODEL, OUTPUT, LOG = "model", "output", "log.txt"  # in the folder that it runs in
_TASK = re.compile(r"[A-Za-z0-9][\w.+-]*(?<!\.yaml)", re.ASCII)  # others it takes for files, folders or patterns
_STDERR = "_stderr"
_END = 2**14  # bytes of a log that are looked at


class _Written(Strict, extra="ignore"):
    """What others write, of which only the fields here are read."""


class _Samples(_Written):
    effective: Annotated[int, Field(ge=1)]


class _Config(_Written):
    model_dtype: str
    model_num_parameters: Annotated[int, Field(ge=1)]
    random_seed: int
    numpy_seed: int
    torch_seed: int
    fewshot_seed: int


class Output(_Written):
    """What the harness writes about a run: metrics by task, called "metric,filter", and how each task was asked.

    ``task_hashes``: of each task the sha256 of its items, prompts and answers.
    """

    results: dict[str, dict[str, Any]]
    group_subtasks: dict[str, list[str]] = {}
    versions: dict[str, int | float | str | None]
    shots: dict[str, Annotated[int, Field(ge=0)]] = Field(alias="n-shot")
    samples: dict[str, _Samples] = Field(alias="n-samples")
    task_hashes: dict[str, Sha256]
    config: _Config
    lm_eval_version: str

    def tasks(self) -> list[str]:
        """The tasks that were asked, without groups of them."""
        return [name for name in self.results if not self.group_subtasks.get(name)]


class Metric(Strict):
    """One number of a task. ``chosen``: the filter behind which it was measured, "none" where there is none."""

    metric: str
    chosen: str
    value: float
    stderr: float | None


def installed() -> str:
    """The version of the harness. Raises XlscaleError where it is not installed."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        how = f"run `.venv/bin/pip install -e '.[{EXTRA}]'`"
        raise XlscaleError(f"{PACKAGE}: expected lm-evaluation-harness, not installed; {how}") from None


def check(tasks: list[str], include: Path | None) -> None:
    """Raise XlscaleError for a task that the harness has not, nor the folder of tasks ``include``."""
    for name in tasks or [""]:
        if not _TASK.fullmatch(name):
            raise XlscaleError(f"--tasks: expected names of tasks of {PACKAGE}, got {SHORT.repr(name)}")
    command = ["validate", f"--tasks={','.join(tasks)}", *_included(include)]
    done = subprocess.run(_command(*command), env=_environment(False), stdin=subprocess.DEVNULL, capture_output=True)
    said = done.stdout.decode(errors="replace")
    if found := re.search(r"^Tasks not found: (.*)", said, re.MULTILINE):
        raise XlscaleError(
            f"--tasks: expected tasks of {PACKAGE} {installed()}, got {found[1]}; "
            f"`.venv/bin/python -m {PACKAGE} ls tasks` lists them"
        )
    if done.returncode:
        raise XlscaleError(f"{PACKAGE} validate: {_last(said + done.stderr.decode(errors='replace'))}")


def run(
    folder: Path,
    tasks: list[str],
    *,
    shots: int | None,
    limit: int | None,
    batch: int,
    device: str,
    dtype: str,
    include: Path | None,
    fetch: bool,
) -> Output:
    """Prompt the model in ``folder / MODEL`` and give what the harness writes about it.

    ``fetch``: it may ask the hub for what its tasks read. Raises XlscaleError, with the last line that it said, where
    it fails, and where it does not write what the schema has.
    """
    command = [
        *("run", "--model", "hf", f"--model_args=pretrained={MODEL},dtype={dtype}", f"--tasks={','.join(tasks)}"),
        *("--device", device, "--batch_size", str(batch), "--output_path", OUTPUT, "--log_samples"),
        *([] if shots is None else ["--num_fewshot", str(shots)]),
        *([] if limit is None else ["--limit", str(limit)]),
        *_included(include),
    ]
    with open(folder / LOG, "wb") as log:
        call = {"cwd": folder, "env": _environment(fetch), "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        code = subprocess.run(_command(*command), **call).returncode
    written = sorted((folder / OUTPUT).glob("*/results_*.json"))
    if code or not written:
        how = f"ended with code {code}" if code else "wrote no results"
        raise XlscaleError(f"{PACKAGE}: {how} ({_end(folder / LOG)}); all that it said: {relative(folder / LOG)}")
    where = f"{PACKAGE} {installed()}: {written[-1].name}"
    output = parse(Output, _read(written[-1]), where)
    if (found := output.config.model_dtype) != f"torch.{dtype}":
        raise XlscaleError(f"{where}: config.model_dtype: expected torch.{dtype}, got {SHORT.repr(found)}")
    for name in output.tasks():
        for field in ("versions", "shots", "samples", "task_hashes"):
            if name not in getattr(output, field):
                raise XlscaleError(f"{where}: {Output.model_fields[field].alias or field}: expected {name} among them")
    return output


def _read(path: Path) -> Any:
    """The JSON that the harness writes, None for numbers that are not finite, which it may have."""
    try:
        return json.loads(read_text(path), object_pairs_hook=once, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise XlscaleError(f"{relative(path)}: not valid JSON ({one_line(error)})") from None


def lost(output: Output, task: str) -> list[str]:
    """The metrics of a task that are not finite: the mean of nothing, or a fault of the task."""
    return [key for key, value in output.results[task].items() if "," in key and value is None]


def metrics(output: Output, task: str) -> list[Metric]:
    """The finite numbers of a task. Raises XlscaleError where it has no metric, or one that is no number."""
    found = []
    for key, value in output.results[task].items():
        metric, comma, chosen = key.partition(",")
        if comma and value is not None and not metric.endswith(_STDERR):
            error = output.results[task].get(f"{metric}{_STDERR},{chosen}")
            error = None if error == "N/A" else error
            values = {"metric": metric, "chosen": chosen, "value": value, "stderr": error}
            found.append(parse(Metric, values, f"{PACKAGE}: {task}: {key}"))
    if not found and not lost(output, task):
        raise XlscaleError(f"{PACKAGE}: {task}: expected a metric, got {listing(output.results[task])}")
    return found


def _included(include: Path | None) -> list[str]:
    return [f"--include_path={include}"] if include else []


# The harness as ``python -m``, in a process that ends with the one that has started it, however that ends.
_WATCHED = f"""
import runpy
from xlscale.engine import processes
processes.die_with_parent()
runpy.run_module({PACKAGE!r}, run_name="__main__", alter_sys=True)
"""


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-c", _WATCHED, *arguments]  # -P: nothing in the folder is taken for a module


def _environment(fetch: bool) -> dict[str, str]:
    """That of a cell, so that it computes alike; it asks no hub unless it is to ``fetch``."""
    offline = "0" if fetch else "1"
    told = {"HF_HUB_OFFLINE": offline, "HF_DATASETS_OFFLINE": offline, "PYTHONUNBUFFERED": "1"}
    return processes.environment() | HUB_ENVIRONMENT | told


def _end(path: Path) -> str:
    """The last line of a log, however long it is."""
    with open(path, "rb") as log:
        log.seek(max(0, path.stat().st_size - _END))
        return _last(log.read().decode(errors="replace"))


def _last(said: str) -> str:
    """The last line of what a program said."""
    lines = [line for line in re.split(r"[\r\n]+", said) if line.strip()]
    return one_line(lines[-1] if lines else "it said nothing", 200)

"""A sweep on a Slurm cluster: which cells are a job, what that asks for, how it is submitted, what it does on its node.

A job is a model in one condition with one seed: its training on an intermediate set and all its targets, one after the
other, since asking for a job and seeing it end takes a minute. Cells stay what is complete or is not: a job that comes
again goes on behind the last one. Snakemake's own groups would do the same in name, but run what is independent side by
side, on one GPU, and are no arrays.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xlscale.core import registry, saving
from xlscale.core.files import ROOT, RUNS, XlscaleError, digest, relative, write_json
from xlscale.core.strict import read_yaml
from xlscale.engine import fork_server, processes, runner
from xlscale.experiment.cells import Cell
from xlscale.experiment.results import RESULT

FOLDER = ROOT / "profiles"
LOCAL, EXECUTOR = "local", "slurm"
LONGER, LEAST = 2.0, 10  # a job may take so many times as long as is planned, and minutes at least
BESIDE = 512  # MB of a job's other processes, which are Snakemake twice and what begins one cell after the other
CONFIG = "config.yaml"
EVERY = "15"  # minutes between two states of a training
END = "SLURM_JOB_END_TIME"  # environment variable of a job: when its time is over, in seconds since 1970


@dataclass(frozen=True)
class Cluster:
    """``profile``: the folder of Snakemake's profile; ``hardware``: the name of what the cluster's GPUs are."""

    profile: Path
    hardware: str
    jobs: int | None = None  # in the queue at a time; None: as the profile says


def chosen(name: str, hardware: str, jobs: int | None) -> Cluster | None:
    """The cluster of a profile, by its name in ``profiles/`` or the path of its folder; None for this machine.

    Raises XlscaleError where there is no such profile, or its plug-in is not installed.
    """
    folder = FOLDER / name if (FOLDER / name / CONFIG).exists() else Path(name).absolute()
    if not (folder / CONFIG).exists():
        known = sorted(path.parent.name for path in FOLDER.glob(f"*/{CONFIG}"))
        expected = f"{', '.join(known)}, or a folder that holds {CONFIG}"
        raise XlscaleError(f"unknown profile {name!r}: expected one of {expected}")
    said, ours = read_yaml(folder / CONFIG), folder.parent == FOLDER
    executor = said.get("executor", LOCAL if ours else None) if isinstance(said, dict) else None
    if executor == LOCAL and ours:
        return None
    if executor != EXECUTOR:
        raise XlscaleError(f"{relative(folder / CONFIG)}: executor: expected {EXECUTOR}, got {executor!r}")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        raise XlscaleError(
            f"profile {name!r}: snakemake-executor-plugin-slurm is not installed, expected: pip install -e '.[slurm]'"
        )
    if shutil.which("sbatch") is None:
        raise XlscaleError(f"profile {name!r}: sbatch not found, expected on a machine that submits to a cluster")
    return Cluster(folder, hardware, jobs)


def jobs(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """The jobs that complete ``cells``: name -> cells, parents before children; what a job needs of another is in one
    that comes earlier."""
    found: dict[str, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: len(cell.lineage())):
        found.setdefault(_job_of(cell), []).append(cell)
    return found


def _job_of(cell: Cell) -> str:
    if cell.phase == "pretrained":
        return cell.id
    p = cell.parameters
    trained = cell if cell.phase == "intermediate" else cell.parent if cell.parent.phase == "intermediate" else None
    key = trained.id if trained else digest([cell.parent.id, cell.condition, p.seed])
    shown = re.sub(r"\W+", "-", f"{p.model}-k{p.layers}-{(trained or cell).condition}-s{p.seed}")
    return f"{shown}-{key[-10:]}"


def planned(cells: Sequence[Cell], hardware: str) -> dict[str, dict[str, Any]]:
    """What the Snakefile is told of each job: its cells, the jobs that come before it, its rule, and what it asks for.

    Jobs of one rule that may become an array, those of pretrained models, ask for the same.
    """
    from xlscale.planning import hardware as hardware_
    from xlscale.planning import resources

    each = resources.of(cells, hardware_.load(hardware))
    members = jobs(cells)
    job_of = {cell.id: name for name, own in members.items() for cell in own}
    found, shared = {}, {}
    for name, own in members.items():
        total = resources.in_turn(each[cell.id] for cell in own)
        rule = "condition" if own[0].phase != "pretrained" else f"pretrained_{total.gpus}"
        parents = {cell.parent.id for cell in own if cell.parent}
        found[name] = {
            "cells": [cell.id for cell in own],
            "after": sorted({job_of[one] for one in parents if one in job_of} - {name}),
            "rule": rule,
            "gpu": total.gpus,
            "cpus_per_task": total.cores,
            "mem_mb": BESIDE + math.ceil(total.memory / 2**20),
            "runtime": LEAST + math.ceil(LONGER * 60 * total.hours),
        }
        if rule != "condition":
            shared.setdefault(rule, []).append(found[name])
    for alike in shared.values():
        most = {what: max(job[what] for job in alike) for what in ("mem_mb", "runtime", "cpus_per_task")}
        for job in alike:
            job |= most
    return found


@contextmanager
def submission(cells: Sequence[Cell], cluster: Cluster, runs: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Snakemake's arguments and environment variables to run ``cells`` as jobs, while the block runs.

    What the jobs read lies in a folder of this launch below ``runs``, which all nodes see.
    """
    launch = f".launch-{secrets.token_hex(4)}"
    told = planned(cells, cluster.hardware)
    arrays = sorted({job["rule"] for job in told.values()} - {"condition"})
    print(f"{len(cells)} cells in {len(told)} jobs", flush=True)
    (runs / launch).mkdir()
    try:
        write_json(runs / launch / "config.json", {"launch": launch, "jobs": told})
        arguments = ["--snakefile", str(FOLDER / EXECUTOR / "Snakefile"), "--profile", str(cluster.profile)]
        arguments += ["--configfile", str(runs / launch / "config.json")]
        arguments += ["--slurm-array-jobs", ",".join(arrays)] if arrays else []
        arguments += ["--jobs", str(cluster.jobs)] if cluster.jobs else []
        yield arguments, {}
    finally:
        shutil.rmtree(runs / launch, ignore_errors=True)


def run_in_turn(cell_ids: Sequence[str], runs: Path = RUNS, environment: Mapping[str, str] = os.environ) -> bool:
    """Run cells one after the other, each in a process of its own, and none whose parent crashed; whether none did.

    What a job does on its node. Whatever ends this process ends the cell that runs, which leaves a state of its
    training, and the job goes on from it when it comes again.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(processes.TERMINATED))
    own = _resumable(environment) | {processes.WATCHED: str(os.getpid())}
    crashed: set[str] = set()
    with fork_server.private_folder() as private, _serving(private, own) as address:
        for cell in map(runner.find, cell_ids):
            if cell.parent and cell.parent.id in crashed:
                crashed.add(cell.id)
                continue
            if (runs / cell.id / RESULT).exists():
                continue
            print(f"{cell.id}: begins", flush=True)
            with open(runs / cell.id / "log.txt", "ab") as log:
                command = [sys.executable, "-m", "xlscale", "run", cell.id]
                process = subprocess.Popen(command, env=own | address, stdout=log, stderr=subprocess.STDOUT)
                try:
                    code = process.wait()
                finally:
                    processes.finish(process)
            print(f"{cell.id}: ended with exit code {code}", flush=True)
            if code:
                crashed.add(cell.id)
    return not crashed


def _resumable(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which trainings leave states, the last before Slurm ends the job, unless it says otherwise."""
    states = {saving.EVERY: EVERY} | ({saving.DEADLINE: environment[END]} if END in environment else {})
    return states | {**environment}


def _serving(private: str, environment: Mapping[str, str]) -> AbstractContextManager[dict[str, str]]:
    """The fork server of a job; on a GPU every cell imports for itself."""
    if registry.backend() != "cpu":
        return nullcontext({})
    return fork_server.serving(private, environment, sys.stderr, at_once=True)

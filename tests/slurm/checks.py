"""What a sweep does on a Slurm cluster: tests/slurm/run starts one and calls this, which pytest collects nowhere else.

The checks are in order, and go on from each other: one sweep of the smoke study, of whose jobs one is started again by
Slurm and one is cancelled while a model is trained, then the same sweep again. The machine at hand computes what is
compared.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import yaml
from conftest import processes, start, wait, xlscale

from xlscale.commands import checkouts
from xlscale.core.files import ROOT
from xlscale.engine import lock, slurm
from xlscale.experiment import results, studies
from xlscale.experiment.cells import Cell

LONG = 1200  # seconds
TWO = """
name: two
title: Two pretrained rungs
models: {e5_small: [1, 2]}
intermediate: [none]
targets: [udhr]
seeds: [1]
intermediate_recipe: {examples: 32, epochs: 1, learning_rate: 2.0e-4, batch_size: 8, max_length: 64, test_items: 8}
target_recipes: {udhr: {max_length: 32, test_items: 8}}
only:
  - {phase: pretrained}
"""


@pytest.fixture(scope="module")
def shared():
    """A folder that all nodes see. What sweeps check out to run is removed."""
    given, before = os.environ.get("XLSCALE_SLURM_RUNS"), set(checkouts.FOLDER.glob("*"))
    with tempfile.TemporaryDirectory(prefix="xlscale-checks-", dir=given) as folder:
        yield Path(folder)
    for code in set(checkouts.FOLDER.glob("*")) - before:
        subprocess.run(["git", "worktree", "remove", "--force", str(code)], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def runs(shared):
    return shared / "runs"


@pytest.fixture(scope="module")
def profile(shared):
    """The project's profile, or that of a real cluster, but that jobs are looked at more often, and no failed job is
    submitted again behind a check's back."""
    given = Path(os.environ.get("XLSCALE_SLURM_PROFILE", ROOT / "profiles" / "slurm"))
    values = yaml.safe_load((given / "config.yaml").read_text()) | {
        "slurm-init-seconds-before-status-checks": 3,
        "retries": 0,
    }
    if "XLSCALE_SLURM_PROFILE" not in os.environ:
        values["slurm-status-command"] = "squeue"  # there is no accounting
    (shared / "profile").mkdir()
    (shared / "profile" / "config.yaml").write_text(yaml.safe_dump(values))
    return str(shared / "profile")


@cache
def smoke() -> list[Cell]:
    return studies.load("smoke").cells()


def member(condition: str, target: str | None) -> Cell:
    """A cell of the smoke study; without a target that of the intermediate training."""
    return next(c for c in smoke() if c.condition == condition and getattr(c.parameters, "target", None) == target)


def slurm_jobs(*states: str) -> dict[str, str]:
    """Id -> state of this user's jobs."""
    command = ["squeue", "--me", "--noheader", "--format=%i %T", f"--states={','.join(states) or 'all'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def unfinished() -> dict[str, str]:
    return slurm_jobs("PENDING", "RUNNING", "COMPLETING", "SUSPENDED")


def submitted(runs: Path, cell: Cell) -> list[str]:
    """Ids of the Slurm jobs that were submitted for a cell's job, as Snakemake's log has them."""
    (name,) = (name for name, own in slurm.jobs(smoke()).items() if cell in own)
    log = (runs / "snakemake.log").read_text()
    return re.findall(rf"SLURM jobid (\d+) \(log: \S*/{re.escape(name)}/", log)


def in_training(runs: Path, condition: str, command: list[str]) -> None:
    """Call a command of Slurm with the job of a condition as soon as its first target is being trained."""
    cell = member(condition, "topic")
    wait(lambda: (runs / cell.id / "executed.ipynb").exists(), LONG)
    done = subprocess.run([*command, submitted(runs, cell)[-1]], capture_output=True, text=True)
    assert done.returncode == 0 and not (runs / cell.id / results.RESULT).exists(), done.stderr


def completed(runs: Path) -> dict[str, int]:
    """Id -> time of completion of all complete cells."""
    return {path.parent.name: path.stat().st_mtime_ns for path in runs.glob(f"*/{results.RESULT}")}


@pytest.fixture(scope="module")
def first(runs, profile):
    """The smoke study: the job of one condition was begun again by Slurm, that of another was cancelled."""
    runs.mkdir()
    with ThreadPoolExecutor() as pool:
        sweep = pool.submit(xlscale_long, "sweep", "--study", "smoke", "--profile", profile, runs=runs)
        again = pool.submit(in_training, runs, "squad_amazon", ["scontrol", "requeue"])
        cancelled = pool.submit(in_training, runs, "squad_amazon, shuffled labels", ["scancel"])
        again.result(), cancelled.result()
        return sweep.result()


def xlscale_long(*arguments: str, runs: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "xlscale", *arguments],
        env=os.environ | {"XLSCALE_RUNS": str(runs)}, cwd=ROOT, capture_output=True, text=True, timeout=LONG,
    )  # fmt: skip


def test_the_smoke_study_ends_but_for_the_job_that_was_cancelled(first, runs):
    assert "13 cells in 8 jobs" in first.stdout, first.stdout + first.stderr
    lost = {member("squad_amazon, shuffled labels", target).id for target in ("topic", "udhr")}
    assert {cell.id for cell in smoke()} - completed(runs).keys() == lost, first.stdout + first.stderr
    assert first.returncode == 1 and "2 cells were not run" in first.stderr


def test_a_job_that_slurm_starts_again_goes_on_where_it_was_once(first, runs):
    cell = member("squad_amazon", "topic")
    (job,) = submitted(runs, cell)
    about = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
    assert "Restarts=1 " in about and "JobState=COMPLETED" in about
    began = completed(runs)
    assert began[cell.parent.id] < began[cell.id]
    for one in (cell, cell.parent, member("squad_amazon", "udhr")):
        assert (runs / one.id / "log.txt").read_text().count("complete in") == 1
    held = json.loads((runs / cell.id / lock.HOLDER).read_text())
    assert held["job"] == job and not (runs / cell.id / lock.OF_ALL).exists()


def test_a_cancelled_job_s_cells_are_run_by_the_same_command(first, runs, profile):
    before = completed(runs)
    done = xlscale_long("sweep", "--study", "smoke", "--profile", profile, runs=runs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 cells in 1 jobs" in done.stdout
    assert {name: time for name, time in completed(runs).items() if name in before} == before
    assert not list(runs.glob(".launch-*"))


def test_predictions_are_those_of_a_sweep_without_a_cluster(first, runs, smoke_runs):
    for cell in smoke():
        here, there = results.result_of(cell, smoke_runs), results.result_of(cell, runs)
        assert there.status == "complete"
        if here.environment["machine"] == there.environment["machine"]:
            assert here.predictions_sha256 == there.predictions_sha256, cell.id
        assert results.altered(runs / cell.id) is None


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_who_ends_a_sweep_cancels_its_jobs(sign, shared, profile):
    own = shared / f"ended-{sign}"
    own.mkdir()
    sweep = start(own, "sweep", "--study", "smoke", "--profile", profile)
    wait(lambda: sweep.poll() is not None or slurm_jobs("RUNNING"), LONG)
    assert sweep.poll() is None
    sweep.send_signal(sign)
    sweep.wait(120)
    wait(lambda: not unfinished(), 120)
    wait(lambda: not processes("", own), 60)


def test_jobs_of_pretrained_models_are_an_array(shared, profile):
    (shared / "studies").mkdir()
    (shared / "studies" / "two.yaml").write_text(TWO)
    own = shared / "array"
    own.mkdir()
    command = ["sweep", "--study", "two", "--profile", profile]
    done = xlscale(*command, runs=own, check=False, XLSCALE_STUDIES=str(shared / "studies"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(completed(own)) == 2
    assert "Submitted array job" in (own / "snakemake.log").read_text()


def test_nothing_is_left(first, shared, runs):
    assert not unfinished()
    time.sleep(1)
    assert not processes("", shared)

"""A sweep on a cluster, as far as it needs none: jobs, what they ask for, what they do, and locks that hold across
machines. tests/slurm/run does the rest on a Slurm."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import wait

from xlscale.commands import cell as cell_
from xlscale.commands import checkouts, sweeps
from xlscale.core import machine, registry, saving
from xlscale.core.files import ROOT, XlscaleError
from xlscale.engine import lock, runner, slurm
from xlscale.experiment import cells, results, studies
from xlscale.planning import hardware, resources
from xlscale.planning.resources import Resources
from xlscale.record import canary, store

H100 = hardware.load("h100")
# A machine of its own, as far as locks can tell: flock does not reach it, and its name differs.
MACHINE = """
import json, os, signal, socket, sys, time
name, folder, settings, work = sys.argv[1:]
socket.gethostname = lambda: name
from pathlib import Path
from xlscale.engine import lock, runner
lock.OF_NODE = f".lock-{name}"
for key, value in json.loads(settings).items():
    setattr(lock, key, value)
folder = Path(folder)
exec(work)
"""
QUICK = {"LEASE": 2.0, "BEAT": 0.2, "POLL": 0.1}
HOLD = "with lock.held(folder):\n    print('held', flush=True)\n    time.sleep(60)"
TAKE = "with lock.held(folder):\n    print('taken', flush=True)"


@pytest.fixture
def elsewhere(tmp_path):
    """``elsewhere(name, work)``: a process of another machine that does it; all are ended at the end."""
    started = []

    def begin(name: str, work: str, path: str = os.environ["PATH"], **settings) -> subprocess.Popen:
        command = [sys.executable, "-c", MACHINE, name, str(tmp_path), json.dumps(QUICK | settings), work]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PATH": path}
        environment |= {lock.JOB: "7"} if name == "in_job" else {}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen, seconds: float = 60) -> str:
    """What a process prints until it ends, which it does well."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out


def holding(process: subprocess.Popen) -> subprocess.Popen:
    assert process.stdout.readline() == "held\n"
    return process


def test_two_machines_never_hold_a_lock_at_once(elsewhere, tmp_path):
    work = """
inside = folder / "inside"
for _ in range(8):
    with lock.held(folder):
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        time.sleep(0.05)
        os.unlink(inside)
        print("once")
"""
    started = [elsewhere(name, work) for name in ("a", "b", "c")]
    assert [ended(process).count("once") for process in started] == [8, 8, 8]


def test_the_lock_of_a_machine_that_died_is_taken_when_nobody_has_touched_it_for_long(elsewhere, tmp_path):
    dead = holding(elsewhere("a", HOLD))
    dead.kill()
    dead.wait()
    began = time.monotonic()
    assert lock.is_held(tmp_path)
    other = elsewhere("b", TAKE)
    assert ended(other) == "taken\n" and time.monotonic() - began > QUICK["LEASE"]
    assert not lock.is_held(tmp_path)


@pytest.mark.parametrize("clock", [0, 10**6, pytest.param(-(10**6), marks=pytest.mark.again)])
def test_a_lock_is_not_taken_from_who_lives_whatever_the_clocks_say(clock, elsewhere, tmp_path):
    live = holding(elsewhere("a", HOLD))
    skewed = f"now = time.time\ntime.time = lambda: now() + {clock}\n{TAKE}"
    other = elsewhere("b", skewed)
    refused = other.stderr.readline()
    assert f"waits for process {live.pid} on a, which computes it" in refused
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(2 * QUICK["LEASE"])
    assert lock.is_held(tmp_path)


def test_one_on_this_machine_that_died_is_told_at_once(elsewhere, tmp_path):
    dead = holding(elsewhere(lock.socket.gethostname(), HOLD, OF_NODE=".lock"))
    assert lock.is_held(tmp_path)
    dead.kill()
    dead.wait()
    assert not lock.is_held(tmp_path)
    with lock.held(tmp_path):
        assert (tmp_path / lock.OF_ALL).exists()
    assert not (tmp_path / lock.OF_ALL).exists()


def test_a_machine_of_the_same_name_is_waited_for_as_any_other(elsewhere, tmp_path):
    """Its processes are not among those of this one, so that nobody here can tell whether they live."""
    (tmp_path / "boot").write_text("another\n")
    other = f"lock.BOOT = Path({str(tmp_path / 'boot')!r})\nos.getpid = lambda: 2**22 + 1\n{HOLD}"
    name = lock.socket.gethostname()
    live = holding(elsewhere(name, other, OF_NODE=".lock-other"))
    waiting = elsewhere(name, TAKE)
    assert f"waits for process {2**22 + 1} on {name}, which computes it; if that ended" in waiting.stderr.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(2 * QUICK["LEASE"])
    assert lock.is_held(tmp_path)
    live.kill()
    assert ended(waiting) == "taken\n"


def test_nor_is_its_lock_taken_before_it_has_said_where_it_is(elsewhere, tmp_path):
    name = lock.socket.gethostname()
    silent = f"os.getpid = lambda: 2**22 + 1\nlock.write_json = lambda *_: None\n{HOLD}"
    with lock.held(tmp_path):  # who had it before is of this machine
        pass
    holding(elsewhere(name, silent, OF_NODE=".lock-other"))
    waiting = elsewhere(name, TAKE)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(2 * QUICK["LEASE"])


def test_who_waits_for_a_process_of_this_machine_says_so(elsewhere, tmp_path):
    name = lock.socket.gethostname()
    first = holding(elsewhere(name, HOLD))
    second = elsewhere(name, TAKE)
    assert second.stderr.readline() == f"{tmp_path.name}: waits for process {first.pid} on {name}, which computes it\n"
    first.kill()
    assert ended(second) == "taken\n"


def test_who_was_taken_over_from_leaves_its_successor_s_lease(tmp_path):
    lease = tmp_path / lock.OF_ALL
    with lock.held(tmp_path):
        successor = tmp_path / "successor"
        successor.write_text("of somebody else")
        successor.replace(lease)
        lock.free()
        assert lease.read_text() == "of somebody else"


def test_who_is_asked_to_end_lets_go(elsewhere, tmp_path):
    work = f"signal.signal(signal.SIGTERM, runner._end)\n{HOLD}"
    asked = holding(elsewhere("a", work, LEASE=1000.0))
    asked.send_signal(signal.SIGTERM)
    assert asked.wait(20) == 143
    assert ended(elsewhere("b", TAKE, LEASE=1000.0)) == "taken\n"


def test_a_suspended_job_keeps_its_lock_and_one_that_lost_it_ends(elsewhere, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "state").write_text("SUSPENDED\n")
    squeue = tmp_path / "bin" / "squeue"
    squeue.write_text(f'#!/bin/sh\n[ "$3" = 7 ] && cat {tmp_path}/state\n')
    squeue.chmod(0o755)
    job = holding(elsewhere("in_job", HOLD))
    assert lock.holder(tmp_path) == f"process {job.pid} on in_job, job 7"
    job.send_signal(signal.SIGSTOP)
    other = elsewhere("b", TAKE, path=f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(3 * QUICK["LEASE"])
    (tmp_path / "state").write_text("")  # the scheduler knows it no more
    assert ended(other) == "taken\n"
    job.send_signal(signal.SIGCONT)
    assert job.wait(20) == lock.LOST


def test_who_has_lost_a_lock_completes_nothing(smoke_cells, tmp_path, monkeypatch):
    def end(folder):
        raise SystemExit(lock.LOST)

    monkeypatch.setattr(lock, "_end", end)
    monkeypatch.setattr(lock, "POLL", 0.0)
    monkeypatch.setattr(cells, "RUNS", tmp_path)
    cell = smoke_cells[0]
    cell.folder.mkdir()
    with lock.held(cell.folder):
        lock.check(cell.folder)
        (cell.folder / lock.OF_ALL).unlink()
        with pytest.raises(SystemExit):
            runner._complete(cell, runner._failed(cell, "a reason"))
    assert not (cell.folder / results.RESULT).exists()


@pytest.mark.parametrize(
    ("state", "runs"), [("RUNNING", True), ("COMPLETING", True), ("PENDING", False), ("", False), ("exit 1", True)]
)
def test_a_scheduler_that_cannot_say_is_taken_to_say_that_a_job_runs(state, runs, tmp_path, monkeypatch):
    assert not lock._runs(None)
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{state if state == 'exit 1' else f'echo {state}'}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert lock._runs("7") == runs
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert not lock._runs("7")


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def none(folder):
        raise NotImplementedError

    monkeypatch.setattr(lock.FileLock, "acquire", lambda *_, **__: none(None))
    with pytest.raises(XlscaleError, match="expected a file system with flock, at least within a node"):
        lock.held(tmp_path).__enter__()


@pytest.fixture(scope="module")
def full() -> list[cells.Cell]:
    return studies.load("xtreme_r_7b_70b").cells()


def test_a_job_is_a_model_in_a_condition_with_a_seed(full):
    found = slurm.jobs(full)
    assert sorted(cell.id for own in found.values() for cell in own) == sorted(cell.id for cell in full)
    assert len(found) < len(full) / 9
    for own in found.values():
        p = [cell.parameters for cell in own]
        assert len({(one.model, one.layers, getattr(one, "seed", 0)) for one in p}) == 1
        assert len({getattr(one, "intermediate", "none") for one in p}) == 1
        trained = [cell for cell in own if cell.phase == "intermediate"]
        assert trained in ([], own[:1])  # and its targets after it
        assert all(cell.parent in trained for cell in own[1:] if trained)
    alone, trained = ([cell for cell in full if cell.phase == phase] for phase in ("pretrained", "intermediate"))
    # Without intermediate training: targets with a seed, and those that nothing trains on, which have none.
    assert len(found) == len(alone) + len(trained) + 2 * len(alone)


def test_arms_that_go_on_from_one_training_are_jobs_of_their_own_or_its():
    methods = studies.load("methods").cells()
    found = slurm.jobs(methods)
    job_of = {cell.id: name for name, own in found.items() for cell in own}
    assert len(job_of) == len(methods) > len(found)
    for cell in methods:
        if cell.parent and cell.parent.phase == "intermediate":
            assert job_of[cell.id] == job_of[cell.parent.id]


def test_what_jobs_ask_for_is_the_most_of_a_cell_and_the_hours_of_all(smoke_cells, monkeypatch):
    def known(chosen, _):
        sizes = {"pretrained": Resources(1, 2, 3e9, 0.1), "intermediate": Resources(4, 8, 5 * 2**30, 1.0)}
        return {cell.id: sizes.get(cell.phase, Resources(2, 4, 9 * 2**30, 0.5)) for cell in chosen}

    monkeypatch.setattr(resources, "of", known)
    told = slurm.planned(smoke_cells, "h100")
    (job,) = (one for name, one in told.items() if name.startswith("e5_small-k1-squad_amazon-s1"))
    assert len(job["cells"]) == 3
    assert {name: job[name] for name in ("gpu", "cpus_per_task", "mem_mb", "rule")} == {
        "gpu": 4, "cpus_per_task": 8, "mem_mb": 9 * 1024 + slurm.BESIDE, "rule": "condition",
    }  # fmt: skip
    assert job["runtime"] == slurm.LEAST + slurm.LONGER * 60 * 2.0
    (first,) = (name for name, one in told.items() if one["rule"] == "pretrained_1")
    assert all(one["after"] == [first] for name, one in told.items() if name != first) and told[first]["after"] == []


def test_jobs_that_may_be_an_array_ask_for_the_same(full, monkeypatch):
    def known(chosen, _):
        return {cell.id: Resources(1 + (n % 2), 2 + n, 1e9 * n, 0.1 * n) for n, cell in enumerate(chosen)}

    monkeypatch.setattr(resources, "of", known)
    told = slurm.planned([cell for cell in full if cell.phase == "pretrained"], "h100")
    for gpus in (1, 2):
        alike = [one for one in told.values() if one["rule"] == f"pretrained_{gpus}"]
        assert len(alike) > 5 and len({tuple(one[name] for name in list(one)[3:]) for one in alike}) == 1


@pytest.mark.again
def test_cells_on_a_processor_need_more_than_the_recorded_ones_took():
    made, chosen = {}, []
    recorded = [one for one in store.results().values() if one.peak_memory_gb and one.parameters["layers"] == 12]
    for one in recorded[::8]:
        chosen.append((cells.make(one.phase, one.parameters, "record", made), one))
    found = resources.of([cell for cell, _ in chosen], H100)
    assert len(chosen) > 15
    for cell, one in chosen:
        assert one.peak_memory_gb * 1e9 < found[cell.id].memory < 4 * one.peak_memory_gb * 1e9
        assert sum(one.seconds.values()) < slurm.LONGER * 3600 * found[cell.id].hours
        assert found[cell.id].gpus == 0


def test_on_gpus_they_need_what_is_planned(full, monkeypatch):
    monkeypatch.setenv(registry.DEVICE, "cuda")
    sizes = {}
    for model in ("qwen25_7b", "qwen25_72b"):
        cell = next(c for c in full if c.parameters.model == model and c.phase == "intermediate")
        sizes[model] = resources.of([cell], H100)[cell.id]
    small, large = sizes.values()
    assert small.gpus == 1 and large.gpus in H100.gpus
    assert 15e9 < small.memory < large.memory and 0 < small.hours < large.hours
    none = H100.model_copy(update={"memory_gib": 8.0})
    with pytest.raises(XlscaleError, match=f"{cell.id}: expected to fit on NVIDIA H100"):
        resources.of([cell], none)


def test_as_many_cells_run_at_a_time_as_their_planned_memory_allows(full, smoke_cells, monkeypatch):
    import psutil

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    free = type("Free", (), {"available": 512e9})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert cell_.jobs_of(smoke_cells) == 64
    monkeypatch.setattr(resources, "of", lambda chosen, _: {cell.id: Resources(0, 1, 28e9, 1.0) for cell in chosen})
    assert cell_.jobs_of(full) == 18
    monkeypatch.setenv(registry.DEVICE, "cuda")
    assert cell_.jobs_of(full) == 1


def test_the_snakefile_runs_every_job_after_those_it_goes_on_from(tmp_path):
    told = {
        name: {"cells": cells, "after": after, "rule": rule, "gpu": 0, "cpus_per_task": 1, "mem_mb": 9, "runtime": 3}
        for name, cells, after, rule in [
            ("pretrained-m-1", ["pretrained-m-1"], [], "pretrained_0"),
            ("m-none-s1-1", ["target-1", "target-2"], ["pretrained-m-1"], "condition"),
        ]
    }
    (tmp_path / ".launch-1").mkdir()
    given = tmp_path / ".launch-1" / "config.json"
    given.write_text(json.dumps({"launch": ".launch-1", "jobs": told}))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(slurm.FOLDER / "slurm" / "Snakefile")]
    command += ["--directory", str(tmp_path), "--configfile", str(given), "--cores", "1", "--executor", "local"]
    environment = os.environ | {"XLSCALE_RUNS": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [*command, "--dry-run", "--printshellcmds"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout + done.stderr
    first, second = shown.index("rule pretrained_0"), shown.index("rule condition")
    assert first < second and "xlscale job pretrained-m-1" in shown and "xlscale job target-1 target-2" in shown
    assert "mem_mb=9" in shown and "runtime=3" in shown


def test_the_profile_holds_options_of_snakemake_and_of_the_plug_in():
    values = yaml.safe_load((slurm.FOLDER / "slurm" / slurm.CONFIG).read_text())
    assert values["executor"] == slurm.EXECUTOR and values["slurm-requeue"] is True
    local = yaml.safe_load((slurm.FOLDER / "local" / slurm.CONFIG).read_text())
    own = {"executor", "jobs", "retries", "latency-wait"} | {name for name in values if name.startswith("slurm-")}
    assert {name: values[name] for name in values.keys() - own}.items() <= local.items()
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm")
    known = {f"slurm-{name.replace('_', '-')}" for name in plugin.ExecutorSettings.__dataclass_fields__}
    assert {name for name in values if name.startswith("slurm-")} <= known


def test_a_job_goes_on_after_a_crash_but_not_with_the_children(smoke_cells, tmp_path, monkeypatch, capsys):
    (name,) = (name for name in slurm.jobs(smoke_cells) if name.startswith("e5_small-k1-squad_amazon-s1"))
    family = slurm.jobs(smoke_cells)[name]
    other = next(cell for cell in smoke_cells if cell.condition == "none" and cell.phase == "target")
    done = next(cell for cell in smoke_cells if cell.phase == "pretrained")
    known, called, told = {cell.id: cell for cell in smoke_cells}, [], {}
    for cell in smoke_cells:
        (tmp_path / cell.id).mkdir()
    (tmp_path / done.id / results.RESULT).touch()

    def started(command, env, **_):
        called.append(command[-1])
        told.update(env)
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({int(command[-1] == family[0].id)})"])

    monkeypatch.setattr(slurm, "subprocess", SimpleNamespace(Popen=started, STDOUT=subprocess.STDOUT))
    monkeypatch.setattr(runner, "find", known.__getitem__)
    monkeypatch.setattr(slurm.fork_server, "serving", lambda *_, **__: nullcontext({}))
    monkeypatch.setattr(slurm.signal, "signal", lambda *_: None)
    assert slurm.run_in_turn([done.id, *(cell.id for cell in family), other.id], tmp_path) is False
    assert called == [family[0].id, other.id]
    assert told[slurm.processes.WATCHED] == str(os.getpid())
    assert told[saving.EVERY] == slurm.EVERY and saving.DEADLINE not in told
    given = {slurm.END: "1900000000", saving.EVERY: "5"}
    assert slurm.run_in_turn([other.id], tmp_path, given) is True
    assert told[saving.EVERY] == "5" and told[saving.DEADLINE] == "1900000000"


def test_a_job_that_is_ended_gives_its_cell_the_time_to_leave_a_state(tmp_path):
    """As Slurm does: SIGTERM for the job's process, which tells the cell and waits for it."""
    cell = tmp_path / "cell.py"
    cell.write_text(
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "def told(*_):\n    time.sleep(1)\n    Path(sys.argv[1], 'state').touch()\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, told)\n"
        "Path(sys.argv[1], 'begun').touch()\n"
        "signal.pause()\n"
    )
    job = tmp_path / "job.py"
    job.write_text(
        "import subprocess, sys\n"
        "from contextlib import nullcontext\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace\n"
        "from xlscale.engine import slurm\n"
        "begin = subprocess.Popen\n"
        f"command = [sys.executable, {str(cell)!r}, {str(tmp_path)!r}]\n"
        "fake = SimpleNamespace(Popen=lambda _, **__: begin(command), STDOUT=-2)\n"
        "slurm.subprocess, slurm._serving = fake, lambda *_: nullcontext({})\n"
        "slurm.runner.find = lambda name: SimpleNamespace(id=name, parent=None)\n"
        f"Path({str(tmp_path)!r}, 'one').mkdir()\n"
        f"slurm.run_in_turn(['one'], Path({str(tmp_path)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, job], env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    wait(lambda: (tmp_path / "begun").exists())
    process.terminate()
    assert process.wait(20) == slurm.processes.TERMINATED
    assert (tmp_path / "state").exists()


def test_a_profile_that_is_none_is_one_line(tmp_path, monkeypatch):
    assert slurm.chosen("local", "h100", None) is None
    with pytest.raises(
        XlscaleError, match="unknown profile 'pbs': expected one of local, slurm, or a folder that holds"
    ):
        slurm.chosen("pbs", "h100", None)
    # Of one's own: what is run here needs none, and a slip would start a whole study on the node that submits.
    for text, got in (("executor: lsf\n", "'lsf'"), ("executor: local\n", "'local'"), ("exeutor: slurm\n", "None")):
        (tmp_path / slurm.CONFIG).write_text(text)
        with pytest.raises(XlscaleError, match=f"executor: expected slurm, got {got}"):
            slurm.chosen(str(tmp_path), "h100", None)
    monkeypatch.setattr(slurm, "find_spec", lambda _: None)
    with pytest.raises(XlscaleError, match="snakemake-executor-plugin-slurm is not installed, expected: pip install"):
        slurm.chosen("slurm", "h100", None)
    monkeypatch.setattr(slurm, "find_spec", lambda _: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(XlscaleError, match="sbatch not found"):
        slurm.chosen("slurm", "h100", None)


def test_a_sweep_on_a_cluster_does_not_judge_results_by_the_machine_that_submits(smoke_cells, tmp_path, monkeypatch):
    result = type("Result", (), {"environment": {"machine": "of a node"}})
    aside = []
    monkeypatch.setattr(sweeps.results, "altered", lambda *_: None)
    monkeypatch.setattr(sweeps.results, "result_of", lambda *_: result)
    monkeypatch.setattr(canary, "changed", lambda _: set())
    monkeypatch.setattr(canary, "key", lambda _: None)
    monkeypatch.setattr(runner, "set_aside", aside.append)
    sweeps.drop_stale(smoke_cells, tmp_path, here=False)
    assert not aside
    sweeps.drop_stale(smoke_cells, tmp_path)
    assert len(aside) == len(smoke_cells)


def test_jobs_run_a_checkout_of_the_last_commit(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(checkouts, "FOLDER", tmp_path / "frozen")
    monkeypatch.setattr(checkouts.os, "execve", lambda program, command, environment: begun.append(environment))
    monkeypatch.setattr(checkouts.os, "chdir", lambda _: None)
    head = machine.commit()["commit"]
    for found, expected in [
        ({"commit": None, "dirty": None}, "a checkout of git"),
        ({"commit": head, "dirty": True}, "commit or stash"),
    ]:
        monkeypatch.setattr(machine, "commit", lambda found=found: found)
        with pytest.raises(XlscaleError, match=expected):
            checkouts.begin_again()
    monkeypatch.setattr(machine, "commit", lambda: {"commit": head, "dirty": False})
    try:
        checkouts.begin_again()
        code = Path(begun[0]["XLSCALE_ROOT"])
        assert (code / "Snakefile").exists() and begun[0]["PYTHONPATH"] == str(code / "src")
        assert begun[0]["XLSCALE_RUNS"] == str(checkouts.files.RUNS)
        checkouts.begin_again()  # another sweep of the same commit
        assert begun[0] == begun[1]
        monkeypatch.setattr(checkouts, "ROOT", code)
        checkouts.begin_again()
        assert len(begun) == 2
    finally:
        for code in checkouts.FOLDER.glob("[0-9a-f]*"):
            subprocess.run(["git", "worktree", "remove", "--force", str(code)], cwd=ROOT, check=True)


@pytest.mark.parametrize("background", [False, True])
def test_an_interrupt_follows_the_end_of_the_sweep(background):
    """Also of one that a shell has started in the background, which ignores interrupts."""
    code = "import sys, time; from xlscale.engine.processes import interrupt_with; interrupt_with(int(sys.argv[1]))"
    code += "; time.sleep(60)"
    if background:
        code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {code}"
    sweep = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = subprocess.Popen([sys.executable, "-c", code, str(sweep.pid)], stderr=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(2)
    sweep.kill()
    sweep.wait()
    assert "KeyboardInterrupt" in other.communicate(timeout=20)[1]

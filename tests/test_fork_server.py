"""The fork server of a sweep: the same cells as without it, and no process that outlives its purpose."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import forked, processes, start, wait

from xlscale.engine import fork_server
from xlscale.engine import processes as processes_
from xlscale.experiment import results
from xlscale.experiment.cells import Cell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a sweep has a fork server on Linux only")


def _target(cells: list[Cell], target: str) -> Cell:
    """The cheapest target cell of its kind: without intermediate training."""
    return next(c for c in cells if c.phase == "target" and c.condition == "none" and c.parameters.target == target)


@pytest.mark.slow
@pytest.mark.again
def test_a_sweep_goes_on_cold_when_its_server_is_killed(smoke_runs, smoke_cells, tmp_path):
    wanted = [_target(smoke_cells, target) for target in ("topic", "udhr")]
    for cell in smoke_cells:
        if cell not in wanted:
            shutil.copytree(smoke_runs / cell.id, tmp_path / cell.id)
    process = start(tmp_path, "sweep", "--study", "smoke", "--jobs", "1")
    wait(lambda: forked("runner", tmp_path))
    for pid in forked("server", tmp_path):
        os.kill(pid, signal.SIGKILL)
    assert process.wait(120) == 0
    for cell in wanted:  # the second one has imported for itself
        found, known = results.result_of(cell, tmp_path), results.result_of(cell, smoke_runs)
        assert found.predictions_sha256 == known.predictions_sha256
    assert not processes("xlscale.engine.fork_server", tmp_path)


@pytest.mark.parametrize("sign", [(torch.cuda, "is_initialized"), (torch.accelerator, "is_available")])
def test_nothing_is_forked_beside_an_accelerator(sign, monkeypatch):
    monkeypatch.setattr(fork_server, "MODULES", [])
    monkeypatch.setattr(*sign, lambda: True)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    monkeypatch.setattr(fork_server, "_die_with", lambda parent: None)
    with fork_server.private_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{folder}/s")
            with pytest.raises(SystemExit, match="an accelerator.*every job imports for itself"):
                fork_server.serve(listener, os.getppid())


def test_importing_does_not_initialise_an_accelerator_and_starts_no_thread(tmp_path):
    """What the server does before it forks, in a process of its own."""
    code = "import importlib; from xlscale.engine import fork_server as f; f.processes.without_grammars(); "
    code += "[importlib.import_module(name) for name in f.MODULES]; print(f.unsafe())"
    environment = os.environ | fork_server.processes.ENVIRONMENT | fork_server.IMPORTING
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ("None\n" if not torch.accelerator.is_available() else done.stdout)


def test_what_runs_cells_is_imported_without_the_libraries_of_models():
    """They are as much again: only who loads a model waits for them."""
    code = (
        "import sys, xlscale.engine.phase, xlscale.report.analysis; print('transformers.modeling_utils' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_server_that_is_not_there_or_does_not_answer_leaves_the_cell_to_its_client(tmp_path, monkeypatch):
    monkeypatch.setenv(fork_server.ADDRESS, str(tmp_path / "nobody"))
    assert fork_server.ask("module:function", ["x"]) is None
    assert _answered(b"", monkeypatch) is None


def test_a_client_gets_the_exit_code_and_notices_a_runner_that_was_killed(monkeypatch):
    assert _answered(fork_server.TAKEN + b"\3", monkeypatch) == 3
    assert _answered(fork_server.TAKEN, monkeypatch) == 137


def _answered(answer: bytes, monkeypatch) -> int | None:
    """What a client makes of a server that reads its request, says ``answer`` and hangs up."""
    with fork_server.private_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()

        def serve() -> None:
            connection = listener.accept()[0]
            with connection, connection.makefile("rb") as request:
                request.readline(), request.readline()
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setenv(fork_server.ADDRESS, f"{folder}/s")
        try:
            return fork_server.ask("module:function", ["x"])
        finally:
            thread.join()


def test_folders_for_sockets_have_short_paths_and_are_private(monkeypatch, tmp_path):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    with fork_server.private_folder() as folder:
        assert len(folder) < 40
        assert os.stat(folder).st_mode & 0o777 == 0o700


def test_a_folder_for_sockets_whose_owner_was_killed_goes_with_the_next_and_no_other(monkeypatch):
    import tempfile

    own = tempfile.TemporaryDirectory(dir="/tmp")  # short
    tmp_path = Path(own.name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import sys; from xlscale.engine import fork_server as f; c = f.private_folder(); print(c.__enter__()); "
    code += "sys.stdout.flush(); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    owners = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    dead, alive = (Path(owner.stdout.readline().strip()) for owner in owners)
    assert dead.exists() and alive.exists() and dead.parent == tmp_path
    owners[0].kill()
    owners[0].wait()
    with fork_server.private_folder() as folder:
        assert sorted(tmp_path.iterdir()) == sorted([alive, Path(folder)])
    owners[1].kill()
    owners[1].communicate()
    own.cleanup()


def _strangers(folder: Path) -> dict[str, Path]:
    """Folders that look like one that a killed sweep has left, but in one thing."""
    names = ("thesis", "thesis1", "words_in", "readable", "of_links", "pipe_in_", "full_tmp")
    made = {name: folder / f"xlscale-{name}" for name in names}
    for path in made.values():
        path.mkdir(mode=0o700)
        (path / "lock").touch()
    (made["thesis1"] / "thesis.txt").write_text("years")  # beside the lock
    (made["words_in"] / "lock").write_text("mine")
    made["readable"].chmod(0o755)
    (made["of_links"] / "cells.txt").symlink_to(made["words_in"] / "lock")
    os.mkfifo(made["pipe_in_"] / "s")
    (made["full_tmp"] / "snakemakeabcdefgh").mkdir(mode=0o700)
    (made["full_tmp"] / "snakemakeabcdefgh" / "mine").touch()
    return made


def test_only_folders_that_a_sweep_has_made_itself_are_removed(monkeypatch):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # short
        monkeypatch.setattr(tempfile, "tempdir", name)
        strangers = _strangers(Path(name))
        (Path(name) / "xlscale-linked__").symlink_to(strangers["thesis1"])
        before = {path: path.lstat().st_size for path in sorted(Path(name).rglob("*"))}
        left = Path(name) / "xlscale-ab_12345"
        left.mkdir(mode=0o700)
        for file in ("lock", "cells.txt", "config.json", ".config.json.12.ab34cd56.part"):
            (left / file).touch()
        (left / "snakemakeabcdefgh").mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{left}/s")
        with fork_server.private_folder():
            assert not left.exists()
            for path, size in before.items():
                assert path.lstat().st_size == size, path
        assert (strangers["words_in"] / "lock").read_text() == "mine"


def test_what_snakemake_left_goes_with_the_folder_of_its_sweep_and_jobs_have_the_users(
    smoke_cells, tmp_path, monkeypatch
):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # short
        monkeypatch.setenv("TMPDIR", name)
        process = start(tmp_path, "sweep", "--study", "smoke", "--jobs", "1")
        wait(lambda: list(Path(name).glob("xlscale-*/snakemake*")))
        pid = wait(lambda: processes("xlscale\0run", tmp_path))[0]
        assert f"TMPDIR={name}" in (Path("/proc") / str(pid) / "environ").read_text().split("\0")
        process.kill()
        process.wait()
        wait(lambda: not _of_sweep(tmp_path), 10)
        assert not list(Path(name).glob("snakemake*"))
        monkeypatch.setattr(tempfile, "tempdir", name)
        with fork_server.private_folder() as folder:
            assert [*Path(name).glob("xlscale-*")] == [Path(folder)]


@pytest.mark.parametrize("seconds", [0.0, 2.0, *(pytest.param(more, marks=pytest.mark.again) for more in (0.5, 4.0))])
def test_a_sweep_that_is_killed_while_it_starts_leaves_no_process(seconds, smoke_cells, tmp_path):
    process = start(tmp_path, "sweep", "--study", "smoke", "--jobs", "2")
    wait(lambda: processes("xlscale.engine.fork_server", tmp_path))
    time.sleep(seconds)
    process.kill()  # not waited for: a process that has ended without anyone's asking is as dead
    wait(lambda: len(_of_sweep(tmp_path)) == 0, 5)
    process.wait()


def _of_sweep(runs: Path) -> list[int]:
    """The living processes of a sweep in ``runs``."""
    return [
        pid
        for needle in ("xlscale\0run", "xlscale.engine.fork_server", "snakemake\0--directory")
        for pid in processes(needle, runs)
    ]


def test_who_starts_after_its_parent_has_died_ends_with_the_sweep():
    """A shell that Snakemake has started lives on for a moment when Snakemake is killed, and so has another parent."""
    sweep = subprocess.Popen(["sleep", "60"])
    code = "import time; from xlscale.engine import processes; processes.die_with_parent(); time.sleep(60)"
    orphan = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {processes_.WATCHED: str(sweep.pid)})
    time.sleep(1)
    assert orphan.poll() is None
    sweep.kill()  # a zombie from now on
    assert orphan.wait(10) == -signal.SIGTERM
    sweep.wait()

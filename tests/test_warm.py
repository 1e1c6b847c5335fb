"""The warm process of a sweep: the same cells as without it, and no process that outlives its purpose."""

import json
import os
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
from conftest import forked, processes, start, wait, xlscale

from xlscale.engine import runner, warm
from xlscale.experiment import results
from xlscale.experiment.cells import Cell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a sweep has a warm process on Linux only")


def _target(cells: list[Cell], target: str) -> Cell:
    """The cheapest target cell of its kind: without intermediate training."""
    return next(c for c in cells if c.phase == "target" and c.condition == "none" and c.parameters.target == target)


def _shown(runs: Path, cell: Cell) -> list:
    """The kinds of what an executed notebook shows, but for warnings of what a warm kernel need not import."""
    notebook = json.loads((runs / cell.id / runner.EXECUTED).read_text())
    return [
        sorted(output["data"]) for part in notebook["cells"] for output in part.get("outputs", []) if "data" in output
    ]


@pytest.mark.slow
def test_a_cell_is_the_same_cold_and_warm(smoke_runs, smoke_cells, tmp_path):
    cell = _target(smoke_cells, "topic")
    for parent in cell.lineage()[:-1]:
        shutil.copytree(smoke_runs / parent.id, tmp_path / parent.id)
    xlscale("run", cell.id, runs=tmp_path)
    cold, warmed = results.result_of(cell, tmp_path), results.result_of(cell, smoke_runs)
    own = {"seconds", "peak_memory_gb"}
    assert cold.model_dump(exclude=own) == warmed.model_dump(exclude=own)
    assert _shown(tmp_path, cell) == _shown(smoke_runs, cell)
    assert "without encryption" not in (smoke_runs / cell.id / "log.txt").read_text()


@pytest.mark.slow
def test_a_sweep_goes_on_cold_when_its_server_is_killed(smoke_runs, smoke_cells, tmp_path):
    wanted = [_target(smoke_cells, target) for target in ("topic", "udhr")]
    for cell in smoke_cells:
        if cell not in wanted:
            shutil.copytree(smoke_runs / cell.id, tmp_path / cell.id)
    process = start(tmp_path, "sweep", "--study", "smoke", "--jobs", "1")
    wait(lambda: forked("kernel", tmp_path))
    for pid in forked("server", tmp_path):
        os.kill(pid, signal.SIGKILL)
    wait(lambda: processes("ipykernel_launcher", tmp_path))  # the second cell imports for itself
    assert process.wait(120) == 0
    for cell in wanted:
        found, known = results.result_of(cell, tmp_path), results.result_of(cell, smoke_runs)
        assert found.predictions_sha256 == known.predictions_sha256
    assert not processes("xlscale.engine.warm", tmp_path)


def test_a_server_that_is_not_there_or_does_not_answer_leaves_the_cell_to_its_client(tmp_path, monkeypatch):
    monkeypatch.setenv(warm.ADDRESS, str(tmp_path / "nobody"))
    assert warm.ask(["run", "x"]) is None
    assert _answered(b"", monkeypatch) is None


def test_a_client_gets_the_exit_code_and_notices_a_runner_that_was_killed(monkeypatch):
    assert _answered(warm.TAKEN + b"\3", monkeypatch) == 3
    assert _answered(warm.TAKEN, monkeypatch) == 137


def _answered(answer: bytes, monkeypatch) -> int | None:
    """What a client makes of a server that reads its request, says ``answer`` and hangs up."""
    with warm.private_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()

        def serve() -> None:
            connection = listener.accept()[0]
            with connection, connection.makefile("rb") as request:
                request.readline(), request.readline()
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setenv(warm.ADDRESS, f"{folder}/s")
        try:
            return warm.ask(["run", "x"])
        finally:
            thread.join()


def test_folders_for_sockets_have_short_paths_and_are_private(monkeypatch, tmp_path):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    with warm.private_folder() as folder:
        assert len(folder) < 40
        assert os.stat(folder).st_mode & 0o777 == 0o700

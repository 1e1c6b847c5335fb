"""The runner, the sweep and the record, with processes that are really killed and disks that are really full."""

import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import forked, gold, processes, start, wait, xlscale

from xlscale.cards.catalogue import data_card
from xlscale.core import manifest
from xlscale.core.files import ROOT, XlscaleError
from xlscale.engine import runner, sweep
from xlscale.experiment import cells, results, studies
from xlscale.experiment.results import Result
from xlscale.metrics import predictions
from xlscale.record import store


def _result(runs: Path, cell: cells.Cell) -> Result:
    return results.result_of(cell, runs)


def test_the_smoke_study_runs_every_phase(smoke_runs, smoke_cells):
    for cell in smoke_cells:
        result = _result(smoke_runs, cell)
        assert result.status == "complete"
        assert 0 <= result.value <= 1
        assert (smoke_runs / cell.id / "executed.ipynb").exists()
        assert json.loads((smoke_runs / cell.id / "spec.json").read_text()) == cell.spec()
        table = pd.read_parquet(smoke_runs / cell.id / "predictions.parquet")
        assert predictions.digest(table) == result.predictions_sha256
        assert result.total_parameters > result.non_embedding_parameters > 0
    target = next(c for c in smoke_cells if c.phase == "target" and c.parameters.target == "topic")
    assert len(_result(smoke_runs, target).languages) == 19
    executed = json.loads((smoke_runs / target.id / "executed.ipynb").read_text(encoding="utf-8"))
    shown = {
        kind for cell in executed["cells"] for output in cell.get("outputs", ()) for kind in output.get("data", ())
    }
    assert "image/svg+xml" in shown  # the training loss, drawn


def test_no_text_of_the_data_becomes_a_formula_in_a_notebook(smoke_runs, smoke_cells):
    """As MathJax in JupyterLab would make of what stands between two dollars, but where a class says not to."""
    tables = [
        "".join(output["data"]["text/html"])
        for cell in smoke_cells
        for part in json.loads((smoke_runs / cell.id / runner.EXECUTED).read_text(encoding="utf-8"))["cells"]
        for output in part.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert tables
    assert all("mathjax_ignore" in table for table in tables)


def test_complete_cells_are_not_run_again(smoke_runs, smoke_cells):
    before = {cell.id: (smoke_runs / cell.id / "result.json").stat().st_mtime_ns for cell in smoke_cells}
    assert xlscale("sweep", "--study", "smoke", runs=smoke_runs).stdout == ""
    assert before == {cell.id: (smoke_runs / cell.id / "result.json").stat().st_mtime_ns for cell in smoke_cells}


def _at_work(runs: Path, cell: cells.Cell) -> bool:
    """Whether the cell's notebook is being executed."""
    return (runs / cell.id / runner.EXECUTED).exists()


def _shown(runs: Path, cell: cells.Cell) -> list:
    """The kinds of what an executed notebook shows, but for warnings of what a forked cell need not import."""
    notebook = json.loads((runs / cell.id / runner.EXECUTED).read_text())
    return [
        sorted(output["data"]) for part in notebook["cells"] for output in part.get("outputs", []) if "data" in output
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes through /proc, and forks")
@pytest.mark.parametrize(
    "victim", [*(pytest.param(name, marks=pytest.mark.again) for name in ("runner", "snakemake")), "sweep"]
)
def test_kill_9_then_again_gives_the_same_cold_and_forked(victim, smoke_runs, smoke_cells, tmp_path):
    chosen = [
        c for c in smoke_cells if c.phase == "target" and c.condition == "none" and c.parameters.target == "topic"
    ]
    runs = tmp_path / "runs"
    for cell in smoke_cells:
        if cell != chosen[0]:
            shutil.copytree(smoke_runs / cell.id, runs / cell.id)
    alone = victim == "runner"
    process = start(runs, *(["run", chosen[0].id] if alone else ["sweep", "--study", "smoke", "--jobs", "1"]))
    wait(lambda: _at_work(runs, chosen[0]))
    needles = {"runner": "xlscale\0run", "snakemake": "snakemake\0--directory", "sweep": "xlscale\0sweep"}
    pids = processes(needles[victim], runs)
    assert pids
    if alone:  # which imports before it trains
        time.sleep(1.5)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert process.wait(60) != 0
    # Nothing goes on training behind the dead process's back, and nothing half-written counts.
    wait(lambda: not processes("xlscale\0run", runs) and not processes("xlscale.engine.fork_server", runs), 20)
    assert not (runs / chosen[0].id / "result.json").exists()
    if not alone:  # what a sweep's runner leaves, whoever was killed, is what a runner leaves
        return
    shutil.rmtree(runs / chosen[0].parent.id)
    done = xlscale("run", chosen[0].id, runs=runs, check=False)  # the cell in this process, its parent in one more
    assert done.returncode == 0, done.stderr
    for cell in chosen[0].lineage():  # those of the smoke study were forked
        cold, warm = _result(runs, cell), _result(smoke_runs, cell)
        own = {"seconds", "peak_memory_gb"}
        assert cold.model_dump(exclude=own) == warm.model_dump(exclude=own)
        assert _shown(runs, cell) == _shown(smoke_runs, cell) != []
    assert not list(runs.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes through /proc, and forks")
def test_a_client_or_a_runner_that_is_killed_takes_the_other_with_it_and_leaves_no_result(
    smoke_runs, smoke_cells, tmp_path
):
    """In a sweep the process that Snakemake starts is the client of a runner."""
    targets = ("topic", "interface_tags")
    lost = [c for c in smoke_cells if c.condition == "none" and getattr(c.parameters, "target", "") in targets]
    for cell in smoke_cells:
        if cell not in lost:
            shutil.copytree(smoke_runs / cell.id, tmp_path / cell.id)
    process = start(tmp_path, "sweep", "--study", "smoke", "--jobs", "2")
    wait(lambda: all(_at_work(tmp_path, cell) for cell in lost))
    (client,) = processes(f"xlscale\0run\0{lost[0].id}", tmp_path)
    logs = {os.readlink(f"/proc/{pid}/fd/1"): pid for pid in forked("runner", tmp_path)}
    time.sleep(0.5)
    os.kill(client, signal.SIGKILL)
    os.kill(logs[str(tmp_path / lost[1].id / "log.txt")], signal.SIGKILL)
    assert process.wait(60) != 0
    wait(lambda: not processes("xlscale\0run", tmp_path) and not processes("xlscale.engine.fork_server", tmp_path), 20)
    assert not any((tmp_path / cell.id / "result.json").exists() for cell in lost)


@pytest.mark.parametrize("verb", ["run", "sweep"])
def test_sigterm_ends_everything(verb, smoke_cells, tmp_path):
    cell = smoke_cells[0]
    process = start(tmp_path, *(["run", cell.id] if verb == "run" else ["sweep", "--study", "smoke", "--jobs", "1"]))
    wait(lambda: _at_work(tmp_path, cell))
    process.terminate()
    assert process.wait(30) == 143
    wait(lambda: not processes("xlscale", tmp_path), 20)
    assert _result(tmp_path, cell) is None


def test_a_sweep_on_a_full_disk_says_so_and_names_no_log_on_it(smoke_cells, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(XlscaleError, match=r": no space left on this disk; complete cells are kept$"):
        sweep._report(1, smoke_cells, [], tmp_path, tmp_path / "snakemake.log")
    monkeypatch.undo()
    with pytest.raises(
        XlscaleError, match=rf"snakemake\.log: {len(smoke_cells)} cells were not run \(snakemake exit code 1\)$"
    ):
        sweep._report(1, smoke_cells, [], tmp_path, tmp_path / "snakemake.log")


def test_a_full_disk_is_one_line_and_no_result(smoke_cells, tmp_path):
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    cell = smoke_cells[0]
    done = subprocess.run(
        [sys.executable, "-m", "xlscale", "run", cell.id], cwd=ROOT, preexec_fn=small_files,
        env=os.environ | {"XLSCALE_RUNS": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("xlscale: ")]
    assert len(lines) == 1
    assert "File too large" in lines[0]
    assert _result(tmp_path, cell) is None
    assert not list(tmp_path.rglob("*.part"))


@pytest.fixture
def odd_places(smoke_runs, smoke_cells, tmp_path) -> tuple[Path, dict[str, str], cells.Cell]:
    """Runs that lack one cell after an intermediate training, and an environment, both with odd paths; that cell."""
    runs, scratch = tmp_path / "r{id}s", tmp_path / "t: #"
    scratch.mkdir()
    wanted = next(
        c for c in smoke_cells if c.condition == "squad_amazon" and getattr(c.parameters, "target", 0) == "topic"
    )
    for cell in smoke_cells:
        if cell != wanted:
            shutil.copytree(smoke_runs / cell.id, runs / cell.id)
    return runs, {"TMPDIR": str(scratch), "HOME": "/proc/nowhere"}, wanted


@pytest.mark.slow
def test_odd_paths_a_clock_ahead_a_lost_checkpoint_and_no_home_stop_no_sweep(odd_places, smoke_runs):
    runs, environment, wanted = odd_places
    for path in runs.glob("*/result.json"):
        os.utime(path, (time.time() + 7200,) * 2)
    (runs / wanted.parent.id / results.CHECKPOINT).unlink()
    done = xlscale("sweep", "--study", "smoke", runs=runs, check=False, **environment)
    assert done.returncode == 0, done.stderr
    for cell in (wanted, wanted.parent):
        assert _result(runs, cell).predictions_sha256 == _result(smoke_runs, cell).predictions_sha256
    assert list(Path(environment["TMPDIR"]).iterdir()) == []


def test_a_checkpoint_that_is_not_needed_may_be_deleted(smoke_runs, smoke_cells, tmp_path):
    trained = next(cell for cell in smoke_cells if cell.phase == "intermediate")
    shutil.copytree(smoke_runs / trained.id, tmp_path / trained.id)
    (tmp_path / trained.id / results.CHECKPOINT).unlink()
    assert _result(tmp_path, trained)
    assert runner.give_up_lost(trained, tmp_path)
    assert _result(tmp_path, trained) is None
    assert not runner.give_up_lost(trained, tmp_path)


def test_inputs_longer_than_the_model_has_positions_are_told_before_the_training(target_values, tmp_path, monkeypatch):
    from xlscale.engine import phase
    from xlscale.models import ladder

    run = phase.OpenCell(cells.make("target", target_values | {"intermediate": "none"}), tmp_path)
    assert ladder.longest_input(run.starting_point()) == 512
    monkeypatch.setattr(ladder, "longest_input", lambda model: 47)
    with pytest.raises(XlscaleError, match="^target-.*: max_length: expected at most 47 for e5_small, got 48$"):
        run.starting_point()


@pytest.mark.parametrize(("kind", "reserved"), [("bert", 0), ("xlm-roberta", 2)])
def test_positions_are_what_the_model_can_read(kind, reserved):
    """XLM-R counts positions from behind the id of its padding, so the last ones are not there for tokens."""
    import torch
    from transformers import AutoConfig, AutoModel

    from xlscale.models import ladder

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    pad = {"pad_token_id": 1} if reserved else {}
    config = AutoConfig.for_model(kind, vocab_size=20, max_position_embeddings=12, **sizes, **pad)
    model = AutoModel.from_config(config).eval()
    longest = ladder.longest_input(model)
    assert longest == 12 - reserved
    model(torch.full((1, longest), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, longest + 1), 5))


def test_a_half_written_result_is_never_taken(smoke_runs, smoke_cells, tmp_path):
    cell = smoke_cells[0]
    (tmp_path / cell.id).mkdir()
    whole = (smoke_runs / cell.id / "result.json").read_text()
    (tmp_path / cell.id / "result.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(XlscaleError, match="result.json: not valid JSON"):
        results.result_of(cell, tmp_path)
    (tmp_path / cell.id / "result.json").write_text(whole.replace('"status": "complete"', '"status": "done"'))
    with pytest.raises(XlscaleError, match="result.json: status"):
        results.result_of(cell, tmp_path)
    (tmp_path / cell.id / "result.json").write_text(whole.replace(cell.id, "pretrained-other"))
    with pytest.raises(XlscaleError, match="id: expected"):
        results.result_of(cell, tmp_path)


@pytest.mark.parametrize("kind", ["another cell", "elsewhere", "dangling", "file", "log", "engine's log"])
def test_what_lies_in_the_place_of_a_cell_s_folder_is_not_written_through(smoke_cells, tmp_path, monkeypatch, kind):
    from xlscale.commands import cell as command
    from xlscale.commands import sweeps

    cell, runs, other = smoke_cells[0], tmp_path / "runs", tmp_path / "other"
    other = runs / smoke_cells[1].id if kind == "another cell" else other
    other.mkdir(parents=True)
    runs.mkdir(exist_ok=True)
    (other / "mine").touch()
    place = {"log": runs / cell.id / "log.txt", "engine's log": runs / "snakemake.log"}.get(kind, runs / cell.id)
    place.parent.mkdir(exist_ok=True)
    if kind == "file":
        place.touch()
    else:
        place.symlink_to({"dangling": tmp_path / "nowhere", "log": other / "mine"}.get(kind, other))
    monkeypatch.setattr(cells, "RUNS", runs)
    monkeypatch.setattr(runner, "find", lambda name: cell)
    monkeypatch.setattr(command, "acquire", lambda chosen, runs: None)
    before = {path: path.lstat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    for ask in (
        lambda: sweep.run([cell], 1, runs),
        lambda: sweeps.drop_stale([cell], runs),
        lambda: command.run(cell.id),
    ):
        with pytest.raises(XlscaleError, match=re.escape(f"{place}: expected a ")) as told:
            ask()
        assert "\n" not in str(told.value)
    assert before == {path: path.lstat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}


@pytest.mark.parametrize(
    "given",
    [
        *("x", "[]", "5", '{"%s": 5}', '{"%s": [1, false, 3, 4]}', '{"%s": "ab"}', '{"%s": [-5, true, 1]}'),
        *('{"%s": [1, 1, 1]}', '{"%s": [null, false, 0]}', '{"%s": [null, false, "2"]}', '{"%s": [true, false, 1]}'),
    ],
)
def test_a_placement_that_no_sweep_has_planned_is_one_line(given, monkeypatch):
    cell = studies.load("smoke").cells()[0]
    monkeypatch.setenv(runner.PLACEMENT, given.replace("%s", cell.id))
    with pytest.raises(XlscaleError, match="XLSCALE_PLACEMENT: expected what a sweep sets there, got"):
        runner.placement(cell)


@pytest.mark.parametrize("arguments", [["run", "target-x"], ["plan", "--study", "nope"], ["verify", "--n", "999"]])
def test_bad_requests_end_in_one_line_and_exit_code_1(arguments, tmp_path):
    done = xlscale(*arguments, runs=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("xlscale: ")
    assert len(done.stderr.splitlines()) == 1


def test_odd_variables_end_in_one_line(smoke_cells, tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for variables, told in (
        ({"XLSCALE_WATCHED": "one"}, "xlscale: XLSCALE_WATCHED: expected the id of a process, got 'one'"),
        ({"XLSCALE_RUNS": str(tmp_path / "a")}, "Too many levels of symbolic links"),
    ):
        done = xlscale("run", smoke_cells[0].id, runs=tmp_path, check=False, **variables)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and told in done.stderr


def test_on_a_terminal_progress_takes_the_place_of_the_last_line(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, expected in ((Terminal(), "\r\x1b[Kone\r\x1b[Ktwo"), (io.StringIO(), "one\ntwo\n")):
        monkeypatch.setattr(sys, "stdout", stream)
        for line in ("one", "two"):
            sweep._tell(line, sys.stdout.isatty())
        assert stream.getvalue() == expected


def test_a_diverged_training_is_recorded_as_failed_and_its_children_too(smoke_cells, tmp_path, monkeypatch):
    child = next(c for c in smoke_cells if c.phase == "target" and c.condition != "none")
    monkeypatch.setattr(runner, "RUNS", tmp_path)
    monkeypatch.setattr(cells, "RUNS", tmp_path)
    monkeypatch.setattr(runner, "result_of", lambda cell, runs=tmp_path: _read(cell, runs))

    def explode(notebook, output, parameters):
        raise runner.Crashed("boom", diverged="loss nan at step 3 of 4")

    # Its parent's parent has nothing to diverge; any of them failing has to reach the child.
    result = runner.run(child, explode)
    assert result.status == "failed"
    assert "diverged: loss nan at step 3 of 4" in result.reason
    assert result.value is None
    assert _read(child.parent, tmp_path).status == "failed"
    with pytest.raises(XlscaleError, match="failed"):
        runner.ensure(child.parent)


_read = results.result_of


def test_the_record_is_tidy_and_its_bytes_are_stable(smoke_record, smoke_runs, smoke_cells, tmp_path_factory):
    assert set(store.check(smoke_record).values()) == {"ok"}
    table = store.cells(smoke_record, "target")
    assert len(table) == sum(cell.phase == "target" for cell in smoke_cells)
    assert set(table["intermediate_type"]) == {"none", "domain"}
    assert table["value"].between(0, 1).all()
    languages = store.languages(smoke_record)
    mean = languages[languages["language"] != "en"].groupby("cell")["value"].mean()
    assert mean.to_dict() == pytest.approx(table.set_index("cell")["value"].to_dict())
    cell = next(cell for cell in smoke_cells if cell.phase == "target" and cell.parameters.target == "topic")
    items = pd.read_parquet(smoke_record / "predictions" / f"{cell.id}.parquet")
    items = items.merge(gold(data_card("topic")), on=["language", "item"], validate="1:1")
    assert ((items["gold"] == items["prediction"]) == (items["correct"] == 1)).all()
    other = tmp_path_factory.mktemp("again")
    store.add(list(reversed(smoke_cells)), other, smoke_runs)
    assert (other / "cells.parquet").read_bytes() == (smoke_record / "cells.parquet").read_bytes()


@pytest.mark.parametrize("languages", [False, True])
def test_values_that_do_not_follow_from_the_predictions_are_found(smoke_record, languages):
    known = store.results(smoke_record)
    for name, result in known.items():
        raised = {code: score.model_copy(update={"value": 0.99}) for code, score in result.languages.items()}
        changes = {"value": 0.99} | ({"languages": raised} if languages else {})
        known = known | {name: result.model_copy(update=changes)}
    store._write(known, smoke_record / "cells.parquet")
    verdicts = store.check(smoke_record)
    assert all("expected" in verdicts[name] for name in known)


def test_a_tampered_record_is_found(smoke_record, smoke_cells):
    cell = smoke_cells[-1]
    path = smoke_record / "predictions" / f"{cell.id}.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "correct"] = 1 - table.loc[0, "correct"]
    table.to_parquet(path)
    assert "predictions_sha256: expected" in store.check(smoke_record)[cell.id]
    path.write_bytes(path.read_bytes()[:100])
    assert "not a readable Parquet file" in store.check(smoke_record)[cell.id]
    path.unlink()
    assert "not found" in store.check(smoke_record)[cell.id]
    broken = smoke_record / "cells.parquet"
    broken.write_bytes(broken.read_bytes()[:-50])
    with pytest.raises(XlscaleError, match="cells.parquet: sha256: expected"):
        store.results(smoke_record)
    with manifest.as_they_are(), pytest.raises(XlscaleError, match="not a readable record"):
        store.results(smoke_record)

"""`make reproduce` from end to end, on the smoke study with a record of its own."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import xlscale

from xlscale import canary, cells, files, record, runner

_read = runner.result_of


@pytest.fixture(scope="module")
def setting(smoke_runs, smoke_cells, tmp_path_factory) -> dict[str, str]:
    """A record of the smoke study, and the environment that makes the command line use it."""
    folder = tmp_path_factory.mktemp("reproduce")
    shutil.copytree(smoke_runs, folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "RUNS", smoke_runs)
        patch.setattr(runner, "result_of", lambda cell, runs=smoke_runs: _read(cell, runs))
        record.add(smoke_cells, folder / "results")
    return {"XLSCALE_RESULTS": str(folder / "results"), "XLSCALE_REPRODUCTION": str(folder / "reproduction")}


def _reproduce(setting: dict[str, str]):
    runs = Path(setting["XLSCALE_RESULTS"]).parent / "runs"
    return xlscale("reproduce", "--study", "smoke", "--source", "fresh", runs=runs, check=False, **setting)


@pytest.mark.slow
def test_reproduce_agrees_then_does_nothing_then_finds_a_changed_record(setting, smoke_cells):
    out = Path(setting["XLSCALE_REPRODUCTION"])
    first = _reproduce(setting)
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"{len(smoke_cells)} of {len(smoke_cells)} recomputed cells agree" in (out / "agreement.md").read_text()
    assert (out / "paper" / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert (out / "scaling_overlay.svg").exists()
    made = json.loads((out / "paper" / "numbers.json").read_text())
    assert {number["source"] for number in made["numbers"].values()} == {"00_data", "04_scaling", "05_significance"}

    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    second = _reproduce(setting)
    assert second.returncode == 0
    assert "nothing was done" in second.stdout
    assert stamps == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    # A record that says something else: found, and the exit code says so.
    results = Path(setting["XLSCALE_RESULTS"])
    target = next(cell for cell in smoke_cells if cell.phase == "target")
    known = record.results(results)
    changed = known[target.id].model_copy(update={"predictions_sha256": "0" * 64, "value": 0.999})
    record._write(known | {target.id: changed}, results / "cells.parquet")
    third = _reproduce(setting)
    assert third.returncode == 1
    assert f"| {target.id} | 99.90 |" in (out / "agreement.md").read_text()
    assert "differs" in (out / "agreement.md").read_text()


def test_a_result_of_other_code_is_not_taken_for_a_recomputation(smoke_runs, smoke_cells, tmp_path, monkeypatch):
    from xlscale import reproduce

    cell = smoke_cells[0]
    shutil.copytree(smoke_runs / cell.id, tmp_path / cell.id)
    monkeypatch.setattr(cells, "RUNS", tmp_path)
    monkeypatch.setattr(runner, "result_of", lambda cell, runs=tmp_path: _read(cell, runs))
    reproduce._drop_stale([cell])
    assert (tmp_path / cell.id / "result.json").exists()
    monkeypatch.setattr(canary.fingerprint, "of_phase", lambda phase: "f" * 64)
    reproduce._drop_stale([cell])
    assert not (tmp_path / cell.id / "result.json").exists()


def test_the_committed_record_is_whole_and_its_code_is_the_present_one():
    assert record.results(), "results/ holds no record"
    assert set(record.check().values()) == {"ok"}
    assert canary.changed(record.results()) == {}, "the code of a phase has changed: run `make canary`"


@pytest.mark.slow
def test_the_committed_paper_is_what_the_record_gives(tmp_path):
    for name in ("00_data", "04_scaling", "05_significance"):
        executed = tmp_path / f"{name}.ipynb"
        runner.execute(files.NOTEBOOKS / f"{name}.ipynb", executed, {"out": str(tmp_path)})
        mine = files.read_json(tmp_path / "generated" / f"{name}.json")
        committed = files.read_json(files.PAPER / "generated" / f"{name}.json")
        texts = [{key: number["text"] for key, number in made["numbers"].items()} for made in (mine, committed)]
        assert texts[0] == texts[1]
        assert mine["tables"] == committed["tables"]

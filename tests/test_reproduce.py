"""`make reproduce` from end to end, on the smoke study with a record of its own."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import xlscale

from xlscale.commands import reproduce
from xlscale.core import files, machine
from xlscale.engine import notebook
from xlscale.experiment import cells, results, studies
from xlscale.record import canary, store


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> tuple[Path, list[cells.Cell]]:
    """A folder with the smoke study cut to one intermediate set and two targets, and its cells, which are the same."""
    content = yaml.safe_load((files.STUDIES / "smoke.yaml").read_text(encoding="utf-8"))
    content |= {"intermediate": ["none", "squad_amazon"], "targets": ["topic", "udhr"], "only": []}
    folder = tmp_path_factory.mktemp("studies")
    (folder / "smoke.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder, studies.Study(**content).cells()


@pytest.fixture(scope="module")
def setting(smoke_runs, few, tmp_path_factory) -> dict[str, str]:
    """A record of the smoke study, and the environment that makes the command line use it.

    All but three cells count as left from an interrupted run, to save time; those three are computed anew.
    """
    folder = tmp_path_factory.mktemp("reproduce")
    store.add(few[1], folder / "results", smoke_runs)
    for cell in few[1]:
        if cell.phase == "pretrained" or cell.condition != "squad_amazon":
            shutil.copytree(smoke_runs / cell.id, folder / "runs" / "reproduce" / cell.id)
    places = {f"XLSCALE_{name.upper()}": str(folder / name) for name in ("results", "reproduction", "built")}
    return places | {"XLSCALE_STUDIES": str(few[0])}


def _reproduce(setting: dict[str, str], source: str):
    runs = Path(setting["XLSCALE_RESULTS"]).parent / "runs"
    return xlscale("reproduce", "--study", "smoke", "--source", source, runs=runs, check=False, **setting)


@pytest.mark.slow
def test_reproduce_agrees_then_does_nothing_then_finds_a_changed_record(setting, few):
    chosen = few[1]
    out, built = Path(setting["XLSCALE_REPRODUCTION"]), Path(setting["XLSCALE_BUILT"])
    first = _reproduce(setting, "record")
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"({len(chosen) - 3} are left from an interrupted run)" in first.stdout
    assert f"{len(chosen)} of {len(chosen)} recomputed cells agree" in (out / "agreement.md").read_text()
    assert (built / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert (out / "scaling_overlay.svg").exists()
    made = json.loads((built / "numbers.json").read_text())
    assert {number["source"] for number in made["numbers"].values()} == {"00_data", *reproduce.ANALYSES}

    stamps = {path: path.stat().st_mtime_ns for path in [*out.rglob("*"), *built.rglob("*")] if path.is_file()}
    second = _reproduce(setting, "record")
    assert second.returncode == 0
    assert "nothing was done" in second.stdout
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}

    # This machine's cells alone give the same paper, because they are equal to the record.
    fresh = _reproduce(setting, "fresh")
    assert fresh.returncode == 0, fresh.stdout + fresh.stderr
    assert (out / "paper" / "paper.pdf").read_bytes() == (built / "paper.pdf").read_bytes()

    # A record that says something else is found before anything is computed, and where it is not needed, at the end.
    results = Path(setting["XLSCALE_RESULTS"])
    target = next(cell for cell in chosen if cell.phase == "target")
    known = store.results(results)
    changed = known[target.id].model_copy(update={"predictions_sha256": "0" * 64})
    store._write(known | {target.id: changed}, results / "cells.parquet")
    faulty = _reproduce(setting, "record")
    assert faulty.returncode == 1
    assert "predictions_sha256: expected 0000" in faulty.stderr
    assert _reproduce(setting, "fresh").returncode == 1
    assert "differs" in (out / "agreement.md").read_text()


def test_results_of_other_code_or_machine_are_not_taken_for_recomputed(smoke_runs, smoke_cells, tmp_path, monkeypatch):
    family = next(cell for cell in smoke_cells if cell.phase == "target" and cell.condition != "none").lineage()
    for cell in family:
        shutil.copytree(smoke_runs / cell.id, tmp_path / cell.id)
    left = lambda: [cell.phase for cell in family if results.result_of(cell, tmp_path)]  # noqa: E731
    reproduce._drop_stale(family, tmp_path)
    assert left() == ["pretrained", "intermediate", "target"]
    real = canary.fingerprint.of_phase
    monkeypatch.setattr(
        canary.fingerprint, "of_phase", lambda phase: "f" * 64 if phase == "intermediate" else real(phase)
    )
    reproduce._drop_stale(family, tmp_path)
    assert left() == ["pretrained"]  # what descends from a stale cell is stale
    monkeypatch.setattr(machine, "machine_type", lambda dtype: "another")
    reproduce._drop_stale(family, tmp_path)
    assert left() == []


def test_the_committed_record_is_whole_and_its_code_is_the_present_one():
    assert store.results(), "results/ holds no record"
    assert set(store.check().values()) == {"ok"}
    assert canary.changed(store.results()) == {}, "the code of a phase has changed: run `make canary`"


@pytest.mark.slow
def test_the_committed_paper_is_what_the_record_gives(tmp_path):
    for name in ("00_data", "08_preparation", *reproduce.ANALYSES):
        executed = tmp_path / f"{name}.ipynb"
        short = {"again": 0} if name == "08_preparation" else {}
        notebook.execute(files.NOTEBOOKS / f"{name}.ipynb", executed, {"out": str(tmp_path)} | short)
        mine = files.read_json(tmp_path / "generated" / f"{name}.json")
        committed = files.read_json(files.PAPER / "generated" / f"{name}.json")
        texts = [{key: number["text"] for key, number in made["numbers"].items()} for made in (mine, committed)]
        assert texts[0] == texts[1]
        assert mine["tables"] == committed["tables"]

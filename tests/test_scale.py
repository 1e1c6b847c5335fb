"""The benchmark of growth at a small size, and the engine's plan for some cells of a study."""

import os
import subprocess
import sys

import pytest

from xlscale.core.files import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import scale


def test_all_predictions_of_a_synthetic_record_are_checked():
    found = scale.checking(3 * scale.ITEMS)  # raises if a cell is not what it says
    assert found["rows"] == 3 * scale.ITEMS
    assert 0 < found["peak_gb"] < 2


def test_planning_is_measured_on_a_study_of_about_the_size_asked_for():
    found = scale.planning(200)
    assert found["cells"] == pytest.approx(200, abs=30)
    assert max(found["plan_s"], found["dry_run_s"]) < 20


def test_the_engine_plans_the_cells_asked_for_with_their_ancestors(smoke_cells, tmp_path):
    chosen = next(cell for cell in smoke_cells if cell.phase == "target" and cell.condition != "none")
    (tmp_path / "only").write_text(chosen.id + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1",
         "--directory", str(tmp_path), "--profile", str(ROOT / "profiles" / "local"),
         "--quiet", "host", "--config", "study=smoke", f"only={tmp_path / 'only'}"],
        env=os.environ | {"XLSCALE_RUNS": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    planned = {cell.id for cell in smoke_cells if f"{cell.id}/result.json" in done.stdout + done.stderr}
    assert planned == {cell.id for cell in chosen.lineage()}

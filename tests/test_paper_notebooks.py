"""Notebooks 04 and 05 on records of the real format: whole, incomplete, with one seed, and empty."""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
import simulate
import yaml

from xlscale.cards import catalogue
from xlscale.core import files
from xlscale.core.files import NOTEBOOKS, XlscaleError
from xlscale.experiment import cells, results, studies
from xlscale.record import store
from xlscale.report import analysis
from xlscale.report.sections import design
from xlscale.stats import primary, sensitivity, slopes

ANALYSES = ("04_scaling", "05_significance")
ZEROS = "0" * 64
RECIPE = [name for name in cells.TargetParameters.model_fields if name != "precision"]


def result(row, values):
    """A simulated cell as the runner would have recorded it."""
    parameters = {name: None if value != value else value for name, value in row.items() if name in RECIPE}
    done = row["status"] == "complete"
    return results.Result(
        id=row["cell"],
        phase=row["phase"],
        parent=None,
        parameters=parameters,
        reads={},
        status=row["status"],
        reason=None if done else "diverged",
        value=row["value"] if done else None,
        english=row["english"] if done else None,
        languages={code: results.Score(items=50, value=value) for code, value in values.items()} if done else {},
        total_parameters=row["total_parameters"],
        non_embedding_parameters=row["non_embedding_parameters"],
        seconds={"train": 60.0, "evaluate": 10.0},
        environment={"machine": "simulated"},
        fingerprint=ZEROS,
        predictions_sha256=ZEROS if done else None,
    )


def write_record(folder, table):
    """Write ``table`` as ``cells.parquet``; languages spread evenly around each cell's value."""
    found = {}
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        codes = catalogue.data_card(row["target"]).languages if row["target"] else ["en"]
        around = np.clip((row["value"] or 0) + np.linspace(-0.1, 0.1, len(codes)), 0, 1)
        found[row["cell"]] = result(row, dict(zip(codes, around.tolist(), strict=True)))
    store._write(found, folder / "cells.parquet")
    return folder


@pytest.fixture
def table():
    generator = np.random.default_rng(5)
    cells = simulate.cells(generator, sd=0.01)
    return pd.concat([cells, simulate.intermediate(cells, generator)], ignore_index=True)


def run_here(name, folder, out, capsys, **values):
    """Execute a notebook's code cells in this process, with parameters; returns what it printed."""
    space = {}
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, space)
            if "parameters" in cell.metadata.get("tags", []):
                space.update({"record": str(folder), "out": str(out), "study": ""} | values)
    return capsys.readouterr().out


def test_a_notebook_runs_in_the_kernel(table, tmp_path):
    name = "04_scaling"
    write_record(tmp_path / "record", table)
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        str(NOTEBOOKS / f"{name}.ipynb"),
        "executed.ipynb",
    ]
    parameters = ["-p", "record", str(tmp_path / "record"), "-p", "out", str(out), "-r", "study", ""]
    environment = {**os.environ, "JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run([*command, *parameters], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((out / "generated" / f"{name}.json").read_text())["numbers"]
    executed = nbformat.read(tmp_path / "executed.ipynb", as_version=4)
    types = [kind for cell in executed.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert types.count("image/svg+xml") == 4


@pytest.mark.parametrize("name", ANALYSES)
def test_notebook_on_an_incomplete_grid_with_one_seed(name, table, tmp_path, capsys):
    failed = (table["condition"] == "squad_amazon") & (table["layers"] == 12)
    table.loc[failed, "status"] = "failed"
    table.loc[failed, "value"] = np.nan
    table = table[(table["seed"] < 2) & ~((table["condition"] == "none") & (table["layers"] == 2))]
    write_record(tmp_path / "record", table)
    printed = run_here(name, tmp_path / "record", tmp_path / "out", capsys)
    assert "written: " in printed
    made = json.loads((tmp_path / "out" / "generated" / f"{name}.json").read_text())
    if name == "04_scaling":
        assert made["numbers"]["topic_squad_amazon_k12"] == {"value": None, "text": "missing", "unit": "%"}
    else:
        assert {row[-1] for row in made["tables"]["tolerances"]["rows"]} == {"missing"}


def test_the_design_is_shown_whatever_record_the_paper_is_built_from(tmp_path, monkeypatch, capsys):
    """Of a study of one's own, or a fresh one: neither need have the rungs that the design is for."""
    monkeypatch.setattr(analysis, "RESULTS", tmp_path / "none")
    monkeypatch.setattr(store, "RESULTS", tmp_path / "none")
    printed = run_here("10_design", "", tmp_path, capsys, study="confirmatory_2", replications=20)
    assert "written: " in printed
    assert json.loads((tmp_path / "generated" / "10_design.json").read_text())["tables"]["error_rates"]["rows"]


@pytest.mark.parametrize("name", ANALYSES)
def test_notebook_on_an_empty_record_is_one_clear_line(name, tmp_path, capsys):
    with pytest.raises(XlscaleError, match="no complete cell of the target phase: expected a record") as caught:
        run_here(name, tmp_path, tmp_path / "out", capsys)
    assert "\n" not in str(caught.value)


def test_cells_that_the_study_asks_for_and_the_record_lacks_are_shown_as_missing(table):
    expected = studies.load("pilot").cells()
    have = next(cell for cell in expected if cell.phase == "target")
    table.loc[0, "cell"] = have.id
    shown = store.with_missing(table, expected)
    assert sorted(shown["cell"]) == sorted(cell.id for cell in expected)
    assert (shown["status"] == "missing").sum() == len(expected) - 1
    assert shown.loc[shown["status"] == "missing", "value"].isna().all()
    assert len(design.unfinished(shown)) == design.counts(shown)["missing"].sum() == len(expected) - 1
    assert len(slopes.conditions(shown)) == 5


@pytest.mark.parametrize("name", ANALYSES)
def test_notebook_is_a_table_of_contents(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 15
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert not any(word in cell.source for cell in code for word in ("def ", "class "))


SIZES = {1: 1_972_608, 4: 7_296_000, 12: 21_491_712}
SECOND = {2: 11_147_904, 6: 33_442_432, 12: 66_884_224}  # of the second ladder


def confirmed(cell, generator):
    """A cell of the confirmatory study as it would be recorded: the gain of real sets falls with size, by 5 points per
    factor of ten with training and by 20 without; placebos have none."""
    of, codes = cell.parameters, ("en", "de", "fr", "ru", "ja")
    sizes = SECOND if of.model.startswith("gemma") else SIZES
    value = 0.5 + generator.normal(0, 0.005)
    if cell.phase == "target" and of.intermediate != "none" and not of.placebo:
        falls = 0.05 if catalogue.data_card(of.target).trained else 0.2
        value += 0.1 - falls * np.log10(sizes[of.layers] / min(sizes.values()))
    done = {code: results.Score(items=50, value=value) for code in (codes if cell.phase == "target" else ["en"])}
    return results.Result(
        id=cell.id, phase=cell.phase, parent=cell.parent.id if cell.parent else None, parameters=of.model_dump(),
        reads=dict(cell.reads), status="complete", value=value, english=value, languages=done,
        total_parameters=sizes[of.layers] + 96_014_208, non_embedding_parameters=sizes[of.layers],
        seconds={"train": 1.0}, environment={"machine": "simulated"}, fingerprint=ZEROS, predictions_sha256=ZEROS,
    )  # fmt: skip


@pytest.fixture
def short_plan(tmp_path, monkeypatch):
    """The confirmatory study with two targets of each family, without placebos, and the second ladder; their cells."""
    content = yaml.safe_load((files.STUDIES / "confirmatory_2.yaml").read_text(encoding="utf-8"))
    content |= {"targets": ["topic", "symbol_group", "udhr", "help_retrieval"], "placebo": False}
    content["only"] = [pattern for pattern in content["only"] if not pattern.get("placebo")]
    (tmp_path / "confirmatory_2.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.copy(files.STUDIES / "second_ladder.yaml", tmp_path)
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    return [studies.load(name).cells() for name in ("confirmatory_2", "second_ladder")]


def predicted(folder, found, generator):
    """Predictions of target cells: 50 items a language, as many of them correct as the value says, on average."""
    for result in found:
        if result.phase == "target":
            shares = np.repeat([score.value for score in result.languages.values()], 50)
            table = pd.DataFrame({"language": np.repeat([*result.languages], 50)})
            table["item"] = np.tile([f"i{i}" for i in range(50)], len(result.languages))
            table["correct"] = (generator.random(len(table)) < shares).astype(np.float32)
            table.to_parquet(folder / f"{result.id}.parquet", index=False)


def test_the_primary_analysis_finds_what_was_simulated_and_shows_what_it_rests_on(
    short_plan, tmp_path, capsys, monkeypatch
):
    generator, other = np.random.default_rng(9), np.random.default_rng(10)
    found = {cell.id: confirmed(cell, generator) for cell in short_plan[0]}
    asked = [*found.values()]
    found |= {cell.id: confirmed(cell, other) for cell in short_plan[1]}
    store._write(found, tmp_path / "cells.parquet")
    (tmp_path / "predictions").mkdir()
    predicted(tmp_path / "predictions", asked, generator)
    monkeypatch.setattr(sensitivity, "floors", lambda targets: {"chance": dict.fromkeys(targets, 0.1)})  # made in 00
    run_here("05_significance", tmp_path, tmp_path / "out", capsys, study="confirmatory_2", draws=200)
    made = json.loads((tmp_path / "out" / "generated" / "05_significance.json").read_text(encoding="utf-8"))
    numbers, tables = made["numbers"], made["tables"]
    for family, slope in (("trained", -0.05), ("retrieval", -0.2)):
        assert numbers[f"beta_{family}_accuracy"]["value"] == pytest.approx(slope, abs=0.01)
        assert numbers[f"beta_{family}_word"]["text"] == "falls with size"
        # Nothing; seven sets, two targets, three rungs, three scripts; pairs from one source; one floor; bootstraps of
        # three and of all; the mixed model; runs that learned nothing, where any training was.
        rows = tables[f"sensitivity_{family}"]["rows"]
        assert len(rows) == 1 + 7 + 2 + 3 + 3 + 1 + 1 + 4 + 1 + (family == "trained")
        assert all(row[0] and row[2] in ("6", "7") for row in rows)
    assert numbers["failures_share"]["value"] == 0
    assert {"confirmatory_gains", "confirmatory_languages"} <= set(made["figures"])
    assert numbers["beta_trained_targets"]["text"] == "Symbol group and Package topic"
    assert len(tables["beta_targets"]["rows"]) == 4 and len(tables["beta_languages_udhr"]["rows"]) == 4
    assert [row[-1] for row in tables["beta_languages_udhr"]["rows"]] == ["falls"] * 4
    beside = {tuple(row[:2]): row for row in tables["second"]["rows"]}
    assert len(beside) == 2 * 2 and all(row[5:7] == ["4", "8"] for row in beside.values())
    assert [numbers[f"second_{family}_word"]["text"] for family in primary.FAMILIES] == ["falls with size"] * 2
    assert numbers["second_trained_accuracy"]["value"] == pytest.approx(-0.05, abs=0.02)
    first = f"{numbers['beta_trained_accuracy']['text']} ({numbers['beta_trained_accuracy_interval']['text']})"
    assert beside["trained", "points"][-1] == first and "second_gains" in made["figures"]
    assert numbers["second_model"]["text"] == "Gemma 3 270M"
    assert numbers["second_trained_targets"]["text"] == (
        "Package topic, TyDiQA-GoldP and XNLI, trained on its English development rows"
    )
    gains = {tuple(row[:2]): row[6] for row in tables["items"]["rows"]}
    assert (
        len(gains) == 4 * 2 and gains["Package topic", "1"].startswith("+10") and len(tables["items_udhr"]["rows"]) == 4
    )

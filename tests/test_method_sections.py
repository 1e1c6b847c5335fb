"""The study of training methods: what it holds, and what is shown of a record of it, whole, in part or none."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import nbformat
import numpy as np
import pandas as pd
import pytest

from xlscale.cards import catalogue, typology
from xlscale.core.files import NOTEBOOKS, ROOT
from xlscale.experiment import studies
from xlscale.experiment.results import Score
from xlscale.planning import hardware, plan
from xlscale.record import store
from xlscale.report.figures import method_gains as figures
from xlscale.report.figures import methods as lexical_figures
from xlscale.report.labels import title
from xlscale.report.numbers import Numbers
from xlscale.report.sections import method_costs, method_gains

PLAN = studies.load(method_gains.STUDY)
CALLED = PLAN.conditions()
ITEMS = 12  # of a language
TRAINED = ("topic", "symbol_group")
CONDITIONS = {
    "none", "none, adversarial", "none, smoothing", "none, augmentation", "none, lora",
    "wordnet_class", "wordnet_class, cotraining", "wordnet_class, lora", "multi",
    "unlabelled, masked_lm", "unlabelled, translation_lm", "lexicon, lexical",
}  # fmt: skip


def test_the_study_holds_every_method_where_it_belongs():
    targets = [cell for cell in PLAN.cells() if cell.phase == "target"]
    assert {CALLED[cell.id] for cell in targets} == CONDITIONS
    assert len(PLAN.models["e5_small_healed"]) >= 2 and len(PLAN.seeds) == 3 and PLAN.published
    assert [catalogue.data_card(name).trained for name in PLAN.targets] == [True, True, False, False]
    of = {CALLED[cell.id]: cell.parameters for cell in targets if cell.parameters.target == "topic"}
    last = {name: parameters.objective for name, parameters in of.items()}
    assert {name for name, objective in last.items() if objective != "supervised"} == {
        "none, adversarial", "none, smoothing", "none, augmentation",
    }  # fmt: skip
    before = {name: parameters.intermediate_objective for name, parameters in of.items()}
    assert set(before.values()) == {
        "supervised", "mlm_cotraining", "masked_lm", "translation_lm", "lexical",
    }  # fmt: skip
    both = of["wordnet_class, lora"]
    assert (both.intermediate_method, both.method, of["none, lora"].method) == ("lora", "lora", "lora")
    # Robust training of the target leaves retrieval, which is not trained, as it is.
    retrieval = {CALLED[cell.id] for cell in targets if cell.parameters.target == "udhr"}
    assert retrieval == {"none", *(name for name in CONDITIONS if not name.startswith("none"))}
    per_seed = len(CONDITIONS) * 2 + (len(retrieval) - 1) * 2
    assert len(targets) == 2 * (3 * per_seed + 2)  # rungs; retrieval without training is one run for all seeds
    assert len({cell.id for cell in PLAN.cells()}) == len(PLAN.cells()) == len(targets) + 2 * (3 * 7 + 1)


def test_a_new_objective_is_one_file_and_one_name_and_a_line_of_the_study(tmp_path):
    """What CONTRIBUTING.md shows, in a checkout of its own: the study has new cells, and all that it had."""
    for name in ("src", "notebooks", "studies"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("data_manifest", "results", "paper"):
        (tmp_path / name).symlink_to(ROOT / name)
    text, package = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), tmp_path / "src" / "xlscale"
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (arm,) = re.findall(r"```yaml\n(  smoothed: .*?)```", text, re.DOTALL)
    (part, path) = re.search(r'"(smoothed)":\s+"(xlscale[\w.]+:Smoothed)"', text).groups()
    (package / "training" / "objectives" / "smoothed.py").write_text(code, encoding="utf-8")
    for file, before, added in (
        (package / "core" / "registry.py", '    "objective": {\n', f'        "{part}": "{path}",\n'),
        (tmp_path / "studies" / "methods.yaml", "arms:\n", arm),
    ):
        whole = file.read_text(encoding="utf-8")
        assert whole.count(before) == 1
        file.write_text(whole.replace(before, before + added), encoding="utf-8")
    command = [sys.executable, "-m", "xlscale", "cells", "--study=methods"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    known, found = {cell.id for cell in PLAN.cells()}, {line.split()[0] for line in done.stdout.splitlines()}
    assert known < found and len(found - known) == 2 * 3 * 2  # rungs, seeds, targets that are trained
    assert {name.split("-")[4] for name in found - known} == {*TRAINED} and "-none-" in min(found - known)


def test_every_code_of_the_study_has_a_canary_cell():
    codes = [{(cell.phase, cell.code()) for cell in cells} for cells in (PLAN.cells(), PLAN.matching(PLAN.canary))]
    assert codes[0] == codes[1] and PLAN.matching(PLAN.recompute)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A record of the whole study: smoothing adds much in every language, all else nothing; LoRA takes half of the time
    and training before the target three times that of the target."""
    folder, found = tmp_path_factory.mktemp("record"), {}
    (folder / "predictions").mkdir()
    for cell in PLAN.cells():
        of, name = cell.parameters, CALLED[cell.id]
        done = {"status": "complete", "reason": None, "value": 0.5, "predictions_sha256": "0" * 64}
        cost = {"seconds": {"train": 60.0 if cell.phase == "intermediate" else 0.0}, "peak_memory_gb": 1.0}
        if cell.phase == "intermediate":
            cost |= {"peak_memory_gb": 3.0 if name == "unlabelled, masked_lm" else 1.0, "train_flops": 3e9}
        if cell.phase == "target":
            cost["seconds"]["train"] = 20.0 * (0.5 if "lora" in name else 1) if of.target in TRAINED else 0.0
            cost["train_flops"] = 1e9 if of.target in TRAINED else 0.0
            _predict(cell, name, folder)
            done["languages"] = {"de": Score(items=ITEMS, value=0.5)}
        size = {"non_embedding_parameters": 10**6 * of.layers}
        found[cell.id] = store._absent(cell).model_copy(update=done | cost | size)
    store._write(found, folder / store.CELLS)
    return folder


def _predict(cell, name, folder) -> None:
    """Write predictions of items that are equally hard in all languages, by a probit model."""
    codes = sorted(catalogue.data_card(cell.parameters.target).splits["test"])
    hard = np.random.default_rng(1).normal(0, 1, ITEMS)
    rng = np.random.default_rng(int(cell.id[-8:], 16))
    added = 2.0 if name == "none, smoothing" else 0.0
    added += rng.normal(0, 0.1) * (cell.parameters.seed > 0)  # what is not trained has no seed
    right = np.tile(hard, len(codes)) + added + rng.normal(0, 1, ITEMS * len(codes)) > 0
    items = [f"{i}" for i in range(ITEMS)] * len(codes)
    table = pd.DataFrame({"language": np.repeat(codes, ITEMS), "item": items, "correct": right.astype(np.float32)})
    table.to_parquet(folder / "predictions" / f"{cell.id}.parquet", index=False)


@dataclass
class Shown:
    own: pd.DataFrame
    found: method_gains.Found
    numbers: Numbers


@pytest.fixture(scope="module")
def shown(record):
    own, numbers = method_gains.recorded(record), Numbers("11_methods")
    found = method_gains.compare(own, record)
    method_gains.add(numbers, own, found)
    method_costs.add(numbers, method_costs.costs(own))
    return Shown(own, found, numbers)


def test_the_paper_claims_what_is_there_and_nothing_else(shown):
    rows, texts = shown.numbers.tables["methods_gains"]["rows"], shown.numbers.numbers
    assert len(rows) == 2 * (11 + 11 + 7 + 7)
    claims = {(row[0], row[1], row[2]): row[-1] for row in rows}
    assert {key for key, said in claims.items() if said == "gains"} >= {
        (title(target), k, "smoothing") for target in TRAINED for k in ("2", "12")
    }
    others = [said for key, said in claims.items() if not key[2].endswith("smoothing")]
    assert others.count("no detectable change") >= len(others) - 2
    assert texts["methods_means"]["value"] == len(rows) and texts["methods_cells"]["text"] == "276"
    assert int(texts["methods_said_gains"]["text"]) == [*claims.values()].count("gains")
    over = shown.numbers.tables["methods_over"]["rows"]
    assert len(over) == 2 * 4 * 2 and {row[2].split(", ")[1] for row in over} == {"MLM co-training", "LoRA"}


def test_languages_are_counted_and_gains_set_against_distance_and_script(shown):
    rows = {tuple(row[:3]): row[3:] for row in shown.numbers.tables["methods_languages"]["rows"]}
    gained, of = rows["Symbol group", "12", "smoothing"][0].split(" of ")
    assert of == "48" and int(gained.split(" and ")[0]) >= 3 and gained.endswith(" and 0")
    said = [row[place] for row in rows.values() for place in (3, 6)]
    assert {*said} <= {"more", "less", "depends on the scale", "no detectable change", "not estimable"}
    assert said.count("no detectable change") + said.count("not estimable") >= 0.9 * len(said)
    assert shown.numbers.numbers["methods_distance"]["text"] == "lang2vec 1.1.2"


def test_every_language_that_a_target_is_tested_in_has_a_distance():
    known = typology.distances()
    assert known["en"].syntax == 0 and known["de"].syntax < known["ja"].syntax
    for name in PLAN.targets:
        assert {*catalogue.data_card(name).splits["test"]} <= {*known}


def test_costs_are_multiples_of_plain_training_of_the_same_cell(shown):
    found = method_costs.costs(shown.own).set_index(["condition", "layers"])
    assert found.loc[("none", 12), ["time", "memory", "operations"]].tolist() == [1, 1, 1]
    assert found.loc[("none, lora", 2), "time"] == 0.5
    assert found.loc[("multi", 2), ["before", "training", "time", "operations"]].tolist() == [60, 20, 4, 4]
    assert found.loc[("unlabelled, masked_lm", 2), "memory"] == 3 and {*found["runs"]} == {6}
    assert len(shown.numbers.tables["methods_costs"]["rows"]) == 2 * len(CONDITIONS)
    text = method_costs.markdown(found.reset_index())
    assert text.count("\n") == 2 + 2 * len(CONDITIONS) and "| 4.00 | 1.00 | 4.00 |" in text


def test_figures_have_a_panel_per_target_and_per_method(shown):
    drawn = lexical_figures.targets(method_gains.overview(shown.found), figures.OVER_PLAIN, method_gains.short)
    assert [ax.get_title() for ax in drawn.axes] == [title(name) for name in PLAN.targets]
    assert "adversarial" in [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    distance = {code: one.syntax for code, one in typology.distances().items()}
    parts = {target: (gains, lines) for target, gains, lines in method_gains.largest(shown.found)}
    drawn = figures.languages(*parts["symbol_group"], distance)
    titles = [ax.get_title() for ax in drawn.axes if ax.get_title()]
    assert len(titles) == 11 and "12 layers" in drawn.get_suptitle()
    marks = [line for line in drawn.axes[0].lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in marks) == 48 and "per 0.1" in drawn.axes[0].texts[0].get_text()
    assert {ax.get_ylabel() for ax in drawn.axes[::3]} == {"gain (points)"}


def _part(record, folder, keep):
    found = {name: result for name, result in store.results(record).items() if keep(name)}
    store._write(found, folder / store.CELLS)
    (folder / "predictions").symlink_to(record / "predictions")
    return method_gains.recorded(folder)


def test_of_a_part_of_the_record_what_has_all_its_seeds_is_shown(record, tmp_path):
    names = {cell.id for cell in PLAN.cells() if getattr(cell.parameters, "target", None) in (None, "topic")}
    last = next(name for name in names if CALLED[name] == "none, lora" and "-s79-" in name and "-k2-" in name)
    own = _part(record, tmp_path, lambda name: name in names - {last})
    numbers, found = Numbers("11_methods"), method_gains.compare(own, tmp_path)
    method_gains.add(numbers, own, found)
    rows = numbers.tables["methods_gains"]["rows"]
    assert {row[0] for row in rows} == {title("topic")} and len(rows) == 2 * 11 - 1
    assert ("2", "lora") not in {(row[1], row[2]) for row in rows}
    assert numbers.numbers["methods_cells"]["text"] == str(len(names) - 1)
    assert "runs the others" in method_gains.state(own)


def test_nothing_is_shown_of_what_is_not_recorded(tmp_path):
    own, numbers = method_gains.recorded(tmp_path), Numbers("11_methods")
    found = method_gains.compare(own, tmp_path)
    method_gains.add(numbers, own, found)
    method_costs.add(numbers, method_costs.costs(own))
    assert numbers.tables == {} and numbers.numbers == {}
    assert method_gains.state(own).startswith("0 of 276 cells")
    assert method_costs.markdown(method_costs.costs(own)).startswith("Not recorded yet")


def test_the_notebook_shows_a_record(record, tmp_path, capsys):
    space = {}
    for cell in nbformat.read(NOTEBOOKS / "11_methods.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, space)
            if "parameters" in cell.metadata.get("tags", []):
                space.update({"record": str(record), "out": str(tmp_path)})
    assert "276 of 276 cells of the study methods are recorded." in capsys.readouterr().out
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert drawn == {"methods_gains", *(f"methods_languages_{name}" for name in PLAN.targets)}


def test_the_page_of_costs_is_that_of_the_record():
    command = [sys.executable, str(ROOT / "benchmarks" / "methods.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.again
@pytest.mark.again
def test_the_plan_of_the_study_counts_several_sets_words_and_text():
    own = [cell for cell in PLAN.cells() if cell.phase == "intermediate" and cell.parameters.layers == 2]
    table = plan.table(own, hardware.load("h100"))
    before = table.groupby("data")
    assert before["train_rows"].first().round().to_dict() == {
        "lexicon": 8000, "multi": 1600, "unlabelled": 1600, "wordnet_class": 1600,
    }  # fmt: skip
    assert {*before["train_basis"].first()} == {"counted"} and table["cells"].sum() == len(own)
    # All seven sets are evaluated, at most so many rows of each.
    assert before["evaluated_rows"].first()["multi"] == 7 * PLAN.intermediate_recipe.test_items

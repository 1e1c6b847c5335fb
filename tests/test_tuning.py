"""Tuning: grids in studies, the choice, and identities that outlive a new parameter."""

import pandas as pd
import pytest
import yaml

from xlscale.core.files import ROOT, STUDIES, XlscaleError, read_json
from xlscale.core.strict import parse
from xlscale.experiment import cells, studies
from xlscale.experiment import tuning as rates
from xlscale.experiment.tuning import TUNED, Tuning
from xlscale.record import tuning
from xlscale.report.numbers import Numbers
from xlscale.report.sections import preparation


def _cells(rows):
    columns = ["model", "layers", "target", "learning_rate", "value"]
    return pd.DataFrame(rows, columns=columns).assign(phase="target", intermediate="none")


def test_the_best_mean_over_sets_is_chosen_or_a_smaller_rate_that_is_nearly_as_good():
    rows = [("m", 1, "a", 1e-3, 0.6), ("m", 1, "b", 1e-3, 0.5), ("m", 1, "a", 3e-3, 0.9), ("m", 1, "b", 3e-3, 0.1)]
    rows += [("m", 2, "a", rate, 0.5) for rate in (3e-3, 1e-3)]
    rows += [("m", 4, "a", rate, value) for rate, value in ((1e-4, 0.58), (3e-4, 0.595), (1e-3, 0.6), (3e-3, 0.2))]
    found = tuning.scores(_cells(rows), "target")
    assert found[found["chosen"]][["layers", "rate"]].values.tolist() == [[1, 1e-3], [2, 1e-3], [4, 3e-4]]
    assert found["score"].tolist()[:4] == pytest.approx([0.55, 0.5, 0.5, 0.5])


def test_a_rate_that_failed_once_is_not_chosen():
    rows = [("m", 1, "a", 1e-3, 0.5), ("m", 1, "b", 1e-3, 0.5), ("m", 1, "a", 3e-3, 0.9), ("m", 1, "b", 3e-3, None)]
    found = tuning.scores(_cells(rows), "target")
    assert found[found["chosen"]]["rate"].tolist() == [1e-3]
    with pytest.raises(XlscaleError, match=r"m, 1 layers: learning_rate: expected one"):
        tuning.scores(_cells(rows[3:]), "target")


def test_sets_count_equally_however_many_seeds_they_have():
    rows = [("m", 1, "a", 1e-3, 0.0)] * 3 + [("m", 1, "b", 1e-3, 1.0)]
    assert tuning.scores(_cells(rows), "target")["score"].tolist() == [0.5]


def _study(folder, monkeypatch, **changes):
    pilot = yaml.safe_load((ROOT / "studies" / "pilot.yaml").read_text(encoding="utf-8"))
    for name in ("tuning", "recompute", "canary", "published"):
        pilot.pop(name)
    pilot |= {"name": "grid", "models": {"e5_small": [1]}, "seeds": [5], "placebo": False} | changes
    (folder / "grid.yaml").write_text(yaml.safe_dump(pilot), encoding="utf-8")
    for module in (studies, rates):
        monkeypatch.setattr(module, "STUDIES", folder)
    return studies.load("grid").cells()


def test_a_list_of_rates_is_a_cell_each(tmp_path, monkeypatch):
    pilot = studies.load("pilot")
    recipes = {name: recipe.model_dump() for name, recipe in pilot.target_recipes.items()}
    recipes["topic"]["learning_rate"] = {1: [1e-3, 2e-3, 3e-3]}
    found = _study(tmp_path, monkeypatch, intermediate=["none"], targets=["topic"], split="dev", target_recipes=recipes)
    last = [cell for cell in found if cell.phase == "target"]
    assert [cell.parameters.learning_rate for cell in last] == [1e-3, 2e-3, 3e-3]
    assert {cell.parameters.split for cell in last} == {"dev"}


def test_without_targets_phase_two_is_the_last(tmp_path, monkeypatch):
    recipe = studies.load("pilot").intermediate_recipe.model_dump() | {"learning_rate": [1e-4, 1e-3]}
    found = _study(tmp_path, monkeypatch, targets=[], intermediate=["squad_wiki"], intermediate_recipe=recipe)
    assert [cell.phase for cell in found] == ["pretrained", "intermediate", "intermediate"]


def test_tuned_rates_are_read_from_the_file(tmp_path, monkeypatch):
    recipe = studies.load("pilot").intermediate_recipe.model_dump() | {"learning_rate": "tuned"}
    options = {"targets": [], "intermediate": ["squad_wiki"], "intermediate_recipe": recipe}
    with pytest.raises(XlscaleError, match=r"tuned\.json: not found"):
        _study(tmp_path, monkeypatch, **options)
    (tmp_path / "tuned.json").write_text('{"rates": {"intermediate": {"e5_small": {"1": 0.002}}}}', encoding="utf-8")
    found = _study(tmp_path, monkeypatch, **options)
    assert found[-1].parameters.intermediate_learning_rate == 0.002
    (tmp_path / "tuned.json").write_text('{"rates": {}}', encoding="utf-8")
    with pytest.raises(XlscaleError, match=r"learning_rate: expected a value for 1 layers"):
        _study(tmp_path, monkeypatch, **options)


def test_a_later_parameter_at_its_default_leaves_identities_alone():
    cell = next(cell for cell in studies.load("pilot").cells() if cell.phase == "target" and cell.parameters.examples)
    values = cell.parameters.model_dump()
    assert cells.make("target", {k: v for k, v in values.items() if k != "split"}).id == cell.id
    assert cells.make("target", values | {"split": "dev"}).id != cell.id
    with pytest.raises(XlscaleError, match="split: expected one of test for udhr, got dev"):
        cells.make("target", values | {"target": "udhr", "split": "dev"})


def test_the_committed_rates_follow_from_the_record_and_the_confirmatory_study_takes_them():
    rates = tuning.choose()
    assert read_json(STUDIES / TUNED)["rates"] == rates
    for cell in studies.load("confirmatory").cells():
        values = cell.parameters.model_dump()
        for phase, name in tuning.RATE.items():
            if values.get(name) is not None:
                assert values[name] == rates[phase][values["model"]][str(values["layers"])], cell.id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("examples", {1: -1}),
        ("tried", {"target": {1: [-1.0]}}),
        ("scores", {"target": {1: [7.0]}}),
        ("scores", {"target": {-1: [0.7]}}),
    ],
)
def test_what_a_study_says_of_its_tuning_is_possible(field, value):
    told = {"seed": 1, "intermediate": "squad", "target": "topic", "examples": {1: 9}}
    told |= {"tried": {"target": {1: [1e-3]}}, "scores": {"target": {1: [0.7]}}}
    assert parse(Tuning, told, "x.yaml").scores["target"] == {1: [0.7]}
    with pytest.raises(XlscaleError, match=f"x.yaml: {field}"):
        parse(Tuning, told | {field: value}, "x.yaml")


def test_what_was_tried_is_a_table_with_the_choice_and_what_failed():
    rows = [("m", 1, 1e-3, 0.5, 2, 0, True), ("m", 1, 3e-3, float("nan"), 2, 1, False)]
    found = pd.DataFrame(rows, columns=["model", "layers", "rate", "score", "sets", "failed", "chosen"])
    numbers = Numbers("08_preparation")
    preparation.add_rates(numbers, found.assign(phase="target"))
    table = numbers.tables["rates_target"]
    assert table["rows"] == [["1", "50.0", "failed", "0.001"]]
    assert numbers.numbers["rates_target_at_edge"]["value"] == 1


def test_every_set_of_the_suite_taught_something():
    found = preparation.suite()
    assert set(found["set"]) == {*studies.load("suite").intermediate}
    assert (found["value"] > found["chance"]).all()

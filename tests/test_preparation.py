"""What is settled before the confirmatory study: steps, sets, rungs."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from xlscale.record import store
from xlscale.report.numbers import Numbers
from xlscale.report.sections import preparation as sections
from xlscale.stats import preparation


def targets(score) -> pd.DataFrame:
    """Target cells; ``score(layers, rate, steps, target, seed)``."""
    grid = product((1, 12), (5e-5, 1.5e-4), (50, 100, 200), ("topic", "interface_tags"), (81, 82))
    names = ["layers", "learning_rate", "steps", "target", "seed"]
    rows = [dict(zip(names, values, strict=True)) | {"value": score(*values)} for values in grid]
    return pd.DataFrame(rows).assign(phase="target", condition="none")


def test_the_fewest_steps_within_a_point_of_the_best_are_chosen():
    scores = {50: 0.50, 100: 0.595, 200: 0.60}
    cells = targets(lambda layers, rate, steps, target, seed: scores[steps] - (0.02 if rate == 5e-5 else 0.0))
    chosen = preparation.plateau(cells).query("chosen")
    assert chosen[["layers", "learning_rate", "steps"]].to_numpy().tolist() == [[1, 1.5e-4, 100], [12, 1.5e-4, 100]]
    assert chosen["score"].tolist() == pytest.approx([0.595, 0.595]) and chosen["runs"].tolist() == [4, 4]
    # Equal scores: the smaller rate. A setting with a failed run is out, however good the others are.
    same = targets(lambda layers, rate, steps, target, seed: scores[steps])
    assert preparation.plateau(same).query("chosen")["learning_rate"].tolist() == [5e-5, 5e-5]
    same.loc[(same["steps"] == 100) & (same["seed"] == 81) & (same["target"] == "topic"), "value"] = np.nan
    assert preparation.plateau(same).query("chosen")["steps"].tolist() == [200, 200]


def doses(**taught: list[float]) -> pd.DataFrame:
    rows = [
        {"intermediate": name, "layers": k, "placebo": placebo, "value": 0.3 + (0 if placebo else more)}
        for name, values in taught.items()
        for k, more in zip((1, 2, 12), values, strict=True)
        for placebo in (True, False)
    ]
    return pd.DataFrame(rows).assign(phase="intermediate")


def test_a_set_is_admitted_that_teaches_five_points_more_than_its_placebo_at_every_rung():
    cells = doses(vitaminc=[0.06, 0.3, 0.4], wikihow=[0.04, 0.3, 0.4], help_next=[0.2, 0.2, 0.2])
    found = preparation.dose(cells)
    assert preparation.admitted(found, [1, 2, 12]) == ["help_next", "vitaminc"]
    assert preparation.admitted(found, [2, 12]) == ["help_next", "vitaminc", "wikihow"]
    gone = cells[~((cells["intermediate"] == "help_next") & cells["placebo"] & (cells["layers"] == 12))]
    assert preparation.admitted(preparation.dose(gone), [1, 2, 12]) == ["vitaminc"]


def survivors(value) -> pd.DataFrame:
    grid = product((1, 12), ("none", "vitaminc, shuffled labels"), range(81, 87))
    rows = [{"layers": k, "condition": name, "seed": seed, "value": value(k, name, seed)} for k, name, seed in grid]
    return pd.DataFrame(rows).assign(phase="target", target="topic")


def test_a_run_has_collapsed_below_half_of_what_training_adds_to_chance():
    def value(layers, name, seed):  # chance of topic is 0.1, so the line is at 0.4
        return 0.7 if name == "none" else {81: 0.39, 82: float("nan")}.get(seed, 0.41) if layers == 12 else 0.41

    found = preparation.stability(survivors(value)).set_index(["layers", "condition"])
    assert found["collapsed"].to_dict() == {
        (1, "none"): 0, (1, "vitaminc, shuffled labels"): 0, (12, "none"): 0, (12, "vitaminc, shuffled labels"): 2,
    }  # fmt: skip
    assert preparation.stable(found.reset_index()) == [1]
    assert (found["runs"] == 6).all()


def test_the_sections_print_what_was_chosen():
    numbers = Numbers("08_preparation")
    sections.add_plateau(numbers, preparation.plateau(targets(lambda *values: 0.5 + values[2] / 1000)))
    sections.add_dose(numbers, preparation.dose(doses(vitaminc=[0.06] * 3, wikihow=[0.0] * 3)), [1, 2, 12])
    sections.add_stability(numbers, preparation.stability(survivors(lambda *_: 0.5)))
    plateau = numbers.tables["plateau"]
    assert plateau["rows"][0] == ["1", "0.00005", "55.0", "60.0", "70.0*"] and plateau["header"][2] == "50 steps"
    assert [row[-1] for row in numbers.tables["dose"]["rows"]] == ["yes", "no"]
    assert numbers.numbers["admitted"]["text"] == "VitaminC"
    assert numbers.tables["stability"]["rows"][0][2:] == ["50.0 (50.0; 0 of 6)"] * 2
    assert numbers.numbers["stable_rungs"]["text"] == "1 and 12"


@pytest.mark.parametrize("study", ["plateau", "dose", "stability"])
def test_nothing_is_said_before_all_is_recorded(study, tmp_path):
    found = store.recorded(store.cells(tmp_path), study)
    assert found.empty and getattr(preparation, study)(found).empty

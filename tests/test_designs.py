"""What studies of other sets and seeds would take and find: hours against a plan of their cells, layouts, figure."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from test_paper_notebooks import run_here

from xlscale.core.files import STUDIES, XlscaleError
from xlscale.experiment import studies
from xlscale.planning import designs, hardware, lengths, plan
from xlscale.planning.designs import Design
from xlscale.report.numbers import Numbers
from xlscale.report.sections import designs as sections
from xlscale.stats import simulation
from xlscale.stats.primary import Layout

H100, STUDY = hardware.load("h100"), "window_7b_72b"
MODELS = {"qwen25_0_5b": [24], "qwen25_1_5b": [28], "qwen25_3b": [36]}
SETS = ["qqp", "squadshifts_nyt", "hellaswag", "scitail", "cosmos_qa", "squadshifts_wiki"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """``study(sets, seeds, blocks, **changes)``: a study of three small models on a trained target and another one."""
    full = yaml.safe_load((STUDIES / f"{STUDY}.yaml").read_text())
    kept = {"intermediate_recipe": full["intermediate_recipe"] | {"examples": 7000}, "models": MODELS}
    kept |= {"placebo": True, "targets": ["xnli", "tatoeba"], "title": "Some"}
    kept |= {"model_recipes": dict.fromkeys(MODELS, full["model_recipes"]["qwen25_7b"])}
    kept |= {"target_recipes": {name: full["target_recipes"][name] for name in kept["targets"]}}
    monkeypatch.setattr(studies, "STUDIES", tmp_path)

    def load(sets=SETS, seeds=2, blocks=3, **changes):
        only = [{"intermediate": "none"}]
        for number, name in enumerate(sets):
            own = [seeds * (number % blocks) + each + 1 for each in range(seeds)]
            only += [{"intermediate": name, "seed": own, "placebo": False}]
            only += [{"intermediate": name, "seed": own[0], "placebo": True}]
        written = kept | {"name": "some", "intermediate": ["none", *sets], "only": only}
        written |= {"seeds": [*range(1, seeds * blocks + 1)]}
        (tmp_path / "some.yaml").write_text(yaml.safe_dump(written | changes))
        return studies.load("some")

    return load


@pytest.mark.parametrize(("seeds", "blocks"), [(2, 3), (1, 2), (3, 6)])
def test_hours_of_a_design_are_those_of_its_cells(study, seeds, blocks):
    """Of another design, too: planned cell by cell, where it has the same sets."""
    parts = designs.parts(study(), H100)
    other = study(seeds=seeds, blocks=blocks)
    assert designs.of(other) == Design(6, seeds, blocks)
    whole = plan.table(other.cells(), H100, count=False)
    expected = (whole["hours"] * whole["cells"]).sum()
    # Beside a mean: a model without adapters takes a little less, where nothing trains.
    assert designs.hours(parts, designs.of(other)) == pytest.approx(expected, rel=1e-4)
    assert (parts["spared"] > 0).all()  # Tatoeba is not trained on: without intermediate training it is evaluated once


def test_a_design_has_as_many_seeds_of_every_set(study):
    uneven = [{"intermediate": SETS[0], "seed": [1, 2]}, {"intermediate": SETS[1:], "seed": 3}]
    overlapping = [{"intermediate": name, "seed": [1, 2 + number]} for number, name in enumerate(SETS[:5])]
    for wrong in (uneven, [*overlapping, {"intermediate": SETS[5], "seed": [1, 6]}]):
        with pytest.raises(XlscaleError, match="study: expected as many seeds of every set, in blocks, in some"):
            designs.of(study(only=[{"intermediate": "none"}, *wrong]))
    some = study(models={name: MODELS[name] for name in [*MODELS][:2]}, model_recipes={})
    with pytest.raises(XlscaleError, match="study: expected at least 3 models in some, got 2"):
        sections.table(some, H100, 10, 1)


def test_hours_follow_from_stated_lengths_whatever_is_here(monkeypatch):
    """Else two machines would print two papers."""
    cells = [cell for cell in studies.load("smoke").cells() if cell.phase != "pretrained"]
    monkeypatch.setattr(lengths, "_here", lambda *_: pytest.fail("looked for data"))
    lengths.training.cache_clear()
    lengths.evaluation.cache_clear()
    found = plan.table(cells, H100, count=False)
    trained = found[found["train_tokens"] > 0]
    assert "counted" not in {*trained["train_basis"], *found["evaluated_basis"]} and len(trained)
    with pytest.raises(pytest.fail.Exception, match="looked for data"):
        plan.table(cells, H100)


def test_sets_take_turns_with_blocks_of_seeds_and_are_like_the_studys():
    names = ["qqp", "scitail", "squad", "squadshifts_nyt", "hellaswag", "casehold"]
    runs = simulation.laid_out(names, 12, 2, 3)
    assert len(runs) == 24 and runs["set"].nunique() == 12 and runs["seed"].nunique() == 6
    assert (runs.groupby("set")["seed"].nunique() == 2).all() and (runs.groupby("seed")["set"].nunique() == 4).all()
    assert runs.drop_duplicates("set")["format"].value_counts().tolist() == [4, 4, 4]
    some = simulation.laid_out(names, 4, 1, 2)
    assert [name.rpartition(" ")[0] for name in some["set"]] == ["qqp", "squad", "squadshifts_nyt", "casehold"]
    # One seed for all is no design: the noise of the one run that sets are compared with is in no interval.
    alone = runs.assign(seed=1).drop_duplicates("set")
    weights = pd.Series(1 / 12, index=runs["set"].unique())
    assert np.isnan(Layout(alone).contrast(np.random.default_rng(1).normal(size=(3, 12)), weights)[1]).all()


def test_more_sets_take_more_hours_and_find_smaller_slopes(study):
    some = study(blocks=6)
    found = sections.table(some, H100, 400, 1)
    assert {*zip(found["sets"], found["seeds"], found["blocks"], strict=True)} == {*sections.around(Design(6, 2, 6))}
    for _, own in found.groupby(["seeds", "blocks", "spread"]):
        assert own["hours"].is_monotonic_increasing and own["slope"].iloc[-1] < own["slope"].iloc[0]
    for _, own in found.groupby(["sets", "seeds", "blocks"]):
        assert own["slope"].iloc[-1] > own["slope"].iloc[0]  # the more sets differ, the less is found
    numbers = Numbers("13_designs")
    sections.add(numbers, found, some, H100, 400)
    made = {name: number["text"] for name, number in numbers.numbers.items()}
    assert (
        len(numbers.tables["designs"]["rows"]) == len(found) / 3
        and made["design_models"] == "Qwen2.5 at 0.5B, 1.5B and 3B"
    )
    assert (made["design_own_sets"], made["design_sets_sets"], made["design_seeds_seeds"]) == ("6", "8", "3")


@pytest.mark.parametrize(
    ("sets", "seeds", "expected"),
    [
        ((9, 1, 2, 3), (10, 2, 3, 4), "sets"),
        ((11, 2, 3, 4), (10, 1, 2, 3), "seeds"),
        ((9, 1, 2, 4), (10, 2, 3, 3), "depends"),
        ((11, 1, 2, 3), (10, 2, 3, 4), "depends"),
    ],
)
def test_what_is_worth_more_costs_no_more_and_finds_more_however_much_sets_differ(sets, seeds, expected):
    rows = [pd.Series(dict(zip(("hours", *sections.SPREADS), values, strict=True))) for values in (sets, seeds)]
    assert sections._worth(*rows) == expected


def test_the_notebook_makes_the_figure_of_a_study(study, tmp_path, capsys):
    study()
    run_here("13_designs", "", tmp_path / "out", capsys, study="some", replications=50)
    made = json.loads((tmp_path / "out" / "generated" / "13_designs.json").read_text())
    assert {*made["figures"]} == {"designs"} and made["tables"]["designs"]["rows"]


def test_no_set_of_the_study_holds_a_targets_data_and_blocks_have_both_types():
    study = studies.load(STUDY)
    facts = simulation.layout(study)
    cards = {name: plan.data_card(name) for name in facts["set"]}
    assert not any({*card.overlaps_targets} & {*study.targets} for card in cards.values())
    assert designs.of(study) == Design(12, 2, 6)
    for _, block in facts.groupby("seed"):
        assert sorted(block["type"]) == ["domain", "general"] and block["format"].nunique() == 2

"""Conditions by other names than a set's: what a record calls them, arms of a study, and what each is compared with."""

import pandas as pd
import pytest
import yaml

from xlscale.core.files import XlscaleError
from xlscale.experiment import cells, conditions, studies
from xlscale.record import store
from xlscale.report import labels
from xlscale.stats import primary, slopes

TRAINED = {"examples": 40, "epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "max_length": 64, "test_items": 9}
PLAIN = {
    "name": "mine",
    "title": "Arms",
    "models": {"e5_small": [2, 4]},
    "intermediate": ["none", "vitaminc"],
    "seeds": [3, 4],
    "targets": ["topic", "udhr"],
    "intermediate_recipe": TRAINED,
    "target_recipes": {
        "topic": TRAINED | {"epochs": 2, "learning_rate": {2: 2e-3, 4: 1e-3}},
        "udhr": {"max_length": 32, "test_items": 8},
    },
}
ARMS = {
    "adversarial": {"intermediate": ["none"], "target": {"objective": "adversarial", "radius": 0.2}},
    "smoothing": {"intermediate": ["vitaminc"], "recipe": {"objective": "smoothing"}},
    "lora": {
        "intermediate": ["none", "vitaminc"],
        "recipe": {"method": "lora", "learning_rate": {2: 4e-3, 4: 2e-3}},
        "target": {"method": "lora", "epochs": None, "steps": 9},
    },
    "late": {"intermediate": ["lexicon"], "recipe": {"objective": "lexical", "word_layer": {2: 2, 4: 4}}},
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function that reads a study with these fields."""
    monkeypatch.setattr(studies, "STUDIES", tmp_path)

    def read(**fields) -> studies.Study:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(PLAIN | fields))
        return studies.load("mine")

    return read


def _called(plan: studies.Study) -> dict[str, list[cells.Cell]]:
    """Condition -> its target cells on topic, at two layers with the first seed."""
    names, found = plan.conditions(), {}
    for cell in plan.cells():
        of = cell.parameters
        if cell.phase == "target" and (of.target, of.layers, of.seed) == ("topic", 2, 3):
            found.setdefault(names[cell.id], []).append(cell)
    return found


def test_arms_are_conditions_beside_the_plain_ones_which_stay_as_they_were(study):
    plain, plan = study(), study(arms=ARMS)
    before, now = plain.conditions(), plan.conditions()
    assert before.items() <= now.items() and all(cell.condition == before[cell.id] for cell in plain.cells())
    found = _called(plan)
    expected = [
        "none",
        "none, adversarial",
        "none, lora",
        "vitaminc",
        "vitaminc, smoothing",
        "vitaminc, lora",
        "lexicon, late",
    ]
    assert sorted(found) == sorted(expected)
    assert all(len(several) == 1 for several in found.values())  # no two cells of one run
    of = {name: one.parameters for name, (one,) in found.items()}
    assert (of["none, adversarial"].objective, of["none, adversarial"].radius) == ("adversarial", 0.2)
    assert (of["vitaminc, smoothing"].intermediate_objective, of["vitaminc, smoothing"].objective) == (
        "smoothing",
        "supervised",
    )
    lora = of["vitaminc, lora"]
    assert (lora.intermediate_method, lora.method, lora.intermediate_learning_rate) == ("lora", "lora", 4e-3)
    assert (lora.epochs, lora.steps, lora.intermediate_epochs) == (None, 9, 1)  # what is left out is as in the study
    assert of["lexicon, late"].intermediate_word_layer == 2
    late = [cell for cell in plan.cells() if cell.phase == "intermediate" and cell.parameters.layers == 4]
    assert {cell.parameters.intermediate_word_layer for cell in late if now[cell.id] == "lexicon, late"} == {4}


def test_what_several_arms_share_is_made_once_and_is_of_the_first(study):
    plan = study(arms=ARMS)
    names, cells_ = plan.conditions(), plan.cells()
    assert len({cell.id for cell in cells_}) == len(cells_) == len(names)
    untrained = [names[c.id] for c in cells_ if c.phase == "target" and c.parameters.target == "udhr"]
    # Without intermediate training, retrieval is the same whatever trains targets.
    assert untrained.count("none") == 2 and not {"none, adversarial", "none, lora"} & {*untrained}
    assert {names[cell.id] for cell in cells_ if cell.phase == "pretrained"} == {"none"}


def test_the_placebo_of_an_arm_and_patterns_on_what_differs(study):
    plan = study(arms=ARMS, placebo=True, only=[{"placebo": False}, {"placebo": True, "intermediate_method": "lora"}])
    assert {name for name in plan.conditions().values() if name.endswith(conditions.SHUFFLED)} == {
        "vitaminc, lora, shuffled labels"
    }


@pytest.mark.parametrize(
    ("arms", "line"),
    [
        ({"a": {"intermediate": ["vitaminc"], "recipe": {"objectiv": "x"}}}, "arms.a.recipe: objectiv: Extra inputs"),
        ({"a": {"intermediate": ["vitaminc"], "recipe": {"margin": 0.1}}}, "arms.a.recipe: margin: expected with obj"),
        ({"a": {"intermediate": ["none"], "target": {"epochs": 0}}}, "arms.a.target: epochs: .*greater than or equal"),
        ({"a": {"intermediate": ["none"], "target": {"steps": 5}}}, "arms.a.target: steps: expected nothing beside"),
        ({"a": {"intermediate": []}}, "arms.a.intermediate: List should have at least 1"),
        (
            {"a": {"intermediate": ["none"], "target": {"test_items": 5}}},
            "arms.a: target: test_items: expected as the st",
        ),
        ({"a": {"intermediate": ["vitaminc"], "target": {"epochs": 3}}}, "arms.a: intermediate: expected none too"),
        ({"a": {"intermediate": ["none"], "targets": {}}}, "arms.a.targets: Extra inputs"),
        ({"A b": {"intermediate": ["none"]}}, "arms.A b.*: String should match"),
        ({"a": {"intermediate": ["lexicon"]}}, "intermediate_objective: expected lexical for lexicon, got 'supervi"),
        ({"a": {"intermediate": ["vitamins"]}}, "intermediate: unknown data 'vitamins'"),
        (
            {"topic": {"intermediate": ["none"], "target": {"epochs": 3}}},
            "arms.topic: expected another name than",
        ),
        (
            {"none": {"intermediate": ["none"], "target": {"epochs": 3}}},
            "arms.none: expected another name than",
        ),
        (
            {name: {"intermediate": ["none"], "target": {"epochs": n}} for name, n in (("a", 3), ("b", 4), ("c", 3))},
            "arms.c: expected a field that differs from those of arms.a for 'none'",
        ),
        *(
            ({"a": {"intermediate": [name], **own}}, f"arms.a: expected a field that differs from .* for '{name}'")
            for name, own in (
                ("vitaminc", {}),
                ("none", {}),
                ("none", {"target": {"learning_rate": {2: [2e-3], 4: [1e-3]}}}),  # in another spelling
                ("vitaminc", {"recipe": {"method": "full", "epochs": 1}}),
                ("none", {"target": {"objective": "supervised"}}),
                ("none", {"recipe": {"method": "lora"}}),  # nothing is trained by it
            )
        ),
    ],
)
def test_a_broken_arm_is_one_line_naming_file_and_field(study, arms, line):
    with pytest.raises(XlscaleError, match=f"mine.yaml: {line}") as error:
        study(arms=arms).cells()
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_set_that_is_in_an_arm_alone_is_read_and_run_by_hand_with_its_recipe(study):
    study(arms=ARMS)
    assert {"lexicon", "vitaminc", "topic"} <= {*studies.data_sets("mine")}
    values = {"model": "e5_small", "layers": 4, "intermediate": "lexicon", "intermediate_objective": "lexical"}
    arms = {"late": {"intermediate": ["lexicon"], "recipe": ARMS["late"]["recipe"] | {"examples": 77}}}
    study(arms=arms)
    assert studies.completed(values, "mine")["intermediate_examples"] == 77


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "vitaminc"),
        ({"placebo": True}, "vitaminc, shuffled labels"),
        ({"intermediate_learning_rate": 0.5, "epochs": 7}, "vitaminc"),
        ({"intermediate_objective": "smoothing"}, "vitaminc, smoothing"),
        (
            {"intermediate_objective": "adversarial", "intermediate_radius": 0.5, "intermediate_norm": "linf"},
            "vitaminc, adversarial with norm linf and radius 0.5",
        ),
        ({"frozen": "nothing"}, "vitaminc, full with frozen nothing target training"),
        (
            {"intermediate_method": "lora", "method": "lora", "placebo": True},
            "vitaminc, lora, lora target training, shuffled labels",
        ),
        ({"intermediate": "none", "objective": "adversarial"}, "none, adversarial target training"),
        ({"intermediate": "none", "intermediate_objective": "smoothing"}, "none"),
        ({"target": "udhr", "objective": "adversarial"}, "vitaminc"),
    ],
)
def test_a_record_calls_a_condition_after_what_is_not_plain_training(target_values, changes, label):
    cell = cells.make("target", target_values | {"intermediate": "vitaminc"} | changes)
    assert cell.condition == label and conditions.plain(label) == (label in ("none", "vitaminc"))


def test_results_from_before_there_were_objectives_are_plain():
    assert conditions.condition({"intermediate": "squad_wiki", "placebo": True}) == "squad_wiki, shuffled labels"
    assert conditions.condition({"model": "e5_small"}) == "none"


@pytest.mark.parametrize(
    ("label", "none", "shuffled"),
    [
        ("none", None, None),
        ("vitaminc", "none", "vitaminc, shuffled labels"),
        ("vitaminc, shuffled labels", "none", None),
        ("vitaminc, lora", "none", "vitaminc, lora, shuffled labels"),
        ("none, adversarial", "none", None),
        ("none, lora target training", "none", None),
        ("vitaminc, lora, lora target training", "none, lora target training",
         "vitaminc, lora, lora target training, shuffled labels"),
        ("vitaminc, lora, lora target training, shuffled labels", "none, lora target training", None),
    ],
)  # fmt: skip
def test_a_gain_is_over_the_same_target_training_alone_or_over_plain_training(label, none, shuffled):
    assert (slopes.baseline_of(label, "none"), slopes.baseline_of(label, "shuffled")) == (none, shuffled)


def test_a_gain_in_an_arm_with_other_target_training_is_over_that_training_alone():
    known = ["none", "none, mine", "vitaminc", "vitaminc, mine", "vitaminc, mine, shuffled labels", "vitaminc, other"]
    expected = {"vitaminc, mine": "none, mine", "vitaminc, mine, shuffled labels": "none, mine", "none, mine": "none"}
    expected |= {"vitaminc": "none", "vitaminc, other": "none", "none": None}
    assert {one: slopes.baseline_of(one, "none", known) for one in expected} == expected


def test_conditions_are_shown_with_titles_and_without_underscores():
    assert labels.label("none, lora") == "no intermediate training, LoRA"
    assert labels.label("lexicon, early_all, shuffled labels") == "Lexicon of symbol names, early all, shuffled labels"
    assert labels.label("vitaminc, smoothing", True).endswith(" (general), smoothing" + labels.OVERLAPS)
    assert labels.key("lexicon, early_all, shuffled labels") == "lexicon_early_all_shuffled"


def _recorded(plan: studies.Study) -> pd.DataFrame:
    """As ``store.cells`` has it: every condition has a value of its own, plus a thousandth per seed and layer."""
    called = plan.conditions()
    values = {name: 0.3 + 0.05 * place for place, name in enumerate(sorted({*called.values()}))}
    found = {}
    for cell in plan.cells():
        of = cell.parameters
        value = values[called[cell.id]] + 0.001 * (getattr(of, "seed", 0) + of.layers)
        size = {"non_embedding_parameters": 10**6 * of.layers, "predictions_sha256": "0" * 64}
        done = {"status": "complete", "value": value, "english": 0.9} | size
        found[cell.id] = store._absent(cell).model_copy(update=done)
    return store.table(found)


def test_gains_of_a_study_go_by_its_own_names_and_plain_tests_by_plain_sets(study):
    plan = study(arms=ARMS)
    known = _recorded(plan)
    own = store.recorded(known, "mine")
    assert len(own) == len(known) and store.recorded(known.iloc[1:], "mine").empty
    found = slopes.gains(own).set_index(["target", "condition", "layers"])["estimate"]
    names = sorted({*plan.conditions().values()})
    for name in names[:-1]:
        if name != "none":
            base = "none, lora" if name.startswith("vitaminc, lora") else "none"
            distance = 0.05 * (names.index(name) - names.index(base))
            assert found["topic", name, 2] == pytest.approx(distance), name
    # The confirmatory analysis asks about sets, plainly trained: what arms do does not enter.
    plain = primary.run_gains(own, ["topic"], "accuracy")
    assert {*plain.index.get_level_values("condition")} == {"vitaminc"}
    assert slopes.gamma(own)["general"].tolist() == [["vitaminc"], ["vitaminc"]]


def test_every_published_study_without_arms_calls_conditions_as_the_record_does():
    for plan in studies.published():
        names = plan.conditions()
        same = {cell.condition: names[cell.id] for cell in plan.cells() if cell.condition == names[cell.id]}
        plain = {name for name in names.values() if conditions.plain(name.removesuffix(conditions.SHUFFLED))}
        if plan.intermediate_recipe.method == "lora":  # throughout, so that it goes without saying there
            assert plain and not {*same} & plain - {"none"}
            continue
        assert plain <= {*same} and (plan.arms or {*same} == {*names.values()}), plan.name


def test_the_draft_of_the_lexical_study_reads_as_it_says():
    plan = studies.load("lexical")
    names = {name.removesuffix(conditions.SHUFFLED) for name in plan.conditions().values()}
    arms = {f"lexicon, {layer}_{pooling}" for layer in ("early", "late") for pooling in ("all", "words")}
    assert names == {"none"} | arms and not plan.published

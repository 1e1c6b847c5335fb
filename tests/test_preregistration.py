"""The preregistrations say what their studies do, and stay as they were committed."""

import re

from xlscale.cards import catalogue
from xlscale.core.files import ROOT, sha256_file
from xlscale.experiment import studies
from xlscale.experiment.cells import NONE
from xlscale.record import store
from xlscale.stats import preparation, primary, sensitivity

PATH = ROOT / "paper" / "preregistration.md"
# What was done otherwise goes into paper/deviations.md.
SHA256 = "3014521deba3e90b5933947212cd72887fd5f0bcb4981d94259f13c9a673b090"
SECOND = ROOT / "paper" / "preregistration_2.md"
SECOND_SHA256 = "4f1bdbbca4ffc5b409b26e0508eae6435ff7390ae583e266e62e912d856353b3"
SEEDS = range(1001, 1010)


def test_it_is_as_it_was_committed():
    assert sha256_file(PATH) == SHA256
    assert (ROOT / "paper" / "deviations.md").exists()


def test_the_study_is_the_one_it_describes():
    text, study = PATH.read_text(encoding="utf-8"), studies.load("confirmatory")
    rows = re.findall(r"^  \| ([a-z ]+) \| ([a-z_0-9, ]+) \| ([a-z_0-9, ]+) \|$", text, re.M)
    families = {"extractive question answering": "span_qa", "multiple choice": "multiple_choice"}
    listed = set()
    for family, *columns in rows:
        for kind, names in zip(("general", "domain"), columns, strict=True):
            for name in names.split(", "):
                card = catalogue.data_card(name)
                assert (card.family, card.type) == (families.get(family, family), kind), name
                listed.add(name)
    assert {NONE, *listed} == set(study.intermediate)
    assert list(study.seeds) == list(SEEDS) and study.placebo
    assert list(study.models) == ["e5_small_healed"]
    assert all(name in text for name in study.targets)
    more = {c.parameters.seed for c in study.cells() if getattr(c.parameters, "intermediate", NONE) != NONE}
    assert more == {1001, 1002, 1003}


def test_its_seeds_are_used_by_no_other_study_than_the_one_that_takes_its_place_and_its_arms():
    for name in studies.names():
        if name not in ("confirmatory", "confirmatory_2", *sensitivity.ARMS):
            assert not set(SEEDS) & set(studies.load(name).seeds), name


def test_the_second_is_as_it_was_committed():
    assert sha256_file(SECOND) == SECOND_SHA256


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-\d+)?", text)]


def test_the_second_describes_the_study_that_is_run():
    text, study = SECOND.read_text(encoding="utf-8"), studies.load("confirmatory_2")
    plain = " ".join(text.split())
    assert study.published and list(study.seeds) == list(SEEDS) and study.placebo and study.split == "test"
    (rungs,) = study.models.values()
    assert [*study.models] == ["e5_small_healed"] and f"with {rungs[0]}, {rungs[1]} and {rungs[2]} layers" in plain
    listed = set()
    for family, *columns in re.findall(r"^  \| ([a-z ]+) \| ([a-z_, ]+) \| ([a-z_, ]+) \|$", text, re.M):
        for kind, names in zip(("general", "domain"), columns, strict=True):
            cards = [catalogue.data_card(name) for name in names.split(", ")]
            assert {(card.family, card.type) for card in cards} == {(family.replace(" ", "_"), kind)}
            listed |= {card.name for card in cards}
    assert {NONE, *listed} == {*study.intermediate}
    trained, retrieval = re.search(r"\*\*Targets\*\*, trained: (.*?) Retrieval: (.*?)\. ", plain).groups()
    for part, family in ((trained, "trained"), (retrieval, "retrieval")):
        named = {name for name in re.findall(r"[a-z_]+", part) if name in study.targets}
        assert named == {name for name in study.targets if primary.family(name) == family}
    rates = _numbers(re.search(r"two epochs of intermediate training at (.*?) by rung", plain)[1])
    assert rates == [study.intermediate_recipe.learning_rate[layers] for layers in rungs]
    for target in (name for name in study.targets if catalogue.data_card(name).trained):
        recipe = study.target_recipes[target]
        assert recipe.steps == (400 if catalogue.data_card(target).family == "tagging" else 200)
        assert [recipe.learning_rate[layers] for layers in rungs] == [1.5e-3, 5e-4, 1.5e-4]
    for scale, unit, told in (("accuracy", 100, "±{:.0f} and ±{:.0f} points"), ("log", 1, "±{} and ±{} in log")):
        assert told.format(*(unit * primary.SMALLEST[family][scale] for family in primary.FAMILIES)) in plain
    assert all(f"`{arm}`" in text and studies.load(arm).published for arm in sensitivity.ARMS)


def test_the_second_rests_on_what_the_record_of_its_preparation_gives():
    text, known = SECOND.read_text(encoding="utf-8"), store.cells()
    (rungs,) = studies.load("confirmatory_2").models.values()
    taught = preparation.dose(store.recorded(known, "dose"))
    wide = (100 * taught.pivot(index="set", columns="layers", values="taught")).round(1)
    rows = {name: _numbers(line) for name, line in re.findall(r"^  \| ([a-z_]{4,}) \| (\d.*) \|$", text, re.M)}
    left_out = {name: _numbers(line) for name, line in re.findall(r"(squad_wiki|social_iqa)\s+\((.*?)[;)]", text, re.S)}
    assert rows.keys() | left_out.keys() == {*wide.index}
    for name, values in (rows | left_out).items():
        assert values == wide.loc[name, [1, 2, 4, 12]].tolist(), name
    assert preparation.admitted(taught, rungs) == sorted(rows)
    survived = preparation.stable(preparation.stability(store.recorded(known, "stability")))
    assert {*rungs} <= {*survived} and rungs[0] == min({1, 2} & {*survived})
    tried = store.recorded(known, "plateau").query("phase == 'target'")
    plateau = tried.groupby(["target", "layers", "steps", "learning_rate"])["value"].mean()
    plain, means = " ".join(text.split()), [0.0, 0.0, 0.0]
    for target, steps in (("topic", 200), ("symbol_group", 200), ("interface_tags", 400)):
        told = _numbers(re.search(rf"{target}(?: is)? at ([0-9., and]+)", plain)[1].rstrip(". "))
        rates = (1.5e-3, 5e-4, 1.5e-4)
        found = [100 * plateau[target, layers, steps, rate] for layers, rate in zip(rungs, rates, strict=True)]
        assert told == [round(value, 1) for value in found]
        means = [mean + value / 3 for mean, value in zip(means, found, strict=True)]
    assert f"{means[0]:.1f}, {means[1]:.1f} and {means[2]:.1f}, is at most 1.1 points below" in plain
    best = 100 * plateau.groupby(level=[1, 2, 3]).mean().groupby(level=0).max()
    assert "best of eight settings of a rung ({:.1f}, {:.1f} and {:.1f})".format(*best[rungs]) in plain
    assert max(best[rungs] - means) < 1.15


def test_no_cell_with_these_seeds_is_recorded_before_the_second_plan_is_there():
    if not SECOND.exists():
        assert not set(SEEDS) & set(store.cells()["seed"])

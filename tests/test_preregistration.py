"""The preregistration says what the study does, and stays as it was committed."""

import re

from xlscale.cards import catalogue
from xlscale.core.files import ROOT, sha256_file
from xlscale.experiment import studies
from xlscale.experiment.cells import NONE
from xlscale.record import store
from xlscale.stats import sensitivity

PATH = ROOT / "paper" / "preregistration.md"
# What was done otherwise goes into paper/deviations.md.
SHA256 = "3014521deba3e90b5933947212cd72887fd5f0bcb4981d94259f13c9a673b090"
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


def test_no_cell_with_these_seeds_is_recorded_before_the_second_plan_is_there():
    if not (ROOT / "paper" / "preregistration_2.md").exists():
        assert not set(SEEDS) & set(store.cells()["seed"])

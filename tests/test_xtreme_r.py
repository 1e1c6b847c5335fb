"""Every target of XTREME-R and XTREME and every intermediate set goes through its phases, in an encoder and a decoder.

On small copies of the sources, through the notebooks' own code: what is proved is that everything fits together.
"""

import json
import math
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from conftest import FIXTURES

from xlscale.cards import catalogue
from xlscale.commands import check
from xlscale.core.files import ROOT, XlscaleError
from xlscale.core.registry import PARTS
from xlscale.experiment import studies
from xlscale.experiment.results import Result
from xlscale.metrics.predictions import VALUE
from xlscale.record import store
from xlscale.xtreme import benchmark

STUDY = yaml.safe_load((FIXTURES / "studies" / "xtreme_r_fixture.yaml").read_text(encoding="utf-8"))
SOURCES = {name: catalogue.documented(name) for name in catalogue.names(catalogue.SOURCES)}
TOKEN_MATCHED = "token_matched_fixture"
MODELS = sorted(STUDY["models"])


@pytest.fixture(scope="module")
def environment(elsewhere) -> dict[str, str]:
    """Of processes that work on the small copies of the sources."""
    sys.path.insert(0, str(FIXTURES))
    import elsewhere as made

    return os.environ | made.environment(elsewhere)


@pytest.fixture(scope="module")
def all_ran(environment) -> dict[str, list[dict]]:
    """What every cell left, by study."""
    done = subprocess.run(
        [sys.executable, FIXTURES / "phases.py", STUDY["name"], TOKEN_MATCHED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split(" ", 2)[1:] for line in done.stdout.splitlines() if line.startswith("cell ")]
    return {study: [json.loads(cell) for name, cell in lines if name == study] for study, _ in lines}


@pytest.fixture(scope="module")
def ran(all_ran) -> list[dict]:
    """What every cell of STUDY left."""
    return all_ran[STUDY["name"]]


def test_the_study_holds_every_card():
    cards = [card for card in SOURCES.values() if card.name == "lareqa_four" or not card.variant_of]
    known = {role: {card.name for card in cards if card.role == role} for role in ("target", "intermediate")}
    assert set(STUDY["targets"]) == known["target"]
    assert set(STUDY["intermediate"]) - {"none"} == known["intermediate"]


def _families(names: set[str]) -> set[str]:
    return {SOURCES[name].family for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_intermediate_set_is_trained_on(ran, model):
    here = [cell for cell in ran if cell["phase"] == "intermediate" and cell["parameters"]["model"] == model]
    found = {cell["parameters"]["intermediate"] for cell in here if not cell["parameters"]["placebo"]}
    known = set(STUDY["intermediate"]) - {"none"}
    assert found == known or (model == "tiny_decoder" and _families(found) == _families(known))
    for cell in here:
        assert cell["status"] == "complete", cell["id"]
        assert cell["losses"] and all(math.isfinite(loss) for loss in cell["losses"]), cell["id"]
        assert list(cell["languages"]) == ["en"], cell["id"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("target", STUDY["targets"])
def test_every_target_is_scored_in_every_language(ran, model, target):
    (cell,) = (
        cell
        for cell in ran
        if cell["phase"] == "target"
        and (cell["parameters"]["target"], cell["parameters"]["model"]) == (target, model)
        and cell["parameters"]["intermediate"] == "none"
    )
    card = SOURCES[target]
    english = {"en"} & set(card.splits["test"]) if card.family not in ("retrieval", "mining") else set()
    assert cell["status"] == "complete"
    assert set(cell["languages"]) == {*card.languages, *english}
    assert bool(cell["losses"]) == card.trained
    assert all(score["items"] > 0 and 0 <= score["value"] <= 1 for score in cell["languages"].values())


RECORD = """
import sys
from pathlib import Path
from xlscale.core.files import RUNS
from xlscale.experiment import studies
from xlscale.record import store
folder = Path(sys.argv[2])
cells = [cell for cell in studies.load(sys.argv[1]).cells() if cell.parameters.model == "tiny_xlm_r"]
assert store.add(cells, folder, RUNS) == len(cells)
assert {name: verdict for name, verdict in store.check(folder).items() if verdict != "ok"} == {}
"""


@pytest.mark.slow
def test_what_is_recorded_follows_from_the_data_and_holds_no_text_of_them(all_ran, environment, tmp_path):
    command = [sys.executable, "-c", RECORD, STUDY["name"], str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    recorded = {path.stem: str(pd.read_parquet(path).to_dict("list")) for path in tmp_path.glob("predictions/*")}
    known = {word for words in sys.modules["hub"].LANGUAGES.values() for word in words if len(word) > 3}
    assert len(recorded) > 30 and len(known) > 50
    assert [(cell, word) for cell, content in recorded.items() for word in known if word in content] == []


@pytest.mark.slow
def test_xcopa_is_trained_in_two_stages_after_another_training_too(ran):
    recipe = STUDY["target_recipes"]["xcopa"]
    steps = recipe["epochs"] * recipe["examples"] // recipe["batch_size"]
    of_xcopa = [cell for cell in ran if cell["parameters"].get("target") == "xcopa"]
    assert {cell["parameters"]["intermediate"] for cell in of_xcopa} == {"none", "sciq"}
    for cell in of_xcopa:
        first, second = cell["losses"][:steps], cell["losses"][steps:]
        assert len(second) == steps
        # A head that knows nothing: three answers of Social IQa, then two choices of COPA.
        assert abs(first[0] - math.log(3)) < 0.2 and abs(second[0] - math.log(2)) < 0.2


@pytest.mark.slow
def test_the_token_matched_arm_trains_on_equal_numbers_of_tokens(all_ran):
    trained = {c["parameters"]["intermediate"]: c for c in all_ran[TOKEN_MATCHED] if c["phase"] == "intermediate"}
    assert len(trained) == 3
    for name, cell in trained.items():
        most = 2 * cell["parameters"]["intermediate_tokens"]  # two epochs
        assert 0.5 * most < cell["train_tokens"] <= most, name
    rows = {name: len(cell["losses"]) for name, cell in trained.items()}
    assert rows["qqp"] > rows["squad"], "short texts take more steps"


def test_a_recipe_of_reference_is_that_of_the_card():
    study = studies.load("xtreme_r")
    assert set(study.targets) == {card.name for card in SOURCES.values() if "xtreme-r" in card.benchmarks}
    found = {
        (c.parameters.model, c.parameters.target): c.parameters for c in study.matching([{"intermediate": "none"}])
    }
    for target in (name for name, recipe in study.target_recipes.items() if recipe == "reference"):
        known, base = SOURCES[target].recipe, found["xlm_r_base", target]
        large = found["xlm_r_large", target]
        assert (base.epochs, base.batch_size, base.max_length) == (known.epochs, known.batch_size, known.max_length)
        assert (base.learning_rate, base.examples > 3000) == (known.learning_rate, True), target
        stated = (known.warmup_steps or base.warmup_steps, known.weight_decay or 0.0)
        assert (base.warmup_steps, base.weight_decay) == stated, target
        assert large.learning_rate == (known.large_learning_rate or known.learning_rate), target
    with pytest.raises(XlscaleError, match=r"target_recipes.tatoeba: expected a card with recipe and training rows"):
        studies.reference("tatoeba", 12, "studies/x.yaml")


@pytest.mark.parametrize("name", ["xtreme", "xtreme_r"])
def test_targets_and_languages_are_those_that_are_scored(name):
    scored = {task.name: task for task in benchmark.load(name.replace("_", "-")).tasks}
    mine = {card.name: card for card in SOURCES.values() if name.replace("_", "-") in card.benchmarks}
    assert set(mine) == set(scored)
    # Languages that XTREME-R added are not in XTREME's lists; cards hold them all.
    for task, card in mine.items():
        missing = set(scored[task].languages) - {*card.languages, "en"}
        assert not missing, (task, missing)
    if name == "xtreme_r":
        for task, card in mine.items():
            assert {*card.languages} == set(scored[task].languages) - {"en"}, task


def test_cards_say_what_a_reader_needs():
    for card in SOURCES.values():
        assert card.name not in catalogue.names("data"), "a name is that of one set"
        for origin in card.source.origins.values():
            assert origin.schema_read, card.name
        assert all(stage in SOURCES or stage in catalogue.names("data") for stage in card.stages)
        assert card.translates is None or card.translates in SOURCES
        assert card.family in PARTS["task"] and card.metric in VALUE, card.name
    trained = {name for name, card in SOURCES.items() if card.role == "target" and card.trained}
    assert trained == {name for name, card in SOURCES.items() if card.role == "target" and card.recipe}


def test_every_type_has_four_sets_that_double_no_target():
    original = {name for name, card in SOURCES.items() if not card.variant_of}
    for kind in ("general", "domain"):
        sets = [
            c for c in SOURCES.values() if c.type == kind and not original & {*c.overlaps_targets} and not c.translates
        ]
        assert len(sets) >= 4, kind
        for family in ("classification", "multiple_choice", "span_qa"):
            assert any(card.family == family for card in sets), (kind, family)
    doubled = {target for card in SOURCES.values() for target in card.overlaps_targets}
    assert doubled & original == {"xnli", "xquad", "mlqa", "lareqa", "xcopa"}


def test_a_cell_says_whether_its_set_holds_data_of_its_target():
    """The bundled parts of SQuAD and Social IQa as well as the whole ones."""

    def overlaps(intermediate, target):
        parameters = {"model": "m", "layers": 1, "intermediate": intermediate, "target": target, "placebo": True}
        about = {"id": "a", "phase": "target", "parent": None, "reads": {}, "status": "failed", "reason": "none"}
        return store.describe(Result(**about, parameters=parameters, fingerprint="0" * 64))["overlaps"]

    assert overlaps("squad_v1", "xquad") and overlaps("squad", "xquad") and overlaps("social_iqa", "xcopa")
    assert not any(overlaps(name, "xquad") for name in ("none", "squad_wiki", "social_iqa"))
    assert overlaps("squad_v1", "xquad_shifts") and overlaps("squad_wiki", "xquad_shifts")  # test items; training rows
    assert not overlaps("squad_v1", "mlqa_dev") and not overlaps("squad_amazon", "mlqa_dev")
    assert not overlaps("squad_v1", "topic") and not overlaps("squad_v1", None)
    known = {name: catalogue.data_card(name) for name in catalogue.names("data")} | SOURCES
    assert all(known[target].role == "target" for card in known.values() for target in card.overlaps_targets)


@pytest.mark.parametrize(("mark", "role"), [("targets", "target"), ("intermediate", "intermediate")])
def test_the_readme_shows_what_the_cards_say(mark, role):
    text = (ROOT / "data_manifest" / "README.md").read_text(encoding="utf-8")
    assert f"<!-- {mark} -->\n{check.overview(role)}\n<!-- end -->" in text

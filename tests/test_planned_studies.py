"""The studies that are planned and not run: what they hold, and recipes of a model's or an intermediate set's own."""

import json

import pytest
import yaml

from xlscale.acquire.external import columns, mewslix
from xlscale.cards import catalogue
from xlscale.commands import plan as plan_command
from xlscale.commands import points
from xlscale.core import files
from xlscale.core.files import XlscaleError
from xlscale.experiment import studies
from xlscale.planning import hardware, plan, report

FULL = "xtreme_r_7b_70b"


def test_the_full_study_is_what_it_says():
    study = studies.load(FULL)
    cells = study.cells()
    assert len(study.models) == 17 and study.seeds == [1] and len(cells) == 17 * (1 + 20 + 21 * 10)
    kinds = [catalogue.data_card(name).type for name in study.intermediate if name != "none"]
    assert (kinds.count("general"), kinds.count("domain")) == (11, 9)
    assert "mewslix" not in study.targets and not study.published
    for cell in cells:
        recipes = (
            [cell.parameters.recipe(role) for role in ("intermediate", "target")] if cell.phase == "target" else []
        )
        assert all((recipe.examples or 0) <= 20_000 and recipe.epochs in (2, None) for recipe in recipes)
    trained = [cell for cell in cells if cell.phase == "target" and cell.parameters.target != "tatoeba"]
    methods = {cell.parameters.model: (cell.parameters.method, cell.parameters.rank) for cell in trained}
    assert {name for name, how in methods.items() if how == ("full", 8)} == {f"xlm_r_{x}" for x in SIZES}
    assert {how for name, how in methods.items() if not name.startswith("xlm_r")} == {("lora", 16)}


SIZES = ("base", "large", "xl", "xxl")


def test_mewsli_x_among_fewer_candidates_is_a_variant_that_counts_for_no_benchmark():
    card = catalogue.data_card("mewslix_100k")
    assert card.variant_of == "mewslix" and not card.benchmarks and "100,000" in card.title
    places = [place for part in card.source.parts for place in part.places]
    assert [place.where for place in places if place.where] == [{"among": [f"1{'0' * n}" for n in range(1, 6)]}]


def test_parts_of_the_entities_are_nested_and_hold_what_is_meant(tmp_path):
    def lines(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    names = [f"Q{number}" for number in range(250)]
    text = {"description": "A thing.", "sentence_spans": [{"start": 0, "end": 8}], "description_language": "en"}
    lines(mewslix.ENTITIES, [{"entity_id": name} | text for name in names])
    context = {"text": "A thing.", "sentence_spans": [{"start": 0, "end": 8}], "language": "de"}
    meant = ["Q7", "Q80", "Q249"]
    mention = {"mention_span": {"start": 2, "end": 7, "text": "thing"}}
    rows = [{"context": context, "mentions": [mention | {"entity_id": n, "example_id": f"e{n}"}]} for n in meant]
    lines(mewslix.TEST, rows)
    records = [*mewslix.read(tmp_path / mewslix.ENTITIES)]
    assert [record["entity"] for record in records] == names
    sizes = dict.fromkeys(("10", "100", "1000"), 0)
    for most in sizes:
        smaller = [one for one in sizes if len(one) <= len(most)]
        kept = [record["entity"] for record in records if columns.matches({"among": smaller}, record)]
        assert {*meant} <= {*kept}
        sizes[most] = len(kept)
    assert sizes == {"10": 10, "100": 100, "1000": 250}
    again = {record["entity"]: record["among"] for record in mewslix.read(tmp_path / mewslix.ENTITIES)}
    lines(mewslix.ENTITIES, [{"entity_id": name} | text for name in reversed(names)])
    assert {r["entity"]: r["among"] for r in mewslix.read(tmp_path / mewslix.ENTITIES)} == again
    (tmp_path / mewslix.TEST).unlink()  # alone, as the whole card reads it
    assert "among" not in next(mewslix.read(tmp_path / mewslix.ENTITIES))


def test_the_recipes_of_phang_et_al_are_those_of_the_cards():
    cells = [cell for cell in studies.load("phang2020").cells() if cell.phase == "intermediate"]
    assert len(cells) == 7 * 3
    for cell in cells:
        known, used = catalogue.data_card(cell.parameters.intermediate).recipe, cell.parameters.recipe("intermediate")
        assert (used.learning_rate, used.epochs, used.batch_size) == (
            known.learning_rate,
            known.epochs,
            known.batch_size,
        )
        assert used.max_length == 256 and used.warmup == 0.1
    examples = {cell.parameters.intermediate: cell.parameters.intermediate_examples for cell in cells}
    assert examples["squad"] == 87599 and examples["anli"] == studies.ALL  # nobody has counted ANLI+


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """``changed(**fields)``: the smoke study with other fields, loaded."""
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    content = yaml.safe_load((files.ROOT / "studies" / "smoke.yaml").read_text())

    def load(**fields):
        (tmp_path / "mine.yaml").write_text(
            yaml.safe_dump(content | {"name": "mine", "published": False, "only": []} | fields)
        )
        return studies.load("mine")

    return load


def test_a_model_and_a_set_may_be_trained_by_a_recipe_of_their_own(changed):
    own = {"method": "lora", "rank": 4, "alpha": 8.0, "adapted": "linear", "learning_rate": 0.001}
    study = changed(model_recipes={"e5_small": own}, intermediate_recipes={"squad_amazon": {"examples": 16}})
    for cell in study.cells():
        p = cell.parameters
        if cell.phase == "target" and p.target not in ("udhr", "help_retrieval"):
            assert {name: getattr(p, name) for name in own} == own
        if cell.phase == "intermediate":
            assert {name: getattr(p, f"intermediate_{name}") for name in own} == own
            assert p.intermediate_examples == (16 if p.intermediate == "squad_amazon" else 32)
            assert p.intermediate_batch_size == 8
    assert {cell.id for cell in changed().cells()} == {
        cell.id for cell in changed(model_recipes={"e5_small": {}}, intermediate_recipes={}).cells()
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_recipes": {"other": {}}}, "mine.yaml: model_recipes: expected those of the study, got 'other'"),
        ({"model_recipes": {"e5_small": {"epochs": 3}}}, "model_recipes.e5_small.epochs: Extra inputs"),
        ({"intermediate_recipes": {"topic": {}}}, "intermediate_recipes: expected those of the study, got 'topic'"),
        ({"intermediate_recipes": {"none": {}}}, "intermediate_recipes: expected those of the study, got 'none'"),
        ({"intermediate_recipes": {"squad_amazon": {"rows": 3}}}, "intermediate_recipes.squad_amazon: rows: Extra"),
        ({"intermediate_recipes": {"squad_amazon": "reference"}}, "squad_amazon: expected a card with recipe"),
        ({"model_recipes": {"e5_small": {"rank": 4}}}, "rank: expected with method lora or qlora alone"),
    ],
)
def test_recipes_of_ones_own_that_cannot_be_are_one_line(changed, fields, message):
    with pytest.raises(XlscaleError, match=message) as caught:
        changed(**fields).cells()
    assert "mine.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_plan_by_reference_has_the_recipes_of_the_cards_and_three_seeds():
    study = plan_command.by_reference(studies.load("xtreme_r_encoders"))
    found = [cell.parameters for cell in study.cells() if cell.phase == "target"]
    assert {p.seed for p in found if p.target == "xnli"} == {1, 2, 3}
    assert {(p.examples, p.epochs) for p in found if p.target == "xnli"} == {(392702, 5)}
    assert {p.method for p in found} == {"full"}


def test_the_command_prints_the_plan_and_the_other_one_the_cells(capsys):
    plan_command.plan("smoke", "lora", "h100", False)
    said = capsys.readouterr().out
    assert said.startswith("smoke, Smoke test of every phase") and "all by lora: " in said.splitlines()[0]
    cells = studies.load("smoke").cells()
    assert f"{len(cells)} cells" in said and "GPU-hours" in said and "counted: " in said
    assert max(map(len, said.splitlines())) < 300
    points.cells("smoke")
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [cell.id for cell in cells]


def test_totals_are_sums_over_cells():
    machine = hardware.load("h100")
    cells = studies.load("smoke").cells()
    whole = report.totals(plan.table(cells, machine), machine)
    parts = [report.totals(plan.table([cell], machine), machine) for cell in cells]
    for name in ("cells", "hours", "starting", "price", "kept"):
        assert whole[name] == pytest.approx(sum(part[name] for part in parts)), name
    assert whole["price"] == pytest.approx(2.5 * whole["hours"])


def test_what_is_trained_once_is_planned_once():
    machine = hardware.load("h100")
    cells = [cell for cell in studies.load("xtreme_r").cells() if cell.phase == "target"]
    pairs = [cell for cell in cells if cell.parameters.target in ("xquad", "mlqa")]
    counted = plan.kinds(cells)
    assert {kind.name for kind in counted if kind.shared} == {"mlqa"}
    assert sum(count for kind, count in counted.items() if kind.shared) == len(pairs) / 2
    once = plan.table(pairs[:2], machine).set_index("data")
    alone = plan.table(pairs[1:2], machine).set_index("data")
    assert once.loc["xquad", "train_tokens"] == alone.loc["mlqa", "train_tokens"] > 0
    assert once.loc["mlqa", "train_tokens"] == 0 and once.loc["mlqa", "hours"] < 0.9 * alone.loc["mlqa", "hours"]
    assert once.loc["mlqa", "gpu"] == alone.loc["mlqa", "gpu"]  # whichever of them is run first, trains
    assert once.loc["mlqa", "evaluated_tokens"] == alone.loc["mlqa", "evaluated_tokens"]

"""Specification, strict parameters and identity of cells, and the expansion of studies."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from xlscale.cards import catalogue
from xlscale.commands import canary, verbs
from xlscale.core import files
from xlscale.core.files import NOTEBOOK, XlscaleError
from xlscale.experiment import cells, checks, results, studies
from xlscale.experiment.cells import PARAMETERS
from xlscale.metrics import predictions


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rat", 1e-4, "learning_rat: Extra inputs"),
        ("learning_rate", "2e-5", "learning_rate: .*got '2e-5'"),
        ("learning_rate", 0.0, "learning_rate: .*greater than 0"),
        ("learning_rate", 1e-320, "learning_rate: expected at least 1e-12, which float32 does not round to none"),
        ("learning_rate", None, "learning_rate: expected a number"),
        ("clip", 1e-320, "clip: expected at least 1e-12"),
        ("clip", 1e300, "clip: .*less than or equal to 1000000000"),
        ("warmup_steps", 10**400, "warmup_steps: .*less than or equal to 1000000000000"),
        ("epochs", 1.5, "epochs: .*integer"),
        ("epochs", True, "epochs: .*integer"),
        ("layers", 3, r"layers: expected one of \[1, 2, 4, 8, 12\]"),
        ("layers", 0, "layers: .*greater than or equal to 1"),
        ("model", "e6_small", "studies/x.yaml: model: unknown model 'e6_small': expected one of e5_small"),
        ("target", "topics", "studies/x.yaml: target: unknown data 'topics': expected one of"),
        ("intermediate", "squad_news", "studies/x.yaml: intermediate: unknown data 'squad_news'"),
        ("examples", 2001, "examples: expected at most 2000, the training rows of topic, got 2001"),
        ("intermediate_examples", 9999, "intermediate_examples: expected at most 2000"),
        ("intermediate_max_length", 32, "intermediate_max_length: expected at least 64 for span QA, got 32"),
        ("target", "squad_wiki", "target: expected a card with role: target, 'squad_wiki' has role: intermediate"),
        ("intermediate", "topic", "intermediate: expected a card with role: intermediate, 'topic' has role: target"),
        ("max_length", 100_000, "max_length: .*less than or equal to 512"),
        ("precision", "fp8", "precision: .*'auto', 'bf16' or 'float32'"),
        ("seed", -1, "seed: .*greater than or equal to 0"),
        ("seed", 0, "seed: expected at least 1 where .* is trained on, 0 stands for no training"),
    ],
)
def test_bad_parameter_is_one_line_naming_the_field(target_values, field, value, message):
    with pytest.raises(XlscaleError, match=message) as error:
        cells.make("target", target_values | {field: value}, "studies/x.yaml")
    assert "\n" not in str(error.value)


def test_missing_parameter_is_named(target_values):
    del target_values["target"]
    with pytest.raises(XlscaleError, match="target: Field required"):
        cells.make("target", target_values)


def test_unknown_phase_is_refused():
    with pytest.raises(XlscaleError, match="phase: expected one of pretrained"):
        cells.make("pretraining", {})


def test_every_parameter_is_part_of_the_identity(target_values):
    other = {
        "layers": 4, "intermediate": "squad_amazon", "placebo": True, "precision": "float32", "target": "udhr",
    }  # fmt: skip
    ids = {cells.make("target", target_values).id}
    for name, value in target_values.items():
        if name == "model":
            continue
        changed = other.get(name, value * 2 if isinstance(value, int | float) else value)
        ids.add(cells.make("target", target_values | {name: changed}).id)
    assert len(ids) == len(target_values)  # itself and one per parameter but the model


@pytest.mark.parametrize("field", ["warmup", "weight_decay", "intermediate_warmup"])
def test_a_zero_has_one_identity_whatever_its_sign(target_values, field):
    one, other = (cells.make("target", target_values | {field: zero}) for zero in (0.0, -0.0))
    assert one.id == other.id
    assert str(getattr(other.parameters, field)) == "0.0"


def test_identity_follows_the_data_and_the_parent(target_values, monkeypatch):
    before = cells.make("target", target_values)
    card = catalogue.data_card("squad_wiki")
    monkeypatch.setattr(
        cells,
        "data_card",
        lambda n: card.model_copy(update={"sha256": "0" * 64}) if n == card.name else catalogue.data_card(n),
    )
    after = cells.make("target", target_values)
    assert before.reads == after.reads  # topic is as it was
    assert before.parent.id != after.parent.id
    assert before.id != after.id


def test_identity_follows_what_a_card_says_about_the_computation(target_values, monkeypatch):
    before = cells.make("target", target_values)
    topic, e5 = catalogue.data_card("topic"), catalogue.model_card("e5_small")
    other = topic.model_copy(update={"labels": topic.labels[::-1]})
    monkeypatch.setattr(cells, "data_card", lambda name: other if name == "topic" else catalogue.data_card(name))
    assert cells.make("target", target_values).id != before.id
    monkeypatch.undo()
    monkeypatch.setattr(cells, "model_card", lambda name: e5.model_copy(update={"prefix": "passage: "}))
    assert cells.make("target", target_values).lineage()[0].id != before.lineage()[0].id


@pytest.mark.parametrize(
    ("target", "stage", "changes", "message"),
    [
        ("topic", "nowhere", {}, "topic: stages: unknown data 'nowhere'"),
        ("topic", "help_next", {}, "topic: stages: expected sets with family classification, as the target, help_next"),
        ("topic", "vitaminc", {}, "topic: stages: expected sets with labels "),
        ("topic", "topic", {}, "topic: stages: expected other sets than the target, got topic"),
        ("topic", "other", {"stages": ["vitaminc"]}, "topic: stages: expected sets .* no stages, other has a stage"),
        ("topic", "other", {"labels": None}, None),
        ("udhr", "help_retrieval", {}, "udhr: stages: expected sets with training rows and no stages, help_retrieval"),
        ("topic", "other", {}, None),
        ("topic", "other", {"splits": {"test": {"en": 2}}}, "topic: stages: expected sets with training rows .* no tr"),
        (
            "topic",
            "other",
            {"labels": ["a", "b"]},
            "topic: stages: expected sets with labels .*, other has .'a', 'b'.$",
        ),
    ],
)
def test_a_stage_is_trained_on_with_the_head_of_the_target(target_values, monkeypatch, target, stage, changes, message):
    cards = {target: catalogue.data_card(target).model_copy(update={"stages": [stage]})}
    cards["other"] = catalogue.data_card("topic").model_copy(update={"name": "other"} | changes)
    for module in (checks, cells):
        monkeypatch.setattr(module, "data_card", lambda name: cards.get(name) or catalogue.data_card(name))
    values = target_values | {"target": target}
    if message is None:
        assert {"topic", "other"} <= dict(cells.make("target", values).reads).keys()
        return
    with pytest.raises(XlscaleError, match=f"^studies/x.yaml: {message}"):
        cells.make("target", values, "studies/x.yaml")


def test_one_checkpoint_serves_all_targets(target_values):
    topic = cells.make("target", target_values)
    udhr = cells.make("target", target_values | {"target": "udhr"})
    assert topic.parent == udhr.parent
    assert topic.parent.phase == "intermediate"
    assert [cell.phase for cell in topic.lineage()] == list(PARAMETERS)


def test_what_is_not_used_does_not_count(target_values):
    udhr = target_values | {"target": "udhr", "intermediate": "none"}
    ids = {
        cells.make("target", udhr | changed).id
        for changed in ({}, {"seed": 0}, {"seed": 7}, {"epochs": 9}, {"intermediate_epochs": 4}, {"placebo": True})
    }
    assert len(ids) == 1
    assert cells.make("target", udhr).parent.phase == "pretrained"


def test_spec_round_trip_and_stale_spec(target_values):
    cell = cells.make("target", target_values)
    spec = json.loads(json.dumps(cell.spec()))
    assert cells.from_spec(spec, "spec.json") == cell
    with pytest.raises(XlscaleError, match="spec.json: id: expected"):
        cells.from_spec(spec | {"id": "target-old"}, "spec.json")
    with pytest.raises(XlscaleError, match="expected the fields phase and parameters"):
        cells.from_spec({}, "spec.json")


def test_a_failed_result_has_a_reason_and_a_complete_one_a_value():
    base = {"id": "x", "phase": "target", "parent": None, "parameters": {}, "reads": {}, "fingerprint": "0" * 64}
    with pytest.raises(ValueError, match="a failed cell has one"):
        results.Result(**base, status="failed")
    with pytest.raises(ValueError, match="a complete cell has both"):
        results.Result(**base, status="complete")
    assert results.Result(**base, status="failed", reason="diverged").value is None


@pytest.mark.parametrize("seed", range(3))
def test_the_digest_of_predictions_is_that_of_the_rows_as_json(seed):
    generator = np.random.default_rng(seed)
    texts = [
        "",
        "a",
        "A",
        "ä",
        "a\u0300",
        "日本",
        'say "no"',
        "back\\slash",
        "tab\tnewline\n\x00",
        "\U0001f600",
        "\uffff",
    ]
    keys = generator.permutation([(language, item) for language in ("en", "zh", "pt_br") for item in texts])
    table = pd.DataFrame(keys, columns=["language", "item"])
    table["prediction"] = generator.choice(texts, len(keys))
    table["score"] = generator.random(len(keys))
    table["correct"] = generator.integers(0, 2, len(keys)).astype(np.float32)
    for f1 in (None, generator.random(len(keys), dtype=np.float32)):
        table = table if f1 is None else table.assign(f1=f1)
        columns = [name for name in table if name != "score"]
        rows = sorted(table[columns].to_numpy(dtype=object).tolist(), key=lambda row: row[:2])
        encoded = pa.table({name: pa.array(table[name]) for name in table})
        encoded = encoded.set_column(1, "item", encoded["item"].dictionary_encode())
        assert predictions.digest(table) == predictions.digest(encoded) == files.digest(rows)
    for name in columns:
        with pytest.raises(ValueError, match=name):
            predictions.digest(table.assign(**{name: table[name].where(table.index != 5)}))


def test_pilot_is_the_grid_that_the_paper_describes():
    study = studies.load("pilot")
    found = study.cells()
    conditions = 1 + 2 * 2
    seeds, rungs = len(study.seeds), len(study.models["e5_small"])
    count = {phase: sum(cell.phase == phase for cell in found) for phase in PARAMETERS}
    assert count["pretrained"] == rungs
    assert count["intermediate"] == rungs * (conditions - 1) * seeds
    # Retrieval without training is deterministic: one run per rung.
    assert count["target"] == rungs * (conditions * seeds + (conditions - 1) * seeds + 1)
    seen = set()
    for cell in found:
        assert cell.parent is None or cell.parent.id in seen  # parents come first
        seen.add(cell.id)


def _intermediate(**values: object) -> dict[str, object]:
    """The smoke study's intermediate recipe with some other values."""
    return {
        "intermediate_recipe": yaml.safe_load((files.STUDIES / "smoke.yaml").read_text())["intermediate_recipe"]
        | values
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["topic", "tagging"]}, "studies/broken.yaml: target_recipes: expected an entry for .*'tagging'"),
        ({"targets": ["squad_wiki"]}, "expected an entry for the target 'squad_wiki'"),
        ({"intermediate": ["squad_news"]}, "studies/broken.yaml: intermediate: unknown data 'squad_news'"),
        ({"models": {"e5_small": [5]}}, "studies/broken.yaml: layers: expected one of"),
        ({"seeds": []}, "seeds: "),
        ({"placebos": True}, "placebos: Extra inputs"),
        ({"name": "other"}, "name: expected 'broken'"),
        ({"targets": "topic"}, "targets: .*list"),
        # Of what may be a number, a list or a number for each rung, the kind that was written is spoken of.
        (_intermediate(learning_rate=0.0), r"recipe\.learning_rate: Input should be greater than 0, got 0\.0$"),
        (_intermediate(learning_rate=[0.1, "x"]), r"learning_rate\.1: Input should be a valid number, got 'x'$"),
        (_intermediate(learning_rate={1: -1.0}), r"learning_rate\.1: Input should be greater than 0, got -1\.0$"),
        (_intermediate(learning_rate={"k": 0.1}), r"learning_rate\.k: Input should be a valid integer, got 'k'$"),
        (_intermediate(learning_rate="high"), r"learning_rate: Input should be 'tuned', got 'high'$"),
        (_intermediate(objective="adversarial", ascent_steps=1001), "ascent_steps: .*less than or equal to 1000,"),
        (_intermediate(objective="adversarial", radius=1001.0), "radius: .*less than or equal to 1000,"),
        (_intermediate(method="lora", rank=8193), "rank: .*less than or equal to 8192,"),
        (_intermediate(method="lora", alpha=8193.0), "alpha: .*less than or equal to 8192,"),
    ],
)
def test_a_broken_study_is_one_line_naming_file_and_field(tmp_path, monkeypatch, changes, message):
    content = (
        yaml.safe_load((files.STUDIES / "smoke.yaml").read_text()) | {"name": "broken", "published": False} | changes
    )
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    with pytest.raises(XlscaleError, match=message) as error:
        studies.load("broken").cells()
    assert "\n" not in str(error.value)
    assert "broken.yaml: " in str(error.value)


def test_a_study_that_is_no_yaml_or_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    (tmp_path / "bad.yaml").write_text("name: [unclosed")
    with pytest.raises(XlscaleError, match="bad.yaml: not valid YAML"):
        studies.load("bad")
    with pytest.raises(XlscaleError, match="unknown study 'gone': expected one of bad"):
        studies.load("gone")


def test_a_study_is_expanded_once_and_shares_ancestors(monkeypatch):
    checked = []
    check = checks.check
    monkeypatch.setattr(checks, "check", lambda *arguments: checked.append(arguments) or check(*arguments))
    study = studies.load("pilot")
    found = study.cells()
    found.clear()  # a caller's own list
    found = study.cells()
    study.matching([{"layers": 1}, {"phase": "target"}, {"seed": 11}])
    assert len(checked) == len(found) == len({cell.id for cell in found})
    assert len({id(cell.parent) for cell in found if cell.parent}) == len({c.parent.id for c in found if c.parent})
    by_themselves = [cells.make(cell.phase, cell.parameters.model_dump()) for cell in found]
    assert by_themselves == found


def test_a_cell_is_found_by_its_id_and_only_studies_that_may_hold_it_are_expanded(monkeypatch):
    for name in ("smoke", "pilot", "stability", "suite"):
        study = studies.load(name)
        assert all(study.may_hold(cell.id) for cell in study.cells())
        assert studies.find(study.cells()[-1].id).id == study.cells()[-1].id
    monkeypatch.setattr(studies.Study, "cells", lambda study: pytest.fail(f"{study.name} was expanded"))
    for unknown in ("", "target-x", "target-e5_small-k1-none-nothing-s1-bc519347d9"):
        with pytest.raises(XlscaleError, match=f"ID={unknown}: expected the id of a cell of one of the studies"):
            studies.find(unknown)


def test_identities_do_not_change():
    found = {cell.id for cell in studies.load("pilot").cells()}
    assert {
        "intermediate-e5_small-k1-squad_amazon-s11-54bbb2382d",
        "target-e5_small-k1-squad_wiki-topic-s12-913c32db2f",
        "pretrained-e5_small-k1-82d585ace1",
    } <= found


def test_patterns_select_cells_and_unknown_names_are_errors():
    study = studies.load("pilot")
    chosen = study.matching([{"phase": "target", "layers": [1, 2], "target": "udhr", "intermediate": "none"}])
    assert [cell.parameters.layers for cell in chosen] == [1, 2]
    with pytest.raises(XlscaleError, match="studies/pilot.yaml: layer: expected one of"):
        study.matching([{"layer": 1}])
    with pytest.raises(XlscaleError, match="studies/pilot.yaml: .*'layers': 3.*matches some cell"):
        study.matching([{"layers": 1}, {"layers": 3}])
    with pytest.raises(XlscaleError, match="expected a pattern that matches some cell"):
        study.matching([{"layers": True}])
    for name, given in {"layers": [1, 3], "target": ["udhr", "udrh"], "seed": [11, 99]}.items():
        with pytest.raises(XlscaleError, match=rf"pilot.yaml: .*'{name}': {given[-1]!r}.* that matches some cell"):
            study.matching([{"phase": "target", name: given}])
    with pytest.raises(XlscaleError, match="'layers': .*matches some cell"):
        study.matching([{"layers": []}])
    smoke = studies.load("smoke")
    for use in ("recompute", "canary"):  # known before somebody waits for it
        with pytest.raises(XlscaleError, match="studies/smoke.yaml: .*'layers': 3.*matches some cell"):
            smoke.model_copy(update={use: [{"layers": 3}]}).cells()


def _defaults(phase) -> dict:
    """What a phase notebook's cell 'parameters' sets."""
    notebook = files.read_json(NOTEBOOK[phase])
    source = next("".join(c["source"]) for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))
    values: dict = {}
    exec(source, values)
    values.pop("__builtins__")
    return values


@pytest.mark.parametrize("phase", list(PARAMETERS))
def test_notebook_defaults_are_a_cell_of_the_pilot(phase):
    values = _defaults(phase)
    study = values.pop("study", "pilot")
    assert set(values) == set(PARAMETERS[phase].model_fields)
    assert cells.make(phase, studies.completed(values, study)).id in {cell.id for cell in studies.load("pilot").cells()}


@pytest.mark.parametrize("layers", [1, 2, 4, 12])
@pytest.mark.parametrize(
    "changed", [{}, {"intermediate": "squad_wiki"}, {"target": "udhr", "intermediate": "squad_amazon"}]
)
def test_what_a_notebook_leaves_open_is_as_the_study_has_it_at_the_rung(layers, changed):
    values = _defaults("target") | {"layers": layers, "seed": 12} | changed
    study = studies.load(values.pop("study"))
    found = cells.make("target", studies.completed(values, study.name))
    assert found.id in {cell.id for cell in study.cells()}


def test_what_is_given_stays_and_a_steps_recipe_needs_no_epochs():
    values = _defaults("target") | {"steps": 40, "batch_tokens": 512, "learning_rate": 0.01}
    found = studies.completed(values, values.pop("study"))
    assert found["epochs"] is found["batch_size"] is None
    assert (found["learning_rate"], found["examples"]) == (0.01, 800)
    with pytest.raises(XlscaleError, match="target_recipes: expected an entry for the target 'symbol_group'"):
        studies.completed(values | {"target": "symbol_group"}, "pilot")


def test_a_share_beside_a_number_of_warm_up_steps_would_count_for_nothing(target_values):
    values = target_values | {"warmup_steps": 3}
    assert cells.make("target", values).parameters.warmup_steps == 3
    with pytest.raises(XlscaleError, match=r"^parameters: warmup: expected nothing beside warmup_steps, got 0\.2"):
        cells.make("target", values | {"warmup": 0.2})


def test_all_that_is_missing_is_named_at_once(target_values):
    values = target_values | {"epochs": None, "learning_rate": None}
    with pytest.raises(XlscaleError, match="^parameters: epochs, learning_rate: expected a number, got nothing$"):
        cells.make("target", values)


@pytest.fixture
def own_study(tmp_path, monkeypatch) -> str:
    """A study of one's own beside the published ones."""
    shutil.copytree(files.STUDIES, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "pilot.yaml").read_text(encoding="utf-8")
    text = text.replace("name: pilot", "name: mine").replace("published: true\n", "")
    (tmp_path / "mine.yaml").write_text(
        text.replace("[none, squad_wiki, squad_amazon]", "[none, squad]"), encoding="utf-8"
    )
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    return "mine"


def test_a_published_study_is_the_papers_and_its_copy_elsewhere_is_not(tmp_path, monkeypatch):
    assert studies.workplace("pilot") == {}
    shutil.copytree(files.STUDIES, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    assert studies.workplace("pilot")["XLSCALE_RESULTS"] == str(tmp_path / "pilot" / "results")


@pytest.mark.parametrize("given", [None, "", "kept"])
def test_the_record_of_a_study_of_ones_own_is_never_the_published_one(own_study, given, monkeypatch):
    begun = []
    for name in studies.workplace(own_study):
        monkeypatch.setenv(name, given) if given is not None else monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(verbs.os, "execve", lambda program, command, environment: begun.append(environment))
    verbs._go_to(own_study)
    places = [{name: environment[name] for name in studies.workplace(own_study)} for environment in begun]
    assert places == ([] if given else [studies.workplace(own_study)])


def test_a_study_of_ones_own_has_record_figures_and_paper_beside_it(own_study, tmp_path):
    moved = studies.workplace(own_study)
    assert moved["XLSCALE_RESULTS"] == str(tmp_path / "mine" / "results")
    assert moved.keys() == {"XLSCALE_RESULTS", "XLSCALE_BUILT", "XLSCALE_REPRODUCTION"}
    assert all(Path(path).is_relative_to(tmp_path / "mine") for path in moved.values())


def test_data_sets_of_a_study_of_ones_own_are_not_the_papers(own_study):
    assert "squad" in studies.data_sets(own_study)
    assert studies.data_sets() == sorted({*studies.data_sets(own_study)} - ({"squad"} - {*studies.data_sets()}))
    assert own_study not in [study.name for study in studies.published()]


BROKEN = {"empty": "", "tab": "name:\t[", "field": "name: aa\n", "bytes": b"\xff\xfe", "card": None}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_study_stops_only_who_asks_for_it(kind, tmp_path, monkeypatch):
    text = (files.STUDIES / "smoke.yaml").read_text(encoding="utf-8")
    unknown = text.replace("name: smoke", "name: aa").replace("published: true\n", "").replace("topic", "no_such_card")
    content = BROKEN[kind] if BROKEN[kind] is not None else unknown
    (tmp_path / "aa.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "._smoke.yaml").write_bytes(b"\0\5\x16\7")  # as some systems leave beside a file
    (tmp_path / "smoke.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    assert studies.names() == ["aa", "smoke"]
    cells_ = studies.load("smoke").cells()
    assert studies.find(cells_[-1].id) == cells_[-1]
    assert studies.holding(cells_[0].id) == {cell.id for cell in cells_}
    assert canary.stated(None) == canary.stated("smoke") != []
    with pytest.raises(XlscaleError, match="studies/aa.yaml|aa.yaml: ") as asked:
        studies.load("aa").cells()
    assert "\n" not in str(asked.value)
    with pytest.raises(XlscaleError) as caught:
        studies.find(asked_for := "target-e5_small-k1-none-no_such_card-s1-0000000000")
    said, why = str(caught.value).splitlines()
    assert said == f"ID={asked_for}: expected the id of a cell of one of the studies aa, smoke"
    assert why.startswith(f"not read: {str(asked.value)[:60]}")


def test_the_tolerance_of_a_cell_is_that_of_the_study_that_holds_it():
    pilot = studies.load("pilot").cells()
    assert studies.holding(pilot[0].id) == {cell.id for cell in pilot}
    rates = {cell.id for cell in studies.load("pilot_rate").cells()}
    only = next(iter(rates - {cell.id for cell in pilot}))
    assert studies.holding(only) == rates
    assert studies.holding("target-x") == set()

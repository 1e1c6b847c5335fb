"""Result files that people have, of lm-evaluation-harness, EuroEval and MTEB; replacing and withdrawing a source.

The fixtures are made here, in the forms that the three write.
"""

import json
import shutil
import threading
from functools import partial

import pytest
import test_published as source
from fontTools.ttLib import TTFont

from xlscale.commands import data
from xlscale.core.files import XlscaleError
from xlscale.published import formats, gains, rows, scores, sources, tables
from xlscale.published.tables import FOLDER
from xlscale.report import typeset

HARNESS = {
    "results": {
        "xnli": {" ": " ", "alias": "xnli"},
        "xnli_sw": {"alias": " - xnli_sw", "acc,none": 0.45, "acc_stderr,none": 0.01},
        "belebele_swh_Latn": {"alias": "b", "acc,none": 0.5, "acc_stderr,none": 0.02, "acc_norm,none": 0.6},
        "mgsm_direct_sw": {"exact_match,flexible-extract": 0.3, "exact_match_stderr,flexible-extract": 0.03},
        "hellaswag": {"acc,none": 0.7, "acc_stderr,none": "N/A"},
        "wiki_sw": {"word_perplexity,none": 12.0},
    },
    "group_subtasks": {"xnli": ["xnli_sw"], "xnli_sw": []},
    "configs": {"xnli_sw": {"num_fewshot": 0}},
    "n-shot": {"xnli_sw": 0, "belebele_swh_Latn": 5, "mgsm_direct_sw": 8},
    "config": {
        "model": "hf",
        "model_args": "pretrained=org/newt-8b,dtype=bfloat16",
        "model_num_parameters": 8030261248,
    },
}
EUROEVAL = {
    "dataset": "germanquad",
    "task": "reading-comprehension",
    "languages": ["de"],
    "model": "org/newt-8b",
    "results": {"raw": [{"test_f1": 60.0}], "total": {"test_f1": 60.5, "test_f1_se": 1.5, "test_em": 40.0}},
    "num_model_parameters": 8030261248,
    "generative": True,
    "few_shot": True,
    "validation_split": False,
    "euroeval_version": "15.0.0",
}
MTEB = {
    "dataset_revision": "abc",
    "task_name": "BelebeleRetrieval",
    "mteb_version": "1.12.0",
    "scores": {
        "test": [
            {"hf_subset": "swh_Latn-swh_Latn", "languages": ["swh-Latn", "swh-Latn"], "main_score": 0.61},
            {"hf_subset": "eng_Latn-tha_Thai", "languages": ["eng-Latn", "tha-Thai"], "main_score": 0.52},
            {"hf_subset": "deu_Latn-tha_Thai", "languages": ["deu-Latn", "tha-Thai"], "main_score": 0.42},
        ],
        "dev": [],
    },
    "evaluation_time": 3.2,
}
GIVEN = {"source_key": "mine", "model_family": "Newt", "intermediate_task": "none"}


@pytest.fixture
def folder(tmp_path):
    """A copy of the published layer with few results, that a test may change."""
    folder = shutil.copytree(FOLDER, tmp_path / "data_manifest" / "published")
    results = tables.read_results(folder / "results.parquet")
    tables.write_results(results[results["source_key"] == "latxa"], folder / "results.parquet")
    return folder


def written(path, *records):
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def mine(folder):
    table = scores.table(tables.load(folder))
    return table[table["source_key"] == "mine"]


def test_results_of_the_harness_are_read_with_their_standard_errors(folder, tmp_path):
    path = written(tmp_path / "results_2026-01-01.json", HARNESS)
    said = sources.add(path, folder, GIVEN).splitlines()
    assert said[0] == "added 3 scores of mine"
    for text in (
        "xnli: left out: a group of tasks",
        "hellaswag: left out: no language at the end of its name",
        "wiki_sw: left out: none of its metrics is one of acc, exact_match, f1, mcc, em",
    ):
        assert f"warning: {path}: {text}" in said
    found = mine(folder).set_index("task")
    assert found.loc["xnli", ["value", "stderr", "language", "regime"]].tolist() == [
        0.45,
        0.01,
        "sw",
        "zero-shot-prompted",
    ]
    assert found.loc["belebele", ["value", "stderr", "language", "regime"]].tolist() == [0.5, 0.02, "sw", "few-shot-5"]
    assert found.loc["mgsm", ["value", "stderr", "regime"]].tolist() == [0.3, 0.03, "few-shot-8"]
    assert set(found["model"]) == {"org/newt-8b"} and found["size"].tolist() == pytest.approx([8.03e9] * 3)
    assert found.loc["xnli", "corrected"] == pytest.approx((0.45 - 1 / 3) / (2 / 3))


def test_a_task_of_two_languages_counts_where_both_are_one(tmp_path):
    results = {name: {"f1,none": 0.4} for name in ("mlqa_ar_de", "mlqa_de_de")}
    found, left = formats.read(written(tmp_path / "results.json", HARNESS | {"results": results}))
    assert [(row["task"], row["language"]) for row in found] == [("mlqa", "de")]
    assert left == ["mlqa_ar_de: left out: two languages at the end of its name"]


def test_records_of_euroeval_are_read(folder, tmp_path):
    encoder = {**EUROEVAL, "generative": False, "model": "org/encoder"}
    several = {**EUROEVAL, "languages": ["nb", "nn"], "dataset": "norquad"}
    path = written(tmp_path / "euroeval_benchmark_results.jsonl", EUROEVAL, encoder, several)
    said = sources.add(path, folder, GIVEN)
    assert said.startswith("added 1 scores of mine\n")
    assert "org/encoder: reading_comprehension (germanquad): left out: the model was fine-tuned on the task" in said
    assert "reading_comprehension (norquad): left out: expected one language, got nn, no" in said
    (row,) = mine(folder).to_dict("records")
    assert (row["task"], row["language"], row["value"], row["stderr"]) == ("euroeval_reading", "de", 60.5, 1.5)
    assert (row["corrected"], row["group"]) == (pytest.approx(0.605), "few-shot")


def test_results_of_mteb_are_read_with_the_model_beside_them(folder, tmp_path):
    written(tmp_path / "model_meta.json", {"name": "org/embedder", "n_parameters": 560000000})
    given = {**GIVEN, "intermediate_task": "contrastive embedding training (retrieval; multi-domain)"}
    said = sources.add(written(tmp_path / "BelebeleRetrieval.json", MTEB), folder, given)
    assert (
        said.startswith("added 2 scores of mine\n") and "(deu_Latn-tha_Thai): left out: expected one language" in said
    )
    assert "the split test is read, dev is not" in said
    found = mine(folder).set_index("language")
    assert found["value"].to_dict() == {"sw": 0.61, "th": 0.52} and found["size"].tolist() == pytest.approx([5.6e8] * 2)


@pytest.mark.parametrize(
    ("name", "record", "said"),
    [
        ("x.json", {"a": 1}, r"x\.json:1: expected an object with results and configs"),
        ("x.json", [], r"x\.json:1: expected an object"),
        (
            "x.json",
            {**HARNESS, "results": {"xnli_xx": {"acc,none": 0.4}}},
            r"expected at least one score\nxnli_xx: left out: no language at the end of its name",
        ),
        ("x.jsonl", {**EUROEVAL, "results": {"raw": []}}, r"x\.jsonl:1: expected what EuroEval writes"),
        ("x.json", {**MTEB, "scores": {"test": [{}]}}, r"what MTEB writes"),
        (
            "x.json",
            {**HARNESS, "results": {"xnli_sw": {"acc,none": "high"}}},
            r":1: value: expected a text, got nothing",
        ),
        ("x.json", {**HARNESS, "results": {"xnli_sw": {"acc,none": 45.0}}}, r":1: value: expected 0 to 1 \(fraction"),
    ],
)
def test_what_is_none_of_them_is_one_line_and_changes_nothing(folder, tmp_path, name, record, said):
    before = source.state(folder)
    with pytest.raises(XlscaleError, match=said) as caught:
        sources.add(written(tmp_path / name, record), folder, GIVEN)
    assert all(len(line) < 400 for line in str(caught.value).splitlines()) and source.state(folder) == before


HUGE = 10**400
SCORE = {"acc,none": 0.5}


def harness(**values):
    return HARNESS | {"results": {"xnli_sw": SCORE}} | values


def mteb(**values):
    return MTEB | {"scores": {"test": [MTEB["scores"]["test"][0] | values]}}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (harness(results={"xnli_sw": {"acc,none": HUGE}}), "expected a number as a score"),
        (harness(config={"model_num_parameters": HUGE}), "number of parameters: expected at most 1e.15"),
        (harness(model_name={"a": 1}), "model: expected a text, got {'a': 1}"),
        (harness(config={"model_args": {"pretrained": ["a"]}}), "model: expected a text"),
        (harness(config={"model_args": "pretrained=a,pretrained=b"}), "key 'pretrained': expected once"),
        (harness(config={"model_args": {"pretrained": "a", "peft": 3}}), "peft: expected a text"),
        *(
            (harness(**{"n-shot": {"xnli_sw": n}}), "n-shot: expected a whole number")
            for n in ("0", -5, True, {"a": 1})
        ),
        *((EUROEVAL | {name: {"a": 1}}, f"{name}: expected a text") for name in ("model", "dataset")),
        (EUROEVAL | {"languages": {"de": 1}}, "languages: expected a list of codes"),
        (MTEB | {"task_name": 3}, "task_name: expected a text, got 3"),
        (mteb(hf_subset=[1]), "hf_subset: expected a text"),
        (mteb(languages="swh-Latn"), "languages: expected a list of codes"),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path, record, said):
    with pytest.raises(XlscaleError, match=rf"x\.jsonl:1: expected what .* writes \({said}"):
        formats.read(written(tmp_path / "x.jsonl", record))


@pytest.mark.parametrize("scores", [{}, []])
def test_results_without_a_split_hold_no_score(folder, tmp_path, scores):
    with pytest.raises(XlscaleError, match="x.json: expected at least one score|what MTEB writes"):
        sources.add(written(tmp_path / "x.json", MTEB | {"scores": scores}), folder, GIVEN)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("xnli_sw", ("xnli", "sw")),
        ("belebele_swh_Latn", ("belebele", "sw")),
        ("agieval_logiqa_zh", ("agieval_logiqa", "zh")),
        ("csatqa_li", ("csatqa_li", "")),  # literature, and not Limburgish
        ("agieval_lsat_ar", ("agieval_lsat_ar", "")),  # analytical reasoning
        ("prompt_robustness_agieval_sat_en", ("prompt_robustness_agieval_sat_en", "")),
        ("polemo2_in", ("polemo2_in", "")),
        ("xnli_eu_mt", ("xnli_eu_mt", "")),
    ],
)
def test_a_code_at_the_end_of_a_name_is_a_language_only_where_it_means_one(name, found):
    assert formats.named(name) == found


def test_what_cannot_be_read_as_a_score_is_left_out_and_the_rest_is_read(tmp_path):
    record = harness(results={"xwinograd_jp": SCORE, "pubmed_qa": SCORE, "a\nb": SCORE, "xnli_sw": SCORE})
    found, left = formats.read(written(tmp_path / "results.json", record))
    assert [row["language"] for row in found] == ["sw"]
    assert left == [
        f"{name}: left out: no language at the end of its name" for name in ("xwinograd_jp", "pubmed_qa", r"a\nb")
    ]
    untold = {name: value for name, value in EUROEVAL.items() if name != "generative"}
    records = [untold, EUROEVAL | {"few_shot": "false"}, EUROEVAL | {"languages": ["xx"]}, EUROEVAL]
    found, left = formats.read(written(tmp_path / "x.jsonl", *records))
    whys = ["generative: expected true or false, got None", "few_shot: expected true or false, got 'false'"]
    assert [line.split("left out: ")[1] for line in left] == [*whys, "expected one language, got no language"] and len(
        found
    ) == 1
    assert formats.read(written(tmp_path / "y.json", mteb(languages=["xxx-Latn"])))[0] == []


@pytest.mark.parametrize(
    "arguments", ["pretrained=org/newt,peft=me/tuned", {"pretrained": "org/newt", "peft": "me/tuned"}]
)
def test_an_adapter_s_scores_are_not_its_base_s(tmp_path, arguments):
    record = harness(model_name="org/newt", config={"model_args": arguments})
    assert formats.read(written(tmp_path / "results.json", record))[0][0]["model"] == "org/newt + me/tuned"


def test_scores_of_a_part_of_the_items_are_told(tmp_path):
    _, left = formats.read(written(tmp_path / "results.json", harness(config=HARNESS["config"] | {"limit": 10})))
    assert left == ["limit 10: these are scores of a part of each task's items"]
    assert not formats.read(written(tmp_path / "results.json", harness(config=HARNESS["config"] | {"limit": None})))[1]


def test_what_a_file_does_not_say_has_to_be_given(folder, tmp_path):
    path = written(tmp_path / "results.json", HARNESS)
    with pytest.raises(XlscaleError, match="source_key: expected a text, got nothing") as caught:
        sources.add(path, folder)
    assert "model_family: expected a text" in str(caught.value) and "intermediate_task: " in str(caught.value)
    with pytest.raises(XlscaleError, match="SET: expected columns .*, got 'colour'"):
        sources.add(path, folder, {"colour": "red"})


def test_a_base_and_a_study_can_be_named_in_the_file(folder, tmp_path):
    header = (*tables.COLUMNS, "base_model", "study", "stderr")
    base = {"model": "Newt start", "model_family": "Old Newt", "value": "40", "study": "newts", "stderr": "1.5"}
    tuned = {"model": "Newt 7B-x", "value": "55", "intermediate_task": "news", "base_model": "Newt start"}
    lost = {"model": "Newt 7B-y", "value": "55", "intermediate_task": "news", "base_model": "nowhere"}
    rows = [base, tuned | {"study": "newts"}, lost]
    said = sources.add(source.write(tmp_path / "mine.csv", *rows, header=header), folder)
    assert "1 of 2 tuned models have no base: Newt 7B-y" in said
    layer = tables.load(folder)
    assert layer.sources.set_index("source_key").loc["mine", "study"] == "newts"
    table = scores.table(layer)
    pairs = gains.pairs(table)
    assert pairs.loc[pairs["study"] == "newts", ["model", "base"]].to_numpy().tolist() == [["Newt 7B-x", "Newt start"]]
    assert table.loc[table["model"] == "Newt start", "stderr"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stderr": "-1"}, "stderr: expected a number from 0 to 100, or nothing, got '-1'"),
        ({"stderr": "x"}, "stderr: expected a number from 0 to 100"),
        ({"stderr": "1e300"}, "stderr: expected a number from 0 to 100"),
        ({"study": "My Study"}, "study: expected lower-case letters"),
        ({"study": "other"}, "study: expected 'one' as in the rest of its source, got 'other'"),
    ],
)
def test_wrong_optional_fields_are_named(folder, tmp_path, change, said):
    header = (*tables.COLUMNS, "base_model", "study", "stderr")
    path = source.write(
        tmp_path / "mine.csv", {"study": "one"}, {"language": "th", "study": "one", **change}, header=header
    )
    with pytest.raises(XlscaleError, match=rf":3: {said}"):
        sources.add(path, folder)


def test_several_models_of_one_size_and_several_metrics_of_one_rank_are_named(folder, tmp_path):
    rows = [{"model": "Newt A"}, {"model": "Newt B", "metric": "f1"}, {"model": "Newt B", "metric": "accuracy"}]
    said = sources.add(source.write(tmp_path / "mine.csv", *rows), folder)
    assert "several models of one size are one point: Newt A, Newt B" in said
    assert "Newt B, xnli: several metrics of one rank, of which the first counts: f1, accuracy" in said
    assert "have several values" not in said


def test_a_score_that_one_source_gives_twice_is_named(folder, tmp_path):
    rows = [{"table": f"Table {n}", "value": value} for n, value in ((1, "50.5"), (2, "60"), (3, "60"))]
    said = sources.add(source.write(tmp_path / "mine.csv", *rows), folder)
    assert "1 scores have several values, of which the first counts: Newt" in said


def test_a_source_is_replaced_or_withdrawn_by_its_key(folder, tmp_path):
    before = source.state(folder)
    path = source.write(tmp_path / "mine.csv", {}, {"language": "th"})
    sources.add(path, folder)
    newer = source.write(tmp_path / "newer.csv", {"value": "60"})
    with pytest.raises(XlscaleError, match="expected every score once, got another value as a row that is there"):
        sources.add(newer, folder)
    assert sources.add(newer, folder, replace=True).startswith("added 1 scores of mine, in the place of 2")
    assert mine(folder)["value"].tolist() == [60.0]
    assert sources.withdraw("mine", folder) == "withdrew 1 scores of mine"
    after = source.state(folder)
    assert {name: after[name] for name in before} == before
    with pytest.raises(XlscaleError, match="KEY: expected a source_key of .*sources.csv, got 'mine'"):
        sources.withdraw("mine", folder)


def test_two_who_add_at_once_lose_nothing(folder, tmp_path):
    paths = [source.write(tmp_path / f"{name}.csv", {"source_key": name}) for name in ("one", "two")]
    both = [threading.Thread(target=sources.add, args=(path, folder)) for path in paths]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert {"one", "two"} <= set(tables.load(folder).results["source_key"])


def test_where_a_score_was_read_may_be_in_any_script_and_what_is_set_may_not(folder, tmp_path, monkeypatch):
    path = source.write(tmp_path / "mine.csv", {"where_read": "表 3"}, {"model": "水 7B", "language": "th"})
    monkeypatch.setattr(sources, "add", partial(sources.add, folder=folder))
    with pytest.raises(XlscaleError, match=r"mine\.csv:3: model: .*no glyph for 水") as caught:
        data.add_source(str(path))
    assert "where_read" not in str(caught.value) and str(caught.value).endswith("nothing was changed")
    assert data.add_source(str(source.write(tmp_path / "fine.csv", {"where_read": "表 3"}))).startswith("added 1")


def test_a_file_is_read_once_so_that_what_is_checked_is_what_is_added(folder, tmp_path, monkeypatch):
    path, read = source.write(tmp_path / "mine.csv", {}), rows.read

    def replaced_afterwards(path, given):
        found = read(path, given)
        source.write(path, {"model": "水 7B"})
        return found

    monkeypatch.setattr(sources, "add", partial(sources.add, folder=folder))
    monkeypatch.setattr(rows, "read", replaced_afterwards)
    data.add_source(str(path))
    assert mine(folder)["model"].tolist() == [source.ROW["model"]]


@pytest.mark.parametrize("fields", ["params=7B; params=8B", "params", "params=", "="])
def test_what_is_given_beside_a_file_has_a_value_once(tmp_path, fields):
    with pytest.raises(XlscaleError, match="SET: .*: expected a value, once"):
        data.add_source(str(source.write(tmp_path / "mine.csv", {"params": ""})), fields)


@pytest.mark.parametrize("key", ["\udcff", "a\0", "x" * 10**5])
def test_a_key_of_any_characters_is_none_of_the_layer_s(folder, key):
    with pytest.raises(XlscaleError, match="KEY: expected a source_key"):
        sources.withdraw(key, folder)


def test_what_is_set_may_have_a_semicolon(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(sources, "add", lambda path, given, **_: seen.update(given))
    label = "contrastive embedding training (retrieval; multi-domain)"
    data.add_source(
        str(source.write(tmp_path / "mine.csv", {})), f"source_key=mine; intermediate_task={label};params=8B;"
    )
    assert seen == {"source_key": "mine", "intermediate_task": label, "params": "8B"}


def test_each_font_is_opened_once_however_long_the_table_is(folder, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("fontTools.ttLib.TTFont", lambda path, **_: opened.append(path) or TTFont(path, lazy=True))
    typeset._drawn_by.cache_clear()
    rows = [{"model": f"é {n}"} for n in range(20)]
    monkeypatch.setattr(sources, "add", partial(sources.add, folder=folder))
    data.add_source(str(source.write(tmp_path / "mine.csv", *rows)))
    assert opened and len(opened) == len(set(opened))


def test_every_reader_is_named():
    assert {formats._reader(record) for record in (HARNESS, EUROEVAL, MTEB)} == set(formats._NAMES)

"""Scores against independent references, and what must hold for any predictions.

The references: XTREME's own program with SQuAD's and MLQA's in it (numbers recorded by fixtures/score_reference.py),
seqeval and scikit-learn.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from sklearn.metrics import accuracy_score, average_precision_score

from xlscale.core.files import ROOT
from xlscale.metrics import answers, retrieval, spans
from xlscale.xtreme import benchmark, report
from xlscale.xtreme.folders import FORMATS, score_folders
from xlscale.xtreme.source import Source

REFERENCE = json.loads((Path(__file__).parent / "fixtures" / "score_reference.json").read_text(encoding="utf-8"))
XTREME_R, XTREME = benchmark.load("xtreme-r"), benchmark.load("xtreme")
TASKS = {task.name: task for task in [*XTREME.tasks, *XTREME_R.tasks]}
BIO, UPOS = TASKS["panx"].labels, TASKS["udpos"].labels
pytestmark = pytest.mark.filterwarnings("ignore:.*seems not to be NE tag", "ignore:.*ill-defined")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folders that the reference scored."""
    return write(tmp_path_factory.mktemp("reference"), REFERENCE["folders"]["files"])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Random folders with up to 60 items a file, LAReQA as well."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    generated = importlib.import_module("prediction_folders")
    sys.path.remove(str(ROOT / "benchmarks"))
    place = tmp_path_factory.mktemp("made")
    for description in (XTREME_R, XTREME):
        generated.make(description, place, np.random.default_rng(3), 60)
    return place


def scored(folder: Path, task: str, language: str = "") -> dict[str, float]:
    """The metrics of one file of a task."""
    language = language or TASKS[task].languages[0]
    name = TASKS[task].file.format(language=language)
    sides = [Source(folder / side / task / name, task, language) for side in ("predictions", "labels")]
    return FORMATS[TASKS[task].format](TASKS[task], *sides)


@pytest.mark.parametrize("description", [XTREME_R, XTREME], ids=lambda one: one.name)
def test_every_number_that_the_reference_gives_comes_out(folder, description):
    reference = REFERENCE["folders"]["reference"][description.name]
    names = [task.name for task in description.tasks if task.name != "lareqa"]
    scores = score_folders(description, folder / "predictions", folder / "labels", names)
    for name, found in scores.tasks.items():
        expected = reference["tasks"][name]
        for metric in [key for key in expected if not key.startswith("avg")]:
            own = f"mlqa_{metric}" if name == "mlqa" else metric
            assert {one: row[own] for one, row in found.languages.items()} == pytest.approx(expected[metric])
            assert found.average(own) == pytest.approx(expected[f"avg_{metric}"])
        assert found.score == pytest.approx(expected["avg_metric"])
    for group, value in scores.groups().items():  # with LAReQA not scored, retrieval of XTREME-R is not there
        assert value == pytest.approx(reference["overall"][group])
    assert scores.overall() == (pytest.approx(reference["overall"]["all_task"]) if description is XTREME else None)


def test_the_reference_lacks_only_lareqa():
    assert set(REFERENCE["folders"]["reference"]["xtreme-r"]["tasks"]) == {task.name for task in XTREME_R.tasks} - {
        "lareqa"
    }
    counts = {task.name: len(task.languages) for task in XTREME_R.tasks}
    named = "xnli 15 xcopa 11 udpos 38 panx 48 xquad 12 mlqa 7 tydiqa 9 tatoeba 41 mewslix 11 lareqa 11"
    assert " ".join(f"{name} {count}" for name, count in counts.items()) == named


def test_answers_score_as_by_the_programs_of_squad_and_mlqa():
    assert sum(case["squad"] != case.get("mlqa") for case in REFERENCE["answers"]) > 30  # the cases tell them apart
    for case in REFERENCE["answers"]:
        own = answers.match(case["prediction"], case["answers"], answers.normalise_squad)
        assert own == pytest.approx(tuple(case["squad"])), case
        if "mlqa" in case:
            own = answers.match(case["prediction"], case["answers"], answers.normaliser("mlqa", case["language"]))
            assert own == pytest.approx(tuple(case["mlqa"])), case


def test_other_languages_lose_punctuation_but_no_articles():
    assert answers.normalise_mlqa("Ο «ΟΔΟΣ» the, a!", "el") == "ο οδος the a"
    assert answers.normalise_mlqa("中国a北", "zh") == "中 国 a 北"
    assert answers.normalise_mlqa("中国a北", "ko") == "中国a北"


def test_rankings_and_thresholds_are_those_of_the_reference():
    for case in REFERENCE["rankings"]:
        assert retrieval.average_precision(case["ranked"], case["right"], 20) == pytest.approx(case["value"])
    for case in REFERENCE["thresholds"]:
        scores, correct = (np.array([row[column] for row in case["candidates"]]) for column in (2, 3))
        assert retrieval.best_threshold(scores, correct, case["wanted"]) == pytest.approx(case["threshold"])


@given(st.lists(st.booleans(), min_size=1, max_size=20).filter(any))
def test_average_precision_of_a_whole_ranking_equals_scikit_learn(relevant):
    ranked = [str(rank) for rank in range(len(relevant))]
    own = retrieval.average_precision(ranked, {name for name, one in zip(ranked, relevant, strict=True) if one}, 20)
    assert own == pytest.approx(average_precision_score(relevant, -np.arange(len(relevant))))


def sentences(labels: list[str]):
    pair = st.tuples(st.sampled_from(labels), st.sampled_from(labels))
    return st.lists(st.lists(pair, min_size=1, max_size=8), min_size=1, max_size=6)


def coded(side: list[list[str]], labels: list[str]) -> np.ndarray:
    return np.array([code for tokens in side for code in [*(1 + labels.index(tag) for tag in tokens), 0]][:-1])


@settings(max_examples=200)
@given(st.sampled_from([BIO, UPOS]).flatmap(lambda labels: st.tuples(st.just(labels), sentences(labels))))
def test_spans_are_those_of_seqeval(drawn):
    labels, rows = drawn
    predicted, gold = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    hits, found, wanted = map(len, spans.matched(coded(predicted, labels), coded(gold, labels), labels))
    ours = (2 * hits / (found + wanted or 1), hits / (found or 1), hits / (wanted or 1))
    theirs = (f1_score(gold, predicted), precision_score(gold, predicted), recall_score(gold, predicted))
    assert ours == pytest.approx(theirs)
    if labels is BIO:
        assert ours == pytest.approx(spans.scores(predicted, gold))


def test_token_accuracy_equals_scikit_learn(made):
    for language in ("af", "wo"):
        predicted, gold = (
            (made / side / "udpos" / f"test-{language}.tsv").read_text().split() for side in ("predictions", "labels")
        )
        assert scored(made, "udpos", language)["accuracy"] == pytest.approx(100 * accuracy_score(gold, predicted))


def perfect(task: benchmark.Task, text: str) -> str:
    """Predictions that say what a label file says."""
    if task.format != "answers":
        return text
    questions = [
        q for article in json.loads(text)["data"] for paragraph in article["paragraphs"] for q in paragraph["qas"]
    ]
    return json.dumps({question["id"]: question["answers"][0]["text"] for question in questions})


def test_perfect_predictions_score_100(made, tmp_path):
    files = {}
    for task in TASKS.values():
        for path in (made / "labels" / task.name).iterdir():
            files[f"{task.name}/{path.name}"] = perfect(task, path.read_text(encoding="utf-8"))
    for description in (XTREME_R, XTREME):
        scores = score_folders(description, write(tmp_path, files), made / "labels")
        assert scores.overall() == pytest.approx(100)
        for found in scores.tasks.values():
            assert all(value == pytest.approx(100) for row in found.languages.values() for value in row.values())


@pytest.mark.parametrize("task", ["xcopa", "xquad", "mlqa", "mewslix", "lareqa", "bucc2018"])
def test_order_does_not_matter_where_there_are_ids(made, tmp_path, task):
    language = TASKS[task].languages[0]
    name = TASKS[task].file.format(language=language)
    texts = {side: (made / side / task / name).read_text(encoding="utf-8") for side in ("predictions", "labels")}
    if task == "xcopa":  # XCOPA's own label files have an idx
        for side, text in texts.items():
            rows = [json.loads(row) | {"idx": i} for i, row in enumerate(text.splitlines())]
            texts[side] = "\n".join(map(json.dumps, rows)) + "\n"
    before = scored(write(tmp_path, {f"{side}/{task}/{name}": text for side, text in texts.items()}), task)
    if name.endswith(".json"):
        turned = json.dumps(dict(reversed(json.loads(texts["predictions"]).items())))
    else:
        turned = "\n".join(reversed(texts["predictions"].splitlines()))
    write(tmp_path, {f"predictions/{task}/{name}": turned})
    assert turned != texts["predictions"]
    assert scored(tmp_path, task) == pytest.approx(before)
    assert any(0 < value < 100 for value in before.values())


def test_permuted_labels_score_what_chance_predicts(tmp_path):
    generator = np.random.default_rng(0)
    share = np.array([0.5, 0.3, 0.2])
    gold = np.repeat(TASKS["xnli"].labels, (share * 10_000).astype(int))
    pos = generator.choice(UPOS[:5], p=[0.4, 0.3, 0.1, 0.1, 0.1], size=10_000)
    index = generator.permutation(2_000)
    names = [f"Q{i}" for i in range(1_000)]
    wanted = {name: [name] for name in names}
    found = {name: generator.choice(names, size=20, replace=False).tolist() for name in names}
    files = {}
    for side, order in (("labels", np.arange(10_000)), ("predictions", generator.permutation(10_000))):
        files[f"{side}/xnli/test-ar.tsv"] = "\n".join(gold[order])
        files[f"{side}/udpos/test-af.tsv"] = "\n".join(pos[order])
        files[f"{side}/tatoeba/test-ar.tsv"] = "\n".join(map(str, index[order[order < 2_000]]))
        files[f"{side}/mewslix/test-ar.json"] = json.dumps(wanted if side == "labels" else found)
    write(tmp_path, files)
    assert scored(tmp_path, "xnli")["accuracy"] == pytest.approx(100 * (share**2).sum(), abs=2)
    frequencies = np.unique(pos, return_counts=True)[1] / len(pos)
    assert scored(tmp_path, "udpos")["accuracy"] == pytest.approx(100 * (frequencies**2).sum(), abs=2)
    assert scored(tmp_path, "tatoeba")["accuracy"] < 0.5
    # A relevant candidate stands at each of the 20 ranks with probability 1/1000.
    harmonic = sum(1 / rank for rank in range(1, 21))
    assert scored(tmp_path, "mewslix")["map@20"] == pytest.approx(100 * harmonic / 1_000, abs=0.35)


def test_lareqa_by_language_is_the_mean_over_all_questions(made):
    values, sizes = [], []
    for language in TASKS["lareqa"].languages:
        values.append(scored(made, "lareqa", language)["map@20"])
        labels = json.loads((made / "labels" / "lareqa" / f"test-{language}.json").read_text())
        sizes.append(len(labels))
    assert len(set(sizes)) == 1  # as in XQuAD-R, 1,190 questions each: so the two means are one
    assert score_folders(
        XTREME_R, made / "predictions", made / "labels", ["lareqa"]
    ).tasks["lareqa"].score == pytest.approx(np.average(values, weights=sizes))  # fmt: skip


def test_scored_pairs_are_cut_where_development_data_say(tmp_path):
    language = "de"
    candidates = [("a", "A", 0.9), ("b", "B", 0.8), ("c", "X", 0.4), ("d", "D", 0.3), ("e", "Y", 0.2)]
    rows = "".join(f"{source}\t{target}\t{score}\n" for source, target, score in candidates)
    gold = "a\tA\nb\tB\n"
    test = "p\tP\t0.61\nq\tQ\t0.59\nr\tR\t0.5\n"
    files = {"predictions/bucc2018/dev-de.tsv": rows, "labels/bucc2018/dev-de.tsv": gold}
    files |= {"predictions/bucc2018/test-de.tsv": test, "labels/bucc2018/test-de.tsv": "p\tP\nq\tQ\n"}
    found = scored(write(tmp_path, files), "bucc2018", language)
    assert found == pytest.approx({"f1": 200 / 3, "precision": 100, "recall": 50})  # at or above (0.8 + 0.4) / 2


@pytest.mark.parametrize(
    ("scores", "correct", "threshold"),
    [
        ([3, 2, 1], [True, True, True], 1),  # all: the reference ends in an IndexError
        ([3, 2, 2, 1], [True, False, True, False], 1.5),  # equal scores are not parted: it would take 2.0
        ([2, 1], [False, False], np.inf),
    ],
)
def test_thresholds_that_the_reference_gets_wrong(scores, correct, threshold):
    assert retrieval.best_threshold(np.array(scores, float), np.array(correct), 3) == threshold


def test_table_and_document_hold_every_average(made):
    scores = score_folders(XTREME_R, made / "predictions", made / "labels")
    text, found = report.table(scores), report.document(scores)
    assert found["overall"] == pytest.approx(np.mean([task["score"] for task in found["tasks"].values()]))
    assert found["groups"]["classification"] == pytest.approx(
        np.mean([found["tasks"][name]["score"] for name in ("xnli", "xcopa")])
    )
    qa = found["tasks"]["xquad"]
    assert qa["score"] == pytest.approx((qa["averages"]["exact_match"] + qa["averages"]["f1"]) / 2)
    assert qa["averages"]["mlqa_f1"] == pytest.approx(np.mean(list(qa["languages"]["mlqa_f1"].values())))
    for line, value in [("mean of XTREME-R", found["overall"]), ("mean of qa", found["groups"]["qa"])]:
        assert f"{value:.2f}" in next(row for row in text.splitlines() if row.startswith(line))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert max(map(len, text.splitlines())) < 150

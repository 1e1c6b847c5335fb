"""The committed measurements: whole, in the README's words, and drawn from the committed numbers."""

import importlib
import json
import sys

import pytest

from xlscale.core.files import ROOT

KEYS = "train_ratio train_share_of_matmul eval_ratio cell_overhead_s noop_s plan_10k_s"


@pytest.fixture(scope="module")
def report():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("report")
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def latest():
    return json.loads((ROOT / "benchmarks" / "latest.json").read_text(encoding="utf-8"))


def test_every_promised_figure_is_there(latest):
    assert all(latest[key] > 0 for key in KEYS.split())
    assert latest["machine"]["cores"] >= 1
    assert latest["train_ratio"] == pytest.approx(
        latest["train"]["ours"]["examples_per_s"] / latest["train"]["plain"]["examples_per_s"]
    )


def test_the_readme_quotes_the_committed_figures(report, latest):
    assert report.sentences(latest) in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_table_and_figure_are_those_of_the_numbers(report, latest, tmp_path):
    folder = ROOT / "benchmarks"
    assert (folder / "latest.md").read_text(encoding="utf-8") == report.markdown(latest)
    report.figure(latest, tmp_path / "latest.svg")
    assert (folder / "latest.svg").read_bytes() == (tmp_path / "latest.svg").read_bytes()


@pytest.fixture(scope="module")
def score():
    return json.loads((ROOT / "benchmarks" / "score.json").read_text(encoding="utf-8"))


def test_the_scorer_keeps_its_promises(score):
    assert score["ratio_seconds"] > 5
    assert score["ratio_cpu_s"] > 5
    assert score["ours"]["seconds"] < 120
    assert score["ours"]["peak_gb"] < 2
    assert score["difference"] < 1e-10


def test_the_readme_quotes_the_scorer_and_its_table_is_that_of_the_numbers(report, score):
    assert report.scorer_sentence(score) in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert (ROOT / "benchmarks" / "score.md").read_text(encoding="utf-8") == report.scorer(score)


def test_the_table_of_gpus_is_that_of_its_numbers():
    import gpu

    folder = ROOT / "benchmarks"
    measured = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))
    assert gpu.markdown(measured) == (folder / "gpu.md").read_text(encoding="utf-8")

"""Differences between two prediction folders: against the scorer, statsmodels, and simulations with a known truth."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from test_score import FORMATS, TASKS, XTREME_R, made, scored  # noqa: F401 (a fixture)

from xlscale.core.files import MANIFEST
from xlscale.xtreme import command, paired
from xlscale.xtreme.folders import ITEMS, sources
from xlscale.xtreme.items import Items, score


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """statsmodels collects garbage with every adjustment, which takes most of the time of a simulation."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_what_items_add_gives_the_scorer_s_number(made, name):  # noqa: F811
    task = TASKS[name]
    for one in [task, task.model_copy(update={"score": task.metrics[-1:]})]:
        for language in one.languages[:3]:
            sides = sources(one, language, made / "predictions", made / "labels")
            items = ITEMS[one.format](one, *sides)
            values = FORMATS[one.format](one, *sides)
            found = score(items.above.sum(0), items.below.sum(0))
            assert found == pytest.approx(np.mean([values[metric] for metric in one.score]))
            assert len({*items.ids}) == len(items.ids) == len(items.above)


def means(values: np.ndarray) -> Items:
    """Items of a mean, with these values."""
    return Items.of(range(len(values)), [values])


def simulated(generator, languages: int, items: int, shared: float) -> dict[str, paired.Pair]:
    """Two systems that are equally good; how easy an item is for each is the same in every language, by ``shared``."""
    easy = generator.normal(0, shared, (2, items))
    found = {}
    for number in range(languages):
        right = [(generator.normal(size=items) + one > 0).astype(float) for one in easy]
        found[f"l{number}"] = tuple(map(means, right))
    return found


def coverage(make, parallel: bool, runs: int = 300) -> tuple[float, float]:
    """How often the interval of the mean, and those of languages, hold the true difference, 0."""
    hits = []
    for seed in range(runs):
        languages, mean = paired.compare(make(np.random.default_rng(seed)), parallel, draws=200, seed=seed)
        one = next(iter(languages.values()))
        hits.append([found.low <= 0 <= found.high for found in (mean, one)])
    return tuple(np.mean(hits, 0))


def test_intervals_hold_the_truth_as_often_as_they_say_with_and_without_parallel_items():
    for shared, parallel in [(2.0, True), (0.0, True), (0.0, False)]:
        found = coverage(lambda generator, shared=shared: simulated(generator, 5, 120, shared), parallel)
        assert all(0.915 <= share <= 0.98 for share in found), (shared, parallel, found)
    # Parallel items that are taken for independent ones promise too much of the mean.
    assert coverage(lambda generator: simulated(generator, 5, 120, 2.0), parallel=False)[0] < 0.85


def test_intervals_of_a_corpus_s_f1_hold_the_truth():
    """Sentences with different numbers of spans: the truth is F1 of all of a large corpus."""

    def corpus(generator, sentences: int) -> paired.Pair:
        wanted = generator.integers(0, 8, sentences)
        share = generator.beta(4, 2, sentences)  # some sentences are hard for both
        sides = []
        for extra in (0, 1):
            hits = generator.binomial(wanted, share)
            spurious = generator.poisson(1 + extra, sentences)
            sides.append(Items.counted(TASKS["panx"], range(sentences), [hits, hits + spurious, wanted]))
        return tuple(sides)

    large = corpus(np.random.default_rng(99), 400_000)
    truth = float(np.subtract(*(score(side.above.sum(0), side.below.sum(0)) for side in large)))
    assert truth > 3
    hits = []
    for seed in range(300):
        languages, _ = paired.compare({"x": corpus(np.random.default_rng(seed), 150)}, False, draws=200, seed=seed)
        hits.append(languages["x"].low <= truth <= languages["x"].high)
    assert 0.915 <= np.mean(hits) <= 0.98


def test_standard_errors_are_those_of_statsmodels():
    pairs = simulated(np.random.default_rng(3), 4, 400, 1.5)
    languages, mean = paired.compare(pairs, parallel=True, draws=4000)
    differences = {name: (one.above - other.above)[:, 0] for name, (one, other) in pairs.items()}
    for name, values in differences.items():
        fit = sm.OLS(values, np.ones(len(values))).fit()
        assert languages[name].difference == pytest.approx(100 * fit.params[0])
        assert [languages[name].low, languages[name].high] == pytest.approx(100 * fit.conf_int()[0], abs=0.6)
    stacked = np.concatenate([*differences.values()])
    groups = np.tile(np.arange(400), 4)
    clustered = sm.OLS(stacked, np.ones(len(stacked))).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    plain = sm.OLS(stacked, np.ones(len(stacked))).fit()
    assert [mean.low, mean.high] == pytest.approx(100 * clustered.conf_int()[0], abs=0.3)
    assert clustered.bse[0] > 1.2 * plain.bse[0]
    assert mean.items == 400
    assert paired.compare(pairs, parallel=False)[1].items == 1600


def test_languages_are_tied_after_holm_and_not_before():
    """Of four languages one differs by far, one by so much that it is found alone, two not at all."""
    generator = np.random.default_rng(0)
    noise = generator.permutation(np.repeat([1.0, -1.0, 0.0], 100))
    pairs = {}
    for name, better in {"far": 60, "alone": 33, "equal": 0, "same": 0}.items():
        one, other = (noise > 0).astype(float), (noise < 0).astype(float)
        one[np.flatnonzero(noise == 0)[:better]] = 1.0
        pairs[name] = (means(one), means(one if name == "same" else other))
    found, mean = paired.compare(pairs, parallel=True)
    assert not found["far"].tied and found["far"].adjusted < 0.01
    assert found["alone"].low > 0 and found["alone"].p < 0.05 < found["alone"].adjusted and found["alone"].tied
    assert found["equal"].tied
    same = found["same"]
    assert (same.difference, same.p, same.tied) == (0, 1, True) and 0 < same.high == -same.low < 1
    ordered = sorted(found.values(), key=lambda one: one.p)
    by_hand = np.maximum.accumulate([min(1, (4 - i) * one.p) for i, one in enumerate(ordered)])
    assert [one.adjusted for one in ordered] == pytest.approx(by_hand)
    assert mean.adjusted is None and mean.difference == pytest.approx(
        np.mean([one.difference for one in found.values()])
    )


def test_one_item_tells_nothing_of_others():
    (found, mean) = paired.compare({"x": (means(np.ones(1)), means(np.zeros(1)))}, parallel=False)
    assert (found["x"].difference, found["x"].low, found["x"].high, found["x"].tied) == (100, -100, 100, True)
    assert mean.tied


@pytest.mark.parametrize("items", [2, 3, 5, 6, 40])
def test_items_that_all_differ_alike_prove_no_more_than_their_number(items):
    """By the exact tests: p is that of so many signs; a share of others that would mostly have shown is ruled out."""
    found, mean = paired.compare({"x": (means(np.ones(items)), means(np.zeros(items)))}, parallel=False)
    for one in (found["x"], mean):
        assert one.difference == one.high == 100
        assert one.p == pytest.approx(scipy.stats.binomtest(items, items).pvalue) and one.tied == (items < 6)
        share = (100 - one.low) / 200  # of items that differ the other way
        assert (1 - share) ** items == pytest.approx(0.05)


@pytest.mark.parametrize("items", [2, 4, 40])
def test_items_that_are_all_the_same_leave_open_what_their_number_does(items):
    found, mean = paired.compare({"x": (means(np.ones(items)), means(np.ones(items)))}, parallel=False)
    for one in (found["x"], mean):
        assert (one.difference, one.p, one.tied) == (0, 1, True) and one.high == -one.low
        assert (1 - one.high / 100) ** items == pytest.approx(0.05)


def test_differences_that_are_equal_but_for_rounding_are_equal():
    """In F1, and over languages of which each is right alike: no interval of no width from three items."""
    third = np.full(3, 1 / 3)
    for one, other, languages in ((np.full(3, 0.8), third, 1), (np.ones(5), np.zeros(5), 3)):
        given = {str(n): (means(one if n == 0 else other), means(other)) for n in range(languages)}
        found, mean = paired.compare(given, parallel=True)
        assert mean.high - mean.low > 20 and found["0"].high - found["0"].low > 20
        assert mean.low <= mean.difference <= mean.high


def test_ids_that_are_one_without_their_language_are_told(both, tmp_path, capsys):
    folders = [Path(shutil.copytree(one, tmp_path / f"own{n}")) for n, one in enumerate(both)]
    *sides, labels = map(str, folders)
    for folder in folders:
        path = next((folder / "lareqa").glob("*en*.json"))
        lists = json.loads(path.read_text())
        first = next(iter(lists))
        other = first.removesuffix("_en") if first.endswith("_en") else f"{first}_en"
        path.write_text(json.dumps(lists | {other: lists[first]}))
    assert command.main(["--paired", *sides, "--labels", labels, "--tasks", "lareqa"]) == 1
    assert "id: expected no two that are written alike without their language, got" in capsys.readouterr().err


def test_pairs_that_one_side_alone_mined_count_for_it():
    task = TASKS["bucc2018"]
    one = Items.counted(task, ["a", "b"], [np.array(side) for side in ([1, 0], [1, 0], [1, 1])])
    other = Items.counted(task, ["a", "b", "c"], [np.array(side) for side in ([0, 1, 0], [1, 1, 1], [1, 1, 0])])
    left, right = paired._aligned(one, other)
    assert left.ids == right.ids == ["a", "b", "c"]
    for before, after in ((one, left), (other, right)):
        assert score(before.above.sum(0), before.below.sum(0)) == score(after.above.sum(0), after.below.sum(0))


@pytest.fixture
def both(made, tmp_path):  # noqa: F811
    """Two folders of predictions and one of labels; the second is the first with XNLI's Arabic right."""
    shutil.copytree(made / "predictions", tmp_path / "b")
    shutil.copy(made / "labels" / "xnli" / "test-ar.tsv", tmp_path / "b" / "xnli" / "test-ar.tsv")
    return str(made / "predictions"), str(tmp_path / "b"), str(made / "labels")


def test_the_command_compares_and_says_unit_and_scale(both, tmp_path, capsys):
    *sides, labels = both
    out = tmp_path / "found.json"
    assert command.main(["--paired", *sides, "--labels", labels, "--json", str(out)]) == 0
    text, found = capsys.readouterr().out, json.loads(out.read_text())["tasks"]
    assert list(found) == [task.name for task in XTREME_R.tasks]
    xnli = found["xnli"]["languages"]
    assert xnli["ar"]["b"] == 100 and xnli["ar"]["difference"] < 0 and not xnli["ar"]["tied"]
    assert all(xnli[code]["tied"] for code in xnli if code != "ar")
    assert "XNLI (xnli): accuracy, in points; drawn by parallel item: the same in several languages is one" in text
    assert "UD-POS (udpos): f1, in points; drawn by item of a language" in text
    assert found["xnli"]["mean"]["items"] == xnli["ar"]["items"]  # parallel: the same items in every language
    assert found["udpos"]["mean"]["items"] == sum(one["items"] for one in found["udpos"]["languages"].values())
    for name, task in TASKS.items():
        if name in found:
            expected = np.mean([scored(tmp_path_of(both), name)[metric] for metric in task.score])
            assert found[name]["languages"][task.languages[0]]["a"] == pytest.approx(expected)
    assert max(map(len, text.splitlines())) < 285


def tmp_path_of(both):
    return Path(both[2]).parent


def test_what_is_read_is_not_written_over(both, tmp_path, capsys):
    *sides, labels = both
    mine = tmp_path / "mine.yaml"
    shutil.copy(MANIFEST / "benchmarks" / "xtreme_r.yaml", mine)
    before, run = mine.read_bytes(), ["--paired", *sides, "--labels", labels, "--benchmark", str(mine)]
    for out in (mine, MANIFEST / "benchmarks" / "new.json", MANIFEST.parent / "src" / "new.json"):
        assert command.main([*run, "--json", str(out)]) == 1
        assert f"--json {out}: expected " in capsys.readouterr().err
    assert mine.read_bytes() == before and not (MANIFEST / "benchmarks" / "new.json").exists()


def test_faults_of_either_folder_stop_and_what_is_missing_may_be_marked(both, tmp_path, capsys):
    *sides, labels = both
    run = ["--paired", *sides, "--labels", labels, "--tasks", "xnli"]
    path = tmp_path / "b" / "xnli" / "test-ar.tsv"
    whole = path.read_text()
    path.write_text(whole + "neutral\n")
    assert command.main(run) == 1
    assert capsys.readouterr().err.startswith(f"xlscale.score: {path}:")
    path.unlink()
    assert command.main(run) == 1
    assert capsys.readouterr().err == f"xlscale.score: {path}: xnli in ar: not found\n"
    assert command.main([*run, "--allow-missing"]) == 0
    text = capsys.readouterr().out
    assert f"missing: {path}: xnli in ar: not found" in text
    assert "  mean " not in text
    with pytest.raises(SystemExit):
        command.main([*run, "--predictions", sides[0]])
    assert "not allowed with argument" in capsys.readouterr().err

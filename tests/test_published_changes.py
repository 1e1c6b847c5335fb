"""How gains change from 7B to 70B: one unit, three scales, floors left out, and keys that later sources do not move."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import test_published as source
from scipy import stats

from xlscale.core.files import PAPER
from xlscale.published import changes, gains, scale, scales, scores, sources, tables
from xlscale.report.numbers import Numbers
from xlscale.report.sections import changes as section
from xlscale.report.sections import published as report

SERIES = dict.fromkeys(gains.SERIES, "s") | {"order": 1, "secondary": False, "family": "f", "study": "one"}


@pytest.fixture(scope="module")
def table():
    return scores.table()


@pytest.fixture(scope="module")
def pairs(table):
    return gains.pairs(table)


@pytest.fixture(scope="module")
def inside(pairs):
    return changes.changes(gains.estimable(pairs))


def rows(*cells, **fixed):
    """Pairs from (size, task, language, base, tuned), without chance level."""
    found = pd.DataFrame(cells, columns=["size", "task", "language", "base_score", "score"])
    found = found.assign(**{**SERIES, **fixed}, part="", task_title=found["task"])
    return found.assign(gain=found["score"] - found["base_score"])


def series(table, **select):
    for name, value in select.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_the_scales_are_what_they_are_called():
    found = scales.add(rows((7e9, "a", "sw", 0.2, 0.6), (7e9, "b", "sw", 1.0, 1.0))).iloc[0]
    odds = np.log(0.6 / 0.4) - np.log(0.2 / 0.8)
    assert (found["share"], found["log_odds"]) == (pytest.approx(0.5), pytest.approx(odds))
    assert np.isnan(scales.add(rows((7e9, "b", "sw", 1.0, 1.0))).iloc[0]["share"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.1, 0.2, 0.3), scales.GROWS),
        ((-0.1, -0.2, -0.3), scales.SHRINKS),
        ((-0.1, 0.2, -0.3), scales.DEPENDS),
        ((0.1, 0.2, 0.0), scales.DEPENDS),
        ((0.1, np.nan, np.nan), scales.NOT_KNOWN),
    ],
)
def test_a_direction_is_said_only_where_all_scales_agree(values, said):
    assert scales.direction(dict(zip(scales.SCALES, values, strict=True))) == said


def test_equal_points_where_less_is_left_depend_on_the_scale():
    cells = [(size, task, "sw", base, base + 0.1) for size, base in ((7e9, 0.2), (70e9, 0.8)) for task in "abc"]
    found = changes.changes(rows(*cells)).iloc[0]
    assert found["gain"] == pytest.approx(0) and found["share"] == pytest.approx(0.5 - 0.125)
    assert found["direction"] == scales.DEPENDS and not found["clear"]


def test_a_change_is_paired_over_tasks_with_a_t_interval():
    gained = {task: (0.10, 0.10 + more) for task, more in zip("abcde", (0.02, 0.04, 0.06, 0.08, 0.10), strict=True)}
    cells = [
        (size, task, language, 0.4, 0.4 + gained[task][at] + shift)
        for at, size in enumerate((7e9, 70e9))
        for task in gained
        for language, shift in (("sw", -0.01), ("th", 0.01))
    ]
    extra = [(7e9, "x", "sw", 0.4, 0.9), (13e9, "a", "sw", 0.4, 0.9)]  # not at both ends
    found = changes.changes(rows(*cells, *extra)).iloc[0]
    low, high = stats.t.interval(0.95, 4, 0.06, stats.sem([0.02, 0.04, 0.06, 0.08, 0.10]))
    assert (found["gain"], found["gain_low"], found["gain_high"]) == pytest.approx((0.06, low, high))
    assert (found["unit"], found["units"], found["tasks"], found["languages"]) == ("task", 5, 5, 2)
    assert found["direction"] == scales.GROWS


def test_of_one_task_the_interval_is_over_languages_and_a_jackknife_of_means_is_the_t_interval():
    change = {"sw": 0.01, "th": 0.03, "de": 0.08, "fr": 0.04, "ja": 0.04}
    cells = [(7e9, "a", name, 0.4, 0.5) for name in change]
    cells += [(70e9, "a", name, 0.4, 0.5 + more) for name, more in change.items()]
    found = changes.changes(rows(*cells)).iloc[0]
    low, high = stats.t.interval(0.95, 4, 0.04, stats.sem(list(change.values())))
    assert (found["gain_low"], found["gain_high"]) == pytest.approx((low, high))
    assert (found["unit"], found["units"]) == ("language", 5) and found["log_odds_low"] < found["log_odds"]
    few = changes.changes(rows(*(cell for cell in cells if cell[2] in ("sw", "th")))).iloc[0]
    assert np.isnan(few["gain_low"]) and few["gain"] == pytest.approx(0.02)


@pytest.mark.parametrize(("count", "sure"), [(3, False), (4, False), (5, True)])
@pytest.mark.parametrize("unit", ["task", "language"])
def test_one_rule_says_how_many_units_an_interval_needs(count, sure, unit):
    """Tasks, languages of a single task, and families in studies alike: three kinds of task give no interval."""
    names = "abcdefgh"[:count]
    cells = [
        (size, name if unit == "task" else "a", "sw" if unit == "task" else name, 0.4, 0.5 + more * (n + 1) / 100)
        for size, more in ((7e9, 0), (70e9, 1))
        for n, name in enumerate(names)
    ]
    found = changes.changes(rows(*cells)).iloc[0]
    assert (found["unit"], found["units"]) == (unit, count)
    families = pd.concat([rows(*cells[::count], family=name) for name in names], ignore_index=True)
    group = changes.grouped(changes.changes(families)).iloc[0]
    slope = scale.slopes(rows(*cells).assign(corrected=lambda own: own["score"]), scale.LEVELS, "corrected").iloc[0]
    for low in (found["gain_low"], group["gain_low"], slope["low"]):
        assert np.isfinite(low) == sure


def test_no_interval_of_the_layer_is_over_fewer_units(pairs, inside):
    olmo = inside[(inside["family"] == "OLMo 3") & (inside["training"] == "SFT (Dolci)")].iloc[0]
    assert olmo["units"] == 3 and np.isnan(olmo["gain_low"]) and olmo["gain"] > 0
    whole = changes.changes(gains.estimable(pairs), window=False)
    for table in (inside, whole, changes.grouped(inside)):
        sure = table[table["gain_low"].notna()]
        assert len(sure) and (sure["units"] >= scale.FEWEST_UNITS).all()


def test_subjects_count_within_languages_and_these_within_tasks():
    cells = [(size, "a", "zh", 0.4, tuned) for size, tuned in ((7e9, 0.5), (70e9, 0.6))]
    many = [(size, "a", "sw", 0.4, tuned) for size, tuned in ((7e9, 0.5), (70e9, 0.5)) for _ in range(9)]
    found = rows(*cells, *many)
    found["part"] = [*"xx", *[f"x{n}" for n in [*range(9), *range(9)]]]
    assert changes.changes(found).iloc[0]["gain"] == pytest.approx(0.05)
    tasks = gains.by_task(gains.balanced(found, gains.SERIES), gains.SERIES)
    assert tasks["gain"].tolist() == pytest.approx([0.1, 0.15]) and tasks["languages"].tolist() == [2, 2]


def test_the_window_has_its_sizes_only():
    cells = [
        (size, task, "sw", 0.4, 0.4 + gain) for size, gain in ((1e9, 0.3), (7e9, 0.1), (70e9, 0.2)) for task in "abc"
    ]
    assert changes.changes(rows(*cells)).iloc[0]["direction"] == scales.GROWS
    assert changes.changes(rows(*cells), window=False).iloc[0]["direction"] == scales.SHRINKS
    assert changes.changes(rows(*(cell for cell in cells if cell[0] < 7e10))).empty


def test_series_count_within_their_family_and_study():
    made = []
    for study, family, gain in (("one", "f", 0.1), ("one", "f", 0.3), ("one", "g", 0.4), ("two", "f", 0.9)):
        cells = [(7e9, "a", "sw", 0.05, 0.05), (70e9, "a", "sw", 0.05, 0.05 + gain)]
        made.append(rows(*cells, study=study, family=family, training=str(len(made))))
    found = changes.grouped(changes.changes(pd.concat(made, ignore_index=True))).iloc[0]
    assert found["gain"] == pytest.approx(np.mean([0.2, 0.4, 0.9]))
    assert found[["series", "families", "studies", "units", "grows"]].tolist() == [4, 2, 2, 3, 4]


def test_euroeval_has_three_tasks_and_not_one_per_language(table, pairs):
    names = set(table.loc[table["study"] == "euroeval", "task"])
    assert names == {"euroeval_ner", "euroeval_reading", "euroeval_knowledge"}
    found = scale.slopes(gains.estimable(pairs), gains.SERIES, "gain")
    assert found.loc[found["study"] == "euroeval", "units"].max() <= 3


def test_a_base_near_chance_takes_part_in_no_gain(pairs):
    bloom = pairs[(pairs["study"] == "xmtf") & (pairs["task"] == "xnli")]
    assert len(bloom) and bloom["near_chance"].all()
    left = gains.estimable(pairs)
    mean = (
        (left["base_score"] - left["chance"]).groupby([left[name] for name in [*gains.SERIES, "size", "task"]]).mean()
    )
    assert mean.min() >= gains.FLOOR and 0 < len(left) < len(pairs)
    assert left["base_score"].isna().any()  # printed differences stay: their base is not known


def test_what_is_known_of_palm_from_elsewhere(pairs, inside):
    slopes = scale.slopes(gains.estimable(pairs), gains.SERIES, "gain", window=True)
    flan = slopes[(slopes["family"] == "PaLM") & (slopes["training"] == "Flan (1,836)")].set_index("protocol")
    found = 100 * flan[["slope", "low", "high"]]
    assert found.loc["few-shot, native reasoning"].tolist() == pytest.approx([6.3, 3.9, 8.6], abs=0.06)
    assert found.loc["one-shot"].tolist() == pytest.approx([-4.9, -9.4, -0.3], abs=0.06)
    assert set(flan["unit"]) == {"language"} and flan["units"].tolist() == [10, 8]
    own = inside[(inside["family"] == "PaLM") & (inside["training"] == "Flan (1,836)")].set_index("protocol")
    assert (own["log_odds"] < 0).all() and set(own["direction"]) == {scales.DEPENDS}
    ends = own.loc["one-shot", ["share_small", "share_large"]]
    assert (100 * ends.astype(float)).tolist() == pytest.approx([30, 30.6], abs=0.5)


def test_what_is_known_of_english_reasoning_traces_from_elsewhere(inside):
    row = series(inside, study="s1_crosslingual")
    found = [100 * row[name] for name in ("gain_small", "gain_large", "share_small", "share_large")]
    assert found == pytest.approx([10.4, 8.8, 26, 35], abs=0.5) and row["direction"] == scales.DEPENDS
    assert (row["data_language"], row["data_breadth"], row["data_kind"]) == ("English", "one", "task")


def test_there_are_more_than_seventy_series_in_the_window(inside):
    assert len(inside) >= 76 and inside["study"].nunique() >= 12
    assert (inside["largest"] >= scale.WIDE * inside["smallest"]).all()
    assert scores.in_window(inside["smallest"]).all() and scores.in_window(inside["largest"]).all()


def test_the_paper_says_grows_only_where_all_scales_agree(inside):
    numbers = Numbers("06_published")
    section.add_changes(numbers, inside, sorted(set(inside["study"])))
    section.add_groups(numbers, changes.grouped(inside))
    of = {key: number["value"] for key, number in numbers.numbers.items()}
    parts = [of[f"published_gains_window_{name}"] for name in ("grow", "shrink", "depend", "not_known")]
    assert sum(parts) == of["published_gains_window_series"] == len(inside)
    assert of["published_series_rising"] <= of["published_gains_window_grow"]
    says = [row[-1] for row in numbers.tables["published_changes_window"]["rows"]]
    assert says.count(scales.GROWS) == of["published_gains_window_grow"]
    groups = numbers.tables["published_groups_window"]["rows"]
    assert sum(int(row[2]) for row in groups) == len(inside)


def test_no_sentence_of_the_paper_loses_its_number(inside):
    """The paper leaves out a line whose key is not made, which must not happen unseen."""
    numbers = Numbers("06_published")
    section.add_changes(numbers, inside, list(tables.load().sources["study"]))
    text = (PAPER / "sections" / "published.typ").read_text(encoding="utf-8")
    named = re.findall(r', "(published_change_[a-z0-9_]+)"\)', text)
    assert named and not {f"{key}_summary" for key in named} - numbers.numbers.keys()


def test_keys_do_not_change_because_a_source_was_added(tmp_path):

    folder = shutil.copytree(tables.FOLDER, tmp_path / "data_manifest" / "published")
    keep = tables.read_results(folder / "results.parquet")
    keep = keep[keep["source_key"].isin(["flan_palm_t3", "latxa"])]
    tables.write_results(keep, folder / "results.parquet")

    def made():
        layer = tables.load(folder)
        numbers = Numbers("06_published")
        report.add_gains(numbers, gains.pairs(scores.table(layer)), list(layer.sources["study"]))
        return {key: number for key, number in numbers.numbers.items() if key.startswith("published_gain_")}

    before = made()
    like = {"model_family": "Llama 2", "task": "xcopa", "regime": "few-shot-5", "metric": "accuracy", "language": "eu"}
    basque = {**like, "intermediate_task": "continued pretraining on Basque corpus (v1)"}
    new = [{**row, "model": f"M{size}{row.get('intermediate_task', '')[:3]}", "params": size, "value": value}
           for row, values in ((like, ("60", "70")), (basque, ("65", "90")))
           for size, value in zip(("7B", "70B"), values, strict=True)]  # fmt: skip
    sources.add(source.write(tmp_path / "mine.csv", *new), folder)
    after = made()
    assert {key: after[key] for key in before} == before
    assert "published_gain_llama_2_basque_v1_five_shot_mine_slope" in after

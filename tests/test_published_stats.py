"""Estimates of the published layer against known truth; new rows change tables and figures; regimes never mix."""

import json
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest
import simulate
import test_published as source
from test_paper import collect
from test_paper import simulated as simulated_record
from test_paper_notebooks import write_record

from xlscale.core.files import NOTEBOOKS
from xlscale.published import gains, regression, scale, scores, sources, tables
from xlscale.report import typeset
from xlscale.report.figures import published
from xlscale.report.numbers import Numbers
from xlscale.report.sections import published as report

FAMILY = {"study": "s", "training": "none", "type": "none", "route": "none", "regime": "r", "protocol": "r",
          "group": "g", "panel": "p", "order": 1, "secondary": False}  # fmt: skip


def simulated(generator, families=6, slope=5.0, spread=2.0, tasks=4, languages=5, sizes=(1e9, 7e9, 70e9), **fixed):
    """Scores (0..1) of families whose slopes (points per factor of ten) scatter around ``slope``."""
    of_task, of_language = generator.normal(0, 8, tasks), generator.normal(0, 5, languages)
    rows = []
    for family in range(families):
        level, own = generator.normal(40, 6), generator.normal(slope, spread)
        for size in sizes:
            for task in range(tasks):
                for language in range(languages):
                    at = level + own * np.log10(size / regression.CENTRE) + of_task[task] + of_language[language]
                    value = (at + generator.normal(0, 3)) / 100
                    rows.append((f"f{family}", size, f"t{task}", f"l{language}", value))
    table = pd.DataFrame(rows, columns=["family", "size", "task", "language", "corrected"])
    return table.assign(**{**FAMILY, **fixed}, task_title=table["task"], part="", model=table["family"])


def test_the_meta_regression_finds_what_was_put_in():
    fit = regression.fit(simulated(np.random.default_rng(1), families=8, tasks=6, languages=8, spread=0.5), "corrected")
    assert abs(fit.slope - 5) < 3 * fit.se and fit.low < 5 < fit.high and fit.df == 7 and fit.families == 8
    assert 4 < fit.sd_task < 16 and 2.5 < fit.sd_language < 10 and 2.8 < fit.sd_rest < 3.2 and 3 < fit.sd_family < 12


def test_its_interval_holds_with_few_families_where_plain_least_squares_does_not():
    import statsmodels.formula.api as smf

    mixed, plain, runs = 0, 0, 40
    for seed in range(runs):
        table = simulated(np.random.default_rng(seed), families=5, tasks=3, languages=3, spread=4.0)
        fit = regression.fit(table, "corrected")
        mixed += fit.low < 5 < fit.high
        flat = table.assign(x=np.log10(table["size"]), y=100 * table["corrected"])
        low, high = smf.ols("y ~ x + C(family) + C(task) + C(language)", flat).fit().conf_int().loc["x"]
        plain += low < 5 < high
    # 95% of 40 runs are 38; fewer than 34 have a probability of 0.3% if the coverage is nominal.
    assert mixed >= 34 and plain <= 24


def test_with_fewer_than_five_families_there_is_a_slope_and_no_interval():
    fit = regression.fit(simulated(np.random.default_rng(2), families=4), "corrected")
    assert np.isfinite(fit.slope) and np.isnan(fit.low) and "without an interval" in fit.note


def test_too_little_to_fit_says_why():
    one_size = simulated(np.random.default_rng(3), sizes=(7e9,))
    assert regression.regressions(one_size, "corrected").empty
    assert "only 0 scores" in regression.fit(one_size, "corrected").note


def test_regimes_do_not_touch_each_other():
    first = simulated(np.random.default_rng(4), families=3)
    other = simulated(np.random.default_rng(5), families=3, slope=-40, regime="other", protocol="other", order=2)
    alone = regression.regressions(first, "corrected")
    both = regression.regressions(pd.concat([first, other], ignore_index=True), "corrected")
    pd.testing.assert_frame_equal(both[both["regime"] == "r"], alone)
    assert both["regime"].tolist() == ["r", "other"] and both["slope"].iloc[1] < -30


def test_leaving_out_a_source_that_differs_moves_the_slope():
    same = [simulated(np.random.default_rng(i), families=3, spread=0.3, study=f"s{i}") for i in range(2)]
    odd = simulated(np.random.default_rng(9), families=3, slope=30, spread=0.3, study="odd")
    table = pd.concat([*same, odd], ignore_index=True)
    table["family"] = table["study"] + table["family"]
    found = regression.leave_one_out(table, "corrected").set_index("left_out")["slope"]
    assert list(found.index) == ["", "odd", "s0", "s1"]
    assert found["odd"] == pytest.approx(5, abs=1.5) and min(found["s0"], found["s1"]) > found[""] > found["odd"] + 3


def test_a_slope_is_the_mean_over_tasks_with_a_t_interval():
    table = pd.DataFrame(
        [
            (10**x, t, "l", 0.1 * x + s * x)
            for x in (9, 10, 11)
            for t, s in zip("abcde", (0, 0.01, 0.02, 0.03, 0.04), strict=True)
        ],
        columns=["size", "task", "language", "v"],
    )
    table = table.assign(**FAMILY, family="f", task_title=table["task"], part="")
    found = scale.slopes(table, scale.LEVELS, "v").iloc[0]
    half = 2.776445 * 0.025**0.5 / 10 / 5**0.5  # t(0.975, 4) and the standard error of 0.10, 0.11, ... 0.14
    assert (found["slope"], found["tasks"], found["sizes"]) == (pytest.approx(0.12), 5, 3)
    assert (found["low"], found["high"]) == pytest.approx((0.12 - half, 0.12 + half), abs=1e-6)


def test_sizes_are_compared_over_what_all_of_them_have():
    rows = [(1e9, "a", "de", 0.5), (1e9, "b", "de", 0.0), (1e10, "a", "de", 0.6), (1e10, "a", "sw", 0.0)]
    table = pd.DataFrame(rows, columns=["size", "task", "language", "v"]).assign(**FAMILY, family="f")
    table["part"] = ""
    even = gains.balanced(table, scale.LEVELS)
    assert even["balanced"].all() and even["v"].tolist() == [0.5, 0.6]
    apart = gains.balanced(table.drop(index=0), scale.LEVELS)
    assert not apart["balanced"].any() and len(apart) == 3
    assert scale.slopes(apart.drop(columns="balanced").assign(task_title="a"), scale.LEVELS, "v").empty


def test_the_window_takes_its_sizes_only_and_only_wide_series():
    rows = [(size, "a", "de", 0.1 * np.log10(size)) for size in (1e9, 7e9, 13e9, 70e9)]
    table = pd.DataFrame(rows, columns=["size", "task", "language", "v"]).assign(**FAMILY, family="f", task_title="a")
    table["part"] = ""
    found = scale.slopes(table, scale.LEVELS, "v", window=True).iloc[0]
    assert (found["smallest"], found["largest"], found["slope"]) == (7e9, 70e9, pytest.approx(0.1))
    assert scale.slopes(table[table["size"] < 2e10], scale.LEVELS, "v", window=True).empty


NEWTS = [
    {"model": f"Newt {size}{suffix}", "params": size, "intermediate_task": kind, "language": language,
     "value": str(value + gain), "regime": "telepathy", "task": "mind_reading"}
    for size, value, gain in (("8B", 40, 5), ("60B", 50, 10))
    for suffix, kind, gain in (("", "none", 0), ("-news", "newspapers", gain))
    for language in ("kv", "sms", "sw")
]  # fmt: skip


def test_a_new_source_changes_tables_and_figures_without_code(few_sources, tmp_path):
    folder = shutil.copytree(few_sources, tmp_path / "published")

    def made():
        layer = tables.load(folder)
        table, numbers = scores.table(layer), Numbers("06_published")
        report.add_sources(numbers, layer, table)
        report.add_gains(numbers, gains.pairs(table), list(layer.sources["study"]))
        levels = scale.levels(table)
        window = scale.slopes(levels[levels["type"] == "none"], scale.LEVELS, "corrected", window=True)
        figs = published.by_regime(gains.published(table)), published.forest(window)
        titles = [[ax.get_title() for ax in figs[0].axes], [t.get_text() for t in figs[1].axes[0].get_yticklabels()]]
        return numbers, titles

    before, (panels, rows) = made()
    sources.add(source.write(tmp_path / "newt.csv", *({"source_key": "newt", **row} for row in NEWTS)), folder)
    after, (new_panels, new_rows) = made()
    assert [title for title in new_panels if title and title not in panels] == ["telepathy"]  # "": an empty place

    assert set(new_rows) - set(rows) == {"Newt 8B to 60B (newt)"}
    added = [
        row for row in after.tables["published_gains"]["rows"] if row not in before.tables["published_gains"]["rows"]
    ]
    (row,) = added
    assert row[:5] == ["Newt", "newspapers (unclassified)", "telepathy", "8B to 60B", "1"]
    assert row[5:8] == ["+5.0", "+10.0", "+5.7"] and row[-2:] == ["none", "–"]  # of three languages
    assert after.numbers["published_gain_newt_newspapers_telepathy_summary"]["text"] == "+5.0 at 8B and +10.0 at 60B"
    assert after.numbers["published_unknown_regimes"]["text"] == "telepathy"
    assert after.numbers["published_unknown_chance"]["text"] == "mind_reading"
    assert int(after.numbers["published_languages"]["value"]) == int(before.numbers["published_languages"]["value"]) + 2


def test_secondary_transcriptions_are_marked(few_sources):
    layer = tables.load(few_sources)
    table, numbers = scores.table(layer), Numbers("06_published")
    report.add_sources(numbers, layer, table)
    rows = {row[0]: row for row in numbers.tables["published_sources"]["rows"]}
    assert rows["mGTE, Table 1"][-1].endswith(report.MARK) and not rows["mT5 README"][-1].endswith(report.MARK)
    levels = scale.levels(table)
    fig = published.finetuned(levels[(levels["type"] == "none") & (levels["group"] == "finetuned")])
    fills = {
        line.get_markerfacecolor() for ax in fig.axes for line in ax.lines if line.get_marker() not in ("None", "")
    }
    assert "white" in fills and len(fills) > 1
    assert any("secondary" in text.get_text() for legend in fig.legends for text in legend.get_texts())


def test_no_line_crosses_a_series(few_sources):
    points = gains.published(scores.table(tables.load(few_sources)))
    fig = published.by_regime(points)
    drawn = [line for ax in fig.axes for line in ax.lines if line.get_marker() not in ("None", "")]
    assert len(drawn) == points.groupby([*gains.SERIES]).ngroups
    assert sum(len(line.get_xdata()) for line in drawn) == len(points)


def test_a_base_must_be_one_model_of_the_same_study_family_and_size():
    table = scores.table()
    found = gains.bases(table).set_index(["study", "model"])
    assert found.loc[("xmtf", "BLOOMZ-P3"), "base"] == "BLOOM"
    assert found.loc[("emma500", "CodeLlama 2 7B"), "base"] == "Llama 2 7B"
    assert "several models" in found.loc[("euroeval", "mistralai/Mistral-7B-Instruct-v0.2"), "why"]
    assert found.loc[("xmtf", "mT0-13B"), "why"] == "its base was not evaluated in the same study"
    pairs = gains.pairs(table)
    assert not pairs["model"].str.startswith("mT0").any()
    printed = pairs[pairs["base_score"].isna()]
    assert {"phang2020_v1", "camels_t3"} <= set(printed["source_key"])
    scored = pairs.dropna(subset=["base_score"])
    same = (scored["score"] - scored["base_score"]) / (1 - scored["chance"])
    direct = ~scored["study"].eq("euroeval")
    assert np.allclose(scored.loc[direct, "gain"], same[direct])


@pytest.fixture(scope="module")
def written(few_sources, tmp_path_factory):
    """What both notebooks write for a small layer and a simulated record."""
    folder, generator = tmp_path_factory.mktemp("notebooks"), np.random.default_rng(5)
    cells = simulate.cells(generator, sd=0.01)
    record = pd.concat([cells, simulate.intermediate(cells, generator)], ignore_index=True)
    write_record(folder / "record", record)
    for name in ("06_published", "09_claims"):
        space = {}
        for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
            if cell.cell_type == "code":
                exec(cell.source, space)
                if "parameters" in cell.metadata.get("tags", []):
                    given = {"record": folder / "record", "out": folder / "out", "published": few_sources}
                    space.update({key: str(value) for key, value in given.items()}, study="")
    return folder / "out"


@pytest.mark.slow
def test_the_notebooks_write_their_figures_tables_and_numbers(written):
    made = {path.stem: json.loads(path.read_text()) for path in (written / "generated").iterdir()}
    drawn = {f"published_{name}" for name in ("by_kind", "finetuned", "gain", "gain_all", "influence", "scale")}
    assert set(made["06_published"]["figures"]) == drawn and not made["09_claims"]["figures"]
    assert all(content["tables"] and content["numbers"] for content in made.values())
    assert made["06_published"]["numbers"]["published_finetuned_inside"]["text"] == "0"


@pytest.mark.slow
def test_the_paper_has_both_sections_and_names_where_they_are_from(written):
    for numbers in collect(*simulated_record()):
        numbers.write(written)
    typeset.build(written)
    merged = json.loads((written / "numbers.json").read_text())
    assert (
        merged["figures"]["published_gain"]["source"] == merged["tables"]["published_gains"]["source"] == "06_published"
    )
    assert merged["tables"]["claims"]["source"] == "09_claims"

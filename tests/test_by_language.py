"""Language by language, by group of languages, and item by item: against the analyses that these take apart."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import simulate
import statsmodels.api as sm
import yaml
from scipy import stats
from statsmodels.stats.multitest import multipletests
from test_primary import RETRIEVAL, RUNGS, TRAINED
from test_sensitivity import noisy, one, with_languages

from xlscale.cards.catalogue import data_card
from xlscale.core.files import MANIFEST, XlscaleError
from xlscale.metrics.predictions import VALUE
from xlscale.report.figures import by_group as figures
from xlscale.report.numbers import Numbers
from xlscale.report.sections import primary as words
from xlscale.report.sections import secondary
from xlscale.stats import by_group, by_language, groups, items, primary, slopes
from xlscale.xtreme import benchmark


@pytest.fixture(scope="module")
def recorded():
    """Cells and languages where everything varies, and one run is lost in one language of one target."""
    cells, languages = with_languages(noisy(5))
    lost = (languages["condition"] == "wikihow") & (languages["target"] == "topic") & (languages["language"] == "ru")
    lost &= languages["layers"] == 4
    return cells, languages.drop(languages.index[lost][:1])


def test_beta_of_a_language_is_the_primary_analysis_of_that_language(recorded):
    cells, languages = recorded
    values = by_language.Values.of(cells, languages, list(TRAINED))
    table = by_language.betas(values)
    assert len(table) == 2 * 2 * 4
    for target, code, scale in [("topic", "ru", "log"), ("topic", "de", "accuracy"), ("symbol_group", "ja", "log")]:
        own = by_language.of_languages(cells, languages, lambda one, code=code: one == code)
        expected = primary.beta(primary.run_slopes(own, [target], scale))
        found = one(table, target=target, language=code, scale=scale)
        for name, value in dataclasses.asdict(expected).items():
            assert found[name] == pytest.approx(value), (target, code, name)
    assert len(primary.run_slopes(by_language.of_languages(cells, languages, lambda one: one == "ru"), ["topic"])) == 20


def test_p_values_of_a_table_are_adjusted_as_statsmodels_does(recorded):
    cells, languages = recorded
    table = by_language.betas(by_language.Values.of(cells, languages, list(TRAINED)))
    for _, own in table.groupby(["target", "scale"]):
        assert own["adjusted"].to_numpy() == pytest.approx(multipletests(own["p"], method="fdr_bh")[1])
    p = pd.Series([0.01, np.nan, 0.04, 0.03, 0.9, 0.04, 1e-5])
    for method, found in (("fdr_bh", slopes.benjamini_hochberg(p)), ("holm", slopes.holm(p))):
        assert found.isna().tolist() == p.isna().tolist()
        assert found.dropna().to_numpy() == pytest.approx(multipletests(p.dropna(), method=method)[1])


def test_beta_of_a_target_is_the_primary_analysis_of_that_target(recorded):
    cells, _ = recorded
    table = by_language.of_targets(cells, list(RETRIEVAL))
    found = one(table, target="udhr", scale="log")
    assert found["estimate"] == pytest.approx(primary.beta(primary.run_slopes(cells, ["udhr"], "log")).estimate)
    own = table[table["scale"] == "accuracy"]
    assert own["adjusted"].to_numpy() == pytest.approx(multipletests(own["p"], method="fdr_bh")[1])


def adjusted(points: tuple[float, float], log: tuple[float, float]) -> pd.DataFrame:
    """Rows of two scales: estimate, and p adjusted."""
    rows = zip(primary.SCALES, (points, log), strict=True)
    return pd.DataFrame([{"scale": scale, "estimate": one, "adjusted": p} for scale, (one, p) in rows])


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (adjusted((0.1, 0.01), (0.2, 0.04)), "rises"),
        (adjusted((-0.1, 0.01), (-0.2, 0.04)), "falls"),
        (adjusted((-0.1, 0.01), (0.2, 0.04)), "depends on the scale"),
        (adjusted((-0.1, 0.01), (-0.2, 0.06)), "depends on the scale"),
        (adjusted((0.1, 0.5), (0.2, 0.06)), ""),
        (adjusted((0.1, np.nan), (0.2, np.nan)), ""),
    ],
)
def test_a_direction_needs_both_scales_wherever_it_is_said(found, says):
    assert words.direction(found, "adjusted") == says


def test_tables_of_targets_and_languages_say_what_was_found(recorded):
    cells, languages = recorded
    table = by_language.betas(by_language.Values.of(cells, languages, list(TRAINED)))
    numbers = Numbers("05_significance")
    secondary.add_targets(numbers, by_language.of_targets(cells, list(TRAINED)), table)
    rows = numbers.tables["beta_languages_topic"]["rows"]
    assert [row[:3] for row in rows] == [
        ["de", "Latin", "yes"], ["fr", "Latin", "yes"], ["ja", "East Asian", "yes"], ["ru", "Cyrillic", "yes"],
    ]  # fmt: skip
    shown = numbers.tables["beta_targets"]
    assert len(shown["rows"]) == 2 and shown["header"][0] == "Target"
    counts, total = shown["rows"][0][-1].split(" of ")
    said = [sum(row[-1] == word for row in rows) for word in ("rises", "falls", "depends on the scale")]
    assert [*map(int, counts.split(", "))] == said and int(total) == len(rows)


def test_a_null_is_printed_with_its_test_of_equivalence_where_the_plan_states_a_bound():
    table = pd.DataFrame(
        [
            {"family": "trained", "scale": scale, "quantity": "beta", "targets": ["topic"], "sets": 7, "runs": 21}
            | dataclasses.asdict(groups.with_interval(0.01, 0.02, 6)) | {"holm": 0.9}
            for scale in primary.SCALES
        ]
    )  # fmt: skip
    numbers = Numbers("05_significance")
    words.add(numbers, table, {"trained": {"accuracy": 0.05}})
    column = numbers.tables["primary"]["header"].index("p (no more than matters)")
    # Two one-sided t tests: the larger p is that of the nearer bound.
    expected = max(stats.t.sf((0.05 - 0.01) / 0.02, 6), stats.t.cdf((0.01 - 0.05) / 0.02, 6))
    assert [row[column] for row in numbers.tables["primary"]["rows"]] == [f"{expected:.3f}", "–"]
    assert numbers.numbers["beta_trained_word"]["text"] == words.OPEN  # on the other scale nothing is stated


def test_gains_of_a_group_are_those_of_its_languages_over_sets():
    more = {"de": 0.1, "fr": 0.2, "ru": 0.05, "ja": 0.0}
    of_set = {"wikihow": 0.07}
    cells, languages = with_languages(
        lambda name, target, layers, seed, code: more.get(code, 0.9) + of_set.get(name, 0.0) + layers / 100
    )
    found = by_group.of_sets(cells, languages, list(TRAINED))
    latin = found.groups[found.groups["script"] == "Latin"]
    assert latin["layers"].tolist() == list(RUNGS) and (latin["languages"] == 2).all() and latin["seen"].all()
    assert latin["estimate"].to_numpy() == pytest.approx(0.15 + 0.01 + np.array([*RUNGS]) / 100)
    assert found.groups["script"].unique().tolist() == ["Latin", "Cyrillic", "East Asian"]
    french = found.languages[found.languages["language"] == "fr"].set_index("layers")["gain"]
    assert french.to_dict() == pytest.approx({layers: 0.21 + layers / 100 for layers in RUNGS})
    own = by_language.of_languages(cells, languages, lambda code: code in ("de", "fr"))
    whole = primary.mean_gains(primary.run_gains(own, list(TRAINED), "accuracy"))
    assert latin[["low", "high"]].to_numpy() == pytest.approx(whole[["low", "high"]].to_numpy())


def test_gains_of_exploratory_runs_have_intervals_from_the_variance_between_seeds():
    cells = simulate.cells(np.random.default_rng(6), seeds=(1, 2, 3))
    languages = simulate.languages(cells, np.random.default_rng(7), ["en", "de", "fr", "ru"])
    found = by_group.of_seeds(cells, languages, "topic").groups
    row = one(found, script="Latin", layers=12)
    spoken = languages[languages["language"].isin(["de", "fr"]) & (languages["target"] == "topic")]
    own = cells.assign(value=cells["cell"].map(spoken.groupby("cell")["value"].mean()))
    own = own[(own["layers"] == 12) & (own["target"] == "topic")]
    by_condition = own.groupby("condition")["value"]
    means = by_condition.mean()
    expected = (means["squad_wiki"] + means["squad_amazon"]) / 2 - means["none"]
    # The variance between seeds at this rung is pooled over all five conditions: 10 degrees of freedom.
    variance = by_condition.var(ddof=1).mean()
    half = stats.t.ppf(0.975, 10) * (variance / 3 * (1 + 2 * 0.25)) ** 0.5
    assert [row["estimate"], row["low"], row["high"]] == pytest.approx([expected, expected - half, expected + half])
    assert row["languages"] == 2


def test_the_figure_of_groups_has_a_row_per_group_and_says_what_its_bars_are(recorded):
    cells, languages = recorded
    found = {"trained targets": by_group.of_sets(cells, languages, list(TRAINED))}
    fig = figures.by_group(found, figures.OF_SETS)
    (ax,) = fig.axes
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["Latin (2)", "Cyrillic (1)", "East Asian (1)"]
    assert "intervals of the primary analysis" in fig.get_suptitle() and fig.get_suptitle().startswith("local layer")
    markers = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() for line in markers] == ["white", "black"]  # rungs differ without colour
    latin = found["trained targets"].groups.query("script == 'Latin' and layers == 12")["estimate"].iloc[0]
    assert markers[1].get_xdata()[0] == pytest.approx(100 * latin)
    assert sum(len(line.get_xdata()) for line in ax.lines if line.get_color() == "0.55") == 2 * 4
    assert figures.by_group({}, figures.OF_SETS).axes


def write_predictions(folder, cells, generator, target, languages=("de", "ru", "en"), count=80, shared=1.0):
    """Predictions of ``cells`` on the target: items that are hard in one language are hard in the others."""
    (folder / "predictions").mkdir(exist_ok=True)
    hard = generator.normal(0, shared, count)
    above, below = VALUE[data_card(target).metric]
    for cell in cells[cells["target"] == target].itertuples():
        better = 0.0 if cell.condition == "none" else 0.4
        parts = []
        for code in languages:
            correct = (generator.normal(0, 1, count) + hard + better > 0).astype(np.float32)
            table = pd.DataFrame({"language": code, "item": [f"i{i}" for i in range(count)], "correct": correct})
            whole = generator.integers(1, 4, count)
            parts.append(table.assign(matches=whole * correct.astype(int), spans=whole) if below else table)
        pd.concat(parts, ignore_index=True).to_parquet(folder / "predictions" / f"{cell.cell}.parquet", index=False)
    return above, below


@pytest.mark.parametrize("target", ["topic", "udhr", "interface_tags"])
def test_item_by_item_the_difference_is_that_of_the_means_of_runs(target, recorded, tmp_path):
    cells, _ = recorded
    cells = cells.assign(target=cells["target"].replace({"symbol_group": "interface_tags"}))
    above, below = write_predictions(tmp_path, cells, np.random.default_rng(8), target)
    found = items.compare(cells, tmp_path, [target], 12, draws=200)
    assert set(found["language"]) == {"de", "ru", items.MEAN} and (found["runs"] == 21).all()
    own = cells[(cells["target"] == target) & (cells["layers"] == 12)]
    values = {}
    for cell in own.itertuples():
        table = pd.read_parquet(tmp_path / "predictions" / f"{cell.cell}.parquet").query("language == 'de'")
        values[cell.condition, cell.seed] = table[above].sum() / (table[below].sum() if below else len(table))
    runs = [(key, values[key]) for key in values if key[0] != "none"]
    differences = [value - values["none", 0 if target == "udhr" else seed] for (_, seed), value in runs]
    assert one(found, language="de")["difference"] == pytest.approx(100 * np.mean(differences))
    mean = found[found["language"] != items.MEAN]["difference"].mean()
    assert one(found, language=items.MEAN)["difference"] == pytest.approx(mean)
    numbers = Numbers("05_significance")
    secondary.add_items(numbers, found)
    assert numbers.tables["items"]["rows"][0][1:4] == ["12", "21", "80"]
    assert [row[0] for row in numbers.tables[f"items_{target}"]["rows"]] == ["de", "ru"]


def test_parallel_items_are_one_cluster_in_all_languages(recorded, tmp_path):
    cells = recorded[0].query("layers == 12 and condition in ('none', 'wikihow')")
    write_predictions(tmp_path, cells, np.random.default_rng(9), "topic", count=300, shared=0.0)
    for path in (tmp_path / "predictions").iterdir():  # whatever helps an item helps it in both languages
        table = pd.read_parquet(path)
        table["correct"] = table.groupby("item")["correct"].transform("first")
        table.to_parquet(path, index=False)
    found = one(items.compare(cells, tmp_path, ["topic"], 12, draws=4000), language=items.MEAN)
    tables = {
        cell.cell: pd.read_parquet(tmp_path / "predictions" / f"{cell.cell}.parquet")
        for cell in cells.itertuples()
        if cell.target == "topic"
    }
    own = cells[cells["target"] == "topic"].set_index(["condition", "seed"])["cell"]
    each = [tables[own["wikihow", s]]["correct"] - tables[own["none", s]]["correct"] for s in own["wikihow"].index]
    spoken = next(iter(tables.values()))
    values, keep = np.mean(each, axis=0), (spoken["language"] != "en").to_numpy()
    clusters = spoken["item"].astype("category").cat.codes.to_numpy()[keep]
    fit = sm.OLS(values[keep], np.ones(keep.sum())).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    assert [found["low"], found["high"]] == pytest.approx(100 * fit.conf_int()[0], abs=0.3)


def test_which_items_are_parallel_is_what_benchmarks_say():
    said = {name: items.parallel(name) for name in ("topic", "xnli_dev", "udpos_without_de", "panx_dev", "tatoeba")}
    assert said == {"topic": True, "xnli_dev": True, "udpos_without_de": False, "panx_dev": False, "tatoeba": False}


def test_a_benchmark_of_one_s_own_says_nothing_of_the_sets_of_others(tmp_path, monkeypatch):
    shutil.copytree(MANIFEST / "benchmarks", tmp_path / "benchmarks")
    task = {"name": "topic", "title": "Topic", "group": "x", "format": "labels", "languages": ["de"], "parallel": False}
    task |= {"metrics": ["accuracy"], "score": ["accuracy"], "file": "{language}.txt", "labels": ["a", "b"]}
    about = {"name": "aaa", "title": "My own", "citation": "none", "tasks": [task]}
    (tmp_path / "benchmarks" / "aaa.yaml").write_text(yaml.safe_dump(about))
    (tmp_path / "benchmarks" / "._aaa.yaml").write_bytes(b"\0\0")  # as some systems leave beside it
    monkeypatch.setattr(benchmark, "MANIFEST", tmp_path)
    assert benchmark.names() == ["aaa", "xtreme", "xtreme-r"]
    assert items.parallel("topic") and items.parallel("xnli_dev") and not items.parallel("tatoeba")


def test_runs_on_other_items_are_no_comparison(recorded, tmp_path):
    cells = recorded[0].query("layers == 12")
    write_predictions(tmp_path, cells, np.random.default_rng(10), "udhr")
    path = sorted((tmp_path / "predictions").iterdir())[0]
    pd.read_parquet(path).iloc[1:].to_parquet(path, index=False)
    with pytest.raises(XlscaleError, match="item: expected those of the other runs on udhr") as told:
        items.compare(cells, tmp_path, ["udhr"], 12)
    assert "\n" not in str(told.value)
    path.unlink()
    with pytest.raises(XlscaleError, match="not found, expected the predictions of a recorded cell"):
        items.compare(cells, tmp_path, ["udhr"], 12)

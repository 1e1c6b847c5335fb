"""The primary analysis: exact where an interval is known, unbiased and calibrated where records are simulated."""

import dataclasses
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
import simulate
import statsmodels.api as sm
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from xlscale.core.files import XlscaleError
from xlscale.experiment import studies
from xlscale.report.numbers import Numbers
from xlscale.report.sections import primary as words
from xlscale.report.sections import simulation as sections
from xlscale.stats import groups, primary, simulation

SETS = {
    **dict.fromkeys(("wordnet_class", "vitaminc", "package_role", "help_module"), "classification"),
    **dict.fromkeys(("wikihow", "help_next", "review_next"), "multiple_choice"),
}
DOMAIN = ("package_role", "help_module", "help_next", "review_next")
RUNGS = {2: 3_747_072, 4: 7_296_000, 12: 21_491_712}
X = np.log10(list(RUNGS.values()))
TRAINED, RETRIEVAL = ("topic", "symbol_group"), ("udhr", "help_retrieval")


def layout(seeds_of=lambda index: range(3 * (index % 3), 3 * (index % 3) + 3)) -> pd.DataFrame:
    """Seven sets, by default with three of nine seeds each, in three blocks."""
    rows = [
        {"set": name, "format": form, "type": "domain" if name in DOMAIN else "general", "seed": seed}
        for index, (name, form) in enumerate(SETS.items())
        for seed in seeds_of(index)
    ]
    return pd.DataFrame(rows)


def record(gain, none=lambda target, layers, seed: 0.5) -> pd.DataFrame:
    """Cells of ``layout``; ``gain(set, target, layers, seed)`` is added to the value of ``none``. Nothing of the
    retrieval targets is trained without intermediate training, so that is recorded once, with seed 0."""
    rows = []
    runs = [("none", seed) for seed in range(9)] + [(run.set, run.seed) for run in layout().itertuples()]
    for (name, seed), target, (layers, size) in product(runs, TRAINED + RETRIEVAL, RUNGS.items()):
        untrained = name == "none" and target in RETRIEVAL
        if untrained and seed:
            continue
        value = none(target, layers, 0 if target in RETRIEVAL else seed)
        value += 0 if name == "none" else gain(name, target, layers, seed)
        kind = "none" if name == "none" else "domain" if name in DOMAIN else "general"
        facts = simulate._facts(target, "squad_wiki", layers, seed) | {"condition": name, "intermediate_type": kind}
        rows.append(facts | {"value": value, "non_embedding_parameters": size})
    return pd.DataFrame(rows)


def test_a_runs_slope_is_that_of_its_gain_over_none_with_its_own_seed():
    generator = np.random.default_rng(0)
    noise = {(t, k, s): generator.normal(0, 0.1) for t in TRAINED for k in RUNGS for s in range(9)}
    cells = record(
        lambda name, target, layers, seed: 0.02 * np.log10(RUNGS[layers]) + (0.1 if name == "wikihow" else 0.0),
        lambda target, layers, seed: 0.5 + noise.get((target, layers, seed), 0.0),
    )
    for targets in (TRAINED, RETRIEVAL):
        runs = primary.run_slopes(cells, list(targets))
        assert len(runs) == 21 and runs["slope"].to_numpy() == pytest.approx(0.02)
    assert runs.set_index("set").loc["wikihow", "format"].tolist() == ["multiple_choice"] * 3


def test_on_the_log_scale_a_gain_is_the_log_of_the_ratio_of_the_means_over_targets():
    cells = record(lambda name, target, layers, seed: 0.1 if target == "topic" else 0.3)
    gains = primary.run_gains(cells, list(TRAINED), "log")
    assert gains.to_numpy() == pytest.approx(np.log(0.7 / 0.5))
    assert primary.run_gains(cells, list(TRAINED), "accuracy").to_numpy() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("lost", "left"),
    [
        ({"condition": "wikihow", "seed": 4, "layers": 4, "target": "topic"}, 20),  # one run of a set
        ({"condition": "none", "seed": 4, "layers": 4, "target": "topic"}, 21 - 2),  # that two sets are compared with
        ({"condition": "none", "seed": 0, "layers": 4, "target": "udhr"}, 0),  # that all are compared with
    ],
)
def test_a_run_without_a_value_or_baseline_at_some_rung_is_left_out(lost, left):
    cells = record(lambda *_: 0.1)
    gone = np.logical_and.reduce([cells[name] == value for name, value in lost.items()])
    assert gone.sum() == 1
    cells.loc[gone, ["status", "value"]] = ["failed", np.nan]
    targets = TRAINED if lost["target"] in TRAINED else RETRIEVAL
    assert len(primary.run_slopes(cells, list(targets))) == left


def test_sets_with_seeds_of_their_own_and_one_format_give_the_plain_t_test():
    generator = np.random.default_rng(2)
    runs = layout(lambda index: range(3 * index, 3 * index + 3)).assign(format="classification")
    runs["slope"] = generator.normal(1, 1, len(runs))
    found = primary.beta(runs)
    means = runs.groupby("set")["slope"].mean()
    expected = stats.ttest_1samp(means, 0)
    interval = expected.confidence_interval(groups.LEVEL)
    assert [found.estimate, found.p, found.df] == pytest.approx([means.mean(), expected.pvalue, 6])
    assert [found.low, found.high] == pytest.approx([interval.low, interval.high])


def test_where_seeds_are_shared_by_all_the_interval_is_that_of_the_balanced_two_way_layout():
    runs = layout(lambda index: range(4)).assign(format="classification")
    generator = np.random.default_rng(3)
    table = generator.normal(0, 1, (7, 4)) + generator.normal(0, 2, 7)[:, None] + generator.normal(0, 2, 4)
    runs["slope"] = table.ravel()  # sets are in the layout's order, which is not the alphabet's
    found = primary.beta(runs)
    # Mean squares of the table by hand; the variance of the grand mean is (MS sets + MS seeds - MS rest) / 28.
    by_set, by_seed = table.mean(1), table.mean(0)
    sets, seeds = 4 * by_set.var(ddof=1), 7 * by_seed.var(ddof=1)
    rest = ((table - by_set[:, None] - by_seed + table.mean()) ** 2).sum() / 18
    variance = (sets + seeds - rest) / 28
    df = variance**2 / ((sets / 28) ** 2 / 6 + (seeds / 28) ** 2 / 3 + (rest / 28) ** 2 / 18)
    assert [found.estimate, found.se, found.df] == pytest.approx([table.mean(), variance**0.5, df])


def test_with_one_seed_for_all_or_one_set_of_each_format_there_is_no_interval():
    one_seed = layout(lambda index: [1]).assign(slope=np.arange(7.0))
    assert np.isnan(primary.beta(one_seed).low) and primary.beta(one_seed).estimate == 3
    lonely = layout()[lambda runs: runs["set"].isin(["wikihow", "vitaminc"])].assign(slope=1.0)
    assert np.isnan(primary.beta(lonely).p)
    assert np.isnan(primary.gamma(layout()[lambda runs: runs["type"] == "domain"].assign(slope=1.0)).estimate)


def test_a_seed_that_is_shared_by_both_types_cancels_out_of_gamma():
    runs = layout(lambda index: range(3))
    generator = np.random.default_rng(4)
    runs["slope"] = generator.normal(0, 1, len(runs))
    shifted = runs.assign(slope=runs["slope"] + runs["seed"].map({0: 5.0, 1: -9.0, 2: 30.0}))
    before, after = primary.gamma(runs), primary.gamma(shifted)
    assert after.estimate == pytest.approx(before.estimate)
    assert primary.beta(shifted).se > 5 * primary.beta(runs).se
    types = runs.groupby("set")["type"].first() == "domain"
    means = runs.groupby("set")["slope"].mean()
    assert before.estimate == pytest.approx(means[types].mean() - means[~types].mean())


@pytest.mark.parametrize("blocks", [3, 1])
def test_the_variance_is_unbiased_with_seeds_rotated_or_shared(blocks):
    runs = layout(lambda index: range(3 * (index % blocks), 3 * (index % blocks) + 3))
    scenario = simulation.Scenario(spread=2.0, noise=(9.0, 5.0, 9.0), pairing=0.3)
    records = simulation.simulate(scenario, runs, 10**X, 0.0, 20000, np.random.default_rng(5))
    estimate, variance, _ = simulation.primary(records)
    # A sum below zero counts as zero, so the mean may be a little above the truth.
    assert 0.98 < variance.mean() / estimate.var() < 1.08


SCENARIOS = {
    "sets differ little": {"spread": 0.5},
    "sets differ much": {"spread": 6.0},
    "runs of a seed alike": {"pairing": 0.5},
    "all sets share their seeds": {"shared": True},
    "formats differ": {"formats": 3.0},
    "unequal noise": {"noise": (4.0, 2.0, 1.0)},
    "2% fail": {"failures": 0.02},
    "10% fail": {"failures": 0.1},
    "noise is skewed": {"skewed": "runs"},
    "retrieval": {"trained": False, "targets": 3},
}


@pytest.mark.parametrize("beta", [0.0, -4.0])
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_error_rate_and_the_coverage_are_near_their_nominal_values(name, beta):
    scenario = simulation.Scenario(**SCENARIOS[name])
    records = simulation.simulate(scenario, layout(), 10**X, beta, 4000, np.random.default_rng(6))
    found = simulation.rates(simulation.primary, records, beta)
    assert 0.92 <= found["covered"] <= 0.97 and found["records"] == 4000
    assert 0.03 <= found["rejected"] <= 0.07 or beta


def test_what_takes_runs_items_or_sets_as_independent_finds_what_is_not_there():
    records = simulation.simulate(simulation.Scenario(spread=0.5), layout(), 10**X, 0.0, 4000, np.random.default_rng(7))
    assert simulation.rates(simulation.by_set, records, 0.0)["rejected"] > 0.09
    assert simulation.rates(simulation.by_run, records, 0.0)["rejected"] > 0.12
    assert simulation.rates(simulation.by_item, records, 0.0)["rejected"] > 0.25
    assert simulation.rates(simulation.by_mixed_model, records, 0.0)["rejected"] > 0.07


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")
def test_the_variance_of_the_mixed_model_is_that_of_its_reml_fit():
    wide = simulation.Scenario(spread=6.0)
    records = simulation.simulate(wide, layout(), 10**X, 0.0, 3, np.random.default_rng(7))
    estimate, variance, _ = simulation.by_mixed_model(records)
    sets = np.repeat(records.runs["set"].to_numpy(), len(X))
    design = np.column_stack([np.ones(len(sets)), np.tile(records.x, len(records.runs))])
    for index, gains in enumerate(records.gains):
        fit = MixedLM(gains.ravel(), design, groups=sets, exog_re=design).fit(reml=True, method="powell")
        assert estimate[index] == pytest.approx(fit.params[1], abs=1e-3)
        assert variance[index] ** 0.5 == pytest.approx(fit.bse[1], rel=0.02)


def test_least_squares_over_runs_is_that_of_statsmodels():
    records = simulation.simulate(simulation.Scenario(), layout(), 10**X, 1.0, 3, np.random.default_rng(8))
    found = simulation.by_run(records)
    for index in range(3):
        design = sm.add_constant(np.tile(records.x, len(records.runs)))
        fit = sm.OLS(records.gains[index].ravel(), design).fit()
        assert [values[index] for values in found] == pytest.approx([fit.params[1], fit.bse[1] ** 2, fit.df_resid])


def test_runs_may_be_missing():
    scenario = simulation.Scenario(missing=0.1)
    records = simulation.simulate(scenario, layout(), 10**X, 0.0, 150, np.random.default_rng(9))
    found = simulation.rates(simulation.primary, records, 0.0)
    assert found["records"] > 140 and 0.88 < found["covered"] <= 1.0


@pytest.mark.parametrize("mean", [0.1, -0.4])
def test_equivalence_is_two_one_sided_tests(mean):
    values = np.random.default_rng(10).normal(mean, 0.5, 12)
    summary = DescrStatsW(values)
    found = groups.with_interval(summary.mean, summary.std_mean, 11)
    p, *_ = ttost_paired(values, np.zeros(12), -0.6, 0.6)
    assert primary.equivalence(found, 0.6) == pytest.approx(p)


def test_the_table_has_both_families_on_both_scales_with_holm_over_families():
    generator = np.random.default_rng(11)
    cells = record(lambda name, target, layers, seed: 0.1 * X[list(RUNGS).index(layers)] + generator.normal(0, 0.02))
    table = primary.primary(cells)
    assert table["family"].tolist() == ["trained"] * 4 + ["retrieval"] * 4
    assert table["scale"].tolist() == ["accuracy", "accuracy", "log", "log"] * 2
    tested = table[(table["quantity"] == "beta") & (table["scale"] == "accuracy")]
    first, second = sorted(tested["p"])
    assert sorted(tested["holm"]) == pytest.approx([min(2 * first, 1), max(2 * first, second)])
    assert table.loc[table["quantity"] == "gamma", "holm"].isna().all()
    assert (tested["estimate"] > 0).all() and (tested["sets"] == 7).all() and (tested["runs"] == 21).all()
    assert primary.primary(cells, ("topic",)).loc[0, "targets"] == ["symbol_group"]


@pytest.mark.parametrize(
    ("other", "told"), [({"model": "other"}, "one ladder"), ({"learning_rate": 1.0}, "got several")]
)
def test_two_models_or_two_rates_are_no_record_to_test(other, told):
    cells = pd.concat([record(lambda *_: 0.1), record(lambda *_: 0.1).assign(**other)])
    with pytest.raises(XlscaleError, match=told):
        primary.primary(cells)


@pytest.fixture(scope="module")
def rates() -> pd.DataFrame:
    return simulation.error_rates(layout(), list(RUNGS.values()), 300, 1)


def test_the_section_says_what_the_simulation_found(rates):
    numbers = Numbers("10_design")
    reach = sections._detectable(layout(), list(RUNGS.values()), 300, 1)
    sections.add(numbers, rates, reach, 300)
    own = rates[rates["analysis"] == "primary"]["rejected"]
    assert numbers.numbers["error_rate_highest"]["value"] == pytest.approx(own.max())
    assert len(numbers.tables["error_rates"]["rows"]) == len(simulation.SCENARIOS)
    slopes = reach.pivot(index="spread", columns=["family", "tests"], values="slope")
    assert (slopes.diff().dropna() > 0).all(axis=None)  # the more sets differ, the less is found
    assert (slopes[("trained", 2)] > slopes[("trained", 1)]).all()  # two tests find less than one


@pytest.mark.parametrize(("rejected", "says"), [(0.05, "in all"), (0.08, "except in: as expected$")])
def test_a_test_outside_the_band_is_named(rates, rejected, says):
    own = rates[rates["analysis"] == "primary"].assign(rejected=0.05).set_index("scenario")
    own.loc["as expected", "rejected"] = rejected
    assert re.search(says, sections._verdict(own))


def test_a_slope_that_is_called_detectable_is_found_as_often_as_said():
    scenario = simulation.Scenario()
    null = simulation.simulate(scenario, layout(), 10**X, 0.0, 4000, np.random.default_rng(1))
    found = simulation.detectable(null)
    records = simulation.simulate(scenario, layout(), 10**X, found, 4000, np.random.default_rng(2))
    assert simulation.rates(simulation.primary, records, found)["rejected"] == pytest.approx(groups.POWER, abs=0.03)


def test_a_rung_that_was_never_recorded_has_no_size(tmp_path):
    with pytest.raises(XlscaleError, match="expected a cell of e5_small_healed with 1 layers, got none"):
        sections.sizes(studies.load("plateau"), tmp_path)


def outcome(points: tuple[float, float], log: tuple[float, float], se: float = 0.01) -> pd.DataFrame:
    """Rows of ``primary.primary`` for beta of one family: (estimate, p after Holm) on each scale."""
    rows = [
        {"scale": scale, "quantity": "beta", "family": "trained", "holm": holm}
        | dataclasses.asdict(groups.with_interval(estimate, se, 6))
        for scale, (estimate, holm) in zip(primary.SCALES, (points, log), strict=True)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (outcome((0.1, 0.01), (0.2, 0.04)), "rises with size"),
        (outcome((-0.1, 0.01), (-0.2, 0.04)), "falls with size"),
        (outcome((-0.1, 0.01), (0.2, 0.04)), "has a direction that depends on the scale, so that none is claimed"),
        (outcome((-0.1, 0.01), (-0.2, 0.06)), "has a direction that depends on the scale, so that none is claimed"),
        (outcome((0.0, 0.9), (0.0, 0.9)), "does not change by as much as would matter"),
        (outcome((0.0, 0.9), (0.0, 0.9), se=0.2), "shows neither a change nor that there is none"),
        (outcome((0.0, float("nan")), (0.0, 0.9)).assign(p=[np.nan, 0.5]), "cannot be tested with these runs"),
    ],
)
def test_a_direction_needs_both_scales_and_a_null_needs_equivalence(rows, says):
    assert words.verdict(rows, {"accuracy": 0.05, "log": 0.05}) == says


@pytest.mark.parametrize(
    ("verdicts", "says"),
    [
        (["rises with size", words.OPEN], "change"),
        ([words.SMALL, "falls with size"], "change"),
        ([words.SMALL, words.SMALL], "null"),
        ([words.SMALL, words.OPEN], "open"),
        ([words.UNCLAIMED, words.SMALL], "open"),
        ([], "open"),
    ],
)
def test_families_together_show_a_change_where_one_does_and_none_where_all_are_small(verdicts, says):
    assert words.together(verdicts) == says


def test_the_section_prints_every_family_and_scale():
    generator = np.random.default_rng(12)
    cells = record(lambda name, target, layers, seed: -0.1 * X[list(RUNGS).index(layers)] + generator.normal(0, 0.01))
    cells["value"] += 0.5  # so that no gain takes a value below zero
    numbers = Numbers("05_significance")
    words.add(numbers, primary.primary(cells), {})
    assert len(numbers.tables["primary"]["rows"]) == 8
    assert numbers.numbers["beta_trained_word"]["text"] == "falls with size"
    assert numbers.numbers["beta_verdict"]["text"] == "change"
    estimate = numbers.numbers["beta_retrieval_accuracy"]
    assert estimate["value"] == pytest.approx(-0.1, abs=0.02) and estimate["text"].startswith("\N{MINUS SIGN}")
    shown = primary.mean_gains(primary.run_gains(cells, list(TRAINED), "accuracy"))
    assert shown["layers"].tolist() == list(RUNGS) and (shown["low"] < shown["estimate"]).all()
    whole = primary.beta(primary.run_slopes(cells, list(TRAINED)))
    assert np.polyfit(X, shown["estimate"], 1)[0] == pytest.approx(whole.estimate)


def test_failures_are_counted_and_stay_in():
    cells = record(lambda *_: 0.1)
    cells.loc[cells["target"].isin(TRAINED), "english"] = 0.8
    chosen = (cells["condition"] == "wikihow") & (cells["layers"] == 12) & (cells["target"] == "topic")
    cells.loc[chosen, "english"] = [0.12, 0.8, 0.8]  # chance is 0.1
    gone = (cells["condition"] == "none") & (cells["layers"] == 2) & (cells["target"] == "topic") & (cells["seed"] == 3)
    cells.loc[gone, ["value", "english"]] = np.nan
    cells.loc[gone, "status"] = "failed"
    found = primary.failures(cells).set_index(["condition", "layers"])
    assert found.loc[("wikihow", 12)].tolist() == [6, 0, 1]
    assert found.loc[("none", 2)].tolist() == [18, 1, 0]
    assert len(primary.run_slopes(cells, list(TRAINED))) < 21
    numbers = Numbers("05_significance")
    words.add_failures(numbers, found.reset_index())
    assert numbers.numbers["failures_share"]["value"] == pytest.approx(2 / found["runs"].sum())


@pytest.mark.parametrize(
    ("name", "replications", "message"),
    [
        ("confirmatory_2", 0, "replications: expected at least 1, got 0"),
        ("plateau", 10, "study: expected several intermediate sets and rungs, plateau has not"),
    ],
)
def test_what_cannot_be_simulated_is_told(name, replications, message):
    plan = studies.load(name)
    with pytest.raises(XlscaleError, match=message):
        sections.error_rates(plan, list(RUNGS.values()), replications, 1)

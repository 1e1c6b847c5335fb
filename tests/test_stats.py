"""The statistics against known truth: exactness against OLS, coverage of intervals, error rate of the tolerances."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats as ss

from xlscale import record
from xlscale.files import XlscaleError
from xlscale.stats import agreement, describe, groups, simulate, slopes

SIMULATIONS = 4000


@pytest.fixture
def cells():
    truth = simulate.effects(0.3, {"squad_wiki": 0.05, "squad_amazon": -0.08})
    return simulate.cells(np.random.default_rng(1), sd=0.01, truth=truth)


def one(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_estimates_equal_the_cell_means_model_of_statsmodels(cells):
    own = groups.completed(cells, "topic")
    names = own["condition"] + " " + own["layers"].astype(str)
    dummies = pd.get_dummies(names, dtype=float)
    fit = sm.OLS(own["value"], dummies).fit()
    ladder = slopes.Ladder(cells, "topic")
    signs = {"squad_wiki": 1.0, "none": -1.0}
    weights = ladder.weights(signs, ladder.rungs(signs))
    contrast = pd.Series({f"{c} {k}": w for (c, k), w in weights.items()}).reindex(dummies.columns, fill_value=0.0)
    theirs = fit.t_test(contrast.to_numpy())
    ours, rungs = ladder.slope(signs)
    assert rungs == [1, 2, 4, 12] and ours.df == fit.df_resid == 20
    found = [ours.estimate, ours.se, ours.p, ours.low, ours.high]
    expected = [theirs.effect.item(), theirs.sd.item(), theirs.pvalue.item(), *theirs.conf_int()[0]]
    assert found == pytest.approx(expected, rel=1e-9)


def test_slope_is_least_squares_through_the_rung_means_even_with_unequal_seeds(cells):
    cells = cells.drop(cells[(cells["condition"] == "none") & (cells["layers"] == 2) & (cells["seed"] == 2)].index)
    means = (
        groups.completed(cells, "topic")
        .query("condition == 'none'")
        .groupby("non_embedding_parameters")["value"]
        .mean()
    )
    expected = np.polyfit(np.log10(means.index), means, 1)[0]
    found = one(slopes.slopes(cells), target="topic", condition="none", quantity="value")
    assert found["estimate"] == pytest.approx(expected)


def _values(cells, generator, sd):
    """SIMULATIONS x runs values around the truth in ``cells["value"]`` (made without noise)."""
    noise = generator.normal(0, sd, (SIMULATIONS, len(cells)))
    return cells["value"].to_numpy() + np.where(groups.deterministic(cells), 0, noise)


@pytest.mark.parametrize(("target", "df"), [("topic", 20), ("udhr", 16)])
def test_coverage_of_the_interval_of_a_slope_is_95_percent(target, df):
    truth = simulate.effects(0.3, {"squad_wiki": 0.05})
    cells = groups.completed(simulate.cells(np.random.default_rng(0), sd=0.0, truth=truth), target).reset_index(
        drop=True
    )
    values = _values(cells, np.random.default_rng(2), sd=0.02)
    ladder = slopes.Ladder(cells, target)
    weights = ladder.weights({"squad_wiki": 1.0, "none": -1.0}, [1, 2, 4, 12])
    # The same arithmetic for all simulated records at once ...
    order = list(ladder.groups.index)
    member = np.array(
        [[key == own for own in order] for key in cells[slopes.KEYS].itertuples(index=False)], dtype=float
    )
    means = values @ member / member.sum(axis=0)
    sd = np.sqrt(((values - means @ member.T) ** 2).sum(axis=1) / df)
    per_group = weights.reindex(order, fill_value=0.0).to_numpy()
    estimate = means @ per_group
    random = [not ladder.groups.loc[key, "fixed"] for key in order]
    half = ss.t.ppf(0.975, df) * sd * np.sqrt((per_group**2 / member.sum(axis=0))[random].sum())
    # ... is that of the package, shown on a few of them.
    for i in range(5):
        ours = one(slopes.slopes(cells.assign(value=values[i])), condition="squad_wiki", quantity="gain over none")
        assert [ours["estimate"], ours["low"], ours["df"]] == pytest.approx([estimate[i], estimate[i] - half[i], df])
    coverage = np.mean(np.abs(estimate - 0.05) <= half)
    assert coverage == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / SIMULATIONS) ** 0.5)


def test_type_1_error_of_the_agreement_tolerance():
    cells = groups.completed(simulate.cells(np.random.default_rng(0), sd=0.0), "topic").reset_index(drop=True)
    generator = np.random.default_rng(3)
    recorded, again = (_values(cells, generator, sd=0.02) for _ in range(2))
    pairs = recorded.reshape(SIMULATIONS, -1, 2)  # rows are sorted by group, two seeds each
    sd = np.sqrt(pairs.var(axis=2, ddof=1).mean(axis=1))
    coverage, compared = 0.95, 8
    limits = np.array([agreement.tolerance(s, 20, compared, coverage) for s in sd])
    false_alarm = np.mean((limits < np.abs(recorded - again)[:, :compared].T).any(axis=0))
    # Bonferroni, and a recorded value that is itself part of the variance: at most 5%, and not absurdly less.
    assert 0.02 <= false_alarm <= 0.05 + 3 * (0.05 * 0.95 / SIMULATIONS) ** 0.5
    ours = agreement.tolerances(cells.assign(value=recorded[0]), compared, coverage).loc["topic"]
    assert (ours["df"], ours["sd"], ours["tolerance"]) == (20, pytest.approx(sd[0]), pytest.approx(limits[0]))


def test_verdicts_of_the_agreement(cells):
    mine = cells.head(5).assign(machine="another")
    mine["value"] += [0.0, 0.001, 0.4, np.nan, 0.0]
    mine.loc[mine.index[4], "cell"] = "unknown"
    table = agreement.compare(cells, mine)
    assert list(table["verdict"]) == ["equal", "within tolerance", "differs", "failed", "not in the record"]
    assert list(table["agrees"]) == [True, True, False, False, False]


def test_on_the_machine_of_the_record_predictions_have_to_be_equal(cells):
    cells = cells.assign(predictions_sha256="a")
    mine = cells.head(3).copy()
    mine["value"] += [0.0, 1e-6, 0.0]
    mine["predictions_sha256"] = ["a", "b", "b"]
    table = agreement.compare(cells, mine)
    assert list(table["tolerance"]) == [0, 0, 0] and list(table["verdict"]) == ["equal", "differs", "differs"]
    elsewhere = agreement.compare(cells, mine.assign(machine="another"))
    assert list(elsewhere["verdict"]) == ["equal", "within tolerance", "equal"]


def test_earlier_phases_have_tolerances_of_their_own(cells):
    trained = cells[(cells["target"] == "topic") & (cells["intermediate"] == "squad_wiki")]
    second = trained.assign(phase="intermediate", target=None, value=trained["value"] * 2, cell="2" + trained["cell"])
    first = cells[(cells["target"] == "udhr") & (cells["condition"] == "none")]
    first = first.assign(phase="pretrained", target=None, cell="1" + first["cell"])
    everything = pd.concat([cells, second, first], ignore_index=True)
    limits = agreement.tolerances(everything, 3)
    assert limits.loc["squad_wiki", "df"] == 8  # real and shuffled labels at four rungs
    assert limits.loc["udhr"].equals(agreement.tolerances(cells, 3).loc["udhr"])
    verdicts = agreement.compare(everything, first.assign(value=first["value"] + 0.001, machine="another"))["verdict"]
    assert set(verdicts) == {"within tolerance"}


def test_one_seed_gives_no_tolerance_and_no_interval_and_says_so(cells):
    single = cells[cells["seed"] < 2]
    limits = agreement.tolerances(single, 4).loc["topic"]
    assert np.isnan(limits["tolerance"]) and "no repeated seeds" in limits["note"]
    verdicts = agreement.compare(single, single.head(2).assign(value=lambda rows: rows["value"] + [0.0, 1e-6]))[
        "verdict"
    ]
    assert list(verdicts) == ["equal", "differs"]
    row = one(slopes.slopes(single), target="topic", condition="squad_wiki", quantity="gain over none")
    assert np.isfinite(row["estimate"]) and np.isnan(row["low"]) and row["df"] == 0
    assert describe.interval(row["low"], row["high"]) == "none"


def test_deterministic_cells_have_no_variance_and_bring_no_degrees_of_freedom(cells):
    row = one(slopes.slopes(cells), target="udhr", condition="none", quantity="value")
    assert (row["df"], row["se"]) == (0, 0) and row["low"] == row["estimate"] == row["high"]
    assert one(slopes.slopes(cells), target="udhr", condition="squad_wiki", quantity="gain over none")["df"] == 16


def test_gamma_is_domain_minus_general_and_says_what_its_interval_covers():
    truth = simulate.effects(0.3, {"squad_wiki": 0.05, "squad_amazon": -0.08, "squad_wiki, shuffled labels": 0.02})
    exact = simulate.cells(np.random.default_rng(0), sd=0.0, truth=truth)
    assert list(slopes.gamma(exact)["estimate"]) == pytest.approx([-0.13, -0.13])
    assert list(slopes.gamma(exact, "shuffled")["estimate"]) == pytest.approx([-0.11, -0.11])
    assert "no replication over data sets" in slopes.gamma(exact)["note"][0]
    general = exact[exact["intermediate_type"] != "domain"]
    assert slopes.gamma(general)["estimate"].isna().all()


def test_failed_and_missing_cells_are_missing_and_never_zero(cells):
    lost = (cells["condition"] == "squad_wiki") & (cells["layers"] == 4) & (cells["target"] == "topic")
    cells.loc[lost, ["status", "value"]] = ["failed", np.nan]
    row = one(slopes.slopes(cells), target="topic", condition="squad_wiki", quantity="gain over none")
    assert row["rungs"] == [1, 2, 12]
    gain = one(slopes.gains(cells), target="topic", condition="squad_wiki", layers=4)
    assert np.isnan(gain["estimate"])
    header, rows = describe.results_table(cells, "topic")
    assert dict(zip(header, rows[1], strict=True))["4 layers"] == "missing"


def test_two_rungs_are_no_slope(cells):
    table = slopes.slopes(cells[cells["layers"] <= 2])
    assert table["estimate"].isna().all()


def test_several_models_are_refused_with_one_line(cells):
    with pytest.raises(XlscaleError, match="several models: expected one ladder"):
        slopes.slopes(pd.concat([cells, cells.assign(model="other")]))


def test_nothing_recorded_yet_is_no_error_when_comparing(cells):
    table = agreement.compare(record.table({}), cells.head(2))
    assert list(table["verdict"]) == ["not in the record"] * 2 and not table["agrees"].any()


def test_empty_record_is_one_clear_line():
    with pytest.raises(XlscaleError, match=r"results: no complete cell .* expected a record"):
        describe.require(record.table({}), "results")


def test_the_logit_scale_is_the_slope_of_log_odds():
    cells = simulate.cells(np.random.default_rng(0), sd=0.0)
    values = 1 / (1 + np.exp(-0.5 * np.log10(cells["non_embedding_parameters"])))
    found = slopes.slopes(cells.assign(value=values), "logit")
    assert found.loc[found["quantity"] == "value", "estimate"].tolist() == pytest.approx([0.5] * 10)


def test_smallest_detectable_effect_has_the_stated_power():
    effect = groups.detectable(20)
    draws = np.random.default_rng(4)
    t = draws.normal(effect, 1, 20000) / np.sqrt(draws.chisquare(20, 20000) / 20)
    assert np.mean(t > ss.t.ppf(0.975, 20)) == pytest.approx(0.8, abs=0.015)


def test_holm_leaves_missing_tests_out():
    adjusted = slopes.holm(pd.Series([0.01, np.nan, 0.04, 0.03]))
    assert adjusted[[0, 2, 3]].tolist() == pytest.approx([0.03, 0.06, 0.06]) and np.isnan(adjusted[1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (describe.signed(0.0123), "+1.2"),
        (describe.signed(-0.0123), "−1.2"),
        (describe.signed(-0.0001), "0.0"),
        (describe.signed(float("nan")), "missing"),
        (describe.percent(0.73149), "73.1"),
        (describe.interval(-0.01, 0.02), "−1.0 to +2.0"),
        (describe.interval(0.1, 0.1), "exact"),
        (describe.rate(2e-5), "0.00002"),
        (describe.listing([1, 2, 4]), "1, 2 and 4"),
        (describe.listing([1]), "1"),
        (describe.listing([]), "none"),
        (describe.slug("squad_wiki, shuffled labels"), "squad_wiki_shuffled"),
        (describe.direction(-0.1, 0.2), "no detectable change"),
        (describe.direction(-0.2, -0.1), "decreased"),
    ],
)
def test_formats(text, expected):
    assert text == expected

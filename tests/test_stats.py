"""The statistics on single records: exactness against other software, verdicts, what is missing."""

import numpy as np
import pandas as pd
import pytest
import simulate
import statsmodels.api as sm
from scipy import stats as ss

from xlscale.cards.catalogue import data_card
from xlscale.core import format
from xlscale.core.files import XlscaleError
from xlscale.record import store
from xlscale.report.numbers import Numbers
from xlscale.report.sections import results
from xlscale.stats import agreement, groups, slopes


@pytest.fixture
def cells():
    truth = simulate.effects(0.3, {"squad_wiki": 0.05, "squad_amazon": -0.08})
    return simulate.cells(np.random.default_rng(1), sd=0.01, truth=truth)


def one(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def cell_means_model(own):
    """statsmodels' least squares with a mean per condition and rung, and its dummies."""
    dummies = pd.get_dummies(own["condition"] + " " + own["layers"].astype(str), dtype=float)
    return sm.OLS(own["value"], dummies).fit(), dummies.columns


def test_a_gain_equals_the_cell_means_model_of_statsmodels_at_its_rung(cells):
    own = groups.completed(cells, "topic")
    fit, names = cell_means_model(own[own["layers"] == 4])
    contrast = pd.Series({"squad_wiki 4": 1.0, "none 4": -1.0}).reindex(names, fill_value=0.0)
    theirs = fit.t_test(contrast.to_numpy())
    ours = one(slopes.gains(cells), target="topic", condition="squad_wiki", layers=4)
    assert ours["df"] == fit.df_resid == 5
    found = ours[["estimate", "se", "p", "low", "high"]].tolist()
    assert found == pytest.approx(
        [theirs.effect.item(), theirs.sd.item(), theirs.pvalue.item(), *theirs.conf_int()[0]], rel=1e-9
    )


def test_the_error_of_a_slope_adds_up_from_the_models_of_the_rungs(cells):
    own = groups.completed(cells, "topic")
    ladder = slopes.Ladder(cells, "topic")
    signs = {"squad_wiki": 1.0, "none": -1.0}
    weights = ladder.weights(signs, ladder.rungs(signs))
    ours, rungs = ladder.slope(signs)
    expected = 0.0
    for k in rungs:
        fit, names = cell_means_model(own[own["layers"] == k])
        at = pd.Series({f"{c} {k}": weights[(c, k)] for c in signs}).reindex(names, fill_value=0.0)
        expected += fit.t_test(at.to_numpy()).sd.item() ** 2
    assert rungs == [1, 2, 4, 12] and ours.se == pytest.approx(expected**0.5)
    assert 5 < ours.df < 20


def test_with_two_strata_the_interval_is_that_of_welch():
    generator = np.random.default_rng(6)
    left, right = generator.normal(0, 1, 4), generator.normal(1, 5, 7)
    runs = pd.DataFrame({"condition": "a", "layers": [1] * 4 + [2] * 7, "value": [*left, *right], "seed": 1})
    found = groups.means(runs, slopes.KEYS)
    weights = pd.Series({("a", 1): 1.0, ("a", 2): -1.0}).rename_axis(slopes.KEYS)
    ours = groups.contrast(found, weights, groups.variances(found, "layers"))
    welch = ss.ttest_ind(left, right, equal_var=False)
    interval = welch.confidence_interval(groups.LEVEL)
    found = [ours.df, ours.p, ours.low, ours.high]
    assert found == pytest.approx([welch.df, welch.pvalue, interval.low, interval.high])


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


def test_verdicts_of_the_agreement(cells):
    mine = cells.head(5).assign(machine="another")
    mine["value"] += [0.0, 0.001, 0.4, np.nan, 0.0]
    mine.loc[mine.index[4], "cell"] = "unknown"
    table = agreement.compare(cells, mine)
    assert list(table["verdict"]) == ["equal", "within tolerance", "differs", "failed", "not in the record"]
    assert list(table["agrees"]) == [True, True, False, False, True]
    assert np.isnan(table["tolerance"].iloc[4])


@pytest.mark.parametrize("sd", [0.0, 0.02, 0.4])
def test_a_run_that_learned_nothing_differs_on_every_machine(sd):
    """However much the seeds differ, and whatever else the record holds."""
    cells = simulate.cells(np.random.default_rng(5), sd=sd).query("target == 'topic'")
    cells = cells.assign(value=cells["value"].clip(0.3, 1))
    for worthless in (0.0, data_card("topic").chance):
        mine = cells.assign(value=worthless, machine="another")
        assert set(agreement.compare(cells, mine)["verdict"]) == {"differs"}


def test_collapsed_runs_and_other_rungs_targets_and_models_do_not_widen_a_tolerance(cells):
    limits = agreement.tolerances(cells, 3)["tolerance"]
    wild = cells.copy()
    lost = (wild["layers"] == 12) & (wild["target"] == "topic") & (wild["condition"] == "squad_wiki")
    wild.loc[lost & (wild["seed"] == 1), ["value", "english"]] = data_card("topic").chance + 0.01
    own = ("topic", "e5_small", 12)
    kept = cells[~(lost & (cells["seed"] == 1))]
    assert agreement.tolerances(wild, 3).loc[own, "df"] == 4
    assert agreement.tolerances(wild, 3).loc[own].equals(agreement.tolerances(kept, 3).loc[own])
    for column, value in (("layers", 2), ("target", "udhr"), ("model", "e5_small_healed")):
        other = cells[(cells["target"] == "topic") & (cells["layers"] == 12)].assign(**{column: value})
        other["value"] += np.where(other["seed"] == 1, 0.3, 0)
        more = pd.concat([cells, other.assign(cell="other " + other["cell"])])
        assert agreement.tolerances(more, 3).loc[own, "tolerance"] == limits[own]


def test_untrained_cells_may_differ_by_rounding_alone(cells):
    untrained = cells[groups.deterministic(cells)].head(2)
    mine = untrained.assign(value=untrained["value"] + [0.004, 0.006], machine="another")
    table = agreement.compare(cells, mine)
    assert list(table["verdict"]) == ["within tolerance", "differs"] and set(table["tolerance"]) == {0.005}


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
    assert set(limits.loc["squad_wiki", "df"]) == {2}  # real and shuffled labels, at each of four rungs
    assert limits.loc["udhr"].equals(agreement.tolerances(cells, 3).loc["udhr"])
    verdicts = agreement.compare(everything, first.assign(value=first["value"] + 0.001, machine="another"))["verdict"]
    assert set(verdicts) == {"within tolerance"}


def test_one_seed_gives_no_tolerance_and_no_interval_and_says_so(cells):
    single = cells[cells["seed"] < 2]
    assert agreement.tolerances(single, 4)["tolerance"].isna().all()
    verdicts = agreement.compare(single, single.head(2).assign(value=lambda rows: rows["value"] + [0.0, 1e-6]))[
        "verdict"
    ]
    assert list(verdicts) == ["equal", "differs"]
    row = one(slopes.slopes(single), target="topic", condition="squad_wiki", quantity="gain over none")
    assert np.isfinite(row["estimate"]) and np.isnan(row["low"]) and row["df"] == 0
    assert format.interval(row["low"], row["high"]) == "none"


def test_deterministic_cells_have_no_variance_and_bring_no_degrees_of_freedom(cells):
    row = one(slopes.slopes(cells), target="udhr", condition="none", quantity="value")
    assert (row["df"], row["se"]) == (0, 0) and row["low"] == row["estimate"] == row["high"]
    assert one(slopes.slopes(cells), target="udhr", condition="squad_wiki", quantity="gain over none")["df"] > 4


def test_gamma_is_domain_minus_general_and_says_what_its_interval_covers():
    truth = simulate.effects(0.3, {"squad_wiki": 0.05, "squad_amazon": -0.08, "squad_wiki, shuffled labels": 0.02})
    exact = simulate.cells(np.random.default_rng(0), sd=0.0, truth=truth)
    assert list(slopes.gamma(exact)["estimate"]) == pytest.approx([-0.13, -0.13])
    assert list(slopes.gamma(exact, "shuffled")["estimate"]) == pytest.approx([-0.11, -0.11])
    general = exact[exact["intermediate_type"] != "domain"]
    assert slopes.gamma(general)["estimate"].isna().all()


def _with_second(cells, name):
    """``cells`` with a second set of the type of ``name``."""
    more = cells[cells["intermediate"] == name]
    return pd.concat([cells, more.assign(condition=more["condition"].str.replace(name, f"{name}_2"))])


def test_gamma_always_says_what_its_interval_does_not_cover(cells):
    def note(table):
        return slopes.gamma(table)["note"][0]

    assert "Only one data set is general and only one is domain" in note(cells)
    second = _with_second(cells, "squad_wiki")
    assert "Only one data set is domain:" in note(second) and "no replication over data sets" in note(second)
    assert note(_with_second(second, "squad_amazon")) == slopes.TRAINING_ONLY
    assert note(cells[cells["intermediate_type"] != "domain"]) == "γ is not estimated: no data set is domain."


def test_a_set_that_holds_the_target_s_own_data_is_out_of_gamma_on_that_target(cells):
    """Gamma is what it is without that set; where it is the only one of its type there is no gamma."""
    both = _with_second(cells, "squad_wiki")
    second = both["condition"].str.startswith("squad_wiki_2")
    both.loc[second & (both["layers"] == 12), "value"] += 0.2
    here = both.assign(overlaps=second & (both["target"] == "topic"))
    found, with_all, without = (slopes.gamma(table).set_index("target") for table in (here, both, cells))
    assert found.loc["topic", "estimate"] == pytest.approx(without.loc["topic", "estimate"])
    assert found.loc["topic", "general"] == ["squad_wiki"]
    assert found.loc["topic", "note"].endswith("contain a target's own data: squad_wiki_2.")
    assert found.loc["udhr"].equals(with_all.loc["udhr"]) and "own" not in found.loc["udhr", "note"]
    alone = cells.assign(overlaps=cells["intermediate"] == "squad_wiki")
    assert slopes.gamma(alone)["estimate"].isna().all()


def test_failed_and_missing_cells_are_missing_and_never_zero(cells):
    lost = (cells["condition"] == "squad_wiki") & (cells["layers"] == 4) & (cells["target"] == "topic")
    cells.loc[lost, ["status", "value"]] = ["failed", np.nan]
    row = one(slopes.slopes(cells), target="topic", condition="squad_wiki", quantity="gain over none")
    assert row["rungs"] == [1, 2, 12]
    gain = one(slopes.gains(cells), target="topic", condition="squad_wiki", layers=4)
    assert np.isnan(gain["estimate"])
    numbers = Numbers("04_scaling")
    results.add_results(numbers, cells)
    table = numbers.tables["results_topic"]
    assert dict(zip(table["header"], table["rows"][1], strict=True))["4 layers"] == "missing"


def test_two_rungs_are_no_slope(cells):
    table = slopes.slopes(cells[cells["layers"] <= 2])
    assert table["estimate"].isna().all()


def test_several_models_are_refused_with_one_line(cells):
    with pytest.raises(XlscaleError, match="several models: expected one ladder"):
        slopes.slopes(pd.concat([cells, cells.assign(model="other")]))


def test_nothing_recorded_yet_is_no_error_when_comparing(cells):
    table = agreement.compare(store.table({}), cells.head(2))
    assert list(table["verdict"]) == ["not in the record"] * 2 and table["tolerance"].isna().all()


def test_the_logit_scale_is_the_slope_of_log_odds():
    cells = simulate.cells(np.random.default_rng(0), sd=0.0)
    values = 1 / (1 + np.exp(-0.5 * np.log10(cells["non_embedding_parameters"])))
    found = slopes.slopes(cells.assign(value=values), "logit")
    assert found.loc[found["quantity"] == "value", "estimate"].tolist() == pytest.approx([0.5] * 10)


def test_holm_leaves_missing_tests_out():
    adjusted = slopes.holm(pd.Series([0.01, np.nan, 0.04, 0.03]))
    assert adjusted[[0, 2, 3]].tolist() == pytest.approx([0.03, 0.06, 0.06]) and np.isnan(adjusted[1])

"""The statistics on thousands of simulated records: coverage of intervals, false alarms of tolerances, power."""

import numpy as np
import pandas as pd
import pytest
import simulate
from scipy import stats as ss

from xlscale.stats import agreement, groups, slopes

SIMULATIONS = 4000


UNEQUAL = {1: 0.04, 2: 0.02, 4: 0.01, 12: 0.005}


def _values(cells, generator, sd, shared=0.0):
    """SIMULATIONS x runs values around the truth in ``cells["value"]`` (made without noise).

    ``sd`` is one, or by number of layers; ``shared`` that of an effect common to the runs of one seed at one rung.
    """
    spread = cells["layers"].map(sd).to_numpy() if isinstance(sd, dict) else sd
    noise = generator.normal(0, 1, (SIMULATIONS, len(cells))) * spread
    together = cells.groupby(["layers", "seed"]).ngroup().to_numpy()
    noise += generator.normal(0, shared, (SIMULATIONS, together.max() + 1))[:, together] if shared else 0
    return cells["value"].to_numpy() + np.where(groups.deterministic(cells), 0, noise)


def _intervals(ladder, cells, values, weights):
    """Estimates and half widths for all simulated records at once: the arithmetic of the package, in matrices."""
    order = list(ladder.groups.index)
    member = np.array(
        [[key == own for own in order] for key in cells[slopes.KEYS].itertuples(index=False)], dtype=float
    )
    means = values @ member / member.sum(axis=0)
    squares = (values - means @ member.T) ** 2
    per_group = weights.reindex(order, fill_value=0.0).to_numpy()
    random = ~ladder.groups["fixed"].to_numpy(dtype=bool)
    parts, dfs = [], []
    for k in sorted({layers for _, layers in order}):
        here = np.array([layers == k for _, layers in order]) & random
        dfs.append((member.sum(axis=0)[here] - 1).sum())
        variance = squares[:, member[:, here].any(axis=1)].sum(axis=1) / dfs[-1]
        parts.append(variance * (per_group[here] ** 2 / member.sum(axis=0)[here]).sum())
    parts, dfs = np.array(parts), np.array(dfs)[:, None]
    df = parts.sum(axis=0) ** 2 / (parts**2 / dfs).sum(axis=0)
    return means @ per_group, ss.t.ppf(0.975, df) * np.sqrt(parts.sum(axis=0)), df


def _ladder(target, truth):
    cells = groups.completed(simulate.cells(np.random.default_rng(0), sd=0.0, truth=truth), target)
    return cells.reset_index(drop=True), slopes.Ladder(cells, target)


GAIN = {"squad_wiki": 1.0, "none": -1.0}
FOUR = 4 * (0.95 * 0.05 / SIMULATIONS) ** 0.5  # standard errors of a simulated coverage


@pytest.mark.parametrize("target", ["topic", "udhr"])
@pytest.mark.parametrize("sd", [0.02, UNEQUAL], ids=["equal", "unequal"])
def test_coverage_of_the_interval_of_a_slope_is_95_percent(target, sd):
    cells, ladder = _ladder(target, simulate.effects(0.3, {"squad_wiki": 0.05}))
    values = _values(cells, np.random.default_rng(2), sd)
    estimate, half, df = _intervals(ladder, cells, values, ladder.weights(GAIN, [1, 2, 4, 12]))
    for i in range(3):
        ours = one(slopes.slopes(cells.assign(value=values[i])), condition="squad_wiki", quantity="gain over none")
        found = [ours["estimate"], ours["low"], ours["df"]]
        assert found == pytest.approx([estimate[i], estimate[i] - half[i], df[i]])
    # Satterthwaite's degrees of freedom are an approximation: within one point of 95% here.
    assert np.mean(np.abs(estimate - 0.05) <= half) == pytest.approx(0.95, abs=0.01 + FOUR)


@pytest.mark.parametrize("layers", [1, 12])
def test_coverage_of_the_interval_of_a_gain_is_95_percent_where_rungs_are_unequally_noisy(layers):
    cells, _ = _ladder("topic", simulate.effects(0.3))
    values = _values(cells, np.random.default_rng(7), UNEQUAL)
    weights = pd.Series({("squad_wiki", layers): 1.0, ("none", layers): -1.0})
    at = cells["layers"] == layers
    own = slopes.Ladder(cells[at], "topic")
    estimate, half, df = _intervals(own, cells[at], values[:, at], weights)
    ours = one(slopes.gains(cells.assign(value=values[0])), condition="squad_wiki", layers=layers)
    assert [ours["estimate"], ours["low"], ours["df"]] == pytest.approx([estimate[0], estimate[0] - half[0], df[0]])
    assert np.mean(np.abs(estimate) <= half) == pytest.approx(0.95, abs=FOUR)


def test_a_shared_effect_of_the_seed_makes_gains_too_wide_and_own_values_too_narrow():
    cells, ladder = _ladder("topic", simulate.effects(0.3))
    values = _values(cells, np.random.default_rng(8), sd=0.01, shared=0.02)
    gain, half, _ = _intervals(ladder, cells, values, ladder.weights(GAIN, [1, 2, 4, 12]))
    assert np.mean(np.abs(gain) <= half) > 0.99
    value, half, _ = _intervals(ladder, cells, values, ladder.weights({"none": 1.0}, [1, 2, 4, 12]))
    assert np.mean(np.abs(value - 0.3) <= half) < 0.95 - FOUR


def test_type_1_error_of_the_agreement_tolerance():
    """At the pilot's design: two seeds, five conditions, four rungs with a variance each; all runs compared at once."""
    cells = groups.completed(simulate.cells(np.random.default_rng(0), sd=0.0), "topic")
    cells = cells.sort_values(["layers", "condition", "seed"]).reset_index(drop=True)
    generator, compared = np.random.default_rng(3), len(cells)
    recorded, again = (generator.normal(0.6, 0.02, (SIMULATIONS, 4, 5, 2)) for _ in range(2))
    sd = np.sqrt(recorded.var(axis=3, ddof=1).mean(axis=2))
    limits = np.vectorize(lambda s: agreement.tolerance(s, 5, compared))(sd)
    differs = np.abs(recorded - again) > limits[:, :, None, None]
    false_alarm = differs.any(axis=(1, 2, 3)).mean()
    # Bonferroni, and a recorded value that is itself part of the variance: at most 5%, and not absurdly less.
    assert 0.01 <= false_alarm <= 0.05 + 3 * (0.05 * 0.95 / SIMULATIONS) ** 0.5
    ours = agreement.tolerances(cells.assign(value=recorded[0].ravel()), compared).loc["topic"]
    assert set(ours["df"]) == {5}
    assert list(ours["tolerance"]) == pytest.approx(limits[0])


def test_smallest_detectable_effect_has_the_stated_power():
    effect = groups.detectable(20)
    draws = np.random.default_rng(4)
    t = draws.normal(effect, 1, 20000) / np.sqrt(draws.chisquare(20, 20000) / 20)
    assert np.mean(t > ss.t.ppf(0.975, 20)) == pytest.approx(0.8, abs=0.015)


def one(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]

"""Curves through the rungs: what is known is found, and what is left open is said to be."""

import numpy as np
import pytest
import simulate
from scipy import stats

from xlscale.report.figures import ladder
from xlscale.report.numbers import Numbers
from xlscale.report.sections import results
from xlscale.stats import fits

SIZES = np.array([2e6, 4e6, 7e6, 14e6, 21e6])


def errors(sizes, offset=0.1, scale=0.5, exponent=0.6):
    return offset + scale * (sizes / sizes.min()) ** -exponent


def test_the_line_is_that_of_least_squares():
    values = np.array([0.3, 0.42, 0.41, 0.6, 0.55])
    found, theirs = fits.line(SIZES, values), stats.linregress(np.log10(SIZES), values)
    assert [found["slope"], found["intercept"]] == pytest.approx([theirs.slope, theirs.intercept])


def test_a_power_law_without_noise_is_found_from_most_starts():
    sizes = np.geomspace(1e6, 1e9, 8)
    found = fits.power_laws(sizes, errors(sizes), np.random.default_rng(0), starts=40)
    best = found.iloc[0]
    assert best[["offset", "scale", "exponent"]].tolist() == pytest.approx([0.1, 0.5, 0.6], abs=1e-4)
    assert best["rms"] < 1e-6 and found["starts"].sum() == 40 and best["starts"] > 20


def test_the_profile_has_its_lowest_point_at_the_true_offset():
    sizes = np.geomspace(1e6, 1e9, 8)
    found = fits.profile(sizes, errors(sizes), np.linspace(0, 0.3, 31))
    assert found.loc[found["rms"].idxmin(), "offset"] == pytest.approx(0.1)
    assert found["rms"].min() < 1e-6
    low, high = fits.left_open(found)
    assert low <= 0.1 <= high and high - low < 0.1


def test_a_short_ladder_leaves_the_offset_open():
    sizes = np.array([2e6, 7e6, 21e6])
    low, high = fits.left_open(fits.profile(sizes, errors(sizes, exponent=0.2), np.linspace(0, 0.3, 31)))
    assert low == 0 and high > 0.25
    nothing = fits.left_open(fits.profile(sizes, [0.1, 0.9, 0.1], [0.0, 0.1]))
    assert np.isnan(nothing).all()


def test_two_sizes_are_too_few():
    with pytest.raises(ValueError, match="at least three, got 2"):
        fits.power_laws([1e6, 1e6, 2e6], [0.5, 0.5, 0.4], np.random.default_rng(0))


def test_every_target_is_described_from_its_means_without_intermediate_training():
    truth = simulate.effects(0.2)
    cells = simulate.cells(np.random.default_rng(3), sd=0.0, truth=truth)
    profiles = fits.profiles(cells)
    found = fits.by_target(cells, profiles).set_index("target")
    assert set(found.index) == {"topic", "udhr"} and (found["rungs"] == 4).all()
    assert found["slope"].to_numpy() == pytest.approx(0.2) and (found["line_rms"] < 1e-9).all()
    assert (found["lowest"] == 0).all()  # four rungs of a straight line say nothing of an offset
    short = cells[cells["layers"] < 4]
    assert fits.by_target(short, fits.profiles(short)).empty
    numbers = Numbers("04_scaling")
    results.add_fits(numbers, found.reset_index())
    assert numbers.tables["fits"]["rows"][0][2] == "+20.0"
    assert ladder.offsets(profiles).axes[0].lines

"""Gains of training methods over plain fine-tuning: on simulated runs with a known truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from xlscale.cards import typology
from xlscale.stats import method_gains, method_languages
from xlscale.stats.method_gains import MEAN, SCALES, Runs

LANGUAGES = ["de", "fi", "ja", "ru", "sw", "tr"]
SEEDS, ITEMS = 3, 60
METHODS = ("a", "b", "c", "d", "e", "f")


def simulated(rng, gain=0.0, seed_sd=0.3, fixed=False, languages=LANGUAGES, target="topic"):
    """Runs whose items are right by a probit model in which item, language, seed and answer have a part. Method "a"
    adds ``gain`` (one for all, or one per language), the others nothing; a fixed baseline is one run, no seed's."""
    language = np.repeat(np.array(languages, object), ITEMS)
    item = np.tile(np.array([*map(str, range(ITEMS))], object), len(languages))
    hard = np.tile(rng.normal(0, 1, ITEMS), len(languages)) + rng.normal(0, 0.5, len(item))

    def run(added, sd, seeds=SEEDS):
        noise = rng.normal(0, sd, (seeds, 1)) + rng.normal(0, 1, (seeds, len(item)))
        return (hard + np.repeat(np.broadcast_to(added, len(languages)), ITEMS) + noise > 0).astype(float)

    plain = np.tile(run(0.0, 0.0, 1), (SEEDS, 1)) if fixed else run(0.0, seed_sd)
    scores = {name: run(gain if name == "a" else 0.0, seed_sd) for name in METHODS}
    return Runs(target, 2, (1, 2, 3), scores, plain, fixed, language, item)


def _truth(gain, seed_sd=0.3):
    """Points and log odds of a language: items and seeds as drawn from all there are."""
    wide = (1 + 0.25 + seed_sd**2 + 1) ** 0.5
    shares = stats.norm.cdf(np.array([gain, 0.0]) / wide)
    return {"accuracy": shares[0] - shares[1], "logit": special.logit(shares[0]) - special.logit(shares[1])}


def _of(table, **values):
    return table[np.logical_and.reduce([table[name] == value for name, value in values.items()])]


def test_a_gain_is_the_mean_difference_and_its_parts_of_the_variance_are_those_of_seeds_and_items():
    rng = np.random.default_rng(3)
    found = method_gains.gains(runs := simulated(rng, 0.5))
    german = runs.language == "de"
    row = _of(found, condition="a", language="de", scale="accuracy").iloc[0]
    assert row["estimate"] == pytest.approx((runs.scores["a"] - runs.plain)[:, german].mean())
    assert (row["seeds"], row["items"]) == (3, ITEMS)
    means = [(own - runs.plain)[:, german].mean(1) for own in runs.scores.values()]
    between = np.mean([values.var(ddof=1) for values in means]) / SEEDS
    d = (runs.scores["a"] - runs.plain)[:, german]
    rest = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    items = max(0, d.mean(0).var(ddof=1) - (rest**2).sum() / (2 * (ITEMS - 1)) / SEEDS) / ITEMS
    assert row["se"] ** 2 == pytest.approx(between + items)
    # Six methods that share their plain runs say as much of the variance as 5.3 degrees of freedom, not as 12.
    assert method_gains.between_seeds(means, 0.5)[1] == pytest.approx(2 / (1 / 6 + 5 / 6 / 4))
    whole = _of(found, condition="a", language=MEAN, scale="accuracy").iloc[0]
    assert whole["estimate"] == pytest.approx(_of(found, condition="a", scale="accuracy")["estimate"][:-1].mean())
    assert whole["items"] == ITEMS  # equal ids are one item in all languages


def test_items_that_are_not_parallel_are_as_many_as_there_are(monkeypatch):
    monkeypatch.setattr(method_gains, "parallel", lambda target: False)
    found = method_gains.gains(simulated(np.random.default_rng(3)))
    assert {*_of(found, language=MEAN)["items"]} == {ITEMS * len(LANGUAGES)}


SETTINGS = {"plain": {}, "noisy seeds": {"seed_sd": 1.0}, "one untrained run": {"fixed": True}, "gain": {"gain": 0.4}}


@pytest.mark.parametrize("name", SETTINGS)
def test_intervals_hold_the_truth_and_nothing_is_claimed_of_methods_that_add_nothing(name):
    how, rng = SETTINGS[name], np.random.default_rng(11)
    found = pd.concat([method_gains.gains(simulated(rng, **how)).assign(record=i) for i in range(40)])
    truth = {"accuracy": 0.0, "logit": 0.0}
    if "gain" in how:
        truth = _truth(how["gain"])
        strong = found[found["condition"] == "a"]
        wanted = strong["scale"].map(truth)
        assert abs(strong["estimate"] - wanted).groupby(strong["scale"]).mean()["accuracy"] < 0.1
        held = (strong["low"] <= wanted) & (wanted <= strong["high"])
        assert 0.9 <= held.mean() <= 1
    null = found[found["condition"] != "a"]
    held = (null["low"] <= 0) & (null["high"] >= 0)
    for scale in SCALES:
        for whole in (True, False):
            chosen = (null["scale"] == scale) & ((null["language"] == MEAN) == whole)
            assert 0.9 <= held[chosen].mean() <= 0.99, (scale, whole)
    # Of five methods that add nothing a claim about any is rarer than one record in ten.
    means = null[null["language"] == MEAN]
    said = method_gains.directions(means, ["record", "condition"])
    assert said.isin(["gains", "loses"]).groupby("record").any().mean() <= 0.1


def test_a_large_gain_is_found_and_a_direction_needs_both_scales():
    rng = np.random.default_rng(5)
    found = method_gains.gains(simulated(rng, 1.5, seed_sd=0.1))
    said = method_gains.directions(found[found["language"] == MEAN], ["condition"])
    assert said["a"] == "gains" and not said.drop("a").isin(["gains", "loses"]).any()
    table = pd.DataFrame({"scale": SCALES, "estimate": 0.1, "adjusted": 0.001, "agree": True, "one": "x"})
    for p, estimates, words in (
        ([0.001, 0.2], [0.1, 0.4], "depends on the scale"),
        ([0.001, 0.002], [0.1, -0.4], "depends on the scale"),
        ([0.001, 0.002], [-0.1, -0.4], "loses"),
        ([0.1, 0.2], [0.1, 0.4], "no detectable change"),
        ([np.nan, 0.2], [0.1, 0.4], "not estimable"),
    ):
        assert method_gains.directions(table.assign(adjusted=p, estimate=estimates), ["one"])["x"] == words
    assert method_gains.directions(table, ["one"])["x"] == "gains"
    # Intervals take all methods as equally noisy, so what a seed speaks against is not claimed.
    assert method_gains.directions(table.assign(agree=False), ["one"])["x"] == "no detectable change"


def test_one_seed_and_equal_predictions_have_no_interval():
    runs = simulated(np.random.default_rng(1))
    one = Runs("topic", 2, (1,), {"a": runs.scores["a"][:1]}, runs.plain[:1], False, runs.language, runs.item)
    same = Runs("topic", 2, runs.seeds, {"a": runs.plain}, runs.plain, False, runs.language, runs.item)
    for found in (method_gains.gains(one), method_gains.gains(same)):
        assert found["low"].isna().all() and found["adjusted"].isna().all()
        assert {*method_gains.directions(found, ["language"])} == {"not estimable"}


KNOWN = typology.distances()
MANY = [code for code in KNOWN if code not in ("en", "pt_br")]
FAMILY = {code: KNOWN[code].family for code in MANY}
DISTANCE = {"syntax": {code: KNOWN[code].syntax for code in MANY}}


def test_a_slope_on_distance_is_found_and_families_that_differ_are_none():
    rng, records = np.random.default_rng(8), []
    far = np.array([KNOWN[code].syntax for code in MANY])
    (row,) = _of(
        method_languages.associations(simulated(rng, 4 * far, languages=MANY), DISTANCE, FAMILY),
        condition="a", scale="accuracy",
    ).itertuples()  # fmt: skip
    assert row.low > 0 and (row.languages, row.families) == (len(MANY), len({*FAMILY.values()}))
    names = sorted({*FAMILY.values()})
    for _ in range(30):
        differ = dict(zip(names, rng.normal(0, 0.3, len(names)), strict=True))
        runs = simulated(rng, np.array([differ[FAMILY[code]] for code in MANY]), languages=MANY)
        records.append(method_languages.associations(runs, DISTANCE, FAMILY))
    found = pd.concat(records)
    held = (found["low"] <= 0) & (found["high"] >= 0)
    assert held[found["condition"] != "a"].mean() >= 0.95 and held[found["condition"] == "a"].mean() >= 0.8


def test_too_few_families_give_a_slope_without_an_interval():
    runs = simulated(np.random.default_rng(1), languages=["de", "fr", "fi", "hu"])
    found = method_languages.associations(runs, DISTANCE, FAMILY)
    assert found["estimate"].notna().all() and found["low"].isna().all() and {*found["families"]} == {2}

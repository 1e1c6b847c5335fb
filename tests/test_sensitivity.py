"""Sensitivity of beta: parts of the record, other scales, and other models of the same slopes."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import special
from test_primary import RUNGS, TRAINED, X, record

from xlscale.cards.catalogue import data_card
from xlscale.experiment import studies
from xlscale.report.numbers import Numbers
from xlscale.report.sections import secondary
from xlscale.stats import by_language, groups, language_groups, primary, sensitivity
from xlscale.tasks import baselines

LANGUAGES = ("en", "de", "fr", "ru", "ja")


def at(layers: int) -> float:
    """log10 of a rung's parameters, centred."""
    return X[list(RUNGS).index(layers)] - X.mean()


def with_languages(gain) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and languages; values of ``none`` are 0.5, ``gain(set, target, layers, seed, language)`` is added."""
    cells = record(lambda *_: 0.0).assign(cell=lambda frame: [f"cell{index}" for index in range(len(frame))])
    rows = []
    for cell in cells.itertuples():
        about = {name: getattr(cell, name) for name in ("cell", "target", "condition", "seed", "layers", "placebo")}
        for code in LANGUAGES:
            more = 0.0 if cell.condition == "none" else gain(cell.condition, cell.target, cell.layers, cell.seed, code)
            rows.append(about | {"language": code, "value": 0.5 + more})
    languages = pd.DataFrame(rows)
    means = languages[languages["language"] != "en"].groupby("cell")["value"].mean()
    return cells.assign(value=cells["cell"].map(means), english=0.9), languages


def noisy(seed: int):
    """A gain that differs by everything."""
    generator, drawn = np.random.default_rng(seed), {}

    def gain(*key):
        return drawn.setdefault(key, generator.normal(0, 0.05)) + 0.1 * at(key[2])

    return gain


def one(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def whole_table(cells, languages, floors=None, draws=20):
    return sensitivity.table(cells, languages, list(TRAINED), floors or {}, draws, np.random.default_rng(0))


def test_what_is_left_out_is_left_out():
    slope = {"wikihow": 0.7, "vitaminc": 0.14}

    def gain(name, target, layers, seed, code):
        per_language = 0.2 if code in ("ru", "ja") else 0.0
        of_target = 0.1 if target == "topic" else 0.0
        return (slope.get(name, 0.0) + per_language + of_target) * at(layers) * 0.1

    cells, languages = with_languages(gain)
    table = whole_table(cells, languages)
    table = table[table["scale"] == "accuracy"]
    sets = (0.7 + 0.14) / 7
    for wanted, expected, counts in [
        ({"change": "nothing"}, sets + 0.1 + 0.05, [2, 7, 21]),
        ({"change": "set", "name": "wikihow"}, 0.14 / 6 + 0.15, [2, 6, 18]),
        ({"change": "target", "name": "topic"}, sets + 0.1, [1, 7, 21]),
        ({"change": "rung", "name": "4"}, sets + 0.15, [2, 7, 21]),
        ({"change": "languages", "name": "Latin"}, sets + 0.2 + 0.05, [2, 7, 21]),
        ({"change": "languages", "name": "Cyrillic"}, sets + 0.2 / 3 + 0.05, [2, 7, 21]),
        ({"change": "collapsed"}, sets + 0.15, [2, 7, 21]),
        ({"change": "bootstrap", "name": "all three"}, sets + 0.15, [2, 7, 21]),
    ]:
        row = one(table, **wanted)
        assert row["estimate"] == pytest.approx(0.1 * expected), wanted
        assert row[["targets", "sets", "runs"]].tolist() == counts, wanted
    assert "it did not converge (Singular matrix)" in one(table, change="mixed model")["note"]  # nothing is noise
    counted = table["change"].value_counts()
    assert counted[["rung", "set", "languages", "target"]].tolist() == [3, 7, 3, 2]


def test_every_analysis_is_on_three_scales_and_printed_in_one_table():
    cells, languages = with_languages(noisy(1))
    floors = {"chance": {"topic": 0.1, "symbol_group": 0.1}}
    table = whole_table(cells, languages, floors)
    scales = table.groupby(["change", "name"], sort=False)["scale"].agg(set)
    assert scales.pop(("above", "chance")) == {"accuracy", "log"}
    assert all(found == set(groups.SCALES) for found in scales)
    by_hand = []
    for run, own in primary.run_gains(cells, list(TRAINED), "accuracy").iterrows():
        odds = [special.logit(0.5 + gain) - special.logit(0.5) for gain in own]
        by_hand.append((run[0], np.polyfit(X, odds, 1)[0]))
    means = pd.DataFrame(by_hand, columns=["set", "slope"]).groupby("set")["slope"].mean()
    assert one(table, change="nothing", scale="logit")["estimate"] == pytest.approx(means.mean())
    numbers = Numbers("05_significance")
    secondary.add_sensitivity(numbers, "trained", table)
    printed = numbers.tables["sensitivity_trained"]
    assert len(printed["rows"]) == len(scales) + 1 and printed["rows"][0][:4] == [
        "the primary analysis",
        "2",
        "7",
        "21",
    ]
    above = next(row for row in printed["rows"] if row[0] == "above chance")
    assert above[-1] == "–" and " to " in above[-2]
    assert [row[0] for row in printed["rows"]][-2:] == [
        "bootstrap of sets, targets and languages",
        "crossed mixed model",
    ]


def test_an_arm_is_the_same_analysis_of_another_study():
    cells, _ = with_languages(lambda name, target, layers, *_: 0.1 * at(layers) * (1 + (name == "wikihow")))
    few = cells[cells["condition"].isin(["none", "wikihow", "vitaminc"])]
    found = sensitivity.arms({"fixed_rates": few, "cut_ladder": cells.iloc[:0]}, "trained")
    assert set(found["name"]) == {"fixed_rates"} and list(found["scale"]) == list(groups.SCALES)
    row = one(found, scale="accuracy")
    assert row["estimate"] == pytest.approx(0.15) and list(row[["targets", "sets", "runs"]]) == [2, 2, 6]
    assert sensitivity.arms({"fixed_rates": few[few["target"].isin(TRAINED)]}, "retrieval").empty
    numbers = Numbers("05_significance")
    secondary.add_sensitivity(numbers, "trained", found)
    (printed,) = numbers.tables["sensitivity_trained"]["rows"]
    assert printed[:4] == ["one learning rate at all rungs", "2", "2", "6"]


def test_arms_are_what_the_confirmatory_study_has_but_for_one_thing():
    """At 12 layers one learning rate at all rungs is no other one; the rest differs in rates, or the model, alone."""
    whole = {cell.id: cell for cell in studies.load("confirmatory_2").cells()}
    fixed, cut = (studies.load(name).cells() for name in sensitivity.ARMS)
    top = {cell.id for cell in fixed if cell.parameters.layers == 12}
    assert top <= whole.keys() and len(top) > 30

    def but(cell, *fields):
        return str(sorted((k, v) for k, v in cell.parameters.model_dump().items() if k not in fields)) + cell.phase

    for arm, differs in ((fixed, ("learning_rate", "intermediate_learning_rate")), (cut, ("model",))):
        known = {but(cell, *differs) for cell in whole.values()}
        assert {but(cell, *differs) for cell in arm} <= known


def test_runs_that_learned_nothing_are_left_out_with_what_is_compared_with_them():
    cells, languages = with_languages(noisy(2))
    nothing = (cells["condition"] == "none") & (cells["seed"] == 0) & (cells["target"] == "topic")
    cells.loc[nothing & (cells["layers"] == 12), "english"] = 0.1  # chance
    row = one(whole_table(cells, languages), change="collapsed", scale="accuracy")
    lost = (primary.run_slopes(cells, list(TRAINED))["seed"] == 0).sum()
    assert lost and row["runs"] == 21 - lost


def test_a_set_is_not_judged_on_targets_from_its_own_source():
    cells = record(lambda name, target, layers, seed: at(layers) * (0.1 if target == "topic" else 0.0))
    runs = sensitivity.without_pairs(cells, list(TRAINED), "accuracy").groupby("set")["slope"].mean()
    assert runs["package_role"] == pytest.approx(0.0, abs=1e-12)  # topic is made of the same descriptions
    assert runs["wikihow"] == pytest.approx(0.05)
    alone = sensitivity.without_pairs(cells, ["topic"], "accuracy")
    assert set(alone["set"]) == set(cells["condition"]) - {"none", "package_role"}


def test_a_floor_changes_ratios_and_leaves_differences():
    cells = record(lambda *_: 0.1)
    raised = sensitivity.above(cells, {"topic": 0.3, "symbol_group": 0.3})
    difference, ratio = (primary.run_gains(raised, list(TRAINED), scale) for scale in primary.SCALES)
    assert difference.to_numpy() == pytest.approx(0.1) and ratio.to_numpy() == pytest.approx(np.log(0.3 / 0.2))
    assert (sensitivity.above(cells, {"topic": 0.9})["value"] >= 0).all()


def test_floors_are_chance_of_all_targets_and_n_grams_of_bundled_ones():
    found = sensitivity.floors(["udhr", "tatoeba", "lareqa_four"])
    assert found["chance"] == {"udhr": 0.02, "tatoeba": 0.001, "lareqa_four": 0.0}
    values = baselines.table(data_card("udhr"))
    grams = values.loc[values["baseline"] == "character n-grams", "value"]  # English is no language of it
    assert found["character n-grams"] == {"udhr": pytest.approx(grams.mean())}


def beta_by_hand(languages: pd.DataFrame, scale: str, sets: dict, targets: dict, codes: dict) -> float:
    """beta where each of these is there as often as said, by loops; every target has every language."""
    change = {"accuracy": lambda x: x, "log": np.log, "logit": special.logit}[scale]
    values = languages.set_index(["condition", "seed", "layers", "target", "language"])["value"]

    def mean(condition, seed, layers):
        drawn = [
            (t, c) for t, times in targets.items() for _ in range(times) for c, k in codes.items() for _ in range(k)
        ]
        return np.mean([values[condition, seed, layers, t, c] for t, c in drawn])

    slopes = {}
    for name in sets:
        seeds = languages.loc[languages["condition"] == name, "seed"].unique()
        gains = [[change(mean(name, s, k)) - change(mean("none", s, k)) for k in RUNGS] for s in seeds]
        slopes[name] = np.mean([np.polyfit(X, own, 1)[0] for own in gains])
    return np.average([slopes[name] for name in sets], weights=[*sets.values()])


@pytest.mark.parametrize("scale", groups.SCALES)
def test_a_draw_of_the_bootstrap_is_beta_of_what_was_drawn(scale):
    cells, languages = with_languages(noisy(3))
    draw = by_language._Draw(by_language.Values.of(cells, languages, list(TRAINED)))
    own = languages[languages["target"].isin(TRAINED) & (languages["language"] != "en")]
    names = sorted(set(cells["condition"]) - {"none"})
    sets, targets, codes = [2, 0, 1, 1, 0, 3, 0], [2, 0], [0, 1, 0, 3]
    found = draw.betas({"set": np.array([sets]), "target": np.array([targets]), "language": np.array([codes])})
    counts = dict(zip(names, sets, strict=True)), dict(zip(sorted(TRAINED), targets, strict=True))
    expected = beta_by_hand(own, scale, *counts, dict(zip(sorted(LANGUAGES[1:]), codes, strict=True)))
    assert found[groups.SCALES.index(scale)] == pytest.approx(expected)
    whole = primary.beta(primary.run_slopes(cells, list(TRAINED), scale)).estimate
    assert draw.once[groups.SCALES.index(scale)] == pytest.approx(whole)


def test_the_bootstrap_is_around_the_estimate_and_as_wide_as_what_varies():
    generator = np.random.default_rng(0)
    of_set = {name: generator.normal(0, 0.05) for name in sorted(set(record(lambda *_: 0.0)["condition"]))}
    cells, languages = with_languages(lambda name, target, layers, seed, code: of_set[name] * at(layers))
    values = by_language.Values.of(cells, languages, list(TRAINED))
    assert "en" not in values.columns.get_level_values("language") and len(values.columns) == 8
    found = by_language.bootstrap(values, 2000, np.random.default_rng(1))
    found = found[found["scale"] == "accuracy"].set_index("sampled")
    beta = primary.beta(primary.run_slopes(cells, list(TRAINED))).estimate
    assert found["estimate"].to_numpy() == pytest.approx(beta)
    assert found.loc[["target", "language"], ["low", "high"]].to_numpy() == pytest.approx(beta)
    # Nothing but sets varies: the standard error of their mean, as the bootstrap has it.
    width = found.loc["all three", "high"] - found.loc["all three", "low"]
    means = values.slopes("accuracy").mean(axis=1).groupby(values.runs["set"]).mean()
    assert width == pytest.approx(2 * 1.96 * means.std(ddof=0) / 7**0.5, rel=0.15)


def test_the_mixed_model_gives_its_interval_or_says_why_not():
    generator = np.random.default_rng(2)
    effects = {}

    def gain(name, target, layers, seed):
        parts = [(name, 0.05), (("seed", seed), 0.03), (target, 0.04), ((name, target, seed), 0.03)]
        return 0.1 * at(layers) + at(layers) * sum(
            effects.setdefault(part, generator.normal(0, spread)) for part, spread in parts
        )

    cells = record(gain)
    found = sensitivity.mixed_model(cells, list(TRAINED))
    assert found["note"] == "" and found["low"] < found["estimate"] < found["high"]
    assert found["estimate"] == pytest.approx(primary.beta(primary.run_slopes(cells, list(TRAINED))).estimate, abs=0.02)
    flat = record(lambda name, target, layers, seed: at(layers) * generator.normal(0.1, 0.02))
    for scale in groups.SCALES:
        fallback = sensitivity.mixed_model(flat, list(TRAINED), scale)
        assert "is estimated as zero: the primary analysis" in fallback["note"]
        plain = primary.beta(primary.run_slopes(flat, list(TRAINED), scale))
        assert [fallback["low"], fallback["high"]] == [plain.low, plain.high]


@pytest.mark.parametrize(
    ("code", "script", "seen"),
    [
        *[("de", "Latin", True), ("sr", "Cyrillic", True), ("sr_latn", "Latin", True), ("zh_hant", "East Asian", True)],
        *[("pt_br", "Latin", True), ("yue", "East Asian", False), ("yo", "Latin", False), ("my", "Brahmic", True)],
        *[
            ("fa", "Arabic", True),
            ("ka", "other scripts", True),
            ("el", "other scripts", True),
            ("ja", "East Asian", True),
        ],
    ],
)
def test_scripts_are_those_that_languages_are_written_in(code, script, seen):
    assert language_groups.of(code) == (script, seen)


def test_what_was_seen_are_the_100_forms_of_xlm_r_without_transliterations():
    from xlscale.cards.languages import canonical

    assert len(language_groups.SEEN) == 100 - 5 - 1
    assert all(canonical(code) == code for code in language_groups.SEEN)


def test_groups_that_hold_all_or_none_of_the_languages_are_none():
    assert list(language_groups.within(["de", "fr"])) == []
    assert list(language_groups.within(["de", "ru"])) == ["Latin", "Cyrillic"]
    found = language_groups.within(["de", "yo"])
    assert list(found) == ["seen in pretraining", "not seen in pretraining"]
    assert [inside("yo") for inside in found.values()] == [False, True]


def test_rungs_targets_and_sets_are_all_left_out_once():
    cells, languages = with_languages(noisy(4))
    table = whole_table(cells, languages)
    names = {change: set(own["name"]) for change, own in table.groupby("change")}
    assert names["rung"] == set(map(str, RUNGS)) and names["target"] == set(TRAINED)
    assert names["set"] == set(cells["condition"]) - {"none"}
    for layers, scale in product(RUNGS, groups.SCALES):
        ends = [k for k in RUNGS if k != layers]
        gains = primary.run_gains(cells, list(TRAINED), scale)
        slopes = (gains[ends[1]] - gains[ends[0]]) / (at(ends[1]) - at(ends[0]))
        expected = slopes.groupby(level="condition").mean().mean()
        assert one(table, change="rung", name=str(layers), scale=scale)["estimate"] == pytest.approx(expected)

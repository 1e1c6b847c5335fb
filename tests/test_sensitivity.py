"""Sensitivity of beta: parts of the record, other scales, and other models of the same slopes."""

import numpy as np
import pandas as pd
import pytest
from test_primary import RUNGS, TRAINED, X, record

from xlscale.stats import primary, sensitivity

LANGUAGES = ("en", "de", "fr", "ru", "ja")
LATIN = {"latin": lambda code: code in ("de", "fr"), "other": lambda code: code in ("ru", "ja")}


def at(layers: int) -> float:
    """log10 of a rung's parameters, centred."""
    return X[list(RUNGS).index(layers)] - X.mean()


def with_languages(gain) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and languages; values of ``none`` are 0.5, ``gain(set, target, layers, seed, language)`` is added."""
    cells = record(lambda *_: 0.0).assign(cell=lambda frame: [f"cell{index}" for index in range(len(frame))])
    rows = []
    for cell in cells.itertuples():
        for code in LANGUAGES:
            more = 0.0 if cell.condition == "none" else gain(cell.condition, cell.target, cell.layers, cell.seed, code)
            rows.append({"cell": cell.cell, "target": cell.target, "language": code, "value": 0.5 + more})
    languages = pd.DataFrame(rows)
    means = languages[languages["language"] != "en"].groupby("cell")["value"].mean()
    return cells.assign(value=cells["cell"].map(means)), languages


def one(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_what_is_left_out_is_left_out():
    slope = {"wikihow": 0.7, "vitaminc": 0.14}

    def gain(name, target, layers, seed, code):
        per_language = 0.2 if code in ("ru", "ja") else 0.0
        of_target = 0.1 if target == "topic" else 0.0
        return (slope.get(name, 0.0) + per_language + of_target) * at(layers) * 0.1

    cells, languages = with_languages(gain)
    table = sensitivity.left_out(cells, languages, LATIN, list(TRAINED))
    table = table[table["scale"] == "accuracy"]
    sets = (0.7 + 0.14) / 7
    assert one(table, left_out="nothing")["estimate"] == pytest.approx(0.1 * (sets + 0.1 + 0.05))
    assert one(table, left_out="set", name="wikihow")["estimate"] == pytest.approx(0.1 * (0.14 / 6 + 0.15))
    assert one(table, left_out="target", name="topic")["estimate"] == pytest.approx(0.1 * (sets + 0.1))
    assert one(table, left_out="rung", name="4")["estimate"] == pytest.approx(0.1 * (sets + 0.15))
    assert one(table, left_out="languages", name="other")["estimate"] == pytest.approx(0.1 * (sets + 0.05))
    assert one(table, left_out="languages", name="latin")["estimate"] == pytest.approx(0.1 * (sets + 0.25))
    assert (table["left_out"] == "rung").sum() == 3 and (table["left_out"] == "set").sum() == 7


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


def test_the_bootstrap_is_around_the_estimate_and_as_wide_as_what_varies():
    generator = np.random.default_rng(0)
    of_set = {name: generator.normal(0, 0.05) for name in set(record(lambda *_: 0.0)["condition"])}
    cells, languages = with_languages(lambda name, target, layers, seed, code: of_set[name] * at(layers))
    slopes = sensitivity.language_slopes(cells, languages, list(TRAINED))
    assert slopes.shape == (7, 8) and "en" not in slopes.columns.get_level_values("language")
    runs = primary.run_slopes(cells, list(TRAINED))
    found = sensitivity.bootstrap(slopes, 2000, np.random.default_rng(1)).set_index("sampled")
    assert found["estimate"].to_numpy() == pytest.approx(primary.beta(runs).estimate)
    assert found.loc[["target", "language"], ["low", "high"]].to_numpy() == pytest.approx(primary.beta(runs).estimate)
    # Nothing but sets varies: the standard error of their mean, as the bootstrap has it.
    width = found.loc["all three", "high"] - found.loc["all three", "low"]
    assert width == pytest.approx(2 * 1.96 * slopes.mean(axis=1).std(ddof=0) / 7**0.5, rel=0.15)


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
    fallback = sensitivity.mixed_model(flat, list(TRAINED))
    assert "is estimated as zero: the primary analysis" in fallback["note"]
    plain = primary.beta(primary.run_slopes(flat, list(TRAINED)))
    assert [fallback["low"], fallback["high"]] == [plain.low, plain.high]


@pytest.mark.parametrize(
    ("code", "is_latin"),
    [("de", True), ("sr", False), ("sr_latn", True), ("zh_hant", False), ("pt_br", True), ("yue", False)],
)
def test_scripts_are_those_that_languages_are_written_in(code, is_latin):
    assert sensitivity.latin(code) == is_latin

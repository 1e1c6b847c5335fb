"""What the paper says of the statistics: words, formats, tables, and how the runs were set up."""

import numpy as np
import pandas as pd
import pytest
import simulate

from xlscale.cards import catalogue
from xlscale.core import format, strict
from xlscale.core.files import XlscaleError
from xlscale.experiment import studies
from xlscale.report import labels
from xlscale.report.analysis import open_analysis
from xlscale.report.numbers import Numbers
from xlscale.report.sections import checks, design, results
from xlscale.stats import agreement, slopes


@pytest.fixture
def cells():
    truth = simulate.effects(0.3, {"squad_wiki": 0.05, "squad_amazon": -0.08})
    return simulate.cells(np.random.default_rng(1), sd=0.01, truth=truth)


def test_a_rung_without_runs_is_missing_at_the_end_of_the_ladder_and_not_replaced_by_the_next(cells):
    cells.loc[cells["layers"] == 12, ["status", "value"]] = ["missing", np.nan]
    numbers = Numbers("04_scaling")
    results.add_gains(numbers, cells)
    texts = {key: entry["text"] for key, entry in numbers.numbers.items()}
    assert texts["gain_topic_squad_wiki_largest"] == "missing" != texts["gain_topic_squad_wiki_smallest"]
    assert texts["gain_topic_squad_wiki_largest_word"] == "cannot be compared"


def designed(cells, values):
    numbers = Numbers("04_scaling")
    design.add_design(numbers, cells, values)
    return {key: entry["text"] for key, entry in numbers.numbers.items()}


def test_learning_rates_are_printed_with_their_rungs(cells):
    values = simulate.languages(cells, np.random.default_rng(2), ["de", "en"])
    found = designed(cells, values)
    rates = "0.003 at 1 layer, 0.001 at 2 layers, 0.0006 at 4 layers and 0.0002 at 12 layers"
    assert found["topic_learning_rate"] == rates
    assert found["intermediate_learning_rate"].startswith("0.0015 at 1 layer, 0.0005 at 2 layers")
    assert found["rates"] == "fall as depth grows"
    assert found["topic_test_items"] == "300" and found["intermediate_test_items"] == "150"
    same = designed(cells.assign(learning_rate=2e-4, intermediate_learning_rate=1e-4), values)
    assert same["topic_learning_rate"] == "0.0002" and same["rates"] == "are the same at every rung"
    one_rung = designed(cells[cells["layers"] == 1], values)
    assert one_rung["layers"] == "1 layer" and one_rung["topic_learning_rate"] == "0.003"


def test_only_computed_tests_count_in_the_family(cells):
    cells.loc[(cells["target"] == "udhr") & (cells["layers"] > 2), ["status", "value"]] = ["missing", np.nan]
    adjusted = results.holm_family(slopes.slopes(cells), slopes.gamma(cells))
    assert adjusted.notna().sum() == 3 and adjusted["udhr"].isna().all()


def test_a_set_that_holds_the_target_s_own_data_is_no_primary_test_and_is_marked(cells):
    marked = cells.assign(overlaps=(cells["target"] == "topic") & (cells["intermediate"] == "squad_wiki"))
    adjusted = results.holm_family(slopes.slopes(marked), slopes.gamma(marked))
    assert ("topic", "squad_wiki") not in adjusted.index and ("udhr", "squad_wiki") in adjusted.index
    assert list(adjusted.dropna().index.get_level_values("target")) == ["topic", "udhr", "udhr", "udhr"]
    numbers = Numbers("05_significance")
    results.add_slopes(numbers, marked)
    results.add_results(numbers, marked)
    checks.add_english(numbers, marked)
    shown = {name: [" ".join(row) for row in table["rows"]] for name, table in numbers.tables.items()}
    topic, wiki = map(labels.title, ("topic", "squad_wiki"))
    for name, rows in shown.items():
        own = [row for row in rows if name.endswith("_topic") or (name == "logit" and row.startswith(topic))]
        assert all((labels.OVERLAPS in row) == (wiki in row and row in own) for row in rows), name
    assert sum(labels.OVERLAPS in row for rows in shown.values() for row in rows) == 4 + 2 + 2 + 1
    over_none = [row for row in numbers.tables["slopes_topic"]["rows"] if row[1] == "none"]
    assert [row[0] for row in over_none if row[5] != "–"] == [labels.label("squad_amazon")]


def test_a_null_says_what_it_would_have_detected(cells):
    numbers = Numbers("05_significance")
    results.add_slopes(numbers, cells)
    for key in (key.removesuffix("_summary") for key in numbers.numbers if key.endswith("_summary")):
        word = numbers.numbers[f"{key}_word"]["text"]
        null = "detectab" in word or word == "no direction that holds on both scales"
        detectable = numbers.numbers[f"{key}_detectable"]["text"]
        assert (f"detectable: {detectable}" in numbers.numbers[f"{key}_summary"]["text"]) == null
    assert any("detectable:" in entry["text"] for entry in numbers.numbers.values())


def test_what_was_learned_is_printed_beside_its_control(cells):
    numbers = Numbers("04_scaling")
    second = simulate.intermediate(cells, np.random.default_rng(3))
    checks.add_manipulation(numbers, pd.concat([cells, second], ignore_index=True))
    assert [row[0].endswith("shuffled labels") for row in numbers.tables["learned"]["rows"]] == [False, True] * 2
    assert "larger at the largest rung" in numbers.numbers["learned_squad_wiki_change_word"]["text"]
    nothing = Numbers("04_scaling")
    checks.add_manipulation(nothing, cells)
    assert nothing.numbers["learned_squad_wiki_change"]["text"] == "missing"


def test_runs_that_collapsed_are_counted_and_named(cells):
    clean, broken = Numbers("04_scaling"), Numbers("04_scaling")
    checks.add_collapsed(clean, cells)
    assert (clean.numbers["collapsed"]["value"], clean.numbers["collapsed_where"]["text"]) == (0, "none")
    one = cells.index[(cells["target"] == "topic") & (cells["layers"] == 12) & (cells["condition"] == "squad_wiki")][0]
    checks.add_collapsed(broken, cells.assign(english=cells["english"].where(cells.index != one, 0.12)))
    assert broken.numbers["collapsed"]["value"] == 1
    assert "1 at 12 layers after SQuADShifts: new Wikipedia (general)" in broken.numbers["collapsed_where"]["text"]


def test_how_the_rates_were_chosen_is_counted():
    numbers = Numbers("04_scaling")
    design.add_tuning(numbers, studies.load("pilot"))
    texts = {key: entry["text"] for key, entry in numbers.numbers.items()}
    assert (texts["tuning_seed"], texts["tuning_choices"], texts["tuning_single"]) == ("99", "8", "3")
    assert (texts["tuning_most"], texts["tuning_not_best"]) == ("2", "3")
    assert numbers.tables["tuning"]["rows"][0][1:] == ["1", "800", "0.001 (11.5), 0.003 (11.6)", "0.001"]


def test_every_value_that_was_tried_has_a_score():
    tuning = studies.load("pilot").tuning.model_dump()
    tuning["scores"]["target"][1] = [0.5]
    with pytest.raises(XlscaleError, match="expected one score for each value tried"):
        strict.parse(studies.Tuning, tuning, "study")


def test_the_printed_tolerance_for_all_cells_is_that_of_a_comparison_of_all(cells):
    everything = pd.concat([cells, simulate.intermediate(cells, np.random.default_rng(3))], ignore_index=True)
    numbers = Numbers("05_significance")
    results.add_tolerances(numbers, everything)
    again = agreement.compare(everything, everything.assign(machine="another"))
    largest = again.assign(layers=everything["layers"]).groupby(["outcome", "layers"])["tolerance"].max()
    printed = numbers.tables["tolerances"]["rows"]
    assert [row[-1] for row in printed] == [format.percent(limit) for limit in largest]


def test_empty_record_is_one_clear_line(tmp_path):
    with pytest.raises(XlscaleError, match=r"results: no complete cell .* expected a record"):
        open_analysis("04_scaling", record=str(tmp_path / "results")).cells  # noqa: B018


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format.signed(0.0123), "+1.2"),
        (format.signed(-0.0123), "−1.2"),
        (format.signed(-0.0001), "0.0"),
        (format.signed(float("nan")), "missing"),
        (format.percent(0.73149), "73.1"),
        (format.interval(-0.01, 0.02), "−1.0 to +2.0"),
        (format.interval(0.1, 0.1), "exact"),
        (format.rate(2e-5), "0.00002"),
        (format.listing([1, 2, 4]), "1, 2 and 4"),
        (format.listing([1]), "1"),
        (format.listing([]), "none"),
        (labels.key("squad_wiki, shuffled labels"), "squad_wiki_shuffled"),
        (labels.direction(-0.1, 0.2), "no detectable change"),
        (labels.direction(-0.2, -0.1), "decreased"),
    ],
)
def test_formats(text, expected):
    assert text == expected


def test_a_slope_has_a_direction_only_where_points_and_log_ratio_agree():
    """After intermediate training 0.4, 0.6 and 0.8, without 0.1, 0.2 and 0.3: in points the gain rises with size, as a
    ratio it falls; without training the value rises on both."""
    cells = simulate.cells(np.random.default_rng(3), sd=1e-4)
    values = {"none": {1: 0.1, 2: 0.15, 4: 0.2, 12: 0.3}, "squad_wiki": {1: 0.4, 2: 0.5, 4: 0.6, 12: 0.8}}
    for (name, layers), own in cells.groupby(["condition", "layers"]):
        if name in values:
            cells.loc[own.index, "value"] += values[name][layers] - own["value"].mean()
    numbers = Numbers("05_significance")
    results.add_slopes(numbers, cells)
    texts = {key: one["text"] for key, one in numbers.numbers.items()}
    assert texts["gainslope_topic_squad_wiki"].startswith("+")
    assert texts["gainslope_topic_squad_wiki_word"] == "no direction that holds on both scales"
    assert "detectable: " in texts["gainslope_topic_squad_wiki_summary"]
    assert texts["slope_topic_none_word"] == "an increase with size"


def test_things_are_called_what_their_cards_and_the_field_call_them():
    assert labels.title("xnli_dev") == catalogue.data_card("xnli_dev").title != "xnli_dev"  # of a set that is not here
    assert labels.title("gemma3_270m").startswith("Gemma 3 270M") and labels.title("nobody") == "nobody"
    assert (labels.metric("udpos_without_de"), labels.metric("gemma3_270m")) == ("token accuracy", "value")
    assert labels.label("mnli") == "MNLI (general)" and labels.label("multi") == "Seven intermediate tasks at once"
    assert labels.label("none, lora") == "no intermediate training, LoRA"

"""What the notebook of training methods shows: of a recorded study, and of none."""

import nbformat
import numpy as np
import pytest
from scipy import stats

from xlscale.core.files import NOTEBOOKS
from xlscale.experiment import studies
from xlscale.experiment.results import Score
from xlscale.metrics.lexicon import NAMES
from xlscale.record import store
from xlscale.report.analysis import open_analysis
from xlscale.report.figures import methods as figures
from xlscale.report.labels import title
from xlscale.report.numbers import Numbers
from xlscale.report.sections import design, methods
from xlscale.stats import slopes

PLAN = studies.load(methods.STUDY)
CALLED = PLAN.conditions()
GAIN = {"cosine": 0.2, "unrelated": 0.15, "p_at_1": 0.03}  # of the true pairs, in the trained layer over all tokens


def _words(cell) -> dict[str, float]:
    """What a training on word pairs says of a language: less in the last layer and over the word alone, nothing of P@1
    and as much of unrelated words as of pairs with shuffled labels, a thousandth of the seed's own."""
    found, of = {}, cell.parameters
    for name in NAMES:
        what = next(one for one in GAIN if name.startswith(one))
        gain = (GAIN["cosine"] if what != "p_at_1" else 0.0) if of.placebo else GAIN[what]
        gain *= (0.5 if "_last_" in name else 1) * (0.4 if "_words_" in name else 1)
        found[name] = 0.3 + ((gain + 0.001 * (of.seed - 72)) if name.endswith("_after") else 0.0)
    return found


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A record of the whole study: targets gain two points from word pairs, and lose one from shuffled ones."""
    folder, found = tmp_path_factory.mktemp("record"), {}
    for cell in PLAN.cells():
        of, name = cell.parameters, CALLED[cell.id]
        value = 0.5 + (0.02 if name != "none" else 0) - (0.03 if name.endswith("labels") else 0)
        value += 0.001 * ((getattr(of, "seed", 0) or 72) - 72)
        others = _words(cell) if cell.phase == "intermediate" else {}
        done = {"status": "complete", "reason": None, "value": value, "predictions_sha256": "0" * 64}
        done |= {"languages": {code: Score(items=9, value=value, others=others) for code in ("sw", "de")}}
        size = {"non_embedding_parameters": 10**6 * of.layers}
        found[cell.id] = store._absent(cell).model_copy(update=done | size)
    store._write(found, folder / store.CELLS)
    return folder


def test_the_gain_of_a_reading_is_the_mean_over_seeds_with_a_t_interval(record):
    gained = methods.gains(methods.words(methods.recorded(record), record))
    assert len(gained) == 2 * 6 * 4 * 4  # rungs, conditions with the two placebos, readings, measures
    keys = ["layers", "condition", "layer", "pooling", "measure"]
    of = gained.set_index(keys).sort_index()
    half = stats.t.ppf(0.975, 2) * np.std([-0.001, 0, 0.001], ddof=1) / 3**0.5
    for layer, pooling, factor in (("trained", "all", 1), ("trained", "words", 0.4), ("last", "words", 0.2)):
        row = of.loc[4, "lexicon, early_all", layer, pooling, "cosine"]
        assert (row["before"], row["estimate"]) == (pytest.approx(0.3), pytest.approx(0.2 * factor))
        assert (row["high"] - row["low"]) / 2 == pytest.approx(half) and row["df"] == 2
    apart = of.loc[12, "lexicon, late_words", "trained", "all", "apart"]
    assert apart["estimate"] == pytest.approx(0.05) and apart["before"] == pytest.approx(0)
    placebo = of.loc[12, "lexicon, late_words, shuffled labels", "trained", "all"]["estimate"]
    assert placebo["cosine"] == pytest.approx(0.2 - 0.001) and placebo["apart"] == pytest.approx(0)
    assert of.loc[12, "lexicon, late_words, shuffled labels", "last", "all", "cosine"]["df"] == 0  # one seed


def test_the_paper_prints_what_a_reading_makes_of_a_training_and_what_targets_gain(record):
    own, numbers = methods.recorded(record), Numbers("11_methods")
    gained = methods.gains(methods.words(own, record))
    methods.add(numbers, gained, slopes.gains(own))
    texts = {key: number["text"] for key, number in numbers.numbers.items()}
    ends = [texts[f"lexical_k4_lexicon_early_all_{end}"] for end in ("least", "most")]
    assert ends == ["+4.0", "+20.0"]
    words, targets = (numbers.tables[name]["rows"] for name in ("lexical_words", "lexical_targets"))
    assert len(words) == 2 * 6 * 4 and len(targets) == 4 * 6
    assert words[0][:3] == ["4", "Lexicon of symbol names, early all", "the trained layer"]
    assert words[0][4:] == ["30.0", "+20.0", "+19.8 to +20.2", "+15.0", "+3.0", "+2.8 to +3.2"]
    assert {row[0] for row in targets} == {title(name) for name in PLAN.targets}
    shown = {tuple(row[:2]): row[2] for row in targets}
    assert shown["Package topic", "Lexicon of symbol names, late words"] == "+2.0"
    assert shown["UDHR-50", "Lexicon of symbol names, late words, shuffled labels"] == "\N{MINUS SIGN}1.1"
    assert texts["lexical_targets_above"] == str(2 * 4 * 4)


def test_figures_have_a_panel_per_rung_and_measure_and_one_per_target(record):
    own = methods.recorded(record)
    drawn = figures.words(methods.gains(methods.words(own, record)))
    assert [ax.get_ylabel() for ax in drawn.axes][::3] == ["4 layers", "12 layers"]
    assert [ax.get_title() for ax in drawn.axes[:3]] == [*figures._PANELS.values()]
    marks = [line for line in drawn.axes[0].lines if line.get_linestyle() == "None"]
    looks = [(line.get_marker(), line.get_markerfacecolor()) for line in marks]
    first = {look: round(float(marks[looks.index(look)].get_xdata()[0]), 1) for look in looks}
    assert first == {("o", "black"): 20.0, ("o", "white"): 8.0, ("s", "black"): 10.0, ("s", "white"): 4.0}
    assert len(figures.targets(slopes.gains(own)).axes) == 4


def _run(folder, out, capsys) -> str:
    """Execute the notebook's code cells in this process; returns what it printed."""
    space = {}
    for cell in nbformat.read(NOTEBOOKS / "11_methods.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, space)
            if "parameters" in cell.metadata.get("tags", []):
                space.update({"record": str(folder), "out": str(out)})
    return capsys.readouterr().out


def test_the_notebook_shows_a_record_and_says_where_there_is_none(record, tmp_path, capsys):
    assert f"{len(PLAN.cells())} cells of the study lexical" in _run(record, tmp_path / "whole", capsys)
    assert {path.name for path in (tmp_path / "whole" / "figures").glob("*.svg")} == {
        "lexical_targets.svg",
        "lexical_words.svg",
    }
    printed = _run(tmp_path / "nothing", tmp_path / "empty", capsys)
    (line,) = [line for line in printed.splitlines() if "lexical" in line]
    assert line.startswith("The study lexical is not recorded: `make record STUDY=lexical` runs its 158 cells")
    assert not (tmp_path / "empty" / "figures").exists()


def test_an_analysis_of_the_study_calls_conditions_as_it_does(record, tmp_path):
    analysis = open_analysis("04_scaling", str(record), str(tmp_path), methods.STUDY)
    assert {*analysis.cells["condition"]} == {*CALLED.values()} >= {*analysis.languages["condition"]}
    assert {*store.cells(record)["condition"]}.isdisjoint({*CALLED.values()} - {"none"})
    design.add_design(analysis.numbers, analysis.cells, analysis.languages)
    sets = analysis.numbers.numbers["sets"]["value"].split()
    assert sets == [f"lexicon_{layer}_{pooling}" for layer in ("early", "late") for pooling in ("all", "words")]
    assert analysis.numbers.numbers["lexicon_late_all_title"]["text"] == "Lexicon of symbol names, late all"


def test_a_part_of_a_study_is_not_shown_as_the_whole(record, tmp_path):
    found = store.results(record)
    found.popitem()
    store._write(found, tmp_path / store.CELLS)
    assert methods.recorded(tmp_path).empty

"""Figures: deterministic, told apart without colour, honest about what is missing and which layer they show."""

from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import simulate
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from xlscale.cards import catalogue
from xlscale.record import store
from xlscale.report.figures import by_group as group_figure
from xlscale.report.figures import ladder, style
from xlscale.report.labels import title
from xlscale.stats import by_group
from xlscale.stats.slopes import SHUFFLED

SVG = {"svg": "http://www.w3.org/2000/svg"}


@pytest.fixture
def cells():
    return simulate.cells(np.random.default_rng(1))


@pytest.fixture
def drawn(cells):
    codes = [*catalogue.data_card("udhr").languages, "en"]
    values = simulate.languages(cells, np.random.default_rng(2), codes)
    by_target = {target: by_group.of_seeds(cells, values, target) for target in ("topic", "udhr")}
    return {
        "scaling": ladder.scaling(cells),
        "gains": ladder.gain(cells),
        "languages": group_figure.by_group(by_target, group_figure.OF_SEEDS),
        "overlay": ladder.overlay(cells, cells.sample(5, random_state=1)),
    }


def texts(fig):
    legend = [text.get_text() for legend in fig.legends for text in legend.get_texts()]
    return [fig.get_suptitle(), *legend]


def test_every_figure_says_its_layer_and_intervals_say_what_they_are(drawn):
    assert all(fig.get_suptitle().startswith("local layer: ") for fig in drawn.values())
    assert "95% t intervals" in drawn["gains"].get_suptitle()


def test_conditions_differ_without_colour(cells):
    looks = ladder.styles(cells)
    assert len({(look["marker"], look["markerfacecolor"] == "white") for look in looks.values()}) == len(looks) == 5
    assert all((look["linestyle"] == "-") != name.endswith(SHUFFLED) for name, look in looks.items())


def test_axes_have_units_and_the_rungs_as_ticks(drawn):
    ax = drawn["scaling"].axes[0]
    assert "non-embedding parameters (millions, log scale)" in ax.get_xlabel() and "(%)" in ax.get_ylabel()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2.0", "3.7", "7.3", "21.5"]
    assert "percentage points" in drawn["gains"].axes[0].get_ylabel()


def test_all_runs_are_points(cells, drawn):
    for ax, target in zip(drawn["scaling"].axes, ("topic", "udhr"), strict=True):
        points = sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() not in ("", "None"))
        assert points == (cells["target"] == target).sum()


def test_a_missing_rung_is_not_drawn_breaks_the_line_and_keeps_its_tick(cells):
    cells.loc[cells["layers"] == 4, ["status", "value"]] = ["failed", np.nan]
    for ax in ladder.scaling(cells).axes:
        points = [line for line in ax.lines if line.get_marker() not in ("", "None")]
        joined = [line for line in ax.lines if line.get_marker() == "" and len(line.get_xdata()) == 4]
        assert all(np.isfinite(line.get_ydata()).all() for line in points)
        assert len(joined) == 5 and all(np.isnan(line.get_ydata()).tolist() == [0, 0, 1, 0] for line in joined)
        assert len(ax.get_xticks()) == 4


def test_the_last_rung_has_its_place_also_when_nothing_was_run_there(cells):
    cells.loc[cells["layers"] == 12, ["status", "value"]] = ["missing", np.nan]
    ax = ladder.scaling(cells).axes[0]
    assert ax.get_xticks()[-1] < ax.get_xlim()[1]
    ax = ladder.gain(cells).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4", "12"] and ax.get_xlim()[1] > 3


def test_no_bar_is_drawn_where_there_is_no_interval(cells):
    def bars(table):
        return [
            segment
            for ax in ladder.gain(table).axes
            for bar in ax.collections
            for segment in bar.get_segments()
            if np.isfinite(segment).all() and len(segment)
        ]

    assert len(bars(cells)) == 2 * 4 * 4
    assert bars(cells[cells["seed"] < 2]) == []


def test_every_language_is_drawn_once_per_rung_and_english_is_not(drawn):
    count = len(catalogue.data_card("udhr").languages)
    for ax in drawn["languages"].axes:
        ticks = [len(line.get_xdata()) for line in ax.lines if line.get_color() == "0.55"]
        assert ticks == [count] * 2
    assert "95% t intervals" in drawn["languages"].get_suptitle()


def test_overlay_shows_the_recomputed_runs_over_the_recorded(drawn):
    rings = [offset for ax in drawn["overlay"].axes for points in ax.collections for offset in points.get_offsets()]
    assert len(rings) == 5
    assert "recomputed on this machine" in texts(drawn["overlay"])


def test_overlay_without_a_record_is_an_empty_figure(cells):
    fig = ladder.overlay(store.table({}), cells)
    assert "recomputed on this machine" in texts(fig)


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_saved_bytes_depend_on_nothing_but_the_numbers(cells, tmp_path, suffix):
    for name in ("a", "b"):
        style.save(style.draw(ladder.scaling(cells)), tmp_path / name)
    first = (tmp_path / f"a.{suffix}").read_bytes()
    assert first == (tmp_path / f"b.{suffix}").read_bytes()
    assert b"<dc:date>" not in first and b"CreationDate" not in first


def test_what_a_user_set_for_matplotlib_has_no_say(cells, tmp_path, monkeypatch):
    drawn = []
    for number, user in enumerate(
        ({}, {"lines.linewidth": 99, "font.size": 30, "axes.facecolor": "k", "savefig.dpi": 7})
    ):
        with mpl.rc_context(user):
            drawn += [style.save(style.draw(ladder.scaling(cells)), tmp_path / f"f{number}").read_bytes()]
            assert all(mpl.rcParams[name] == value for name, value in user.items())
    assert drawn[0] == drawn[1]


def test_healing_has_a_panel_per_measure_a_row_per_rung_and_the_whole_model_as_a_line():
    rows = [("Variance missed", k, 8.0, 0.5, 0.0, True) for k in (1, 2)]
    rows += [("P@1", k, 0.3, 0.4, 0.9, True) for k in (1, 2)]
    table = pd.DataFrame(rows, columns=["what", "layers", "cut", "healed", "whole", "gained"])
    fig = ladder.healing(table)
    panels = {ax.get_title(): ax for ax in fig.axes}
    assert panels.keys() == {"Variance missed", "P@1"}
    assert [text.get_text() for text in panels["P@1"].get_yticklabels()] == ["1", "2"]
    assert panels["Variance missed"].get_xscale() == "log" and panels["P@1"].get_xscale() == "linear"
    assert 90 in [line.get_xdata()[0] for line in panels["P@1"].lines]


def test_what_processors_do_not_agree_on_is_in_no_figure(cells, monkeypatch):
    """A layout that ends in other last digits, as on another type of machine, is drawn with the same bytes."""
    before = style.draw(ladder.scaling(cells))
    execute = ConstrainedLayoutEngine.execute

    def elsewhere(self, fig):
        execute(self, fig)
        for ax in fig.axes:
            ax._set_position(np.array(ax.get_position().bounds) + 1e-13)

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", elsewhere)
    assert style.draw(ladder.scaling(cells)) == before


def test_a_mark_says_its_panel_and_its_value_and_the_figure_what_it_shows(cells):
    fig = ladder.scaling(cells)
    svg = ElementTree.fromstring(style.draw(fig)["svg"])
    about = svg.find("svg:title", SVG).text
    assert about.startswith(fig.get_suptitle()) and all(ax.get_title() in about for ax in fig.axes[:2])
    said = [mark.text for mark in svg.iterfind(".//svg:use/svg:title", SVG)]
    values = {f"{100 * value:.4g}" for value in cells.loc[cells["target"].notna(), "value"].dropna()}
    assert len(said) > len(values) / 2 and all(len(one.split("; ")) == 3 for one in said)
    shown = {one.rpartition(" ")[2] for one in said}
    assert values <= shown  # every run's, beside those of means
    titles = {title(name) for name in cells["target"].dropna()}
    assert {one.split("; ")[0] for one in said} == titles


def marks() -> dict[str, bytes]:
    fig = Figure(figsize=(3, 2), layout="constrained")
    ax = fig.subplots()
    ax.plot([1, 2], [-3, 1e-4], marker="o")
    ax.plot([1, 2], [0, 0], marker="|")  # a tick, whose place says nothing
    ax.set(title="<b>&", xlabel="layers", ylabel='"gain"', xticks=[1, 2], xticklabels=["one", "two"])
    return style.draw(fig)


def test_what_a_mark_says_is_text_and_nothing_else():
    drawn = marks()
    svg = ElementTree.fromstring(drawn["svg"])
    said = [mark.text for mark in svg.iterfind(".//svg:use/svg:title", SVG)]
    assert said == ['<b>&; layers one; "gain" \N{MINUS SIGN}3', '<b>&; layers two; "gain" 0.0001']
    assert b"<title>" not in drawn["pdf"] and drawn == marks()

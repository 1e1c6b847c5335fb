"""From a figure or table of the paper to the runs behind it, or to the notebook that makes it again."""

import re

import pandas as pd
import pytest

from xlscale.commands import points, steps
from xlscale.core import files
from xlscale.core.files import XlscaleError
from xlscale.engine import notebook as engine
from xlscale.experiment import studies
from xlscale.record import store
from xlscale.report import typeset, verdicts


def _numbered(kind: str) -> dict[str, int]:
    return {name: number for (of, number), name in typeset.shown(files.PAPER).items() if of == kind}


def test_numbers_are_those_of_the_paper():
    """Of figures all are made by notebooks, and so they count from one; of tables some are written."""
    assert sorted(_numbered("figures").values()) == [*range(1, len(_numbered("figures")) + 1)]
    tables = _numbered("tables").values()
    assert len(tables) > 40 and len({*tables}) == len(tables)


def test_a_figure_and_a_table_at_once_are_refused():
    with pytest.raises(XlscaleError, match="FIGURE=6, TABLE=2: expected one of them, not both"):
        points.cells("pilot", figure=6, table=2)


def test_the_runs_behind_a_table_and_what_they_gave(capsys):
    points.cells("pilot", table=_numbered("tables")["results_topic"])
    about, *lines = capsys.readouterr().out.splitlines()
    assert re.match(r"Table \d+: results_topic, by notebook 04_scaling; 40 runs", about) and len(lines) == 40
    known = store.results()
    for line in lines:
        name, value, state = line.split()
        assert known[name].parameters["target"] == "topic" and state == "recorded"
        assert value == f"{100 * known[name].value:.2f}%"


def test_beside_a_figure_are_the_runs_behind_it(capsys):
    for name, number in _numbered("figures").items():
        path = files.PAPER / "figures" / f"{name}.csv"
        points.cells("pilot", figure=number)
        listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
        assert path.exists() == bool(listed)
        if not listed:
            continue
        runs = pd.read_csv(path)
        assert listed == [*runs["cell"]] and (runs["value"].between(0, 1) | (runs["status"] == "failed")).all()


def test_where_there_are_none_the_notebook_is_named_or_what_there_is(capsys):
    number = _numbered("figures")["published_by_kind"]
    points.cells("pilot", figure=number)
    said = capsys.readouterr().out
    assert "no run is behind it; `make notebook NAME=06_published` makes it again" in said and said.count("\n") == 1
    with pytest.raises(XlscaleError, match="^FIGURE=99: expected figure 1, 2, "):
        points.cells("pilot", figure=99)


def test_a_study_without_a_paper_of_its_own_is_told_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "BUILT", tmp_path)
    with pytest.raises(XlscaleError, match="^TABLE=1: expected `make paper STUDY=pilot` before this"):
        points.cells("pilot", table=1)


def test_cells_of_a_study_say_what_they_gave(capsys):
    points.cells("smoke")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [cell.id for cell in studies.load("smoke").cells()]
    assert {line[2] for line in lines} <= {"recorded", "done", "to"}


def test_a_run_is_told_what_the_paper_prints_of_it():
    known = store.results()
    one = next(r for r in known.values() if r.id.startswith("target-e5_small-k4-none-topic-s11"))
    number = files.read_json(files.PAPER / "numbers.json")["numbers"]["topic_none_k4"]
    assert (
        verdicts.printed(one)
        == f"The paper prints {number['text']}%, the mean of 2 runs, this one among them (topic_none_k4)."
    )
    assert verdicts.printed(next(r for r in known.values() if r.phase == "pretrained")) == ""


def test_a_notebook_is_run_by_hand_and_its_verdict_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(points, "RUNS", tmp_path)

    def executed(path, output, parameters):
        assert path == files.NOTEBOOKS / "06_published.ipynb" and parameters == {}
        said = [{"output_type": "stream", "text": ["written: x\n", "AGREES with paper/numbers.json: all 3 numbers"]}]
        cells = [
            {"cell_type": "code", "outputs": []},
            {"cell_type": "code", "outputs": said},
            {"cell_type": "markdown"},
        ]
        files.write_json(output, {"cells": cells})

    monkeypatch.setattr(engine, "execute", executed)
    points.notebook("06_published")
    assert "AGREES with paper/numbers.json" in capsys.readouterr().out
    with pytest.raises(XlscaleError, match="NAME=03_target: expected one of 00_data, "):
        points.notebook("03_target")

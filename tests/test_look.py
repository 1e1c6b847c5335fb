"""The verbs list, show and compare, how a cell is named on the command line, and what is guessed of a slip."""

import re
import shutil
import tomllib
from pkgutil import resolve_name

import pandas as pd
import pyarrow.parquet as pq
import pytest

from xlscale.commands import cell as cell_
from xlscale.commands import look, verbs
from xlscale.core.arguments import meant
from xlscale.core.files import RESULTS, ROOT, XlscaleError, write_json
from xlscale.core.seals import seal
from xlscale.experiment import results, studies
from xlscale.record import homes, store
from xlscale.report import verdicts
from xlscale.stats import items
from xlscale.xtreme import paired

TOPIC, OTHER = "target-e5_small-k4-squad_wiki-topic-s11", "target-e5_small-k4-none-topic-s11"


@pytest.fixture(scope="module")
def known():
    return store.results(void=True)


@pytest.fixture
def ran(tmp_path, monkeypatch, known):
    """The recorded cell TOPIC as if it had been run here, in a folder of its own."""
    name = look.full(TOPIC)
    folder = tmp_path / "explore" / name
    folder.mkdir(parents=True)
    write_json(folder / results.RESULT, known[name].model_dump())
    seal(folder / results.RESULT)
    monkeypatch.setattr(look, "RUNS", tmp_path)
    return folder


def test_the_console_command_is_the_command_line(monkeypatch, capsys):
    script = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["xlscale"]
    monkeypatch.setattr("sys.argv", ["xlscale", "list", "methods"])
    assert resolve_name(script)() == 0
    assert capsys.readouterr().out == "methods:\n  full\n  lora\n  qlora\n"


def test_all_that_there_is_is_listed():
    told = look.everything("all").split("\n\n")
    assert [part.split(":")[0] for part in told] == [*look.KINDS]
    assert [line.split(":")[0].strip() for line in told[0].splitlines()[1:]] == studies.names()
    assert any(line.startswith("  topic: ") for line in look.everything("tasks").splitlines())
    assert not any(line.startswith("  squad_wiki: ") for line in look.everything("tasks").splitlines())
    choices = next(verb for verb in verbs.VERBS if verb.name == "list").options[0][1]["choices"]
    assert choices == ["all", *look.KINDS]


def test_a_cell_is_named_by_its_id_the_begin_of_it_or_its_hash(known):
    whole = look.full(TOPIC)
    assert whole in known and whole.startswith(f"{TOPIC}-")
    assert {look.full(one) for one in (whole, whole.rpartition("-")[2], whole.rpartition("-")[2][:6])} == {whole}
    first = look.full("pretrained-e5_small-k1")  # and not k12
    assert re.fullmatch(r"pretrained-e5_small-k1-\w{10}", first)
    with pytest.raises(XlscaleError, match="expected one cell, got\ntarget-"):
        look.full("target-e5_small-k4")
    slip = whole.replace("wiki", "wkii")
    with pytest.raises(XlscaleError, match=f"did you mean .*{whole}"):
        look.full(slip)
    for nothing in ("", "x", "s11", "a\nxlscale: fine"):
        with pytest.raises(XlscaleError, match="expected the id of a cell") as raised:
            look.full(nothing)
        assert "\n" not in str(raised.value)


def test_no_cell_is_named_by_nothing():
    with pytest.raises(XlscaleError, match="^ID=: expected the id of a cell that is recorded or was run here"):
        look.full("")


def test_what_is_shown_of_a_cell_is_what_is_recorded(known):
    told, result = look.show(TOPIC), known[look.full(TOPIC)]
    assert told.splitlines()[0] == result.id
    assert f"value {100 * result.value:.2f}%" in told and "recorded in results" in told and str(result.parent) in told
    for code, score in result.languages.items():
        assert f"  {code} {100 * score.value:.1f}" in told
    assert f"learning_rate {result.parameters['learning_rate']}" in told
    assert "run here" not in told


def test_a_run_of_this_machine_is_compared_with_the_record(ran, known):
    assert look.run_here(look.full(TOPIC)) == (ran, known[look.full(TOPIC)])
    assert "as in the record" in look.compare(TOPIC, "")
    assert str(ran) in look.compare(TOPIC, "") and str(ran) in look.show(TOPIC)
    other = next(name for name in known if name.startswith("target-e5_small-k1-none-udhr"))
    shutil.copytree(ran, ran.with_name(other))  # the results of a cell under the name of another one
    assert look.run_here(other) is None
    (ran / results.RESULT).write_text("{}")  # not as it was left
    with pytest.raises(XlscaleError, match="expected a run of it on this machine; `make cell"):
        look.compare(TOPIC, "")


def test_two_cells_are_compared_item_by_item(known):
    one, other = look.full(TOPIC), look.full(OTHER)
    told = look.compare(TOPIC, OTHER)
    found, mean = items.two("topic", *(look._read(name)[1] for name in (one, other)))
    for code, row in found.items():
        own, theirs = (100 * known[name].languages[code].value for name in (one, other))
        assert (row.a, row.b) == pytest.approx((own, theirs))
        assert re.search(rf"^  {code} +{own:.1f} . {theirs:.1f} = .*\(.* to .*, p .*\)$", told, re.MULTILINE)
        assert row.low < row.difference < row.high
    assert mean.difference == pytest.approx(100 * (known[one].value - known[other].value))
    assert "other items" in told and "not of other seeds" in told and f"{100 * paired.LEVEL:g}%" in told
    with pytest.raises(XlscaleError, match="expected two complete cells of one task"):
        look.compare(TOPIC, "pretrained-e5_small-k1")


def test_a_cell_of_a_study_of_ones_own_is_compared_with_its_own_record(ran, known, tmp_path, monkeypatch):
    """Its record lies beside the study; the published one does not hold it."""
    name, own = look.full(TOPIC), tmp_path / "mine" / "results"
    shutil.copytree(RESULTS, own, ignore=lambda *_: ["predictions"])
    table = pq.read_table(own / "cells.parquet")
    (empty := tmp_path / "published").mkdir()
    for module in (homes, store):
        monkeypatch.setattr(module, "RESULTS", empty)
    monkeypatch.setattr(studies, "names", lambda: ["broken", "mine"])
    monkeypatch.setattr(studies, "workplace", lambda study: {"mine": {"XLSCALE_RESULTS": str(own)}}[study])
    monkeypatch.setattr(homes, "XlscaleError", KeyError)
    assert [*homes.records()] == [empty, own] and homes.of(name) == own and homes.of("none") == empty
    assert homes.ids(own) == {*table["cell"].to_pylist()} and homes.ids(empty) == set()
    assert look.full(TOPIC) == name and f"recorded in {own}" in look.show(TOPIC)
    assert "as in the record" in look.compare(TOPIC, "")
    assert look._read(name) == (known[name], own / "predictions" / f"{name}.parquet")


@pytest.mark.parametrize("kind", ["models", "tasks", "intermediate"])
def test_a_broken_card_stops_no_list(kind, monkeypatch):
    def broken(name):
        if name == min(known):
            raise XlscaleError("x.yaml: odd")
        return cards(name)

    reader = "model_card" if kind == "models" else "data_card"
    cards = getattr(look.catalogue, reader)
    known = look.catalogue.names("models") if kind == "models" else look.catalogue.names("data")
    before = look.everything(kind).splitlines()
    monkeypatch.setattr(look.catalogue, reader, broken)
    told = look.everything(kind).splitlines()
    assert f"  {min(known)}: cannot be read: x.yaml: odd" in told
    assert {line for line in before if not line.startswith(f"  {min(known)}: ")} <= {*told}


def test_what_has_yet_to_run_is_told_in_its_order_with_the_time_that_the_record_took(known, tmp_path, monkeypatch):
    cell = next(cell for cell in studies.load("pilot").cells() if cell.id == look.full(TOPIC))
    monkeypatch.setattr(cell_.results, "result_of", lambda one: known[one.id] if one.phase == "pretrained" else None)
    told = [*cell_._ahead(cell)]
    assert [line.split(",")[0] for line in told] == [f"to run: {one.id}" for one in cell.lineage()[1:]]
    assert told[-1].endswith(f", {sum(known[cell.id].seconds.values()):.0f} s in the record")


def test_a_cell_run_by_hand_is_told_beside_the_record(known):
    class One:
        id = look.full(TOPIC)
        folder = ROOT / "runs" / "x"

    told = known[One.id]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell_.results, "result_of", lambda cell: told)
        said = cell_._told(One)
    value, printed, place = said.splitlines()
    assert value == f"{One.id}: {100 * told.value:.2f}% here, as in the record."
    assert printed == verdicts.printed(told) and printed.startswith("The paper prints ")
    assert place == "Predictions and the executed notebook: runs/x"


@pytest.mark.parametrize(
    ("given", "known", "hint"),
    [
        ("pilto", ["pilot", "smoke"], "; did you mean pilot?"),
        ("plan", ["plan"], "; did you mean plan?"),
        ("xyz", ["pilot"], ""),
        ("", ["pilot"], ""),
    ],
)
def test_a_slip_is_guessed_and_nothing_else(given, known, hint):
    assert meant(given, known) == hint


def test_a_slip_in_a_verb_or_study_is_told_with_what_was_meant(capsys):
    with pytest.raises(SystemExit):
        verbs.parser().parse_args(["reproduc"])
    assert capsys.readouterr().err.endswith("got 'reproduc'; did you mean reproduce?\n")
    with pytest.raises(XlscaleError, match=r"did you mean pilot\?$"):
        studies.load("pilto")


def test_a_table_of_one_run_is_judged_by_the_study_that_holds_it(known):

    [row] = verdicts.of_one(known[look.full(TOPIC)]).to_dict("records")
    assert row["verdict"] == "equal" and row["agrees"]
    other = known[look.full(TOPIC)].model_copy(update={"id": "target-x"})
    assert verdicts.of_one(other)["verdict"].tolist() == ["not in the record"]
    assert isinstance(verdicts.of_one(other).iloc[0], pd.Series)

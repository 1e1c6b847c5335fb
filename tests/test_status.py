"""Status: what is made of what is here now, found by hashes, and named where it is not."""

import json
import shutil
from functools import partial

import pytest

from xlscale.commands import status, steps
from xlscale.core import files, manifest
from xlscale.experiment import results
from xlscale.record import canary, store

NAMES = ("09_claims", "11_methods")


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A paper of two notebooks, as steps of another machine left it."""
    monkeypatch.setattr(steps, "BUILT", tmp_path / "paper")
    monkeypatch.setattr(steps, "REPRODUCTION", tmp_path / "reproduction")
    monkeypatch.setattr(steps, "READS", {name: steps.READS[name] for name in (*NAMES, "paper")})
    build = steps.Build()
    for name in NAMES:
        drawn = build.out / "figures" / f"{name}.svg"
        files.write_text(drawn, "<svg/>")
        figure = {"file": f"figures/{name}.svg", "sha256": files.sha256_file(drawn)}
        made = {
            "numbers": {"a": {"value": 1, "text": "1", "unit": ""}},
            "tables": {},
            "figures": {name: figure},
            "made_from": build.made_from(name),
        }
        files.write_json(_generated(build, name), made)
    files.write_text(build.out / "paper.pdf", "%PDF")
    return build


def _generated(build, name):
    return build.out / "generated" / f"{name}.json"


def _states(build) -> list[str]:
    """Of the figure and the numbers of both notebooks, and of the PDF."""
    return [one.state for one in status.paper(build)]


def test_what_another_machine_made_is_unverified_and_fresh_once_it_is_made_here(build):
    assert _states(build) == ["unverified"] * 5
    for name in (*NAMES, "paper"):
        files.write_json(build.receipt(name), {"made_from": build.made_from(name), "left": {}, "found": {}})
    assert _states(build) == ["fresh"] * 5


def test_records_and_papers_of_ones_own_studies_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "STUDIES", tmp_path)
    for name in ("one.yaml", "tuned.json", "mine/results/cells.parquet", "mine/paper/numbers.json"):
        files.write_text(tmp_path / name, "x")
    assert [path.name for path in steps._below([tmp_path])] == ["one.yaml", "tuned.json"]


def test_what_make_notebook_has_made_again_here_is_fresh(build, tmp_path, monkeypatch):
    monkeypatch.setattr(status, "RUNS", tmp_path)
    name, states = NAMES[0], ["fresh", "fresh", "unverified", "unverified", "unverified"]
    folder = tmp_path / "by-hand" / name
    made = json.loads(_generated(build, name).read_text())
    files.write_json(
        folder / "generated" / f"{name}.json", {kind: made[kind] for kind in ("numbers", "tables", "figures")}
    )
    files.write_json(folder / steps.MADE_FROM, build.made_from(name))
    assert _states(build) == states
    files.write_json(
        folder / steps.MADE_FROM, build.made_from(name) | {"results": "0" * 64}
    )  # before something changed
    assert _states(build) == ["unverified"] * 5
    files.write_json(folder / steps.MADE_FROM, build.made_from(name))
    files.write_json(folder / "generated" / f"{name}.json", made | {"numbers": {}})
    assert _states(build) == ["unverified"] * 5


@pytest.mark.parametrize("part", ["notebooks/11_methods.ipynb", "its imports", "results", "requirements.lock"])
def test_what_is_stale_says_what_has_changed_and_so_is_the_pdf(build, part):
    made = json.loads(_generated(build, "11_methods").read_text())
    assert part in made["made_from"]
    files.write_json(_generated(build, "11_methods"), made | {"made_from": made["made_from"] | {part: "0" * 64}})
    assert _states(build) == ["unverified", "unverified", "stale", "stale", "stale"]
    assert [one.why for one in status.paper(build)] == ["", "", part, part, "11_methods"]


def test_cards_and_studies_of_ones_own_make_nothing_stale(build, tmp_path, monkeypatch):
    cards = tmp_path / "cards"
    files.write_text(cards / "shipped.yaml", "name: shipped")
    monkeypatch.setattr(steps, "READS", {name: [*read, cards] for name, read in steps.READS.items()})
    for name in NAMES:
        made = json.loads(_generated(build, name).read_text())
        files.write_json(_generated(build, name), made | {"made_from": build.made_from(name)})
    files.write_text(cards / "own.yaml", "name: own")
    for unknown, state in (("own.yaml", "unverified"), ("", "stale")):
        said = f"{cards / unknown}\0".encode() if unknown else b""
        monkeypatch.setattr(status, "git", lambda *_, said=said: said)
        status._own.cache_clear()
        assert _states(build) == [state] * 5
    status._own.cache_clear()


def test_what_is_not_there_or_was_changed_by_hand_is_named(build):
    (build.out / "figures" / "09_claims.svg").write_text("<svg></svg>")
    (build.out / "figures" / "11_methods.svg").unlink()
    found = status.paper(build)
    assert [one.state for one in found] == ["stale", "unverified", "missing", "unverified", "stale"]
    assert found[0].why.endswith("09_claims.svg, changed by hand") and found[2].why.endswith("11_methods.svg")
    _generated(build, "11_methods").unlink()
    made = json.loads(_generated(build, "09_claims").read_text())
    del made["made_from"]
    files.write_json(_generated(build, "09_claims"), made)
    found = status.paper(build)
    assert [one.state for one in found] == ["stale", "stale", "missing", "stale"]
    assert found[1].why == "run by hand, not said from what"
    assert str(found[1]) == "  stale       09_claims: 1 numbers and 0 tables: run by hand, not said from what"


@pytest.mark.parametrize("content", ["[]", "{}", "null", "5", "{", '{"numbers": [], "tables": {}, "figures": {}}'])
def test_what_no_notebook_has_left_so_is_stale_and_named(build, content):
    _generated(build, "11_methods").write_text(content)
    found = status.paper(build)
    assert [one.state for one in found] == ["unverified", "unverified", "stale", "stale"]
    assert found[2].what == "11_methods: figures and numbers" and "generated/11_methods.json: " in found[2].why
    assert found[3].why == "11_methods" and not any("\n" in str(one) for one in found)


def test_a_cell_is_what_the_record_and_this_machine_say_of_it(
    smoke_record, smoke_runs, smoke_cells, tmp_path, monkeypatch
):
    known = store.results(smoke_record)
    monkeypatch.setattr(store, "results", partial(store.results, smoke_record))
    runs, cell = tmp_path / "runs", next(cell for cell in smoke_cells if cell.phase == "target")
    state = lambda: status.cells([cell], [runs])[0]  # noqa: E731
    assert state() == (status.UNVERIFIED, cell.id, "")
    shutil.copytree(smoke_runs / cell.id, runs / cell.id)
    assert state() == (status.FRESH, cell.id, "")
    other = known[cell.id].model_copy(update={"predictions_sha256": "0" * 64})
    monkeypatch.setattr(results, "result_of", lambda cell, runs: other)
    assert state().state == status.STALE and state().why.endswith("has other predictions")
    monkeypatch.setattr(results, "result_of", lambda *_: other.model_copy(update={"environment": {"machine": "m"}}))
    assert state() == (status.UNVERIFIED, cell.id, "")
    monkeypatch.setattr(canary, "code", lambda result: "f" * 64)
    assert state().why == "its code has changed, and no canary has been run"
    canary.stamp(smoke_record, [(known[cell.id], other.model_copy(update={"fingerprint": "f" * 64}))])
    assert state().why == "the present code gives something else"
    put = {name: result for name, result in known.items() if name != cell.id}
    store._write(put, smoke_record / store.CELLS)
    manifest.state([smoke_record])
    assert state() == (status.MISSING, cell.id, "not in the record")


def test_it_is_printed_for_the_published_study_without_computing_anything(capsys, monkeypatch):
    monkeypatch.setattr(steps, "READS", {name: steps.READS[name] for name in (*NAMES, "paper")})
    status.run("pilot_rate")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Paper of study pilot in paper:"
    assert any(line.startswith("Cells of study pilot_rate: ") for line in lines)
    assert sum(" numbers and " in line for line in lines) == len(NAMES)

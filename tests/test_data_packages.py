"""Package files come from a folder filled by hand, the cache or a client, and never with another sha256."""

import bz2
import gzip
import hashlib
import os
import threading
import zipfile

import pytest
from conftest import archive
from filelock import FileLock

from xlscale.acquire import packages
from xlscale.cards.schema import Package
from xlscale.core.files import XlscaleError, sha256_file
from xlscale.core.strict import parse

BYTES = b"Package: a\n"


def package(client, name, file):
    return Package(
        client=client, name=name, version="1.0", file=file, sha256=hashlib.sha256(BYTES).hexdigest(), licence="none"
    )


NPM = package("npm", "thing", "thing-1.0.tgz")
INDEX = package("apt", "bookworm/main/i18n/Translation-pt_BR", "debian-1.0-Translation-pt_BR")


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "STORE", tmp_path / "cache" / "packages")
    monkeypatch.delenv("XLSCALE_PACKAGES", raising=False)
    return packages.STORE


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Put a shell script in the place of a package client; the script may call what is in /bin and /usr/bin."""

    def install(name, script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")

    return install


def test_folder_given_by_hand(tmp_path, monkeypatch):
    (tmp_path / NPM.file).write_bytes(BYTES)
    assert packages.fetch(NPM, tmp_path) == tmp_path / NPM.file
    monkeypatch.setenv("XLSCALE_PACKAGES", str(tmp_path))
    assert packages.fetch(NPM) == tmp_path / NPM.file


def test_wrong_bytes_by_hand(tmp_path):
    (tmp_path / NPM.file).write_bytes(b"other")
    with pytest.raises(XlscaleError, match=rf"thing-1\.0\.tgz: sha256: expected {NPM.sha256} for package thing 1\.0"):
        packages.fetch(NPM, tmp_path)


def test_missing_folder(tmp_path):
    with pytest.raises(XlscaleError, match="none: not found, expected a folder with package files"):
        packages.fetch(NPM, tmp_path / "none")


def test_compressed_index_by_hand(tmp_path, store):
    (tmp_path / f"{INDEX.file}.bz2").write_bytes(bz2.compress(BYTES))
    assert packages.fetch(INDEX, tmp_path) == store / INDEX.file
    assert (store / INDEX.file).read_bytes() == BYTES


def test_missing_client_says_what_to_put_where(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(XlscaleError, match=r"^npm is not installed; .*put thing-1\.0\.tgz of thing 1\.0 into "):
        packages.fetch(NPM)


def test_failing_client_says_why_in_one_line(client):
    client("npm", "echo first >&2; echo 'network unreachable' >&2; exit 3")
    with pytest.raises(XlscaleError, match=r"^npm failed \(network unreachable\); .*thing-1\.0\.tgz") as error:
        packages.fetch(NPM)
    assert "\n" not in str(error.value)


def test_download_is_checked_and_cached(client, store):
    client("npm", f"printf 'Package: a\\n' > \"$5/{NPM.file}\"")
    assert packages.fetch(NPM) == store / NPM.file
    client("npm", "exit 1")
    assert packages.fetch(NPM) == store / NPM.file
    assert [path.name for path in store.iterdir()] == [NPM.file]


def test_wrong_download_is_not_kept(client, store):
    client("npm", f'printf other > "$5/{NPM.file}"')
    with pytest.raises(XlscaleError, match="sha256: expected"):
        packages.fetch(NPM)
    assert not list(store.iterdir())


def test_a_damaged_file_of_the_cache_is_downloaded_again(client, store, capsys, monkeypatch):
    store.mkdir(parents=True)
    (store / NPM.file).write_bytes(b"")  # as a power cut may leave it
    assert packages.missing([NPM]) == [NPM]
    flushed, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_size) or sync(file))
    client("npm", f"printf 'Package: a\\n' > \"$5/{NPM.file}\"")
    assert packages.fetch(NPM).read_bytes() == BYTES and packages.missing([NPM]) == []
    assert flushed == [len(BYTES)]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f"{NPM.file}: sha256: expected {NPM.sha256}, got e3b0c44298fc1c14; removed, to be downloaded again"
    )


def test_what_lies_in_a_folder_of_the_user_s_is_not_removed(store, tmp_path, client):
    for folder in (tmp_path / "own", store):
        folder.mkdir(parents=True)
        (folder / NPM.file).write_bytes(b"other")
        client("npm", "exit 1")
        with pytest.raises(XlscaleError, match="sha256: expected"):
            packages.fetch(NPM, folder)
        assert (folder / NPM.file).read_bytes() == b"other"


def test_what_a_killed_download_left_is_removed_by_the_next_one_and_not_by_one_beside_it(client, store):
    (store / ".download.x").mkdir(parents=True)
    (store / ".download.x" / NPM.file).write_bytes(b"half")
    client("npm", f"printf 'Package: a\\n' > \"$5/{NPM.file}\"")
    lock = FileLock(store.with_name(f"{store.name}.lock"))
    lock.acquire()  # somebody downloads
    other = threading.Thread(target=packages.fetch, args=[NPM])
    other.start()
    other.join(0.5)
    assert other.is_alive() and (store / ".download.x" / NPM.file).exists()
    lock.release()
    other.join(30)
    assert [path.name for path in store.iterdir()] == [NPM.file]


def test_another_file_than_pinned(client):
    client("npm", 'printf x > "$5/thing-2.0.tgz"')
    with pytest.raises(XlscaleError, match=r"npm gave thing-2\.0\.tgz; .*thing-1\.0\.tgz"):
        packages.fetch(NPM)


def test_apt_index_from_a_state_of_its_own(client, store, tmp_path):
    listed = tmp_path / "lists_Translation-pt%5fBR"
    listed.write_bytes(BYTES)
    line = f"bookworm/main/i18n/Translation-pt_BR\\t{listed}\\n".replace("%", "%%")
    log = tmp_path / "log"
    client("apt-get", f"echo $3 >> {log}; [ \"$3\" != indextargets ] || printf '{line}'")
    other = INDEX.model_copy(update={"file": "debian-1.0-other"})
    assert packages.fetch_all([INDEX, other]) == [store / INDEX.file, store / other.file]
    assert log.read_text().split() == ["update", "indextargets", "indextargets"]  # one update for all
    config = (store.parent / "apt" / "apt.conf").read_text()
    assert f'Dir::State "{store.parent}/apt/state";' in config
    assert 'Acquire::Languages { "en"; "pt_BR"; };' in config


def test_a_wheel_is_asked_for_by_its_own_platform():
    wheel = package("pip", "thing", "thing-1.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")
    command = " ".join(packages._pip(wheel))
    assert "--platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64" in command
    assert "--only-binary :all:" in command
    assert "--platform" not in " ".join(packages._pip(package("pip", "thing", "thing-1.0-py3-none-any.whl")))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Give pip an index of our own with a package whose files would leave a trace if they were run; sha256 by file."""
    folder, trace = tmp_path / "index", tmp_path / "ran"
    folder.mkdir()
    run = f"open({str(trace)!r}, 'w').close()\n"
    about = "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
    setup = run + "from setuptools import setup\nsetup(name='thing', version='1.0')\n"
    archive(folder / "thing-1.0.tar.gz", {"thing-1.0/setup.py": setup, "thing-1.0/PKG-INFO": about})
    wheel = folder / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        wheel_file = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        for name, text in (("METADATA", about), ("WHEEL", wheel_file), ("RECORD", "")):
            out.writestr(f"thing-1.0.dist-info/{name}", text)
        out.writestr("thing/__init__.py", run)
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(folder)), ("CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(f"PIP_{name}", value)
    yield {path.name: sha256_file(path) for path in folder.iterdir()}
    assert not trace.exists()


@pytest.mark.parametrize("file", ["thing-1.0.tar.gz", "thing-1.0-py3-none-any.whl"])
def test_pip_s_files_are_compared_with_the_card_and_never_run(index, store, file):
    wanted = package("pip", "thing", file)
    with pytest.raises(XlscaleError, match=r"pip failed .*thing-1\.0|sha256: expected"):
        packages.fetch(wanted)
    assert not store.exists() or not list(store.iterdir())
    assert packages.fetch(wanted.model_copy(update={"sha256": index[file]})) == store / file
    assert sha256_file(store / file) == index[file]


def test_a_source_package_that_is_nowhere_is_one_line(index):
    with pytest.raises(XlscaleError, match=r"^pip failed \(.*other==1\.0\); to go on without pip, put other-1"):
        packages.fetch(package("pip", "other", "other-1.0.tar.gz"))


def test_npm_runs_no_scripts_and_sees_nothing_of_the_present_folder(client, store, tmp_path):
    log = tmp_path / "log"
    client("npm", f'pwd > {log}; echo "$@" >> {log}; printf \'Package: a\\n\' > "$5/{NPM.file}"')
    packages.fetch(NPM)
    where, given = log.read_text().splitlines()
    assert where.startswith(str(store)) and "--ignore-scripts" in given.split()


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"name": name}
            for name in ("./thing", "../thing", "/thing", "thing/x", "-g", "a@b/c", ".", "https://a/b.tgz")
        ),
        *({"version": version} for version in ("file:../x", "git+ssh://x", "latest", "1.0.0 -g", "", "^1.0.0", "../x")),
        *({"file": file} for file in ("../thing.tgz", "/thing.tgz", "a/b.tgz", ".thing.tgz", "-x.tgz", "a\nb.tgz", "")),
        {"client": "pip", "name": "thing @ file:///elsewhere/x"},
        {"client": "pip", "name": "-r", "version": "1.0"},
        {"client": "pip", "version": "1.0 --extra"},
        {"client": "apt", "name": "-oDir=x"},
        {"client": "apt", "version": "1/../x"},
    ],
)
def test_only_a_package_of_the_registry_can_be_named(changes):
    with pytest.raises(XlscaleError, match="card: "):
        parse(Package, NPM.model_dump() | {"version": "1.0.0"} | changes, "card")


def test_an_index_that_unpacks_to_more_than_it_may_is_refused(tmp_path, store, monkeypatch):
    monkeypatch.setattr(packages, "LARGEST", 10**6)
    with gzip.open(tmp_path / f"{INDEX.file}.gz", "wb") as out:
        out.write(bytes(3 * 10**6))
    with pytest.raises(XlscaleError, match="expected at most 1,000,000 bytes"):
        packages.fetch(INDEX, tmp_path)
    (tmp_path / f"{INDEX.file}.gz").write_bytes(b"no gzip")
    with pytest.raises(XlscaleError, match=r"expected a \.gz file"):
        packages.fetch(INDEX, tmp_path)
    assert not list(store.iterdir())


def test_a_link_in_the_folder_leads_nowhere_else(tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / NPM.file).write_bytes(BYTES)
    (tmp_path / "given" / NPM.file).symlink_to(tmp_path / NPM.file)
    with pytest.raises(XlscaleError, match=r"thing-1\.0\.tgz': expected the path of a file below .*given, links"):
        packages.fetch(NPM, tmp_path / "given")

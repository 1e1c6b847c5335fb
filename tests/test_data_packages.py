"""Package files come from a folder filled by hand, the cache or a client, and never with another sha256."""

import bz2
import hashlib

import pytest

from xlscale.acquire import packages
from xlscale.cards.schema import Package
from xlscale.core.files import XlscaleError

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


def test_a_wheel_is_asked_for_by_its_own_platform(tmp_path):
    wheel = package("pip", "thing", "thing-1.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")
    command = " ".join(packages._pip_command(wheel, tmp_path))
    assert "--platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64" in command
    assert "--only-binary :all:" in command and command.endswith("thing==1.0")
    anywhere = " ".join(packages._pip_command(package("pip", "thing", "thing-1.0-py3-none-any.whl"), tmp_path))
    assert "--platform" not in anywhere
    source = " ".join(packages._pip_command(package("pip", "thing", "thing-1.0.tar.gz"), tmp_path))
    assert "--no-binary :all: --no-build-isolation" in source

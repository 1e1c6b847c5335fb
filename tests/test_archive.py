"""The archive of a commit: its bytes follow from the commit, and it holds what the commit holds."""

import hashlib
import os
import subprocess
import tarfile

import pytest

from xlscale.commands import archive
from xlscale.core import checkout as asked
from xlscale.core.files import XlscaleError
from xlscale.interchange.citation import citation


def _git(folder, *command) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True, text=True).stdout


def _at(monkeypatch, folder):
    for module in (asked, archive):
        monkeypatch.setattr(module, "ROOT", folder)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A commit with what there can be in one, and a copy of it whose files have other times, under another umask."""
    one = tmp_path / "one"
    (one / "deep" / "ä").mkdir(parents=True)
    (one / "deep" / "ä" / "b.txt").write_bytes(b"\xff\r\ntext\n")
    (one / ("long" * 40)).write_text("a name of more than a hundred characters")
    (one / "run").write_text("#!/bin/sh\n")
    (one / "run").chmod(0o755)
    (one / "link").symlink_to("run")
    _git(one, "init", "-q")
    _git(one, "add", ".")
    _git(one, "commit", "-qm", "all")
    before = os.umask(0o077)
    _git(tmp_path, "clone", "-q", "one", "other")
    os.umask(before)
    os.utime(tmp_path / "other" / "run", (1, 1))
    for setting in (("tar.umask", "user"), ("core.autocrlf", "true")):
        _git(tmp_path / "other", "config", *setting)
    (tmp_path / "other" / "untracked").write_text("no part of the commit")
    _at(monkeypatch, one)
    return one


def _built(folder, out):
    assert "commit " in archive.build(str(out))
    (path,) = out.glob("*.tar")
    return path


def test_two_builds_have_equal_bytes_whatever_the_checkout(checkout, tmp_path, monkeypatch):
    first = _built(checkout, tmp_path / "a")
    _at(monkeypatch, tmp_path / "other")
    second = _built(tmp_path / "other", tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    said = (tmp_path / "a" / f"{first.name}.sha256").read_text()
    assert said == f"{hashlib.sha256(first.read_bytes()).hexdigest()}  {first.name}\n"


def test_what_its_user_has_set_for_git_changes_no_byte(checkout, tmp_path, monkeypatch):
    first = _built(checkout, tmp_path / "a").read_bytes()
    (tmp_path / "attributes").write_text("* export-ignore eol=crlf\n")
    (tmp_path / "settings").write_text(f"[core]\nattributesFile = {tmp_path / 'attributes'}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text((tmp_path / "settings").read_text())
    for name, value in (("GIT_DIR", "other/.git"), ("GIT_WORK_TREE", "other"), ("GIT_INDEX_FILE", "none")):
        monkeypatch.setenv(name, str(tmp_path / value))
    assert _built(checkout, tmp_path / "b").read_bytes() == first
    assert asked.git("rev-parse", "--show-toplevel").decode().strip() == str(checkout)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name)
    blob = asked.git("rev-parse", "HEAD:run").decode().strip()
    (tmp_path / "forged").write_text("#!/bin/false")
    forged = _git(checkout, "hash-object", "-w", tmp_path / "forged").strip()
    _git(checkout, "replace", blob, forged)  # which everyone else's clone has not
    assert asked.git("cat-file", "blob", blob) == b"#!/bin/sh\n"
    (checkout / ".git" / "info" / "attributes").write_text("* export-ignore\n")
    with pytest.raises(XlscaleError, match="info/attributes: expected no attributes of this clone alone"):
        archive.build(str(tmp_path / "c"))


def test_it_holds_what_the_commit_holds(checkout, tmp_path):
    with tarfile.open(_built(checkout, tmp_path / "out")) as found:
        found.extractall(tmp_path / "apart", filter="data")
    made = tmp_path / "apart" / f"xlscale-{citation().version}"
    assert subprocess.run(["diff", "-r", "--no-dereference", "--exclude=.git", checkout, made]).returncode == 0
    assert os.access(made / "run", os.X_OK) and (made / "link").readlink().name == "run"


def test_changes_and_a_folder_without_a_commit_are_refused_in_one_line(checkout, tmp_path, monkeypatch):
    (checkout / "run").write_text("changed")
    with pytest.raises(XlscaleError, match="^run: differs from the commit, expected a checkout without changes$"):
        archive.build(str(tmp_path / "out"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(XlscaleError, match="OUT=.*: expected a new folder or an empty one"):
        archive.build(str(tmp_path / "full"))
    _at(monkeypatch, tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(XlscaleError, match="expected a checkout of git's"):
        archive.build(str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()

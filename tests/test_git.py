"""Files of public git repositories: fetched by commit, checked before they are in place, and read as any other."""

import json
import os
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from xlscale.__main__ import main
from xlscale.acquire import git, remote
from xlscale.acquire.external import convert, inputs, readers, tatoeba
from xlscale.cards import catalogue, pins, places, schema
from xlscale.cards.sources import Repository, Source
from xlscale.core.files import XlscaleError, sha256_file
from xlscale.core.strict import parse

NAME, ADDRESS = "owner/name", "example.org/owner/name"
OLD, NEW = "eins\nzwei\n", "drei\n"


def run(folder, *command):
    """git in a folder, as anybody runs it; what it prints."""
    who = {f"GIT_{role}_{field}": "x" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    environment = os.environ | who | {"GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        ["git", *command], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """A repository of two commits, of which the first is pinned with the files a/old.tsv and b.tsv."""
    folder = tmp_path / "work"
    (folder / "a").mkdir(parents=True)
    run(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "a" / "old.tsv").write_text(OLD)
    (folder / "b.tsv").write_text("b\n")
    run(folder, "add", ".")
    run(folder, "commit", "--quiet", "-m", "1")
    commit = run(folder, "rev-parse", "HEAD")
    shutil.copytree(folder, tmp_path / "first")
    blobs = {path: run(folder, "rev-parse", f"HEAD:{path}") for path in ("a/old.tsv", "b.tsv")}
    (folder / "a" / "old.tsv").write_text(NEW)
    run(folder, "commit", "--quiet", "-am", "2")
    run(folder, "config", "uploadpack.allowFilter", "true")
    rows = [
        [ADDRESS, commit, path, blob, sha256_file(tmp_path / "first" / path), len((OLD, "b\n")[i]), "CC0"]
        for i, (path, blob) in enumerate(blobs.items())
    ]
    pinned(monkeypatch, tmp_path, rows)
    monkeypatch.setattr(places, "FETCHED", tmp_path / "cache" / "hub")
    monkeypatch.setattr(git, "address", lambda origin: f"file://{folder}")
    monkeypatch.setattr(git, "PROTOCOL", "file")
    values = {"kind": "git", "host": "example.org", "repository": NAME, "revision": commit, "schema_read": "x"}
    return parse(Repository, values, "card")


def pinned(monkeypatch, folder, rows):
    """Have these rows as the table of pins."""
    lines = [pins.COLUMNS, *rows]
    (folder / "files.tsv").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    monkeypatch.setattr(pins, "FILE", folder / "files.tsv")
    pins._known.cache_clear()


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    pins._known.cache_clear()


def repinned(monkeypatch, tmp_path, path, **changes):
    """Change what is pinned of a path."""
    lines = [line.split("\t") for line in (tmp_path / "files.tsv").read_text().splitlines()[1:]]
    values = [dict(zip(pins.COLUMNS, line, strict=True)) for line in lines]
    pinned(monkeypatch, tmp_path, [[*(one | (changes if one["path"] == path else {})).values()] for one in values])


def there(origin):
    """Files in the cache, those of locks left out: path below the repository's folder -> content."""
    root = places.fetched(origin).parent
    found = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(root / origin.revision).as_posix(): path.read_text() for path in found}


@pytest.mark.parametrize("kind", ["clone", "bare clone", "bare clone with its suffix", "plain files"])
def test_a_mirror_gives_the_files_of_the_pinned_commit(origin, monkeypatch, tmp_path, kind):
    target = tmp_path / "mirror" / (f"{NAME}.git" if "suffix" in kind else NAME)
    target.parent.mkdir(parents=True)
    if kind == "plain files":
        shutil.copytree(tmp_path / "first", target, ignore=shutil.ignore_patterns(".git"))
    else:
        run(tmp_path, "clone", "--quiet", *(["--bare"] if "bare" in kind else []), str(tmp_path / "work"), str(target))
    monkeypatch.setenv(git.GIT, str(tmp_path / "mirror"))
    monkeypatch.setattr(git, "PROTOCOL", "https")  # nothing is asked for
    git.get(origin, ["a/old.tsv"])
    assert there(origin) == {"a/old.tsv": OLD}


def test_a_fetch_gets_one_commit_and_the_files_that_are_wanted(origin, tmp_path):
    git.get(origin, ["b.tsv"])
    assert there(origin) == {"b.tsv": "b\n"}
    git.get(origin, ["a/old.tsv", "b.tsv"])
    assert there(origin) == {"a/old.tsv": OLD, "b.tsv": "b\n"}
    (tmp_path / "scratch").mkdir()
    git._download(origin, [pins.of(origin)["a/old.tsv"]], tmp_path / "scratch")
    objects = run(tmp_path / "scratch", "cat-file", "--batch-all-objects", "--batch-check").splitlines()
    kinds = [line.split()[1] for line in objects]
    assert kinds.count("commit") == 1 and kinds.count("blob") == 1  # of two and three


def test_what_is_there_is_asked_of_nobody(origin, monkeypatch):
    git.get(origin, ["b.tsv"])
    monkeypatch.setattr(subprocess, "run", None)
    git.get(origin, ["b.tsv"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, rf"{ADDRESS}/b\.tsv: sha256: expected 0{{64}} as in files\.tsv, got "),
        ({"bytes": 3}, rf"{ADDRESS}/b\.tsv: bytes: expected 3 as in files\.tsv, got 2"),
        ({"sha256": "", "bytes": "", "blob": "0" * 40}, rf"{ADDRESS}/b\.tsv: git blob: expected 0{{40}} as in"),
    ],
)
@pytest.mark.parametrize("mirrored", [True, False])
def test_other_bytes_than_those_pinned_are_never_in_place(origin, monkeypatch, tmp_path, changes, message, mirrored):
    repinned(monkeypatch, tmp_path, "b.tsv", **changes)
    if mirrored:
        shutil.copytree(tmp_path / "work", tmp_path / "mirror" / NAME)
        monkeypatch.setenv(git.GIT, str(tmp_path / "mirror"))
    elif "blob" in changes:  # by which a file is asked for
        message = rf"^{ADDRESS}: git fetch failed \(.*\); a clone may stand at owner/name below \$XLSCALE_GIT$"
    with pytest.raises(XlscaleError, match=message) as error:
        git.get(origin, ["b.tsv"])
    assert "\n" not in str(error.value) and there(origin) == {}


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_commit_or_a_path_that_is_not_there_is_one_line(origin, monkeypatch, tmp_path, mirrored):
    if mirrored:
        shutil.copytree(tmp_path / "work", tmp_path / "mirror" / NAME)
        monkeypatch.setenv(git.GIT, str(tmp_path / "mirror"))
    lines = (tmp_path / "files.tsv").read_text().splitlines()[1:]
    row = lines[0].split("\t")
    other = origin.model_copy(update={"revision": "1" * 40})
    rows = [row, [*row[:2], "none.tsv", *row[3:]], [row[0], "1" * 40, *row[2:]]]
    pinned(monkeypatch, tmp_path, rows)
    for asked, path in ((origin, "none.tsv"), (other, "a/old.tsv")):
        with pytest.raises(XlscaleError, match=rf"^{ADDRESS}: git (fetch|cat-file) failed \(.*\); a clone") as error:
            git.get(asked, [path])
        assert "\n" not in str(error.value) and there(asked) == {}


@pytest.mark.parametrize("size", ["٦٠", "9" * 5000, "-1", "1_0", "1.5"])
def test_sizes_of_pins_are_numbers_in_ascii_and_an_empty_table_is_one_line(origin, monkeypatch, tmp_path, size):
    repinned(monkeypatch, tmp_path, "b.tsv", bytes=size)
    with pytest.raises(XlscaleError, match=r"files\.tsv, line \d: bytes: ") as error:
        pins.of(origin)
    assert "\n" not in str(error.value)
    (tmp_path / "files.tsv").write_text("")
    with pytest.raises(XlscaleError, match=r"files\.tsv, line 1: expected the columns repository, commit"):
        pins.of(origin)


def test_a_pointer_of_git_lfs_is_not_taken_for_the_file(origin, monkeypatch, tmp_path):
    work = tmp_path / "work"
    (work / "b.tsv").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n")
    run(work, "commit", "--quiet", "-am", "3")
    commit = run(work, "rev-parse", "HEAD")
    row = (tmp_path / "files.tsv").read_text().splitlines()[2].split("\t")
    pinned(monkeypatch, tmp_path, [[ADDRESS, commit, "b.tsv", run(work, "rev-parse", "HEAD:b.tsv"), "", "", row[-1]]])
    asked = origin.model_copy(update={"revision": commit})
    with pytest.raises(
        XlscaleError, match=rf"^{ADDRESS}/b\.tsv: expected the file, got a pointer of git-LFS to it; in"
    ):
        git.get(asked, ["b.tsv"])
    assert there(asked) == {}


KILLED = """
import os, signal, sys
from pathlib import Path
from xlscale.acquire import git
from xlscale.cards import pins, places
from xlscale.cards.sources import Repository
folder, work, values = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
pins.FILE, places.FETCHED = folder / "files.tsv", folder / "cache" / "hub"
git.address, git.PROTOCOL = (lambda origin: f"file://{work}"), "file"
checked = []
def check(path, pin):
    checked.append(pin)
    if len(checked) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
git.check = check
git.get(Repository.model_validate_json(values), ["a/old.tsv", "b.tsv"])
"""


def test_a_fetch_that_is_killed_leaves_whole_files_or_none_and_is_gone_on_with(origin, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(tmp_path / "work"), origin.model_dump_json()]
    assert subprocess.run(command, capture_output=True).returncode == -9
    folder = places.fetched(origin)
    assert (folder / "a" / "old.tsv").read_text() == OLD and not (folder / "b.tsv").exists()
    git.get(origin, ["a/old.tsv", "b.tsv"])
    assert (folder / "b.tsv").read_text() == "b\n"
    assert not [path for path in folder.parent.iterdir() if path.suffix == ".part"]


def test_nothing_of_a_repository_or_of_the_user_s_settings_is_run(origin, monkeypatch, tmp_path):
    work, touched = tmp_path / "work", tmp_path / "touched"
    evil = f"touch {touched}; cat"
    (work / ".gitattributes").write_text("*.tsv filter=evil ident text eol=crlf\n")
    (work / "b.tsv").write_text("$Id$\n")
    run(work, "add", ".")
    run(work, "commit", "--quiet", "-m", "3")
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (work / ".git" / "hooks" / name).write_text(f"#!/bin/sh\ntouch {touched}\n")
        (work / ".git" / "hooks" / name).chmod(0o755)
    settings = f'[filter "evil"]\nsmudge = "{evil}"\n[core]\nfsmonitor = "{evil}"\n'
    (tmp_path / "gitconfig").write_text(settings)
    with open(work / ".git" / "config", "a") as config:
        config.write(settings)
    commit = run(work, "rev-parse", "HEAD")
    row = (tmp_path / "files.tsv").read_text().splitlines()[2].split("\t")
    pinned(monkeypatch, tmp_path, [[ADDRESS, commit, "b.tsv", run(work, "rev-parse", "HEAD:b.tsv"), "", "", row[-1]]])
    for name, value in {"CONFIG_GLOBAL": tmp_path / "gitconfig", "DIR": tmp_path / "no", "SSH_COMMAND": evil}.items():
        monkeypatch.setenv(f"GIT_{name}", str(value))
    for mirror in (tmp_path, tmp_path / "mirror"):  # the first has none
        monkeypatch.setenv(git.GIT, str(mirror))
        asked = origin.model_copy(update={"revision": commit})
        git.get(asked, ["b.tsv"])
        assert there(asked) == {"b.tsv": "$Id$\n"} and not touched.exists()
        shutil.rmtree(places.fetched(asked))
        shutil.copytree(work, tmp_path / "mirror" / NAME, dirs_exist_ok=True)


@pytest.mark.parametrize("network", [0, 5])
def test_a_clone_s_own_settings_open_no_protocol(origin, tmp_path, network):
    """A partial clone fetches what it lacks from where its settings say, by what they allow: a command, here."""
    clone, touched = tmp_path / "clone", tmp_path / "touched"
    clone.mkdir()
    run(clone, "init", "--quiet")
    run(clone, "commit", "--quiet", "--allow-empty", "-m", "1")
    settings = (
        (clone / ".git" / "config").read_text().replace("repositoryformatversion = 0", "repositoryformatversion = 1")
    )
    settings += f"""[extensions]
    partialClone = origin
[remote "origin"]
    url = ext::sh -c touch% {touched}
    promisor = true
[protocol "ext"]
    allow = always
"""
    (clone / ".git" / "config").write_text(settings)
    with pytest.raises(XlscaleError, match="git cat-file failed"):
        git._git(clone, origin, "cat-file", "blob", "f" * 40, network=network)
    assert not touched.exists()
    subprocess.run(["git", "cat-file", "blob", "f" * 40], cwd=clone, capture_output=True)
    assert touched.exists()  # it is git's protocol that was closed


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user takes root")
def test_a_clone_of_another_user_s_is_read(origin, monkeypatch, tmp_path):
    shutil.copytree(tmp_path / "work", tmp_path / "mirror" / NAME)
    for path in (tmp_path / "mirror" / NAME, *(tmp_path / "mirror" / NAME).rglob("*")):
        os.chown(path, 12345, 12345)
    monkeypatch.setenv(git.GIT, str(tmp_path / "mirror"))
    git.get(origin, ["b.tsv"])
    assert there(origin).keys() == {"b.tsv"}


def test_only_what_is_missing_is_announced(origin, monkeypatch):
    """The labels of a set may lie in a repository of their own, and be all that is missing."""
    monkeypatch.setattr(remote, "plan", lambda card: ([remote.Wanted(origin, ["b.tsv"], "")], {}))
    card = catalogue.documented("xnli")
    (line,) = remote.announced(card)
    assert line.startswith("1 file, ") and ADDRESS in line
    git.get(origin, ["b.tsv"])
    assert remote.announced(card) == []


def test_whether_a_repository_can_be_asked_is_one_line(origin, monkeypatch, tmp_path):
    assert git.unreachable(origin) == ""
    monkeypatch.setattr(git, "address", lambda origin: f"file://{tmp_path / 'none'}")
    said = git.unreachable(origin)
    assert said.startswith(f"{ADDRESS}: git ls-remote failed (") and "\n" not in said
    monkeypatch.setattr(subprocess, "run", _late)
    assert git.unreachable(origin) == f"{ADDRESS}: git ls-remote did not end in 15 seconds"
    monkeypatch.setattr(subprocess, "run", _no_git)
    assert git.unreachable(origin) == f"{ADDRESS}: git is not installed; a clone may stand at {NAME} below $XLSCALE_GIT"
    (tmp_path / "mirror" / NAME).mkdir(parents=True)
    monkeypatch.setenv(git.GIT, str(tmp_path / "mirror"))
    assert git.unreachable(origin) == ""


def _late(command, timeout, **_):
    raise subprocess.TimeoutExpired(command, timeout)


def _no_git(command, **_):
    raise FileNotFoundError(command[0])


def test_git_asks_by_https_alone(origin, monkeypatch):
    monkeypatch.setattr(git, "PROTOCOL", "https")
    with pytest.raises(XlscaleError, match="transport 'file' not allowed"):
        git.get(origin, ["b.tsv"])
    monkeypatch.undo()
    assert git.address(origin) == f"https://{ADDRESS}"


@pytest.mark.parametrize(
    "changes",
    [
        *({"host": host} for host in ("ext::sh", "-x.org", "localhost", "a.org:22", "a@b.org", "a.org/x", "", None)),
        *({"repository": name} for name in ("-u/x", "../x", "a/../../x", "x", "a/b/c", "a/b c", "a/-b", "a/b?x")),
        *({"revision": name} for name in ("HEAD", "--upload-pack=x", "0" * 39, None)),
        {"variable": "XLSCALE_GIT"},
        {"status": "verified"},
        {"kind": "hub"},
    ],
)
def test_a_card_names_a_repository_and_a_commit_and_nothing_else(changes):
    values = {"kind": "git", "host": "a.org", "repository": "a/b", "revision": "0" * 40, "schema_read": "x"}
    parse(Repository, values, "card")
    with pytest.raises(XlscaleError, match=r"^card: (host|repository|revision|kind|compared): ") as error:
        parse(Repository, values | changes, "card")
    assert "\n" not in str(error.value)


def test_a_model_is_not_fetched_by_git():
    origin = {"kind": "git", "host": "a.org", "repository": "a/b", "revision": "0" * 40, "schema_read": "x"}
    card = catalogue.model_card("xlm_r_base").model_dump() | {"source": origin, "member_sha256": None}
    with pytest.raises(XlscaleError, match="source: kind: expected hub or folder for a model, got 'git'"):
        parse(schema.ModelCard, card, "card")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": "c", "split": "test", "files": None}, "parts: files: expected for an origin of kind git"),
        ({"labels": "x.tsv", "labels_origin": "folder"}, "parts: labels_origin: expected an origin of kind git"),
        ({"labels_origin": "g"}, "labels: expected the file of labels in the repository of labels_origin"),
    ],
)
def test_a_place_of_git_names_files_and_labels_in_git(changes, message):
    known = {"g": {"kind": "git", "host": "a.org", "repository": "a/b", "revision": "0" * 40, "schema_read": "x"}}
    known |= {"folder": {"kind": "folder", "variable": "XLSCALE_XTREME", "schema_read": "x"}}
    place = {"origin": "g", "files": "x.tsv", "reader": "tsv"}
    part = {"split": "test", "languages": ["en"], "places": [place]}
    parse(Source, {"origins": known, "columns": {}, "parts": [part]}, "card")
    with pytest.raises(XlscaleError, match=message):
        part = part | {"places": [place | changes]}
        parse(Source, {"origins": known, "columns": {}, "parts": [part]}, "card")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a\tb", "line 2: expected 7 fields, got 2"),
        (f"{ADDRESS}\tmain\tx\t{'0' * 40}\t\t\tCC0", "line 2: commit: "),
        (f"{ADDRESS}\t{'0' * 40}\t../x\t{'0' * 40}\t\t\tCC0", "line 2: path: expected the path of a file below"),
        (f"{ADDRESS}\t{'0' * 40}\tx\t{'0' * 40}\tabc\t\tCC0", "line 2: sha256: "),
        (f"{ADDRESS}\t{'0' * 40}\tx\t{'0' * 40}\t\t-1\tCC0", "line 2: bytes: "),
        (
            "\n".join([f"{ADDRESS}\t{'0' * 40}\tx\t{'0' * 40}\t\t\tCC0"] * 2),
            "line 3: path: expected each once, got 'x'",
        ),
    ],
)
def test_a_broken_table_of_pins_is_one_line(origin, monkeypatch, tmp_path, line, message):
    pinned(monkeypatch, tmp_path, [line.split("\t")])
    with pytest.raises(XlscaleError, match=rf"files\.tsv, {message}"):
        pins.of(origin)


CARDS = [
    name
    for name in catalogue.names(catalogue.SOURCES)
    if any(origin.kind == "git" for origin in catalogue.documented(name).source.origins.values())
]


@pytest.mark.parametrize("name", CARDS)
def test_every_file_of_git_that_a_card_reads_is_pinned(name):
    source, unseen = catalogue.documented(name).source, set()
    for part in source.parts:
        for place in (one for one in part.places if source.origins[one.origin].kind == "git"):
            for code, called in part.named().items():
                origin = source.origins[place.origin]
                (path,) = places.matching(places.listing(origin), places.patterns(place, code, called))
                unseen |= {place.origin} if pins.of(origin)[path].sha256 is None else set()
                if place.labels:
                    apart = source.origins[place.labels_origin]
                    assert pins.of(apart)[place.labels].sha256
    # What nobody has seen is called so.
    for key in unseen:
        origin = source.origins[key]
        assert "not seen" in (origin.compared if origin.status == "verified" else origin.schema_read), key


def test_tatoeba_s_original_files_are_read_as_xtreme_gives_them(tmp_path):
    english = ["b 2", "a", "C", "b 2", " é", "b 1"]
    (tmp_path / "tatoeba.deu-eng.eng").write_text("".join(f"{line}\n" for line in english))
    (tmp_path / "tatoeba.deu-eng.deu").write_text("".join(f"{n} {line}\n" for n, line in enumerate(english)))
    found = [*tatoeba.read(tmp_path / "tatoeba.deu-eng.eng")]
    assert [one["text"] for one in found] == sorted(line.strip() for line in english)
    queries = [*tatoeba.read(tmp_path / "tatoeba.deu-eng.deu")]
    assert [one["text"] for one in queries] == [f"{n} {line}" for n, line in enumerate(english)]
    assert [found[one["label"]]["text"] for one in queries] == [line.strip() for line in english]
    assert sorted(one["label"] for one in queries) == [*range(6)]
    (tmp_path / "tatoeba.deu-eng.deu").write_text("nur eine\n")
    with pytest.raises(XlscaleError, match=r"tatoeba\.deu-eng\.deu: expected 6 lines as in tatoeba\.deu-eng\.eng, got"):
        list(tatoeba.read(tmp_path / "tatoeba.deu-eng.deu"))


def test_labels_are_a_line_each_or_the_column_of_a_table(tmp_path):
    (tmp_path / "rows.tsv").write_text("a\tb\nc\td\n")
    (tmp_path / "lines.tsv").write_text("yes\nno\n")
    (tmp_path / "table.tsv").write_text('genre\tlabel\ttext\nx\tyes\t"a\ny\tno\tc\n')
    for name in ("lines.tsv", "table.tsv"):
        assert [one["label"] for one in readers.tsv(tmp_path / "rows.tsv", tmp_path / name)] == ["yes", "no"]
    (tmp_path / "table.tsv").write_text("genre\tlabel\nx\n")
    with pytest.raises(XlscaleError, match=r"table\.tsv, line 2: expected 2 fields, got 1"):
        list(readers.tsv(tmp_path / "rows.tsv", tmp_path / "table.tsv"))


PATH = "datasets/new_wiki_v1.0.json"


@pytest.fixture
def wiki(given, monkeypatch, tmp_path):
    """The rows of a set of the hub, in the form of its git repository, as plain files below XLSCALE_GIT."""
    card = catalogue.data_card("squadshifts_wiki")
    origin = card.source.origins["website"]
    rows = pq.read_table(given / "hub/ludwigschmidt/squadshifts/new_wiki/test/0000.parquet").to_pylist()
    articles = [
        {"title": row["title"], "paragraphs": [{"context": row["context"], "qas": [question(row)]}]} for row in rows
    ]
    folder = tmp_path / "mirror" / origin.repository
    (folder / PATH).parent.mkdir(parents=True)
    (folder / PATH).write_text(json.dumps({"data": articles, "version": "1"}))
    size = (folder / PATH).stat().st_size
    blob = subprocess.run(
        ["git", "hash-object", str(folder / PATH)], check=True, capture_output=True, text=True
    ).stdout.strip()
    sha256 = sha256_file(folder / PATH)
    pinned(monkeypatch, tmp_path, [[origin.address, origin.revision, PATH, blob, sha256, size, "CC BY 4.0"]])
    monkeypatch.setenv(git.GIT, str(tmp_path / "mirror"))
    monkeypatch.setenv("HIDDEN_HUB", os.environ[places.HUB])
    monkeypatch.delenv(places.HUB)
    return card


def question(row):
    answers = [
        {"text": text, "answer_start": start}
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
    ]
    return {"id": row["id"], "question": row["question"], "answers": answers}


def test_what_is_to_be_downloaded_is_said_first(wiki, capsys):
    origin = wiki.source.origins["website"]
    size = pins.of(origin)[PATH].bytes / 1e3
    assert main(["data", "fetch", wiki.name]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{wiki.name}: to be fetched: 1 file, {size:.1f} kB from {origin.address}; licence: CC BY 4.0"
    assert main(["data", "fetch", wiki.name]) == 0
    assert "to be fetched" not in capsys.readouterr().out


def test_the_same_rows_from_another_place_are_as_locked(wiki, monkeypatch, tmp_path, capsys):
    assert main(["data", "fetch", wiki.name]) == 0
    lock = catalogue.locked(wiki.name)
    origin = wiki.source.origins["website"]
    assert [*lock.files] == [f"{origin.address}/{PATH}"]
    assert lock.revisions == {origin.address: origin.revision, "ludwigschmidt/squadshifts": None}
    # Somebody else, who has the hub's layout alone.
    monkeypatch.setattr(catalogue, "other_sizes", lambda name: "")
    monkeypatch.setattr(places, "FETCHED", tmp_path / "other" / "hub")
    monkeypatch.delenv(git.GIT)
    monkeypatch.setenv(places.HUB, os.environ["HIDDEN_HUB"])
    catalogue.data_card(wiki.name).path.unlink()
    assert inputs.elsewhere(wiki)
    assert main(["data", "check", wiki.name]) == 1
    assert "only the rows can tell" in capsys.readouterr().err
    assert main(["data", "fetch", wiki.name]) == 0 and catalogue.locked(wiki.name) == lock
    assert main(["data", "check", wiki.name]) == 0
    # Other rows are another set, wherever they are from, and a file more is no other place.
    hub = tmp_path / "changed"
    shutil.copytree(os.environ["HIDDEN_HUB"] + "/ludwigschmidt", hub / "ludwigschmidt")
    monkeypatch.setenv(places.HUB, str(hub))
    path = hub / "ludwigschmidt/squadshifts/new_wiki/test/0000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(XlscaleError, match=r"squadshifts_wiki: sha256: expected [0-9a-f]{16} as in .*, made "):
        convert.make(catalogue.data_card(wiki.name))


def test_a_file_in_the_cache_is_held_against_its_pin(wiki, monkeypatch):
    remote.fetch(wiki)
    path = places.fetched(wiki.source.origins["website"]) / PATH
    path.write_text(path.read_text().replace("cat", "dog"))
    with pytest.raises(XlscaleError, match=rf"{PATH}: sha256: expected [0-9a-f]{{4}}") as error:
        convert.make(wiki, remote.fetch(wiki))
    assert str(error.value).endswith(f"; remove it, then `make data-fetch CARD={wiki.name}`")
    assert not catalogue.lock_path(wiki.name).exists()

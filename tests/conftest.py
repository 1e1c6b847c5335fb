"""Shared by the tests: a small rung, and the smoke study run once into a folder of its own."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # as a cell computes; before any library reads it
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes are started, which share what one compiled

import io
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from xlscale.acquire import hub
from xlscale.acquire.ensure import ensure, fetch
from xlscale.acquire.external import convert
from xlscale.cards import catalogue, places, schema
from xlscale.core.files import ROOT, XlscaleError
from xlscale.core.strict import parse
from xlscale.engine import processes as processes_
from xlscale.experiment import cells, studies
from xlscale.experiment.recipe import NEEDED, Recipe
from xlscale.record import store

FIXTURES = Path(__file__).parent / "fixtures"
processes_.without_grammars()


# Family -> the level of chance of a card with two classes, choices or candidates.
CHANCE = dict.fromkeys(schema.GIVEN, 0.0) | dict.fromkeys(("classification", "multiple_choice", "retrieval"), 0.5)
# Files of tests that take minutes, the longest first.
LONGEST = (
    "runner",  # it makes the runs of the smoke study, while the next one does without
    "committed_paper",
    "adding",
    "reproduce",
    "plan",
    "language_models",
    "paper_notebooks",
    "published",
    "xtreme_r",
    "published_stats",
    "mixture",
    "record",
    "lora",
    "lexicon",
    "fork_server",
    "fuzz",
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores, since who kills processes waits for them to end, where it has room: three took
    9 GB together."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + (psutil.virtual_memory().total > 4e9 * (cores + 1))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those with slow tests, so that no core waits long for the last one."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    place = {f"test_{name}": len(LONGEST) - number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (-place.get(item.path.stem, 0), -slow[item.path]))


def xlscale(*arguments: str, runs: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
    """Run ``python -m xlscale`` with its cells in ``runs``."""
    return subprocess.run(
        [sys.executable, "-m", "xlscale", *arguments],
        env=os.environ | {"XLSCALE_RUNS": str(runs)} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=check,
        timeout=540,
    )


def start(runs: Path, *arguments: str) -> subprocess.Popen:
    """Start ``python -m xlscale`` with its cells in ``runs``."""
    return subprocess.Popen(
        [sys.executable, "-m", "xlscale", *arguments],
        env=os.environ | {"XLSCALE_RUNS": str(runs)},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def processes(needle: str, runs: Path) -> list[int]:
    """Process ids whose command line holds ``needle`` and whose environment points at ``runs``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if needle in (entry / "cmdline").read_text() and str(runs) in (entry / "environ").read_text():
                found.append(int(entry.name))
        except (OSError, ValueError, UnicodeDecodeError):
            continue
    return found


def forked(role: str, runs: Path) -> list[int]:
    """Process ids of the fork 'server' of a sweep in ``runs``, or of its children, a 'runner' per cell."""
    import psutil

    alike = processes("xlscale.engine.fork_server", runs)  # children keep the server's command line
    found: dict[str, list[int]] = {"server": [], "runner": []}
    for pid in alike:
        try:
            found["runner" if psutil.Process(pid).ppid() in alike else "server"].append(pid)
        except psutil.NoSuchProcess:
            continue
    return found[role]


def wait(condition, seconds: float = 120) -> object:
    """Wait until ``condition`` gives something true, and return that."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def archive(path: Path, members: dict[str, str]) -> Path:
    """Write a .tar.gz with these members (name -> text) and give its path."""
    with tarfile.open(path, "w:gz") as out:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            out.addfile(info, io.BytesIO(text.encode()))
    return path


def recipe(**values) -> Recipe:
    """A recipe of a training with these values; of what it needs beside them there is nothing."""
    return Recipe(**dict.fromkeys(NEEDED) | values)


def trained_on(monkeypatch: pytest.MonkeyPatch, encoded: object = None) -> list[list[int]]:
    """The inputs of every batch that is trained on from now on, of ``encoded`` or of whatever."""
    import torch

    from xlscale.training.model import Model

    found, batch = [], Model.batch

    def noted(self, inputs, index):
        if torch.is_grad_enabled() and (encoded is None or inputs is encoded):
            found.append(index.tolist())
        return batch(self, inputs, index)

    monkeypatch.setattr(Model, "batch", noted)
    return found


def deb(path: Path, members: dict[str, str | bytes], suffix: str = ".xz", pack=lzma.compress) -> Path:
    """Write a Debian package with these files (name -> content), its control member of odd length; its path."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as out:
        for name, content in members.items():
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar{suffix}": pack(data.getvalue())}
    raw = b"!<arch>\n"
    for name, content in parts.items():
        raw += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        raw += b"\n" * (len(content) % 2)
    path.write_bytes(raw)
    return path


def debian_indexes(folder: Path, stanzas: dict[str, list[str]]) -> list[Path]:
    """Write Debian's index files (name -> stanzas) and give their paths."""
    files = []
    for name, parts in stanzas.items():
        files.append(folder / f"debian-1.0-{name}")
        files[-1].write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return files


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write text files (path under ``folder`` -> text) and give the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def gold(card: schema.DataCard) -> pd.DataFrame:
    """What the test split asks for: language, item, group, gold, a row per test row.

    gold is the label (classification), the English item of the same group (retrieval), the list of accepted answers
    (span_qa), the index of the correct choice as a string (multiple_choice), or the tags joined by single spaces
    (tagging).
    """
    from xlscale.data import load  # imports datasets, which takes a second

    rows = load.table(card).to_pandas()
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    if card.family == "retrieval":
        english = rows[rows["language"] == "en"].set_index("group")["item"]
        rows["gold"] = rows["group"].map(english)
    elif card.family == "tagging":
        rows["gold"] = rows["tags"].str.join(" ")
    elif card.family == "multiple_choice":
        rows["gold"] = rows["answer"].astype(str)
    else:
        rows["gold"] = rows["label" if card.family == "classification" else "answers"]
    return rows[["language", "item", "group", "gold"]]


def write_notebook(path: Path, *sources: str) -> Path:
    """Write a notebook of these code cells, the first one that of the parameters, and give its path."""
    import nbformat  # once the grammars are out of its way

    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


class Hub:
    """Stands for the hub's library and the hub: the repositories in ``folder``, all with one commit; the path
    ``broken`` cannot be had."""

    def __init__(self, folder, monkeypatch, branch="main", broken=""):
        self.folder, self.branch, self.broken = folder, branch, broken
        self.sha, self.asked, self.given = "c" * 40, [], []
        monkeypatch.setattr(hub, "client", lambda: self)
        monkeypatch.delenv(places.HUB)
        hub.commit.cache_clear()

    def HfApi(self):
        return self

    def repo_info(self, repository, repo_type, revision, **_):
        self.asked.append(revision)
        if revision not in (self.branch, self.sha):
            return type("Info", (), {"sha": "a" * 40, "siblings": []})
        root = self.folder / repository
        names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
        siblings = [type("File", (), {"rfilename": name}) for name in names]
        return type("Info", (), {"sha": self.sha, "siblings": siblings})

    def snapshot_download(self, repository, *, repo_type, revision, local_dir, allow_patterns):
        root = self.folder / repository
        paths = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
        for path in (path for path in paths if any(fnmatch(path, pattern) for pattern in allow_patterns)):
            if path != self.broken:
                self.given.append((path, revision))
                (local_dir / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / path, local_dir / path)
        if self.broken in paths:  # files are downloaded side by side
            raise ConnectionError("reset by peer")

    def moves_on(self, sha):
        """Another commit is the newest from now on."""
        self.sha, self.given = sha, []
        hub.commit.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def acquired() -> None:
    """The model that most tests load is on this machine; where it cannot be had, they say so."""
    with suppress(XlscaleError):
        ensure([], [catalogue.model_card("e5_small")])


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id) -> Callable[[str, Callable[[Path], object]], Path]:
    """A function that gives the folder of this name, made by ``make(folder)`` once, however many processes share the
    tests."""
    own = tmp_path_factory.getbasetemp()
    base = own if worker_id == "master" else own.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made = base / f"{name}.made"
        with FileLock(base / f"{name}.lock"):
            if not made.exists():
                make(base / name)
                made.touch()
        return base / name

    return folder


@pytest.fixture(scope="session")
def smoke_runs(once) -> Path:
    """The folder of runs of the whole smoke study, made by Snakemake as `make sweep STUDY=smoke` does."""

    def sweep(runs: Path) -> None:
        done = xlscale("sweep", "--study", "smoke", runs=runs, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return once("smoke", sweep)


@pytest.fixture(scope="session")
def few_sources(tmp_path_factory) -> Path:
    """A published layer with the scores of few sources: fine-tuned, prompted, continued pretraining, secondary."""
    from xlscale.published import tables

    folder = shutil.copytree(tables.FOLDER, tmp_path_factory.mktemp("layer") / "published")
    keep = ["mt5_readme", "flan_palm_t3", "latxa", "phang2020_v1", "apertus_card", "tli", "mgte_xtreme_r"]
    results = tables.read_results(folder / "results.parquet")
    tables.write_results(results[results["source_key"].isin(keep)], folder / "results.parquet")
    return folder


@pytest.fixture(scope="session")
def elsewhere(once) -> Path:
    """A checkout beside small copies of all sources and two tiny models: see tests/fixtures/elsewhere.py."""
    command = [sys.executable, FIXTURES / "elsewhere.py"]
    return once(
        "elsewhere", lambda folder: subprocess.run([*command, folder], check=True, capture_output=True, timeout=300)
    )


@pytest.fixture
def given(elsewhere, tmp_path, monkeypatch) -> Path:
    """The copies of all sources, for this process; caches and locks are empty."""
    monkeypatch.syspath_prepend(FIXTURES)
    import elsewhere as made

    for name, value in made.environment(elsewhere).items():
        if not name.endswith(("ROOT", "STUDIES", "RUNS", "CACHE", "LOCKS", "PATH")):
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(catalogue, "LOCKS", tmp_path / "locks")
    for module in (schema, convert):
        monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(places, "FETCHED", tmp_path / "cache" / "hub")
    catalogue.clear_caches()
    yield elsewhere / "given"
    catalogue.clear_caches()


@pytest.fixture(scope="session")
def layouts(tmp_path_factory) -> Path:
    """Where the tiny models lie that ``layout`` makes."""
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture
def layout(layouts, tmp_path, monkeypatch) -> Callable[..., schema.ModelCard]:
    """``layout(name, **fields)``: the card of a tiny model in the hub's layout, see tests/fixtures/models.py, which is
    here and locked."""
    monkeypatch.syspath_prepend(FIXTURES)
    import models as made

    monkeypatch.setenv(places.HUB, str(layouts))
    monkeypatch.setattr(catalogue, "LOCKS", tmp_path / "locks")

    def card(name: str, **fields) -> schema.ModelCard:
        if not (layouts / made.OWNER / name).exists():
            made.layout(layouts, name)
        source = {"kind": "hub", "repository": f"{made.OWNER}/{name}", "schema_read": "tests"}
        values = {"name": re.sub(r"\W", "_", name), "title": name, "reader": "hf", "rungs": [1, 2], "prefix": ""}
        values |= dict.fromkeys(("licence", "origin", "trained_on"), "ours") | {"source": source}
        found = parse(
            schema.ModelCard, values | (made.CAUSAL if made.LAYOUTS[name][3] is not None else {}) | fields, "card"
        )
        fetch(found)
        return found

    catalogue.clear_caches()
    yield card
    catalogue.clear_caches()


@pytest.fixture(scope="session")
def smoke_cells() -> list[cells.Cell]:
    return studies.load("smoke").cells()


@pytest.fixture
def smoke_record(smoke_runs, smoke_cells, tmp_path) -> Path:
    assert store.add(smoke_cells, tmp_path, smoke_runs) == len(smoke_cells)
    assert store.add(smoke_cells, tmp_path, smoke_runs) == 0
    return tmp_path


@pytest.fixture(scope="session")
def e5() -> schema.ModelCard:
    return catalogue.model_card("e5_small")


@pytest.fixture
def target_values() -> dict:
    """Parameters of a target cell after intermediate training."""
    return {
        "model": "e5_small",
        "layers": 2,
        "intermediate": "squad_wiki",
        "placebo": False,
        "intermediate_examples": 100,
        "intermediate_epochs": 1,
        "intermediate_learning_rate": 1e-4,
        "intermediate_batch_size": 16,
        "intermediate_max_length": 128,
        "intermediate_test_items": 50,
        "precision": "auto",
        "seed": 3,
        "target": "topic",
        "examples": 100,
        "epochs": 1,
        "learning_rate": 1e-4,
        "batch_size": 16,
        "max_length": 48,
        "test_items": 50,
    }

"""Whatever a file holds, it is taken, or refused in a few short lines; no crash, no hang, nothing passes that may not.

Files that are right are changed at random: values, keys and types of those that have a structure, bytes of all. The
random choices are the same in every run.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import CHANCE, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_published import ROW
from test_score import TASKS, XTREME_R
from test_score_faults import GOOD

from xlscale.acquire.external import convert
from xlscale.cards import catalogue, schema, sources
from xlscale.core import files
from xlscale.core.files import XlscaleError
from xlscale.core.strict import parse
from xlscale.experiment import studies
from xlscale.models import hf, hub_files
from xlscale.published import rows, tables
from xlscale.published import sources as published
from xlscale.xtreme import benchmark, command

LONGEST = 10  # seconds


def fuzz(examples: int):
    """Settings of a test with so many examples."""
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=quiet)


HOSTILE = st.sampled_from(
    [
        None, True, 0, -1, 1, 2**70, 10**400, 1.5, 1e-320, -0.0, 1e300, "", " ", "x", "none", "x" * 10**5, "../../x",
        "/etc/passwd", "-rf", "a\x00b", "a\u202eb", "a\nb", "\x1b[31m", "$(touch y)", "{language}", "{", "$\\frac{$",
        [], [[]], [None], ["x", "x"], [1, "a", None], {}, {"": None}, {"x": {"y": [1]}}, {"of": "x"}, [{"a": []}] * 3,
        "\ud800", "٦٠", "é" * 50, "010", "1e-3", "yes", "2024-02-30", 7, 12, "topic", "en", "pilot", ["en"], {"en": 3},
    ]
)  # fmt: skip


def nodes(value, path=()):
    """The paths of all that a structure holds."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from nodes(one, (*path, key))


@st.composite
def changed(draw, value):
    """A structure of which one to three values were replaced, removed or doubled, or got another key."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([*nodes(value)][1:] or [()]))
        if not path:
            return draw(HOSTILE)
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "double", "rename"]))
        if what == "replace":
            holder[path[-1]] = copy.deepcopy(draw(HOSTILE))
        elif what == "remove" or isinstance(holder, list):
            if what == "double":
                holder.append(copy.deepcopy(holder[path[-1]]))
            else:
                del holder[path[-1]]
        else:
            holder[f"{path[-1]}x" if what == "rename" else "more"] = holder[path[-1]]
            if what == "rename":
                del holder[path[-1]]
    return value


PIECES = [
    "",
    "\0",
    "\ufeff",
    "\n",
    "\r",
    "\t",
    '"',
    "{",
    "[" * 3000,
    "9" * 5000,
    "&a *a",
    "\u202e",
    "nan",
    "NaN",
    "1_0",
    "-",
]
PIECES += [": ", "x" * 10**5, "!!int x", "\\ud800", "٦"]
BYTES = st.sampled_from([*(piece.encode() for piece in PIECES), b"\xff", b"\xe9"])


@st.composite
def damaged(draw, content: bytes):
    """Bytes of which some pieces were cut, replaced, or written twice."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 0, 1, 3, 20, 10**6])))
        content = content[:start] + draw(BYTES | st.just(content[start:end] * 2)) + content[end:]
    return content


def taken(read):
    """What ``read`` gives; None where it says in a few short lines, and soon, why it does not."""
    try:
        with soon():
            return read()
    except XlscaleError as error:
        check_told(str(error))
        return None


@contextmanager
def soon():
    """Fail after LONGEST seconds, also in the middle of waiting for something."""

    def late(*_):
        raise AssertionError(f"took more than {LONGEST} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_told(text: str) -> None:
    lines = text.rstrip("\n").split("\n")
    assert 1 <= len(lines) <= 20
    assert all(0 < len(line) <= 300 and line.isprintable() for line in lines), lines


def dumped(value) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def as_yaml(value) -> bytes:
    """The value as YAML, which has keys that are numbers."""
    return yaml.safe_dump(value).encode()


ROOT = files.ROOT


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """A place for cards, locks and studies of which all may be broken."""
    for name in ("data", "models", "sources"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(catalogue, "MANIFEST", tmp_path)
    monkeypatch.setattr(catalogue, "LOCKS", tmp_path / "locks")
    (tmp_path / "locks").mkdir()
    yield tmp_path
    monkeypatch.undo()
    catalogue.clear_caches()


def card_of(folder: str, name: str) -> dict:
    return yaml.safe_load((ROOT / "data_manifest" / folder / f"{name}.yaml").read_text(encoding="utf-8"))


CARDS = [("data", "topic"), ("data", "symbol_group"), ("models", "e5_small_healed"), ("models", "xlm_r_base")]
CARDS += [("sources", name) for name in ("xnli", "udpos", "sciq", "tatoeba")]


@given(st.data())
@fuzz(160)
def test_cards(manifest, data):
    folder, name = data.draw(st.sampled_from(CARDS))
    value = card_of(folder, name)
    path = manifest / folder / f"{name}.yaml"
    path.write_bytes(data.draw(changed(value).map(as_yaml) | damaged(as_yaml(value))))
    catalogue.clear_caches()
    load = catalogue.model_card if folder == "models" else catalogue.data_card
    if card := taken(lambda: load(name)):
        check_card(card)


def check_card(card):
    if isinstance(card, schema.ModelCard):
        assert card.rungs and len({*card.rungs}) == len(card.rungs) and min(card.rungs) >= 1
        names = [rung.file for rung in (card.healed.rungs.values() if card.healed else ())]
        packages = [card.package] if card.package else []
    else:
        assert len({*card.languages}) == len(card.languages) and bool(card.languages) == (card.role == "target")
        assert card.splits.keys() <= {"train", "dev", "test"}
        assert all(rows is None or rows > 0 for languages in card.splits.values() for rows in languages.values())
        assert card.labels is None or len({*card.labels}) == len(card.labels)
        names, packages = [card.file], card.packages
        for part in card.source.parts if card.source else ():
            names += [name for place in part.places for name in (place.files, place.labels) if name]
    names += [package.file for package in packages]
    assert all(files.inside(name) for name in names)
    assert all(package.name[0] not in "-./" and ":" not in package.name for package in packages)


LOCK = {
    "card": "xnli",
    "sha256": "0" * 64,
    "splits": {"train": {"en": 3}, "test": {"de": 2}},
    "labels": ["a", "b"],
    "dropped": 0,
    "revisions": {"facebook/xnli": "1" * 40},
    "files": {"facebook/xnli/a.parquet": [10, "2" * 64]},
}


@given(changed(LOCK).map(dumped) | damaged(json.dumps(LOCK).encode()))
@fuzz(120)
def test_locks(manifest, content):
    (manifest / "locks" / "xnli.json").write_bytes(content)
    catalogue.clear_caches()
    if lock := taken(lambda: catalogue.lock("xnli")):
        assert isinstance(lock, sources.Lock) and lock.card == "xnli" and lock.files
        assert all(size >= 0 and len(sha256) == 64 for size, sha256 in lock.files.values())


def study_of(name: str) -> dict:
    return yaml.safe_load((ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8"))


@given(st.data())
@fuzz(120)
def test_studies(tmp_path, monkeypatch, data):
    value = study_of("smoke")
    (tmp_path / "smoke.yaml").write_bytes(data.draw(changed(value).map(as_yaml) | damaged(as_yaml(value))))
    monkeypatch.setattr(studies, "STUDIES", tmp_path)

    def load():
        study = studies.load("smoke")
        return study, study.cells()

    if found := taken(load):
        study, cells = found
        assert cells and len({*study.seeds}) == len(study.seeds) and all(0 <= seed < 2**32 for seed in study.seeds)
        assert (
            {*study.targets} <= study.target_recipes.keys() <= {*catalogue.names("data"), *catalogue.names("sources")}
        )


@given(st.dictionaries(st.sampled_from(["phase", "parameters", "id", "more"]), HOSTILE) | HOSTILE)
@fuzz(60)
def test_specs(value):
    from xlscale.experiment import cells

    taken(lambda: cells.from_spec(value, "spec.json"))


@pytest.fixture(scope="module")
def layer():
    """The published layer with a few of its rows: all of them are compared with each new one."""
    whole = tables.load()
    return replace(whole, results=whole.results[:50])


HEADER, VALUES = [*ROW], [*ROW.values()]


def table(header, *lines) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header, *lines])
    return text.getvalue().encode("utf-8", "surrogatepass")


@st.composite
def changed_rows(draw):
    line = [
        draw(HOSTILE.map(str) | st.text(max_size=9) | st.just(text)) if draw(st.booleans()) else text for text in VALUES
    ]
    return table(HEADER, VALUES, line)


@given(changed_rows() | damaged(table(HEADER, VALUES, [*VALUES[:-1], "secondary"])))
@fuzz(150)
def test_published_rows(layer, tmp_path, content):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)

    def read():
        lines = rows.read(path)
        return lines if not rows.faults(lines, layer) else None

    for _, row in taken(read) or ():
        assert all(text.isprintable() for text in row.values())
        assert row["value"].isascii() and 0 <= rows.number(row["value"]) <= 100
        assert not tables.parameters(row["params"])[0] > 1e16


def test_a_file_of_nothing_but_faults_is_told_in_twenty_lines(tmp_path):
    folder = shutil.copytree(tables.FOLDER, tmp_path / "published")
    path = tmp_path / "mine.csv"
    path.write_bytes(table(HEADER, *([*VALUES[:-2], "", "x" * 1000] for _ in range(20_000))))
    with soon(), pytest.raises(XlscaleError) as error:
        published.add(path, folder)
    check_told(str(error.value))


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A folder of predictions and one of labels with a language of each kind of task, and the benchmark of these."""
    folder = tmp_path_factory.mktemp("scored")
    kept = []
    for name, contents in GOOD.items():
        task = TASKS[name].model_copy(update={"languages": TASKS[name].languages[:1]})
        kept.append(task)
        for side, text in zip(("labels", "predictions"), contents, strict=True):
            write(folder / side, {f"{name}/{task.file.format(language=task.languages[0])}": text})
            if task.development:
                write(folder / side, {f"{name}/{task.development.format(language=task.languages[0])}": text})
    return folder, XTREME_R.model_copy(update={"tasks": kept})


@given(st.data())
@fuzz(150)
def test_prediction_folders(scored, monkeypatch, capsys, data):
    folder, of = scored
    monkeypatch.setattr(benchmark, "load", lambda name: of)
    task = data.draw(st.sampled_from(of.tasks))
    side = data.draw(st.sampled_from(["predictions", "predictions", "labels"]))
    path = data.draw(st.sampled_from(sorted((folder / side / task.name).iterdir())))
    whole = path.read_bytes()
    try:
        path.write_bytes(data.draw(damaged(whole)))
        names = ["--predictions", str(folder / "predictions"), "--labels", str(folder / "labels"), "--tasks", task.name]
        with soon():
            code = command.main(names)
    finally:
        path.write_bytes(whole)
    told = capsys.readouterr()
    if code:
        check_told(told.err)
    else:
        assert not told.err and all(
            0 <= float(word) <= 100 for line in told.out.splitlines()[2:3] for word in line.split()[1:]
        )


NLI = {"premise": "a", "hypothesis": "b", "label": 1}
TAGGED = {"tokens": ["a", "b"], "tags": [0, 1], "choices": ["x", "y"], "answer": 1}
QA = {"question": "q", "context": "a b c", "answers": {"text": ["b"], "answer_start": [2]}, "id": "1", "title": "t"}
RECORDS = [NLI | TAGGED, QA]
QUESTION = {"id": "1", "question": "q", "answers": [{"text": "b", "answer_start": 2}]}
SQUAD = {"data": [{"title": "t", "paragraphs": [{"context": "a b c", "qas": [QUESTION]}]}]}
CONTEXT = {"text": "a b c", "language": "en", "sentence_spans": [{"start": 0, "end": 5}]}
SPAN = {"start": 2, "end": 3, "text": "b"}
MENTION = {"context": CONTEXT, "mentions": [{"example_id": "1", "entity_id": "Q1", "mention_span": SPAN}]}
FORMATS = {
    "jsonl": json.dumps(RECORDS[0]),
    "squad": json.dumps(SQUAD),
    "lareqa": json.dumps(SQUAD).replace('"qas"', '"sentence_breaks": [[0, 5]], "qas"'),
    "mewslix": json.dumps(MENTION),
    "tsv": "a\tb\t0\nc\td\t1",
    "tags": "a\tO\nb\tB-X\n\nc\tO",
    "lines": "a\nb",
    "conllu": "1\ta\t_\tNOUN\t_\t_\t0\troot\t_\t_\n2-3\tbc\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "2\tb\t_\tADP\t_\t_\t1\tx\t1:x\t_\n3\tc\t_\tDET\t_\t_\t1\tx\t2:x|3:y\t_",
    "bucc": "en-1\ta\nen-2\tb",
}


@given(st.data())
@fuzz(150)
def test_files_of_every_reader(tmp_path, data):
    reader = data.draw(st.sampled_from(sorted(FORMATS)))
    text = FORMATS[reader]
    content = damaged(text.encode())
    if text.startswith("{"):
        content |= changed(json.loads(text)).map(dumped)
    path = tmp_path / ("a.en" if reader == "bucc" else "a.txt")
    path.write_bytes(data.draw(content))
    taken(lambda: list(convert.read(reader, [path])))


@given(st.data())
@fuzz(100)
def test_records_of_every_family(tmp_path, monkeypatch, data):
    """Records whose fields hold anything, through the mappings of a card."""
    monkeypatch.setenv("XLSCALE_GIVEN", str(tmp_path))
    record = data.draw(changed(data.draw(st.sampled_from(RECORDS))))
    (tmp_path / "a.jsonl").write_bytes(dumped(record) + b"\n")
    columns = {
        "classification": {"text": "premise", "second": "{hypothesis}", "label": {"of": "label", "map": ["no", "yes"]}},
        "tagging": {"text": {"join": "tokens"}, "tokens": "tokens", "tags": {"of": "tags", "map": ["O", "B-X"]}},
        "multiple_choice": {"text": "premise", "choices": "choices", "answer": "answer"},
        "span_qa": {"question": "question", "context": "context", "answers": "answers.text",
                    "answer_starts": "answers.answer_start"},
        "retrieval": {"text": {"sentence": "context", "of": "answers.answer_start"}},
    }  # fmt: skip
    family = data.draw(st.sampled_from(sorted(columns)))
    value = card_of("sources", "mnli") | {"family": family, "labels": ["X", "no", "yes"], "name": "fuzzed"}
    value |= {"splits": {"train": {"en": None}}, "metric": schema.METRICS[family]}
    value |= {"chance": 1 / 3 if family == "classification" else CHANCE[family]}
    place = {"origin": "here", "files": "a.jsonl", "reader": "jsonl"}
    value["source"] = {
        "origins": {"here": {"kind": "folder", "variable": "XLSCALE_GIVEN", "schema_read": "here"}},
        "columns": columns[family],
        "parts": [{"split": "train", "languages": ["en"], "places": [place]}],
    }
    card = parse(schema.DataCard, value, "card")
    monkeypatch.setattr(catalogue, "lock", lambda name: None)
    if found := taken(lambda: convert.rows(card)):
        assert found["text" if "text" in found.column_names else "context"].null_count in (0, len(found))


CARD = {"reader": "hf", "rungs": [1, 2, 3], "prefix": "", "licence": "", "origin": "", "trained_on": "", "name": "m"}
CARD |= {"title": "m", "source": {"kind": "folder", "variable": "XLSCALE_GIVEN", "schema_read": "here"}}


@pytest.fixture(scope="module")
def model(elsewhere, tmp_path_factory):
    """A copy of a tiny model, to be changed."""
    tiny = elsewhere / "given" / "hub" / "xlscale-fixtures" / "tiny-xlm-r"
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("model") / "tiny")
    hf.examine(folder, parse(schema.ModelCard, CARD, "card"))  # imports what takes seconds
    return folder


@given(st.data())
@fuzz(40)
def test_model_folders(model, data):
    card = parse(schema.ModelCard, CARD, "card")
    path = model / data.draw(
        st.sampled_from(["config.json", "config.json", "tokenizer_config.json", "model.safetensors"])
    )
    whole = path.read_bytes()
    try:
        if path.suffix == ".json" and data.draw(st.booleans()):
            path.write_bytes(dumped(data.draw(changed(json.loads(whole)))))
        else:
            path.write_bytes(data.draw(damaged(whole)))

        def examine():
            hub_files.hashes(model)
            hf.examine(model, card)
            return [tensor for _, tensor in hub_files.tensors_of(model)]

        assert all(tensor.isfinite().all() for tensor in taken(examine) or ())
    finally:
        path.write_bytes(whole)


@given(st.data())
@fuzz(60)
def test_an_index_names_files_beside_it(tmp_path, data):
    index = {"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / hub_files.INDEX).write_bytes(
        data.draw(changed(index).map(dumped) | damaged(json.dumps(index).encode()))
    )
    for name in taken(lambda: hub_files.weights(tmp_path)) or ():
        assert Path(name).name == name and name.endswith(".safetensors")


def test_what_the_fuzzing_starts_from_is_taken(scored, manifest, model, layer, tmp_path):
    """Otherwise nothing but refusals would be tried."""
    card = parse(schema.ModelCard, CARD, "card")
    hf.examine(model, card)
    save_file(load_file(model / "model.safetensors"), tmp_path / "again.safetensors")
    (manifest / "locks" / "xnli.json").write_text(json.dumps(LOCK))
    for folder, name in CARDS:
        (manifest / folder / f"{name}.yaml").write_bytes(as_yaml(card_of(folder, name)))
    catalogue.clear_caches()
    assert catalogue.lock("xnli") and all(catalogue.card(name) for _, name in CARDS)
    (tmp_path / "mine.csv").write_bytes(table(HEADER, VALUES))
    assert not rows.faults(rows.read(tmp_path / "mine.csv"), layer)
    for reader, text in FORMATS.items():
        path = tmp_path / ("b.en" if reader == "bucc" else "b.txt")
        path.write_text(text)
        assert [*convert.read(reader, [path])]

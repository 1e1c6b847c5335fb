"""Exported cells: the scorer gives their values, and files of the reference come out as they went in.

Three numbers are held together for every task: what the cell's own code says, what the scorer says of the exported
folder, and what XTREME's own program said of the same predictions (fixtures/score_reference.json).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import write
from test_score import REFERENCE, TASKS
from transformers import PreTrainedTokenizerFast

from xlscale import tasks
from xlscale.acquire.external import convert
from xlscale.cards import catalogue
from xlscale.cards.catalogue import data_card
from xlscale.commands import export
from xlscale.core import manifest
from xlscale.core.files import RESULTS, XlscaleError
from xlscale.core.seals import seal
from xlscale.data import load
from xlscale.experiment import results
from xlscale.metrics.predictions import by_language
from xlscale.metrics.retrieval import average_precision
from xlscale.record import homes, store
from xlscale.tasks import mining
from xlscale.xtreme import benchmark, command, layout
from xlscale.xtreme.benchmark import Benchmark
from xlscale.xtreme.folders import Scores, score_folders

FILES, XTREME_CARDS = REFERENCE["folders"]["files"], sorted(TASKS)


def exported(where: Path, card, rows: pd.DataFrame, predictions: pd.DataFrame, asked_of=layout.asked) -> Scores:
    """What the scorer says of the exported predictions, by the description that goes with them."""
    asked = asked_of(card, rows, predictions)
    task = layout.described(card, asked, rows)
    for language, texts in layout.files(card, asked, rows):
        name = f"{card.name}/{task.file.format(language=language)}"
        write(where, dict(zip((f"predictions/{name}", f"labels/{name}"), texts, strict=True)))
    about = Benchmark(name="export", title="export", citation="none", tasks=[task])
    write(where, {"benchmark.yaml": yaml.safe_dump(about.model_dump())})
    return score_folders(benchmark.load(str(where / "benchmark.yaml")), where / "predictions", where / "labels")


def agree(scores: Scores, card, values: dict[str, float]) -> None:
    found = scores.tasks[card.name].languages
    assert {code: row[layout.metric(card)] for code, row in found.items()} == pytest.approx(
        {code: 100 * value for code, value in values.items()}, abs=1e-4
    )


# What stands in the files of the reference, as a data set and as the predictions of a cell.


def lines(name: str, language: str) -> list[tuple[str, str]]:
    """The lines of the predictions and of the labels of a task in a language."""
    file = TASKS[name].file.format(language=language)
    texts = (FILES[f"{side}/{name}/{file}"].split("\n") for side in ("predictions", "labels"))
    return [pair for pair in zip(*texts, strict=True) if any(pair)]


def objects(name: str, language: str) -> tuple[dict, dict]:
    file = TASKS[name].file.format(language=language)
    return tuple(json.loads(FILES[f"{side}/{name}/{file}"]) for side in ("predictions", "labels"))


def of_lines(name: str, language: str):
    for number, (predicted, gold) in enumerate(lines(name, language)):
        if name == "xcopa":
            predicted, gold = (str(json.loads(side)["label"]) for side in (predicted, gold))
        row = {"item": str(number), "group": str(number), "label": gold, "answer": int(gold) if gold.isdigit() else 0}
        yield row, {"prediction": predicted, "correct": float(predicted == gold)}


def of_tags(name: str, language: str):
    file = TASKS[name].file.format(language=language)
    sides = (
        [one.split() for one in FILES[f"{side}/{name}/{file}"].split("\n\n")] for side in ("predictions", "labels")
    )
    for number, (predicted, gold) in enumerate(pair for pair in zip(*sides, strict=True) if pair[1]):
        hits = {key: value[0] for key, value in tasks.of(data_card(name)).counts([predicted], [gold]).items()}
        yield {"item": str(number), "group": str(number), "tags": gold}, {"prediction": " ".join(predicted), **hits}


def of_answers(name: str, language: str):
    predicted, gold = objects(name, language)
    asked = [q for article in gold["data"] for paragraph in article["paragraphs"] for q in paragraph["qas"]]
    for question in asked:
        answers = [answer["text"] for answer in question["answers"]]
        exact, f1 = tasks.of(data_card(name))._score(predicted[question["id"]], answers, language)
        row = {"item": question["id"], "group": question["id"], "answers": answers}
        yield row, {"prediction": predicted[question["id"]], "correct": exact, "f1": f1}


def of_indices(name: str, language: str):
    for number, (predicted, gold) in enumerate(lines(name, language)):
        group = f"{language}-{gold}"
        row = {"item": f"{language}-{number}", "group": group, "text": "", "pool": language}
        prediction = f"{language}-{predicted}"
        yield row, {"prediction": prediction, "correct": float(prediction == group)}
        own = f"{language}-{number}"
        yield {"language": "en", "item": own, "group": own, "text": f"{number:04}", "pool": language}, None


def of_pairs(name: str, language: str):
    file, prefix = TASKS[name].file.format(language=language), f"{language}-test-"
    predicted, gold = (dict(line.split("\t") for line in FILES[f"{side}/{name}/{file}"].split("\n") if line)
                       for side in ("predictions", "labels"))  # fmt: skip
    for source in sorted({*predicted, *gold}):
        group = prefix + gold.get(source, source)
        found = prefix + predicted[source] if source in predicted else mining.NOTHING
        true = group if source in gold else mining.NOTHING
        counts = {"matches": 2 * (found == true != mining.NOTHING), "spans": (found != "") + (true != "")}
        yield {"item": prefix + source, "group": group, "pool": prefix[:-1]}, {"prediction": found, **counts}
    for target in sorted({*predicted.values(), *gold.values()}):
        yield {"language": "en", "item": prefix + target, "group": prefix + target, "pool": prefix[:-1]}, None


def of_rankings(name: str, language: str):
    predicted, gold = objects(name, language)
    for query, relevant in gold.items():
        value = average_precision(predicted[query], relevant, 20)
        named = " ".join(f"de:{one}" for one in predicted[query][:20])
        yield {"item": query, "group": query, "role": "query", "relevant": []}, {
            "prediction": named, "average_precision": value
        }  # fmt: skip
        for one in relevant:
            yield {"language": "de", "item": one, "group": one, "role": "candidate", "relevant": [query]}, None


READ = {
    **dict.fromkeys(["labels", "json_labels"], of_lines),
    "tags": of_tags,
    "answers": of_answers,
    "indices": of_indices,
    "pairs": of_pairs,
    "ranking": of_rankings,
}


def of_reference(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and predictions of a task, as the files of the reference have them."""
    rows, predictions = [], []
    for language in TASKS[name].languages:
        for row, predicted in READ[TASKS[name].format](name, language):
            rows.append({"language": language} | row)
            if predicted:
                predictions.append({"language": language, "item": row["item"]} | predicted)
    return pd.DataFrame(rows), pd.DataFrame(predictions)


@pytest.mark.parametrize("name", [name for name in XTREME_CARDS if name != "lareqa"])
def test_cell_scorer_and_xtreme_s_own_program_give_one_number(name, tmp_path):
    card = catalogue.documented(name)
    rows, predictions = of_reference(name)
    scores = exported(tmp_path, card, rows, predictions)
    agree(scores, card, by_language(card.metric, predictions))
    version = "xtreme-r" if name in REFERENCE["folders"]["reference"]["xtreme-r"]["tasks"] else "xtreme"
    recorded = REFERENCE["folders"]["reference"][version]["tasks"][name]
    prefix = "mlqa_" if card.normalisation == "mlqa" else ""
    found = scores.tasks[name].languages
    metrics = [key for key in recorded if not key.startswith("avg")]
    assert metrics
    for metric in metrics:
        ours = {code: row[prefix + metric] for code, row in found.items()}
        assert {code: ours[code] for code in recorded[metric]} == pytest.approx(recorded[metric])


# What a cell's own code predicts on the copies of the sources.
SHORT = {"tagging": 5}  # tokens of an input, so that words are left over
WIDTH = 8
KNOWN = {"group", "relevant"}


def outputs(task, rows, encoded, generator) -> list[np.ndarray]:
    """What a model gives that knows nothing, or of sentences that are translations something, in the family's shape."""
    normal = lambda *shape: generator.normal(size=shape).astype(np.float32)  # noqa: E731
    if task.card.family == "span_qa":
        return [normal(n, 2) for n in encoded.lengths]
    if task.card.family == "tagging":
        return [normal(n, len(task.tags)) for n in encoded.lengths]
    if task.card.family in ("classification", "multiple_choice"):
        return [normal(*([len(task.card.labels)] if task.card.labels else [])) for _ in range(len(encoded))]
    about = [
        (row.get("relevant") or [row["group"]])[0] for row in rows.select_columns(sorted(KNOWN & {*rows.column_names}))
    ]
    meant = {group: normal(WIDTH) for group in sorted({*about})}
    found = [meant[about[row]] + normal(WIDTH) for row in encoded.row]
    return [one / np.linalg.norm(one) for one in found]


@pytest.mark.parametrize("name", XTREME_CARDS)
def test_a_cell_s_values_are_the_scorer_s(name, given, tmp_path):
    convert.make(data_card(name))
    card = data_card(name)
    task, rows = tasks.of(card), load.splits(card)["test"]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(given / "hub" / "xlscale-fixtures" / "tiny-xlm-r")
    encoded = task.encode(rows, tokenizer, "", SHORT.get(card.family, 64))
    table = task.predictions(rows, encoded, outputs(task, rows, encoded, np.random.default_rng(1)))
    values = {code: score.value for code, score in task.scores(table).items()}
    assert len({*values.values()}) > 1
    read = export.rows_of.__wrapped__(name)
    if card.family == "span_qa":  # what may not be passed on is recorded as a place
        assert table["prediction"].str.fullmatch(r"\d+:\d+").all()
        with pytest.raises(XlscaleError, match=f"{name}: prediction: expected the first and last character"):
            export.asked_of(card, read, table.assign(prediction="9:99999"))
    if card.family == "tagging":  # some sentences are read in parts
        assert len(encoded) > len(rows) + 10 and (table["cut"] == 0).all()
    agree(exported(tmp_path, card, read, table, export.asked_of), card, values)
    # With the user's own labels, which lie in XTREME's layout, too.
    labels = given / "labels" / name
    if labels.is_dir() and name not in ("udpos", "tatoeba"):  # the hub's copy of which has other words, and order
        own = next(one for one in benchmark.load(card.benchmarks[0]).tasks if one.name == name)
        about = Benchmark(name="own", title="own", citation="none", tasks=[own])
        agree(score_folders(about, tmp_path / "predictions", labels.parent, allow_missing=True), card, values)


# The command.
TRAINED, UNTRAINED = "target-e5_small-k1-none-topic-s11-e1ea346ece", "target-e5_small-k1-none-udhr-s0-fe346f4461"


@pytest.fixture(scope="module")
def recorded():
    return store.results()


@pytest.fixture
def known(recorded, monkeypatch):
    monkeypatch.setattr(store, "results", lambda *_: recorded)


@pytest.mark.usefixtures("known")
def test_recorded_cells_are_exported_scored_and_compared_as_the_command_says(recorded, tmp_path, capsys):
    out = tmp_path / "out"
    assert export.export(f"{TRAINED} {UNTRAINED}", str(out), "pilot")
    said = capsys.readouterr().out
    # What is not trained has no seed, and lies beside what is.
    assert {path.name for path in out.iterdir()} == {"e5_small-k1-none-s11", "labels", "benchmark.yaml"}
    (line,) = (line for line in said.splitlines() if line.startswith("make score "))
    options = [f"--{part.lower()}" for part in line.removeprefix("make score ").replace("=", " ").split()[::2]]
    values = [part.partition("=")[2] for part in line.split()[2:]]
    given = [one for pair in zip(options, values, strict=True) for one in pair]
    assert command.main([*given, "--json", str(tmp_path / "scores.json")]) == 0
    found = json.loads((tmp_path / "scores.json").read_text())["tasks"]
    for cell, target in ((TRAINED, "topic"), (UNTRAINED, "udhr")):
        rows = found[target]["languages"]["accuracy"]
        assert rows == pytest.approx({code: 100 * one.value for code, one in recorded[cell].languages.items()})
        # The cell's value leaves English out; the scorer's average has every language.
        others = [value for code, value in rows.items() if code != "en"]
        assert np.mean(others) == pytest.approx(100 * recorded[cell].value)
        assert found[target]["averages"]["accuracy"] == pytest.approx(np.mean([*rows.values()]))
        assert f"{target}: value {100 * recorded[cell].value:.1f} of " in said
    assert found["topic"]["averages"]["accuracy"] != pytest.approx(100 * recorded[TRAINED].value)


@pytest.mark.usefixtures("known")
def test_a_cell_that_is_not_recorded_is_taken_from_runs(recorded, tmp_path, monkeypatch, capsys):
    result, runs = recorded[TRAINED], tmp_path / "runs"
    folder = runs / TRAINED
    folder.mkdir(parents=True)
    shutil.copy(RESULTS / "predictions" / f"{TRAINED}.parquet", folder / results.PREDICTIONS)
    (folder / results.RESULT).write_text(result.model_dump_json())
    for name in (results.PREDICTIONS, results.RESULT):
        seal(folder / name)
    monkeypatch.setattr(homes, "ids", lambda _: set())
    monkeypatch.setattr(export, "RUNS", runs)
    assert export.export(TRAINED, str(tmp_path / "out"), "pilot")
    assert f"of {runs}" in capsys.readouterr().out
    monkeypatch.setattr(export, "RUNS", tmp_path)
    assert not export.export(TRAINED, str(tmp_path / "other"), "pilot")
    assert capsys.readouterr().out == (
        f"not exported: {TRAINED}: expected its result in results/ or runs/; make cell ID={TRAINED}\n"
    )


@pytest.mark.usefixtures("known")
def test_what_cannot_be_exported_is_one_line(recorded, tmp_path, monkeypatch, capsys):
    pretrained = next(name for name in recorded if name.startswith("pretrained"))
    dev = next(name for name, one in recorded.items() if one.parameters.get("split") == "dev")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for cells, out, message in [
        ("nosuch-cell", "new", "expected the id of a cell"),
        (" ", "new", "CELLS: expected ids of cells"),
        (pretrained, "new", "expected a target cell that is evaluated on test"),
        (dev, "new", "expected a target cell that is evaluated on test"),
        (TRAINED, "full", "expected a new folder or an empty one"),
        (TRAINED, manifest.RECORD / "new", "OUT=.*results/new: expected a place outside results, which holds"),
        (TRAINED, "full/mine.txt/new/er", r"OUT=.*er: expected a place in a folder, got .*mine\.txt, which is none"),
    ]:
        with pytest.raises(XlscaleError, match=message) as caught:
            export.export(cells, str(tmp_path / out), "pilot")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "new").exists()
    # Two learning rates of one seed have one folder.
    other = recorded[TRAINED].model_copy(update={"id": "other"})
    with pytest.raises(
        XlscaleError, match=f"topic of e5_small-k1-none-s11: expected one cell, got {TRAINED} and other"
    ):
        export._systems([recorded[TRAINED], other])
    # What was changed since is not handed on.
    altered = recorded[TRAINED].model_copy(update={"predictions_sha256": "0" * 64})
    monkeypatch.setattr(store, "results", lambda *_: recorded | {TRAINED: altered})
    assert not export.export(TRAINED, str(tmp_path / "new"), "pilot")
    assert "predictions_sha256: expected 0000" in capsys.readouterr().out


@pytest.mark.usefixtures("known")
def test_a_cell_of_other_items_is_told_and_the_export_of_the_others_is_whole(recorded, tmp_path, monkeypatch, capsys):
    """The labels beside all of them are those of the first."""
    other = next(name for name in recorded if name.startswith("target-e5_small-k1-none-topic-s12"))
    whole = export._written

    def written(result, path):
        predicted, labels, task = whole(result, path)
        if result.id == other:
            labels = {name: text.partition("\n")[2] for name, text in labels.items()}
        return predicted, labels, task

    monkeypatch.setattr(export, "_written", written)
    out = tmp_path / "with space"
    assert not export.export(f"{TRAINED} {other}", str(out), "pilot")
    said = capsys.readouterr().out
    assert f"not exported: {other}: expected the test items of the other cells of this target, got others\n" in said
    assert {path.name for path in out.iterdir()} == {"e5_small-k1-none-s11", "labels", "benchmark.yaml"}
    assert f"LABELS='{out}/labels'" in said
    about = benchmark.load(str(out / "benchmark.yaml"))
    assert score_folders(about, out / "e5_small-k1-none-s11", out / "labels").tasks["topic"].languages


def test_a_part_of_the_queries_says_how_many_candidates_there_are(tmp_path):
    """As of a cell with fewer test items: an index is of the whole pool, of which the files have fewer lines."""
    card = catalogue.documented("tatoeba")
    rows, predictions = of_reference("tatoeba")
    part = predictions.groupby("language").head(2)
    scores = exported(tmp_path, card, rows, part)
    agree(scores, card, by_language("p_at_1", part))
    assert set(scores.tasks["tatoeba"].task.candidates.values()) == {4}
    text = (tmp_path / "predictions" / "tatoeba" / "test-ar.tsv").read_text()
    write(tmp_path, {"predictions/tatoeba/test-ar.tsv": text.replace(text.split()[0], "4", 1)})
    about = benchmark.load(str(tmp_path / "benchmark.yaml"))
    with pytest.raises(XlscaleError, match="test-ar.tsv:1: tatoeba in ar: expected an index from 0 to 3, got 4"):
        score_folders(about, tmp_path / "predictions", tmp_path / "labels")


def test_the_answers_of_multiple_choice_are_its_choices_and_not_those_that_are_right():
    """Else a prediction is refused where the last choice is right of no item."""
    card = catalogue.data_card("social_iqa").model_copy(update={"name": "mine", "benchmarks": []})
    asked = pd.DataFrame({"answer": [0, 0], "choices": [["a", "b"], ["a", "b", "c"]]})
    assert layout._labels_of(card, asked) == ["0", "1", "2"]
    assert "choices" in layout.FAMILIES["multiple_choice"][2]


def test_labels_that_look_like_numbers_are_texts_in_the_description(tmp_path):
    task = {"name": "mine", "title": "Mine", "group": "own", "format": "labels", "file": "{language}.txt"}
    task |= {"labels": ["08", "1e3", "no"], "metrics": ["accuracy"], "score": ["accuracy"], "languages": ["de"]}
    export._describe(tmp_path, {"mine": benchmark.Task(**task)}, "system")
    assert benchmark.load(str(tmp_path / export.DESCRIPTION)).tasks[0].labels == ["08", "1e3", "no"]


def test_an_item_of_another_data_set_is_named():
    rows, predictions = of_reference("xnli")
    with pytest.raises(XlscaleError, match="xnli: item: expected those of the data set, each once, got ar elsewhere"):
        layout.asked(catalogue.documented("xnli"), rows, predictions.replace({"item": {"0": "elsewhere"}}))


def test_two_do_not_write_into_one_folder(tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    monkeypatch.setattr(export, "check_out", lambda *_: None)  # both have looked before either wrote
    monkeypatch.setattr(export, "_export", lambda *_: export.export(TRAINED, out, "pilot"))
    with pytest.raises(XlscaleError, match="OUT=.*out: expected a folder that no other command writes to"):
        export.export(TRAINED, out, "pilot")
    assert not list((tmp_path / "out").iterdir())

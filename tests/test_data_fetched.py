"""Data that are not bundled: built from a package when they are acquired; how medical reviews are chosen."""

import io
import json
import subprocess
import sys
import tarfile

import pyarrow as pa
import pytest
import yaml

from data_manifest.builders import medical_reviews
from data_manifest.builders.exclusions import Exclusions
from xlscale.acquire import datasets, ensure, packages
from xlscale.acquire.external import convert
from xlscale.cards import catalogue, schema
from xlscale.core import strict
from xlscale.core.files import ROOT, XlscaleError, sha256_file
from xlscale.data import load
from xlscale.data import schema as bundles

NOTHING = Exclusions(frozenset(), frozenset())
BUILDER = """
import json, os
from pathlib import Path

def build(card, files):
    with open(os.environ["TOY_BUILDS"], "a") as log:
        log.write(card.name)
    rows = json.loads(files[0].read_text())["rows"]
    return [row | {"item": f"{n}", "group": f"{n}"} for n, row in enumerate(rows)]
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The card of a set that is built from a package of one file, in a checkout that has its builder, and what says how
    often it was built so far."""
    texts = [{"split": "train", "language": "en", "text": f"text {n}", "label": "a"} for n in range(3)]
    folder = tmp_path / "by hand"
    folder.mkdir()
    (folder / "toy-1.0.json").write_text(json.dumps({"rows": texts}))
    rows = bundles.table("classification", [row | {"item": f"{n}", "group": f"{n}"} for n, row in enumerate(texts)])
    bundles.write(rows, tmp_path / "expected.parquet")
    fields = {
        "name": "toy",
        "title": "Toy",
        "version": 1,
        "role": "intermediate",
        "family": "classification",
        "type": "domain",
        "metric": "accuracy",
        "chance": 1.0,
        "labels": ["a"],
        "languages": [],
        "splits": {"train": {"en": 3}},
        "file": "toy.parquet",
        "bundled": False,
        "sha256": sha256_file(tmp_path / "expected.parquet"),
        "builder": "toy",
        "packages": [
            {
                "client": "pip",
                "name": "toy",
                "version": "1.0",
                "file": "toy-1.0.json",
                "sha256": sha256_file(folder / "toy-1.0.json"),
                "licence": "none",
            }
        ],
        "licence": "not verified",
        "citation": "",
        "description": "",
        "limits": "",
    }
    write_checkout(tmp_path / "checkout", fields)
    environment = {"ROOT": tmp_path / "checkout", "CACHE": tmp_path / "cache", "PACKAGES": folder}
    for name, path in environment.items():  # of the processes that are started
        monkeypatch.setenv(f"XLSCALE_{name}", str(path))
    monkeypatch.setenv("TOY_BUILDS", str(tmp_path / "builds"))
    monkeypatch.setattr(datasets, "ROOT", tmp_path / "checkout")
    monkeypatch.setattr(packages, "STORE", tmp_path / "store")
    monkeypatch.setattr(schema, "CACHE", tmp_path / "cache")
    card = strict.parse(schema.DataCard, fields, "toy.yaml")
    return card, lambda: (tmp_path / "builds").read_text().count("toy") if (tmp_path / "builds").exists() else 0


def write_checkout(root, fields):
    """A checkout with this card, its builder, and the code and builders that there are."""
    builders = root / "data_manifest" / "builders"
    builders.mkdir(parents=True)
    for path in (ROOT / "data_manifest" / "builders").glob("*.py"):
        (builders / path.name).symlink_to(path)
    (builders / "toy.py").write_text(BUILDER)
    (root / "data_manifest" / "data").mkdir()
    (root / "data_manifest" / "data" / "toy.yaml").write_text(yaml.safe_dump(fields))
    (root / "src").symlink_to(ROOT / "src")


def kept(card):
    """Names in the folder where the file should be, but for the lock."""
    return sorted(path.name for path in card.path.parent.glob("*") if path.suffix != ".lock")


def test_it_is_built_when_it_is_acquired_and_never_when_it_is_loaded(toy, monkeypatch, tmp_path):
    card, builds = toy
    with pytest.raises(
        XlscaleError, match=r"toy\.parquet: not found, .* toy version 1; run `make data-fetch CARD=toy`$"
    ):
        load.splits(card)
    assert builds() == 0 and kept(card) == []
    ensure.ensure([card], [])
    assert load.splits(card)["train"]["text"] == ["text 0", "text 1", "text 2"]
    assert builds() == 1 and kept(card) == ["toy.parquet"]
    monkeypatch.setenv("XLSCALE_PACKAGES", str(tmp_path / "none"))
    ensure.ensure([card], [])  # needs no package
    assert len(load.table(card)) == 3 and builds() == 1


def test_a_file_that_is_not_the_cards_is_built_again(toy):
    card, builds = toy
    card.path.parent.mkdir(parents=True)
    card.path.write_bytes(b"of an older card, or cut short")
    with pytest.raises(XlscaleError, match=r"toy\.parquet: sha256: expected .*; run `make data-fetch CARD=toy`$"):
        load.splits(card)
    assert ensure.fetch(card).startswith("toy: built from its packages, sha256 as in the card, in ")
    assert len(load.table(card)) == 3 and builds() == 1


def test_another_sha256_is_refused_and_nothing_stays(toy, tmp_path):
    card, _ = toy
    path = tmp_path / "checkout" / "data_manifest" / "data" / "toy.yaml"
    path.write_text(path.read_text().replace(card.sha256, "a" * 64))
    with pytest.raises(
        XlscaleError, match=f"toy: sha256: expected {'a' * 64}, rebuilt {card.sha256}; the bytes depend"
    ):
        ensure.ensure([card.model_copy(update={"sha256": "a" * 64})], [])
    assert kept(card) == []


def test_a_missing_package_gives_one_line(toy, monkeypatch, tmp_path):
    card, _ = toy
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("XLSCALE_PACKAGES", str(empty))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "no network\n"))
    with pytest.raises(XlscaleError) as error:
        ensure.ensure([card], [])
    said = str(error.value)
    assert said.startswith("data set toy is not bundled but built from toy 1.0: pip failed (no network); ")
    assert "put toy-1.0.json of toy 1.0 into" in said and said.endswith("XLSCALE_PACKAGES names")
    assert "\n" not in said and kept(card) == []


def test_two_commands_at_once_build_it_once(toy):
    card, builds = toy
    command = [sys.executable, "-m", "xlscale", "data", "fetch", "toy"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert all(line.startswith("toy: built from its packages, sha256 as in the card") for line in said)
    assert kept(card) == ["toy.parquet"] and builds() == 1


def test_a_card_without_builder_cannot_be_left_out(toy):
    card, _ = toy
    with pytest.raises(XlscaleError, match="bundled: a data set that is not bundled has a builder and packages"):
        strict.parse(schema.DataCard, card.model_dump() | {"builder": None}, "toy.yaml")


# Medical reviews

SAID = {
    "de": "Der Arzt {} nahm sich viel Zeit und hat mir alles in Ruhe erklärt, ich komme gern wieder.",
    "en": "Doctor {} took a lot of time and explained everything calmly to me, I will gladly return.",
    "es": "El médico {} se tomó mucho tiempo y me explicó todo con calma, volveré con gusto.",
    "fr": "Le médecin {} a pris beaucoup de temps et m'a tout expliqué calmement, je reviendrai volontiers.",
    "it": "Il medico {} si è preso molto tempo e mi ha spiegato tutto con calma, tornerò volentieri.",
    "ja": "{}先生は時間をかけて落ち着いて説明してくれました。",
    "nl": "Dokter {} nam veel tijd en legde me alles rustig uit, ik kom graag terug.",
    "pl": "Lekarz {} poświęcił dużo czasu i spokojnie wszystko mi wyjaśnił , chętnie wrócę .",
    "pt": "O médico {} dedicou muito tempo e explicou-me tudo com calma, voltarei com prazer.",
    "ru": "Врач {} уделил много времени и спокойно мне всё объяснил, я с радостью вернусь.",
    "zh": "{}医生花了很多时间冷静地向我解释了一切。",
}
LABELS = ("ambivalent", "negative", "neutral", "positive")


def example(text, label):
    return {"input": text, "target_scores": {other: int(other == label) for other in LABELS}}


def sources(count=6):
    return {
        language: [example(text.format(f"Name{n}"), LABELS[n % 4]) for n in range(count)]
        for language, text in SAID.items()
    }


def test_a_label_that_train_has_not_is_refused_where_no_card_lists_labels():
    """Else a cell breaks once it has trained."""
    card = catalogue.documented("xnli").model_copy(update={"name": "mine", "labels": []})
    rows = [("train", "b"), ("train", "a"), ("dev", "a"), ("test", "a")]
    table = pa.table({"split": [split for split, _ in rows], "label": [label for _, label in rows]})
    assert convert._labels(card, table) == ["a", "b"]
    table = pa.concat_tables([table, pa.table({"split": ["test"], "label": ["c"]})])
    with pytest.raises(XlscaleError, match="mine: labels: test: expected those of train, got 'c'"):
        convert._labels(card, table)


def test_sentences_are_taken_as_far_as_the_labels_agree():
    found = sources()
    found["pt"] = [*found["pt"][:4], example("Saudações!", "positive")]
    items = list(medical_reviews.aligned(found))
    assert [item.name for item in items] == [f"medicine_sentence/{n}" for n in range(4)]
    assert all(set(item.texts) == set(SAID) for item in items)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("zh", " "),
        ("ja", "Doctor Name2 took his time."),
        ("ru", "Doctor Name2 took his time."),
        ("zh", "先生は時間をかけて説明してくれました"),
        ("es", SAID["pt"].format("Name2")),
        ("de", SAID["de"].format("Name1")),
        ("en", "Too short."),
        ("en", "Too long. " * 40),
    ],
)
def test_a_sentence_is_left_out_where_one_language_fails(language, text):
    found = sources()
    found[language][2] = example(text, LABELS[2])
    assert [item.name[-1] for item in medical_reviews.aligned(found)] == ["0", "1", "3", "4", "5"]


def test_the_review_of_a_sentence_is_found_by_its_letters():
    reviews = medical_reviews.Reviews(["Pierwsze . Drugie zdanie !", "Trzecie zdanie.Wspólne.", "Czwarte. Wspólne."])
    found = [
        reviews.of(text) for text in ("Drugie zdanie!", "Trzecie zdanie .", "Czwarte .", "Wspólne .", "Brak.", "!")
    ]
    assert found == [0, 1, 2, None, None, None]


def sentence(n, label="positive", group=None, **texts):
    own = {language: " ".join(f"{language}{n}w{i}" for i in range(8)) for language in ("en", "de")}
    return medical_reviews.Sentence(f"s{n}", group or f"g{n}", label, own | texts)


def test_splits_share_no_review_and_no_text_in_any_language():
    items = [sentence(n, label) for n, label in enumerate(["negative", "positive"] * 8)]
    # The first are dealt to dev: 16 and 17 repeat one of them in German or come from its review.
    items += [sentence(16, de=items[0].texts["de"]), sentence(17, group="g1")]
    excluded = {"dev": NOTHING, "train": Exclusions(frozenset(["g5"]), frozenset([items[6].texts["de"]]))}
    dealt = medical_reviews.deal(items, excluded, {"dev": 4, "train": 8})
    assert [item.name for item in dealt["dev"]] == ["s0", "s1", "s2", "s3"]
    assert not {"s5", "s6", "s16", "s17"} & {item.name for item in dealt["train"]}
    assert [item.label for item in dealt["train"]].count("negative") == 4
    with pytest.raises(XlscaleError, match="train: expected 100 rows of a language, got 1"):
        medical_reviews.deal(items, excluded, {"dev": 4, "train": 100})


def test_both_cards_are_built_of_the_same_sentences(tmp_path, monkeypatch):
    members = {f"multiemo/medicine_sentence_{language}/task.json": rows for language, rows in sources(16).items()}
    members["multiemo/medicine_text_pl/task.json"] = [
        example(row["input"], "neutral") for row in members["multiemo/medicine_sentence_pl/task.json"]
    ]
    with tarfile.open(tmp_path / "bigbench.tar.gz", "w:gz") as out:
        for name, rows in members.items():
            data = json.dumps({"canary": catalogue.data_card("medical_reviews").canary, "examples": rows}).encode()
            info = tarfile.TarInfo(f"bigbench-1.0.0/bigbench/benchmark_tasks/{name}")
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(medical_reviews, "from_earlier_sets", lambda card, split: NOTHING)
    monkeypatch.setattr(medical_reviews, "drop_near_duplicates", lambda items, texts_of, excluded: items)
    monkeypatch.setattr(medical_reviews, "ROWS", {"dev": 4, "train": 8})
    english, translated = (
        medical_reviews.build(catalogue.data_card(name), [tmp_path / "bigbench.tar.gz"])
        for name in medical_reviews.KEPT
    )
    assert english == [row for row in translated if row["language"] == "en"] and len(english) == 12
    assert {row["language"] for row in translated} == set(SAID) and len(translated) == 12 * 11


def test_the_cards():
    one, all_of_them = (catalogue.data_card(name) for name in ("medical_reviews", "medical_reviews_translated"))
    assert not one.bundled and not all_of_them.bundled and one.canary == all_of_them.canary
    assert one.splits == {"train": {"en": 2000}, "dev": {"en": 300}}
    assert all_of_them.splits == {
        split: dict.fromkeys(sorted(SAID), rows) for split, rows in (("train", 2000), ("dev", 300))
    }

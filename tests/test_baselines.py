"""Baselines: planted data whose values are known by hand, and two bundled targets."""

import shutil

import conftest
import numpy as np
import pandas as pd
import pytest

from xlscale.cards.catalogue import data_card
from xlscale.cards.schema import DataCard
from xlscale.core import cache as kept
from xlscale.core import files
from xlscale.core.files import XlscaleError, sha256_file
from xlscale.data import schema
from xlscale.tasks import baselines
from xlscale.tasks.baselines import CHANCE, MAJORITY, NGRAMS, STRINGS

METRICS = {"classification": "accuracy", "multiple_choice": "accuracy", "retrieval": "p_at_1", "tagging": "span_f1"}
RUSSIAN = ["дом", "лес", "река", "поле", "гора", "снег"]
FILLER = ["house", "forest", "river", "field", "mountain", "snow"]


def planted(folder, family, rows, labels=None):
    """A card of rows (split, language, fields of the family), with its file in ``folder``."""
    rows = [
        {"split": split, "language": language, "item": f"{i}", "group": f"{i}"} | fields
        for i, (split, language, fields) in enumerate(rows)
    ]
    among = {"classification": labels, "multiple_choice": rows[0].get("choices")}.get(family)
    table = schema.table(family, rows)
    path = folder / "planted.parquet"
    schema.write(table, path)
    facts = dict.fromkeys(["title", "licence", "citation", "description", "limits"], "planted")
    card = DataCard(
        name="planted",
        version=1,
        role="target",
        family=family,
        metric=METRICS[family],
        chance=1 / len(among) if among else conftest.CHANCE[family],
        labels=labels,
        languages=sorted({row["language"] for row in rows if row["split"] == "test"} - {"en"}),
        splits=schema.counts(table),
        file="planted.parquet",
        sha256=sha256_file(path),
        packages=[],
        **facts,
    )
    return card.model_copy(update={"file": str(path)})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "CACHE", tmp_path / "cache")


def values(frame):
    """value by (baseline, language), after checks that hold for every table."""
    assert list(frame.columns) == baselines.COLUMNS
    assert frame["value"].between(0, 1).all() and frame["latin"].between(0, 1).all()
    assert not frame.duplicated(["target", "baseline", "language"]).any()
    return frame.set_index(["baseline", "language"])["value"].to_dict()


@pytest.fixture
def classified(tmp_path):
    """The label follows from a name: half of all texts are on games. 'aa' copies the name, 'bb' translates it."""
    names = {"games": ("chess", "шахматы"), "mail": ("imap", "почта"), "web": ("http", "сеть")}
    cycle = ["games", "mail", "games", "web"]

    def text(i, label, language):
        index = {"en": 0, "aa": 0, "ru": 1}[language]
        filler = (FILLER if language == "en" else RUSSIAN)[i // 4 % 6]
        return f"{filler} {names[label][index]}"

    rows = [
        (split, language, {"text": text(i, cycle[i % 4], language), "label": cycle[i % 4]})
        for split, language, n in [
            ("train", "en", 48),
            ("dev", "en", 12),
            *(("test", x, 12) for x in ("en", "aa", "ru")),
        ]
        for i in range(n)
    ]
    return planted(tmp_path, "classification", rows, ["web", "games", "mail"])


def test_a_copied_name_is_a_shared_string_and_a_translated_one_is_not(classified):
    frame = baselines.table(classified)
    found = values(frame)
    assert found[CHANCE, "aa"] == pytest.approx(1 / 3)
    assert {found[MAJORITY, language] for language in ("en", "aa", "ru")} == {0.5}
    assert found[STRINGS, "en"] == found[STRINGS, "aa"] == 1
    assert found[STRINGS, "ru"] == found[MAJORITY, "ru"]
    assert found[NGRAMS, "en"] == found[NGRAMS, "aa"] == 1
    assert (frame["n"] == 12).all()


def test_the_same_table_twice(classified):
    frame = baselines.table(classified)
    shutil.rmtree(kept.CACHE)
    pd.testing.assert_frame_equal(frame, baselines.table(classified))


def test_summary_separates_english_and_scripts(classified):
    lines = baselines.summary(baselines.table(classified)).set_index("baseline")
    assert lines.index.tolist() == [CHANCE, MAJORITY, STRINGS, NGRAMS]
    frame = pd.DataFrame(
        [
            ("t", STRINGS, "en", 9, 0.9, np.nan, 1.0),
            ("t", STRINGS, "de", 9, 0.6, np.nan, 1.0),
            ("t", STRINGS, "ru", 9, 0.2, np.nan, 0.1),
            ("t", STRINGS, "ja", 9, 0.4, np.nan, 0.3),
        ],
        columns=baselines.COLUMNS,
    )
    line = baselines.summary(frame).iloc[0]
    assert line[["zero_shot", "english", "latin", "other"]].tolist() == pytest.approx([0.4, 0.9, 0.6, 0.3])
    alone = baselines.summary(frame[frame["language"] == "ru"]).iloc[0]
    assert alone[["english", "latin"]].isna().all() and alone["other"] == 0.2


def test_strings_are_latin_words_numbers_and_punctuation():
    assert baselines.strings("GNOME의 Ｍail 2.0, для KDE-программ") == ("gnome", "mail", "2", ".", "0", ",", "kde", "-")
    assert baselines.strings("日本語") == ()


def test_runs_stay_within_words_and_a_space_alone_is_none():
    assert baselines.runs("a bc") == [*"a", " a", "a ", " a ", *"bc", " b", "bc", "c ", " bc", "bc ", " bc "]


def test_multiple_choice_by_a_copied_name_by_likeness_and_by_nothing(tmp_path):
    def row(i, language, answer):
        name = f"name{i}x"
        pool = FILLER if language == "en" else RUSSIAN
        # 'aa' repeats the name, 'bb' a word of its own script, 'cc' shares nothing with any choice
        shared = {"en": name, "aa": name, "ru": f"слово{chr(1072 + i)}щ", "uk": "ъ"}[language]
        texts = [f"{pool[i % 3]}" for _ in range(3)]
        if language != "uk":
            texts[answer] += f" {shared}"
        return {"text": f"{pool[3 + i % 3]} {shared}", "choices": texts, "answer": answer}

    cycle = [1, 1, 0, 2]
    rows = [
        (split, language, row(i, language, cycle[i % 4]))
        for split, language, n in [
            ("train", "en", 24),
            ("dev", "en", 8),
            *(("test", x, 8) for x in ("aa", "ru", "uk")),
        ]
        for i in range(n)
    ]
    found = values(baselines.table(planted(tmp_path, "multiple_choice", rows)))
    assert found[CHANCE, "aa"] == pytest.approx(1 / 3)
    assert {found[MAJORITY, language] for language in ("aa", "ru", "uk")} == {0.5}
    assert [found[STRINGS, language] for language in ("aa", "ru", "uk")] == [1, 0.5, 0.5]
    assert [found[NGRAMS, language] for language in ("aa", "ru", "uk")] == [1, 1, 0.5]


def test_retrieval_finds_what_is_identical_and_guesses_the_first_without_anything_shared(tmp_path):
    texts = [f"{a} {b}" for a in FILLER for b in ("stone", "tree")]
    foreign = [f"{a} {b}" for a in RUSSIAN for b in ("камень", "дерево")]
    rows = [
        ("test", language, {"text": text, "group": f"{i}"})
        for language, side in (("en", texts), ("aa", texts), ("ru", foreign))
        for i, text in enumerate(side)
    ]
    card = planted(tmp_path, "retrieval", rows)
    found = values(baselines.table(card))
    assert {*found} == {(name, language) for name in (CHANCE, STRINGS, NGRAMS) for language in ("aa", "ru")}
    assert [found[CHANCE, "aa"], found[STRINGS, "ru"]] == pytest.approx([1 / 12, 1 / 12])
    assert found[STRINGS, "aa"] == found[NGRAMS, "aa"] == 1


def test_tagging_by_the_usual_tag_of_a_copied_word(tmp_path):
    def row(i, language):
        filler = FILLER if language == "en" else RUSSIAN
        key = "клавиша" if language == "ru" else "Ctrl"
        tokens = [filler[i % 6], key, filler[(i + 1) % 6], filler[(i + 2) % 6]]
        return {"text": " ".join(tokens), "tokens": tokens, "tags": ["O", "B-key", "O", "O"]}

    rows = [
        (split, language, row(i, language))
        for split, language, n in [("train", "en", 24), ("dev", "en", 6), *(("test", x, 6) for x in ("en", "aa", "ru"))]
        for i in range(n)
    ]
    frame = baselines.table(planted(tmp_path, "tagging", rows, ["gui", "key"]))
    found = values(frame)
    assert CHANCE not in frame["baseline"].tolist()
    assert [found[STRINGS, language] for language in ("en", "aa", "ru")] == [1, 1, 0]
    assert [found[NGRAMS, language] for language in ("en", "aa")] == [1, 1]
    majority = frame[frame["baseline"] == MAJORITY]
    assert (majority["value"] == 0).all() and (majority["token_accuracy"] == 0.75).all()
    # A word of an unknown script has no run that English has, so that it is not marked.
    unknown = frame[(frame["baseline"] == NGRAMS) & (frame["language"] == "ru")].iloc[0]
    assert unknown["value"] == 0 and unknown["token_accuracy"] == 0.75


def test_what_has_no_baselines_is_named(classified):
    with pytest.raises(XlscaleError, match="family: expected one of classification, .*, got 'span_qa'"):
        baselines.table(data_card("squad_wiki"))
    untrained = classified.model_copy(update={"splits": {"test": classified.splits["test"]}})
    with pytest.raises(XlscaleError, match="splits: expected English rows in train, found none"):
        baselines.table(untrained)


def test_what_was_computed_is_kept_until_the_data_change(classified, monkeypatch):
    first = baselines.table(classified)
    (file,) = kept.CACHE.rglob("*.parquet")
    monkeypatch.setitem(baselines.ANSWERING, "classification", None)
    pd.testing.assert_frame_equal(baselines.table(classified), first)
    for make_stale in (lambda: file.write_bytes(file.read_bytes()[:100]), file.unlink):
        make_stale()
        with pytest.raises(TypeError):  # it would be computed again
            baselines.table(classified)
    with pytest.raises(XlscaleError, match="sha256: expected 0000"):  # other data are read, not taken from what is kept
        baselines.table(classified.model_copy(update={"sha256": "0" * 64}))


def test_bundled_targets(monkeypatch):
    monkeypatch.setattr(kept, "CACHE", files.CACHE)  # with what notebook 00_data shows
    symbols = baselines.table(data_card("symbol_group"))
    found = values(symbols)
    assert found[CHANCE, "nl"] == data_card("symbol_group").chance
    assert found[STRINGS, "en"] > 0.6 > found[STRINGS, "nl"] > found[MAJORITY, "nl"]
    assert abs(found[STRINGS, "zh"] - found[MAJORITY, "zh"]) < 0.1
    latin = symbols.groupby("language")["latin"].first()
    assert latin["en"] > 0.99 > 0.1 > latin["zh"]
    retrieved = values(baselines.table(data_card("udhr")))
    assert retrieved[NGRAMS, "de"] > retrieved[CHANCE, "de"] == data_card("udhr").chance

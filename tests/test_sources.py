"""From other people's files to rows: mappings, readers, places, locks, and what is said when one of them is broken."""

import json
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xlscale import cards
from xlscale.cards import parse
from xlscale.data import corpora
from xlscale.data.sources import __main__ as command
from xlscale.data.sources import check, columns, conllu, convert, download, mewslix, places, readers
from xlscale.files import XlscaleError, sha256_file
from xlscale.origins import Origin, Source

SOURCES = cards.names(cards.SOURCES)
RECORD = {
    "premise": "a cat",
    "question": "cause",
    "label": 1,
    "letter": "B ",
    "tags": [2, 0],
    "tokens": ["a", "cat"],
    "answers": {"text": ["cat"], "answer_start": [2]},
    "many": [{"name": "x"}, {"name": "y"}],
    "@row": 7,
}


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("premise", "a cat"),
        ("answers.text", ["cat"]),
        ("many.name", ["x", "y"]),
        ("{premise} What was the {question}? {@row}", "a cat What was the cause? 7"),
        (["premise", "question"], ["a cat", "cause"]),
        ({"of": "label", "map": ["no", "yes"]}, "yes"),
        ({"of": "letter", "map": {"A": 0, "B": 1}}, 1),
        ({"of": "tags", "map": ["O", "B-X", "I-X"]}, ["I-X", "O"]),
        ({"join": "tokens"}, "a cat"),
        ({"join": ["premise", "question"]}, "a cat cause"),
        ({"constant": "pair"}, "pair"),
        ({"constant": None}, None),
    ],
)
def test_what_a_mapping_means(spec, value):
    assert columns.make(spec, RECORD) == value


def test_a_mapping_that_does_not_fit_says_which_field():
    with pytest.raises(XlscaleError, match="field 'hypothesis': expected in every record, found premise, question"):
        columns.make("hypothesis", RECORD)
    with pytest.raises(XlscaleError, match="field 'label': expected one of 0, got 1"):
        columns.make({"of": "label", "map": ["no"]}, RECORD)


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        ("One. Two three. Four", 5, "Two three."),
        ("One. Two three. Four", 4, "Two three."),
        ("One. Two three. Four", 19, "Four"),
        ("In 1.5 hours. Then", 3, "In 1.5 hours."),
        ("猫。水。本", 2, "水。"),
        ("no mark at all", 3, "no mark at all"),
    ],
)
def test_the_sentence_that_holds_a_character(text, place, sentence):
    assert columns.sentence(text, place) == sentence


def test_rows_are_kept_by_value_or_by_pattern():
    record = {"label": -1, "id": "finnish-3-1", "@language": "finnish"}
    assert columns.kept({"label": [-1]}, record) and not columns.kept({"label": [0, 1]}, record)
    assert columns.kept({"id": "{@language}-*"}, record) and not columns.kept({"id": "english-*"}, record)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"text": {"off": "x"}}}, "columns: expected one of constant, join, map, of, sentence, got 'off'"),
        ({"columns": {"text": 3}}, "columns: expected a field, a template, a list or an operation, got 3"),
        ({"origins": {}}, "parts: origin: expected one of , got 'here'"),
        ({"colums": {}}, "colums: Extra inputs"),
    ],
)
def test_a_broken_source_is_one_line(changes, message):
    origin = {"kind": "hub", "repository": "a/b", "schema_read": "nowhere"}
    part = {"split": "test", "languages": ["en"], "places": [{"origin": "here", "config": "c", "split": "test"}]}
    with pytest.raises(XlscaleError, match=message) as error:
        parse(Source, {"origins": {"here": origin}, "columns": {}, "parts": [part]} | changes, "card")
    assert "\n" not in str(error.value)


def test_a_revision_is_pinned_or_unverified_and_never_something_else():
    hub = {"kind": "hub", "repository": "a/b", "schema_read": "x"}
    for values in ({"status": "verified"}, {"revision": "0" * 40}, {"status": "verified", "revision": "main"}):
        with pytest.raises(XlscaleError, match="revision"):
            parse(Origin, hub | values, "card")
    assert parse(Origin, hub | {"status": "verified", "revision": "0" * 40}, "card").revision == "0" * 40


def _conllu(*words):
    """A sentence: id, form, tag and head of every row; with a fifth value, the column DEPS."""
    rows = [[n, form, "_", tag, "_", "_", str(head), "dep", *(deps or "_"), "_"] for n, form, tag, head, *deps in words]
    return "\n".join(["# text", *map("\t".join, rows), "", ""])


GERMAN = _conllu(
    ("1", "Ich", "PRON", 2),
    ("2", "gehe", "VERB", 0),
    ("3-4", "zum", "_", "_"),
    ("3", "zu", "ADP", 5),
    ("4", "dem", "DET", 5),
    ("4.1", "leer", "X", "_"),
    ("5", "10 000", "NUM", 2),
)


def test_conllu_gives_words_as_written(tmp_path):
    path = tmp_path / "de_own-ud-test.conllu"
    path.write_text(GERMAN.rstrip("\n"), encoding="utf-8")
    (found,) = conllu.read(path)
    assert found == {"tokens": ["Ich", "gehe", "zum", "10000"], "tags": ["PRON", "VERB", "ADP", "NUM"]}


@pytest.mark.parametrize(
    ("language", "words", "tag"),
    [
        # Equally high: the languages' own preferences, and the first of equal tags and of tags that a list lacks.
        ("pt", [("de", "ADP", 3), ("aquilo", "PRON", 3), ("x", "VERB", 0)], "PRON"),
        ("pt", [("a", "ADV", 3), ("b", "PRON", 3), ("x", "VERB", 0)], "PRON"),
        ("it", [("a", "ADV", 3), ("b", "PRON", 3), ("x", "VERB", 0)], "ADV"),
        ("pt", [("a", "AUX", 3), ("b", "NOUN", 3), ("x", "VERB", 0)], "NOUN"),
        ("fr", [("a", "AUX", 3), ("b", "NOUN", 3), ("x", "VERB", 0)], "AUX"),
        ("es", [("a", "NOUN", 3), ("b", "DET", 3), ("x", "VERB", 0)], "DET"),
        ("es", [("a", "NOUN", 3), ("b", "ADJ", 3), ("x", "VERB", 0)], "NOUN"),
        # The higher one, whatever is preferred and whichever is headed outside.
        ("ar", [("wa", "CCONJ", 3), ("b", "NOUN", 4), ("c", "ADJ", 2), ("x", "VERB", 0)], "NOUN"),
        ("ar", [("a", "VERB", 3), ("b", "DET", 4), ("c", "ADJ", 2), ("x", "VERB", 0)], "DET"),
        ("ar", [("a", "DET", 0), ("b", "VERB", 1), ("x", "VERB", 2)], "DET"),
        # Heads of the enhanced graph count, circles do no harm.
        ("ar", [("a", "VERB", 3, "3:x|4:y"), ("b", "DET", 3), ("c", "X", 0), ("d", "X", 3)], "DET"),
        ("ar", [("a", "VERB", 3), ("b", "DET", 3), ("c", "X", 0, "0:root|1:x|5.1:y")], "VERB"),
    ],
)
def test_the_tag_of_a_joined_word_is_that_of_its_highest_part(tmp_path, language, words, tag):
    path = tmp_path / f"{language}_own-ud-test.conllu"
    rows = [(str(n), *word) for n, word in enumerate(words, 1)]
    path.write_text(_conllu(("1-2", "joined", "_", "_"), *rows), encoding="utf-8")
    (found,) = conllu.read(path)
    assert found["tokens"] == ["joined", *(word[0] for word in words[2:])]
    assert found["tags"] == [tag, *(word[1] for word in words[2:])]


def test_sentences_without_texts_are_left_out(tmp_path):
    path = tmp_path / "ar_nyuad-ud-test.conllu"
    kept = [("1", "a", "X", 0)], [("1", "a", "X", 0), ("2", "b", "X", 1), ("3", "_", "PUNCT", 1)]
    gone = [("1", "_", "X", 0)], [("1", "_", "X", 0), ("2", "_", "X", 1)], [("1", "a", "X", 0), ("2", "_", "X", 1)]
    path.write_text("".join(_conllu(*words) for words in (*gone, *kept)), encoding="utf-8")
    assert [row["tokens"] for row in conllu.read(path)] == [["a"], ["a", "b", "_"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\tIch\n", "line 1: expected 10 columns of CoNLL-U"),
        (_conllu(("a", "Ich", "PRON", 0)), "line 2: expected 10 columns of CoNLL-U, the first an id"),
        (_conllu(("1", "a", "X", 0), ("3", "b", "X", 1)), "line 4: expected a sentence of words 1, 2, .* got ids 1, 3"),
        (_conllu(("1-2", "ab", "_", "_"), ("1", "a", "X", 0)), "line 4: expected .* got ids 1-2, 1"),
    ],
)
def test_what_is_no_conllu_is_one_line(tmp_path, text, message):
    (tmp_path / "bad.conllu").write_text(text, encoding="utf-8")
    with pytest.raises(XlscaleError, match=rf"bad\.conllu, {message}") as error:
        list(conllu.read(tmp_path / "bad.conllu"))
    assert "\n" not in str(error.value)


def test_either_release_of_ud_is_found_for_its_languages(monkeypatch, tmp_path):
    """Both releases hold both languages."""
    for release in ("2.5", "2.7"):
        for code in ("de", "lt"):
            path = tmp_path / f"ud-treebanks-v{release}/UD_Own-Own/{code}_own-ud-test.conllu"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(GERMAN)
    monkeypatch.setenv("XLSCALE_UD", str(tmp_path))
    for name in ("XLSCALE_HUB", "XLSCALE_XTREME"):
        monkeypatch.delenv(name, raising=False)
    source = cards.documented("udpos").source
    for code, release in (("de", "2.5"), ("lt", "2.7")):
        (part,) = (part for part in source.parts if part.split == "test" and code in part.named())
        place, (path,) = places.first(source.origins, part, code)
        assert (place.origin, path.parts[-3]) == ("ud", f"ud-treebanks-v{release}")


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ("de-1\ten-1\nde-2 en-2\n", r"gold, line 2: expected an id, a tab and an English id, got 'de-2 en-2'"),
        ("de-1\ten-1\nde-1\ten-2\n", "gold, line 2: expected each id once, got 'de-1' again"),
        ("de-1\ten-1\nde-7\ten-2\n", r"gold: expected ids of .*de-en\.dev\.de, got 'de-7'"),
        (None, r"gold: expected UTF-8 text \(.*No such file"),
    ],
)
def test_the_gold_pairs_of_bucc_lie_beside_and_are_checked(tmp_path, gold, message):
    (tmp_path / "de-en.dev.de").write_text("de-1\tWasser\nde-2\tHaus\n")
    (tmp_path / "de-en.dev.en").write_text("en-1\twater\n")
    (tmp_path / "de-en.dev.gold").write_text("de-1\ten-1\n")
    paths = sorted(tmp_path.glob("de-en.dev.*[!n]"))
    assert [row["aligned"] for row in readers.read("bucc", paths)] == ["en-1", "de-2"]
    assert list(readers.read("bucc", [tmp_path / "de-en.dev.en"])) == [{"id": "en-1", "text": "water"}]
    (tmp_path / "de-en.dev.gold").unlink()
    if gold is not None:
        (tmp_path / "de-en.dev.gold").write_text(gold)
    with pytest.raises(XlscaleError, match=message) as error:
        list(readers.read("bucc", paths))
    assert "\n" not in str(error.value)


def test_both_gold_files_of_bucc_are_read_and_pinned(given):
    card = cards.data_card("bucc2018")
    named = {name for name, _ in convert.files(card)}
    assert {"$XLSCALE_XTREME/bucc2018/de-en.dev.gold", "$XLSCALE_LABELS/bucc2018/test-de.tsv"} <= named
    rows = convert.rows(card).to_pandas()
    for pool, part in rows.groupby("pool"):
        english = set(part.loc[part["language"] == "en", "group"])
        assert part.loc[part["language"] != "en", "group"].isin(english).sum() == (3 if "dev" in pool else 4), pool


def test_labels_that_lie_apart_are_joined_by_line_or_by_id(tmp_path):
    text, tags = tmp_path / "text.tsv", tmp_path / "tags.tsv"
    text.write_text("a\ncat\n\nwater\n")
    tags.write_text("DET\nNOUN\n\nNOUN\n")
    assert [row["tags"] for row in readers.tags(text, tags)] == [["DET", "NOUN"], ["NOUN"]]
    with pytest.raises(XlscaleError, match=r"text\.tsv, line 1: expected a tag .*XTREME's download takes labels out"):
        list(readers.tags(text))
    tags.write_text("DET\nNOUN\n")
    with pytest.raises(XlscaleError, match=r"tags\.tsv, line 3: expected a line for each of .*text\.tsv"):
        list(readers.tags(text, tags))
    rows, labels = tmp_path / "rows.jsonl", tmp_path / "labels.jsonl"
    rows.write_text('{"idx": 0, "label": 0}\n{"idx": 1, "label": 0}\n')
    labels.write_text('{"idx": 1, "label": 1}\n{"idx": 0, "label": 0}\n')
    assert [row["label"] for row in readers.jsonl(rows, labels)] == [0, 1]


def test_questions_whose_answers_were_taken_out_are_refused(tmp_path):
    question = {"id": "q1", "question": "?", "answers": [{"text": "", "answer_start": 0}]}
    content = {"data": [{"paragraphs": [{"context": "a cat", "qas": [question]}]}], "version": "1"}
    (tmp_path / "test-en.json").write_text(json.dumps(content))
    with pytest.raises(XlscaleError, match=r"test-en\.json: id 'q1': no true answer; XTREME's download"):
        list(readers.squad(tmp_path / "test-en.json"))


def test_a_mention_is_told_with_its_sentence_and_braces_are_escaped():
    text = "First one. Then {Bo} met Ann\nthere. Last."
    start = text.index("Ann")
    context = {"text": text, "sentence_spans": [{"start": 0, "end": 10}, {"start": 11, "end": 35}]}
    mention = {"mention_span": {"start": start, "end": start + 3, "text": "Ann"}}
    assert mewslix.told(context, mention) == "Ann: Then (Bo) met { Ann } there."


@pytest.mark.parametrize("name", SOURCES)
def test_every_card_gives_rows_from_the_copies_of_its_source(given, name):
    lock = convert.make(cards.data_card(name))
    card = cards.data_card(name)
    documented = cards.documented(name)
    assert lock.card == name and lock.files and lock.sha256 == sha256_file(card.path)
    counted = pd.read_parquet(card.path).groupby(["split", "language"]).size()
    assert counted.to_dict() == {(s, code): n for s, languages in lock.splits.items() for code, n in languages.items()}
    assert set(lock.splits) == set(documented.splits)
    for split, languages in documented.splits.items():
        assert set(languages) <= set(lock.splits[split]), split
    loaded = corpora.load(card)
    assert {split: len(rows) for split, rows in loaded.items()} == {
        split: sum(rows.values()) for split, rows in card.splits.items()
    }
    for rows in loaded.values():
        assert all(rows[corpora.TEXT[card.family]])


def test_the_hub_and_xtreme_s_layout_give_the_same_pairs(given, monkeypatch, tmp_path):
    card = cards.data_card("xnli")
    of_hub = convert.rows(card).to_pandas()
    monkeypatch.setenv(places.HUB, str(tmp_path))
    of_xtreme = convert.rows(card).to_pandas()
    keys = ["split", "language", "item"]
    both = of_hub.merge(of_xtreme, on=keys, suffixes=("", "_x"))
    assert len(both) == len(of_hub) == 16 + 6 + 2 * 15
    assert (both[["text", "second", "label"]].to_numpy() == both[["text_x", "second_x", "label_x"]].to_numpy()).all()


def test_parallel_rows_share_a_group_and_others_do_not(given):
    for name, parallel in (("xnli", True), ("xcopa", True), ("xquad", True), ("panx", False), ("tatoeba", False)):
        rows = convert.rows(cards.data_card(name)).to_pandas()
        shared = rows[(rows["split"] == "test") & (rows["language"] != "en")].groupby("group")["language"].nunique()
        assert (shared.max() > 5) == parallel, name


def test_equal_rows_of_one_source_are_on_one_side(given):
    rows = convert.rows(cards.data_card("covidqa")).to_pandas()
    assert set(rows["split"]) == {"train", "dev"}
    sides = rows.groupby("article")["split"].nunique()
    assert len(sides) == 80 and sides.max() == 1


def test_where_the_right_choice_stands_is_drawn(given):
    rows = convert.rows(cards.data_card("sciq")).to_pandas()
    assert all(len(set(row)) == 4 for row in rows["choices"])
    assert rows["answer"].nunique() == 4  # the source has it first, always


def test_a_layout_of_other_names_is_found(given, monkeypatch, tmp_path):
    hub = tmp_path / "other"
    pushed = hub / "Rowan" / "hellaswag" / "data"
    pushed.mkdir(parents=True)
    source = given / "hub" / "Rowan" / "hellaswag" / "default"
    for split in ("train", "validation"):
        shutil.copyfile(source / split / "0000.parquet", pushed / f"{split}-00000-of-00001.parquet")
    expected = convert.rows(cards.data_card("hellaswag"))
    monkeypatch.setenv(places.HUB, str(hub))
    assert convert.rows(cards.data_card("hellaswag")).equals(expected)


def _copied(given, monkeypatch, tmp_path, repository):
    """A copy of the hub with one repository, to be damaged."""
    hub = tmp_path / "damaged"
    shutil.copytree(given / "hub" / repository, hub / repository)
    monkeypatch.setenv(places.HUB, str(hub))
    return hub / repository


def test_what_is_not_here_is_one_line_that_says_where_it_was_looked_for(given, monkeypatch, tmp_path):
    repository = _copied(given, monkeypatch, tmp_path, "cambridgeltl/xcopa")
    shutil.copytree(given / "hub" / "aps", tmp_path / "damaged" / "aps")
    shutil.rmtree(repository / "qu")
    with pytest.raises(XlscaleError) as error:
        convert.make(cards.data_card("xcopa"))
    message = str(error.value)
    assert "\n" not in message and "test, language 'qu': not on this machine" in message
    assert "cambridgeltl/xcopa/qu/test/*.parquet below $XLSCALE_HUB" in message
    assert "$XLSCALE_XTREME/xcopa/test-qu.jsonl with $XLSCALE_LABELS/xcopa/test-qu.jsonl" in message
    monkeypatch.delenv("XLSCALE_CCG")
    with pytest.raises(XlscaleError, match=r"expected \$XLSCALE_CCG/train.tsv; CCGbank is licensed .*a word, a tab"):
        convert.make(cards.data_card("ccg"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop_columns(["ctx"]),
            "record 1: field 'ctx': expected in every record, found ind, activity_label",
        ),
        (
            lambda t: t.set_column(9, "label", pa.array(["9"] * len(t))),
            "answer: expected the place of one of 4 choices",
        ),
        (lambda t: t.set_column(9, "label", pa.array([""] * len(t))), "answer: expected the place of a choice, got ''"),
    ],
)
def test_a_file_of_another_schema_is_one_line(given, monkeypatch, tmp_path, change, message):
    path = _copied(given, monkeypatch, tmp_path, "Rowan/hellaswag") / "default" / "train" / "0000.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(XlscaleError, match=r"hellaswag: .*0000\.parquet, record 1: ") as error:
        convert.make(cards.data_card("hellaswag"))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not cards.lock_path("hellaswag").exists()


def test_a_truncated_file_is_one_line(given, monkeypatch, tmp_path):
    path = _copied(given, monkeypatch, tmp_path, "Rowan/hellaswag") / "default" / "train" / "0000.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(XlscaleError, match=r"0000\.parquet: expected a whole Parquet file"):
        convert.make(cards.data_card("hellaswag"))


def test_what_was_locked_is_checked_ever_after(given, monkeypatch, tmp_path):
    path = _copied(given, monkeypatch, tmp_path, "Rowan/hellaswag") / "default" / "train" / "0000.parquet"
    unlocked = cards.data_card("hellaswag")
    with pytest.raises(XlscaleError, match=r"hellaswag: not fetched, expected .*hellaswag.json; run `make data-fetch"):
        corpora.load(unlocked)
    lock = convert.make(unlocked)
    card = cards.data_card("hellaswag")
    assert card.sha256 == lock.sha256 != unlocked.sha256
    first = corpora.table(card)
    card.path.unlink()
    assert corpora.table(card).equals(first)  # made again, and the same
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path)
    assert corpora.table(card).equals(first)  # the cache is what the lock says
    card.path.unlink()
    with pytest.raises(XlscaleError, match=r"0000\.parquet: sha256: expected [0-9a-f]{64} as in .*hellaswag.json, got"):
        corpora.load(card)


def test_another_mapping_does_not_pass_for_what_was_locked(given):
    convert.make(cards.data_card("hellaswag"))
    card = cards.data_card("hellaswag")
    card.path.unlink()
    other = card.source.model_copy(update={"columns": card.source.columns | {"text": "ctx_a"}})
    with pytest.raises(XlscaleError, match=r"hellaswag: sha256: expected .* made [0-9a-f]{64}; the bytes depend"):
        convert.make(card.model_copy(update={"source": other}))


def test_a_broken_lock_is_one_line(given):
    path = cards.lock_path("sciq")
    path.parent.mkdir(parents=True)
    path.write_text('{"card": "sciq"}')
    with pytest.raises(XlscaleError, match=r"sciq.json: sha256: Field required"):
        cards.data_card("sciq")


class Hub:
    """Stands for the hub: answers from a folder, for one repository."""

    def __init__(self, folder):
        self.folder = folder

    def repo_info(self, repository, repo_type, revision, **_):
        if revision not in ("refs/convert/parquet", "c" * 40):
            return type("Info", (), {"sha": "a" * 40, "siblings": []})
        root = self.folder / repository
        names = [path.relative_to(root).as_posix() for path in root.rglob("*.parquet")]
        siblings = [type("File", (), {"rfilename": name}) for name in names]
        return type("Info", (), {"sha": "c" * 40, "siblings": siblings})


def test_a_fetch_takes_what_is_missing_at_one_commit_and_locks_it(given, monkeypatch, tmp_path, capsys):
    import huggingface_hub

    asked = []

    def fake(repository, path, *, repo_type, revision, local_dir):
        asked.append((path, revision))
        (local_dir / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given / "hub" / repository / path, local_dir / path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake)
    monkeypatch.setattr(download, "api", lambda: Hub(given / "hub"))
    monkeypatch.delenv(places.HUB)
    download.commit.cache_clear()
    assert command.main(["fetch", "sciq"]) == 0
    assert asked == [("default/train/0000.parquet", "c" * 40), ("default/validation/0000.parquet", "c" * 40)]
    assert cards.locked("sciq").revisions == {"allenai/sciq": "c" * 40}
    assert "sciq: 22 rows from 2 files" in capsys.readouterr().out
    assert command.main(["fetch", "sciq"]) == 0 and len(asked) == 2
    download.commit.cache_clear()


def _offline(*_, **__):
    raise ConnectionError("Name or service not known")


def test_without_a_network_the_check_says_so_per_card(given, monkeypatch, capsys):
    monkeypatch.setattr(download, "api", lambda: type("Api", (), {"repo_info": staticmethod(_offline)}))
    download.commit.cache_clear()
    check._asked.cache_clear()
    convert.make(cards.data_card("sciq"))
    assert command.main(["check", "sciq", "scitail", "ccg"]) == 1
    out, err = capsys.readouterr()
    table = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert " no " in table["sciq"] and "as locked" in table["sciq"] and "train 16" in table["sciq"]
    assert "not locked" in table["scitail"]
    lines = err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert "allenai/sciq: revision main: the hub does not give it (Name or service not known)" in err
    assert "train, en: expected 11679 rows as in the card, got 16 (and 1 more)" in err
    assert "ccg: not fetched: there is no lock" in err
    assert command.main(["check"]) == 1 and "expected the name of a study or of a card" in capsys.readouterr().err

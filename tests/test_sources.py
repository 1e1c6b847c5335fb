"""From other people's files to rows: mappings, readers, places, locks, and what is said when one of them is broken."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from xlscale import cards
from xlscale.cards import parse
from xlscale.data import corpora
from xlscale.data.sources import __main__ as command
from xlscale.data.sources import check, columns, convert, download, mewslix, places, readers
from xlscale.files import XlscaleError
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


CONLLU = """# sent_id = 1
1\tIch\tich\tPRON\t_\t_\t2\tnsubj\t_\t_
2\tgehe\tgehen\tVERB\t_\t_\t0\troot\t_\t_
3-4\tzum\t_\t_\t_\t_\t_\t_\t_\t_
3\tzu\tzu\tADP\t_\t_\t5\tcase\t_\t_
4\tdem\tder\tDET\t_\t_\t5\tdet\t_\t_
4.1\tleer\t_\tX\t_\t_\t_\t_\t_\t_
5\t10 000\t10000\tNUM\t_\t_\t2\tobl\t_\t_

"""


def test_conllu_gives_words_as_written(tmp_path):
    (tmp_path / "de.conllu").write_text(CONLLU, encoding="utf-8")
    (found,) = readers.conllu(tmp_path / "de.conllu")
    assert found == {"tokens": ["Ich", "gehe", "zum", "10000"], "tags": ["PRON", "VERB", "ADP", "NUM"]}
    (tmp_path / "bad.conllu").write_text("1\tIch\n", encoding="utf-8")
    with pytest.raises(XlscaleError, match=r"bad\.conllu, line 1: expected 10 columns"):
        list(readers.conllu(tmp_path / "bad.conllu"))


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
    assert lock.card == name and lock.files and card.sha256 == lock.sha256 and card.splits == lock.splits
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


def test_cards_are_written_as_the_schema_has_them():
    for name in SOURCES:
        text = (cards.MANIFEST / cards.SOURCES / f"{name}.yaml").read_text(encoding="utf-8")
        assert "token" not in yaml.safe_load(text) and "trust_remote_code" not in text

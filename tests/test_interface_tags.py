"""Interface tags: from marked paragraphs to tokens and tags, on small pages made here and in the bundled file."""

from itertools import pairwise

import pytest
from conftest import deb, gold
from hypothesis import given
from hypothesis import strategies as st

from data_manifest.builders import interface_tags
from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError, sha256_file
from xlscale.data import load, schema, words
from xlscale.metrics.spans import of as spans_of
from xlscale.report import samples

TYPES = ["gui", "key", "app", "file", "cmd", "sys"]


@pytest.fixture(scope="module")
def card():
    return data_card("interface_tags")


@pytest.fixture(scope="module")
def table(card):
    return load.table(card).to_pandas()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Press Ctrl+C.", ["Press", "Ctrl", "+", "C", "."]),
        ("/etc/a_b", ["/", "etc", "/", "a", "_", "b"]),
        ("设置 wifi面板。", ["设", "置", "wifi", "面", "板", "。"]),
        ("설정을 누릅니다", ["설", "정", "을", "누", "릅", "니", "다"]),
        ("กำลัง", ["ก", "ำ", "ลั", "ง"]),  # a vowel that is a letter in Unicode stands alone
        ("मीडिया शेअरिंग", ["मीडिया", "शेअरिंग"]),  # vowel signs belong to their letters
        ("هم‌رسانی", ["هم‌رسانی"]),  # and so does a joiner inside a word
    ],
)
def test_words_of_many_scripts(text, tokens):
    found = [text[begin:end] for begin, end in words.split(text)]
    assert found == tokens
    assert words.starts(text, found) == [begin for begin, _ in words.split(text)]


@given(st.text(max_size=60))
def test_tokens_are_all_that_is_not_white_space(text):
    found = words.split(text)
    assert "".join(text[begin:end] for begin, end in found) == "".join(c for c in text if not c.isspace())
    assert all(a < b <= c for (a, b), (c, _) in pairwise(found))


def test_tags_and_spans():
    text = "Press Ctrl+Alt or Wi-Fi."
    tokens = words.split(text)
    spans = [("key", 6, 10), ("key", 11, 14), ("gui", 18, 23)]
    tags = words.tags(tokens, spans)
    assert tags == ["O", "B-key", "O", "B-key", "O", "B-gui", "I-gui", "I-gui", "O"]
    assert spans_of(tags) == [("key", 1, 2), ("key", 3, 4), ("gui", 5, 8)]
    assert words.tags(tokens, [("key", 6, 9)]) is None
    with pytest.raises(ValueError, match="expected 'Fi' in the text after character 5"):
        words.starts("Fi Wi", ["Wi", "Fi"])


PAGE = """<page xmlns="http://projectmallard.org/1.0/"><info><desc><p>About <gui>this</gui></p></desc>{credit}</info>
  <p>Press <keyseq><key>Ctrl</key>
    <key>C</key></keyseq>, <!-- or --> <guiseq><gui> File </gui><gui>Save <em>as</em></gui></guiseq>, <gui/>in <link
    xref="a"><app>Files</app></link>.</p>
  <p>See <link xref="b"/> to do that.</p>
  <p>Press <media><p>a <key>key</key> of yours</p></media> now, please.</p>
  <list><item><p>{second}</p></item></list></page>"""


def test_paragraphs_are_what_a_reader_sees():
    credit = "<credit type='translator'><name>N</name></credit>"
    page, other = (PAGE.format(credit=c, second="One two three.") for c in ("", credit))
    found = interface_tags._paragraphs(page.encode(), TYPES)
    assert list(found) == ["p1", "list1/item1/p1"]
    assert found == interface_tags._paragraphs(other.encode(), TYPES)  # who is credited moves nothing
    text, spans = found["p1"]
    assert text == "Press Ctrl+C, File ▸ Save as, in Files."
    assert [(kind, text[a:b]) for kind, a, b in spans] == [
        ("key", "Ctrl"), ("key", "C"), ("gui", "File"), ("gui", "Save as"), ("app", "Files")
    ]  # fmt: skip


def test_pages_are_split_and_what_recurs_is_not_tested(tmp_path, monkeypatch, card):
    monkeypatch.setattr(interface_tags, "FOLDERS", {"en": "C", "de": "de"})
    monkeypatch.setattr(interface_tags, "ROWS", {"train": 50, "dev": 4, "test": 6})
    monkeypatch.setattr(interface_tags, "TESTED", 8)
    monkeypatch.setattr(interface_tags, "AVOIDED", ())
    head = '<page xmlns="http://projectmallard.org/1.0/">'
    members = {}
    for n in range(10):
        own = "".join(f"<p>Choose <gui>Item{n}x{i}</gui> of menu{n}x{i} in place{n}x{i} here</p>" for i in range(3))
        notes = "<p>Open the <gui>Activities</gui> overview and start typing now</p>"
        members[f"usr/share/help/C/guide/p{n}.page"] = f"{head}{own}{notes}</page>"
        if n < 5:
            german = own.replace("Choose", "Waehle").replace("here", "hier" if n else "<key>hier</key>")
            members[f"usr/share/help/de/guide/p{n}.page"] = f"{head}{german}{notes}</page>"
    built = interface_tags.build(card, [deb(tmp_path / "x.deb", members)])
    pages = {split: {r["item"].split("#")[0] for r in built if r["split"] == split} for split in schema.SPLITS}
    assert not pages["test"] & (pages["train"] | pages["dev"]) and not pages["train"] & pages["dev"]
    assert sum("Activities" in r["text"] for r in built) == 1  # once, in train
    assert all("Activities" not in r["text"] for r in built if r["split"] != "train")
    german = [r for r in built if r["language"] == "de"]
    assert german and all(r["original"].startswith("Choose") for r in german)
    assert not any("p0#" in r["item"] for r in german)  # marked otherwise than the original
    with pytest.raises(XlscaleError, match=r"interface_tags: x\.deb: expected pages in de, got none"):
        only = {name: text for name, text in members.items() if "/C/" in name}
        interface_tags.build(card, [deb(tmp_path / "x.deb", only)])


def test_bundle_languages_pages_and_tags(card, table):
    assert len(card.languages) == 22 and set(card.splits["test"]) == {*card.languages, "en"}
    assert set(table.loc[table["split"] != "test", "language"]) == {"en"}
    pages = table["item"].str.partition("#")[0]
    tested, tuned, trained = (set(pages[table["split"] == split]) for split in ("test", "dev", "train"))
    assert not tested & (tuned | trained) and not tuned & trained
    assert (table["item"] == table["group"]).all()
    spans = table.assign(n=[len(spans_of(tags)) for tags in table["tags"]])
    assert spans.groupby(["split", "language"])["n"].sum().min() >= 60
    translated = spans[spans["language"] != "en"]
    assert (translated["text"] != translated["original"]).all()
    english = spans[(spans["split"] == "test") & (spans["language"] == "en")].set_index("item")["n"]
    common = translated[translated["item"].isin(english.index)]
    assert (common["n"] == common["item"].map(english)).all()


def test_tokens_follow_from_texts_and_spans_begin_and_end_with_them(table):
    for row in table.itertuples():
        tokens = words.split(row.text)
        assert [row.text[a:b] for a, b in tokens] == row.tokens.tolist()
        spans = [(kind, tokens[first][0], tokens[last - 1][1]) for kind, first, last in spans_of(row.tags)]
        assert words.tags(tokens, spans) == row.tags.tolist()


def _changed(card, tmp_path, **values):
    """A card of a few rows, the first one changed."""
    rows = load.table(card).slice(0, 5).to_pylist()
    rows[0] |= values
    changed = schema.table("tagging", rows)
    path = tmp_path / "tags.parquet"
    schema.write(changed, path)
    fields = {"file": str(path), "sha256": sha256_file(path), "splits": schema.counts(changed), "languages": []}
    return card.model_copy(update=fields)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["O"], "tags: item 'i': expected 2, one per token, got 1"),
        (["O", "B-menu"], "tags: expected one of .*, got 'B-menu'"),
        (["O", "I-gui"], "tags: item 'i': expected 'I-gui' to follow B- or I-, got 'O'"),
        (["B-key", "I-gui"], "tags: item 'i': expected 'I-gui' to follow B- or I-, got 'B-key'"),
    ],
)
def test_wrong_tags_are_one_line(card, tmp_path, tags, message):
    whole = _changed(card, tmp_path, item="i", text="a b", tokens=["a", "b"], tags=["B-gui", "I-gui"])
    assert len(load.table(whole)) == 5
    with pytest.raises(XlscaleError, match=rf"tags\.parquet: {message}$"):
        load.table(_changed(card, tmp_path, item="i", text="a b", tokens=["a", "b"], tags=tags))
    with pytest.raises(XlscaleError, match=r"tags\.parquet: tokens: item 'i': expected 'c' in the text"):
        load.table(_changed(card, tmp_path, item="i", text="a b", tokens=["c", "b"], tags=["O", "O"]))


def test_gold_and_what_the_notebook_shows(card, table):
    asked = gold(card)
    assert len(asked) == sum(card.splits["test"].values())
    tested = table.loc[table["split"] == "test", "tags"]
    assert asked["gold"].str.split(" ").str.len().tolist() == tested.str.len().tolist()
    html = samples.samples(card, 3).data
    assert "</mark><sub>gui</sub>" in html and html.count('dir="auto"') == 3 * 23
    spans = sum(len(spans_of(tags)) for tags in table["tags"])
    assert samples.labels(card).to_numpy().sum() == spans

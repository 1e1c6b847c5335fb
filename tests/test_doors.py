"""The doors: paths, files that are read and written, messages, YAML, HTML and labels, whatever is brought to them.

What each promises is held against data that hypothesis makes up.
"""

import hashlib
import html
import json
import os
import re
import string
import time
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from xlscale.cards import sources
from xlscale.core import files, lines, seals, strict
from xlscale.core.files import XlscaleError
from xlscale.experiment.results import Result
from xlscale.experiment.studies import Study
from xlscale.report import markup, verdicts
from xlscale.report.figures import style
from xlscale.xtreme.benchmark import Benchmark

EXAMPLES = settings(max_examples=150, derandomize=True, deadline=None)
PIECES = st.sampled_from(["..", ".", "a", "b", "", "/", "link", "-rf", "~", "\\", "\0", "in", "é", " ", "a..b", "..."])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a file, a folder, links into it and out of it and in a circle; a secret lies beside it."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_text("secret")
    folder = outside / "root"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b").write_text("open")
    (folder / "link").symlink_to(outside)
    (folder / "in").symlink_to(folder / "a")
    (folder / "circle").symlink_to(folder / "circle")
    return folder


@given(st.lists(PIECES, max_size=6).map("/".join))
@EXAMPLES
def test_a_name_leads_below_its_folder_or_is_refused(root, name):
    """The reference is the file system's own answer to where the joined path is."""
    try:
        found = files.below(root, name)
    except XlscaleError as error:
        assert "expected the path of a file below" in str(error)
        return
    real = os.path.realpath(found)
    assert real.startswith(f"{os.path.realpath(root)}/") and "secret" not in real and not Path(name).is_absolute()


@pytest.mark.parametrize("name", ["a/b", "in/b", "new", "a/new", "...", "a..b", "circle"])
def test_a_name_below_the_folder_is_taken(root, name):
    assert files.below(root, name) == root / name


@pytest.mark.parametrize(
    "name",
    [
        *("../secret", "/etc/passwd", "a/../../secret", "link/secret", "link", "", ".", "a/..", "a\0", "\ud800"),
        *("a" * 256, "é" * 128, "a/" * 64 + "b"),
    ],
)
def test_a_name_outside_the_folder_is_refused(root, name):
    with pytest.raises(XlscaleError, match="expected the path of a file below .*root, links resolved"):
        files.below(root, name)


@given(st.text(alphabet=st.characters(), max_size=2000) | st.lists(st.text(max_size=400), max_size=60).map("\n".join))
@EXAMPLES
def test_a_message_is_short_and_shows_all_it_holds(text):
    lines = str(XlscaleError(text)).split("\n")
    assert len(lines) <= 20 and all(len(line) <= 300 and (line.isprintable()) for line in lines)
    if text.isprintable() and len(text) <= files.WIDTH:
        assert lines == [text]


def test_of_a_long_message_both_ends_are_kept():
    told = str(XlscaleError(f"file: field: {'x' * 10**6}, got this"))
    assert told.startswith("file: field: x") and told.endswith("x, got this") and " [...] " in told
    lines = str(XlscaleError("\n".join(map(str, range(100_000))))).split("\n")
    assert lines[0] == "0" and lines[-2:] == ["and 99981 more", "99999"]


def test_a_file_is_read_only_if_it_is_one_and_no_longer_than_it_may_be(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert files.read_bytes(path, 5) == b"12345"
    with pytest.raises(XlscaleError, match="file: expected at most 4 bytes"):
        files.read_bytes(path, 4)
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), Path("/dev/full")):
        with pytest.raises(XlscaleError, match="expected a plain file"):
            files.read_bytes(other)
    with pytest.raises(XlscaleError, match="none: not found"):
        files.read_bytes(tmp_path / "none")
    assert files.read_bytes(Path("/proc/self/status")).startswith(b"Name:")


def test_a_file_that_is_too_long_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 2**40)
    monkeypatch.setattr(files, "open", None, raising=False)
    with pytest.raises(XlscaleError, match=r"file: expected at most 1,073,741,824 bytes"):
        files.read_bytes(path, 2**30)


def test_what_looks_like_a_plain_file_is_not_waited_for(tmp_path, monkeypatch):
    """As some of /proc do, and a pipe that took a file's place after it was looked at."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files.stat, "S_ISREG", lambda mode: True)
    assert files.read_bytes(tmp_path / "pipe") == b""
    writer = os.open(tmp_path / "pipe", os.O_RDWR)  # there will be more, some day
    try:
        assert files.read_bytes(tmp_path / "pipe") == b""
    finally:
        os.close(writer)


def test_a_link_that_leads_to_itself_is_one_line_whoever_reads_it(tmp_path):
    path = tmp_path / "circle.yaml"
    path.symlink_to(path)
    for read in (files.read_bytes, files.read_json, strict.read_yaml):
        with pytest.raises(XlscaleError, match=r"circle\.yaml: could not be read"):
            read(path)
    assert files.relative(path) == str(path)
    assert files.relative(files.ROOT / "a" / ".." / "b") == "b"


@pytest.mark.parametrize("other", ["pipe", "device"])
def test_the_hash_of_what_is_no_plain_file_is_not_waited_for(tmp_path, other):
    """Nor is a seal, nor what a seal once was of."""
    path = tmp_path / "a.bin"
    path.write_text("a")
    seals.seal(path)
    assert seals.sealed(path)
    for one in (path, seals.beside(path)):
        one.unlink()
        os.mkfifo(one) if other == "pipe" else one.symlink_to("/dev/zero")
        with pytest.raises(OSError, match="expected a plain file"):
            files.sha256_file(one)
        assert not seals.sealed(path)


def test_the_hash_of_what_looks_like_a_plain_file_is_that_of_what_it_gives_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files.stat, "S_ISREG", lambda mode: True)
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(writer, b"abc")
        assert files.sha256_file(tmp_path / "pipe") == hashlib.sha256(b"abc").hexdigest()
    finally:
        os.close(writer)


def test_a_fault_of_writing_names_the_file_and_no_temporary_one(tmp_path):
    one_line = pytest.raises(XlscaleError, match=r"a\.parquet: could not be written \(.*a\.parquet")
    with one_line as error, files.atomic(tmp_path / "a.parquet") as temporary:
        raise OSError(f"Failed to open local file '{temporary}'")
    assert ".part" not in str(error.value)


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder", "device"])
def test_what_is_no_plain_file_is_not_written_over(tmp_path, kind):
    path, other = tmp_path / "out.json", tmp_path / "other"
    other.write_text("kept")
    if kind in ("link", "dangling"):
        path.symlink_to(other if kind == "link" else tmp_path / "none")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/full")
    before = path.lstat()
    with pytest.raises(XlscaleError, match="expected a plain file or none"):
        files.write_json(path, {})
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert other.read_text() == "kept" and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a": 1, "a": 2}',
        "NaN",
        "[Infinity]",
        "[1e999]",
        "-1e999",
        "9" * 5000,
        "{",
        "",
        '{"a": {"b": [{"c": 1, "c": 1}]}}',
    ],
)
def test_json_is_whole_has_a_key_once_and_numbers_that_are_some(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(XlscaleError, match=r"a\.json: not valid JSON \("):
        files.read_json(tmp_path / "a.json")


def test_a_key_that_is_there_twice_is_found_among_many(tmp_path):
    """By looking at each once: with a million of them, compared with one another, it would take days."""
    (tmp_path / "a.json").write_text("{" + "".join(f'"k{i}": 0,' for i in range(200_000)) + '"k199999": 0}')
    began = time.monotonic()
    with pytest.raises(XlscaleError, match="key 'k199999': expected once"):
        files.read_json(tmp_path / "a.json")
    assert time.monotonic() - began < 10


def test_text_is_utf8(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{\n"a": "\xff"}')
    with pytest.raises(XlscaleError, match=r"a\.json: line 2: expected UTF-8, got byte 0xff"):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert files.read_json(tmp_path / "a.json") == {"a": 1}


def read(folder: Path, text: str) -> object:
    (folder / "a.yaml").write_text(text, encoding="utf-8")
    return strict.read_yaml(folder / "a.yaml")


PLAIN = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029\ufeff\ufffe\uffff"), max_size=20
)
VALUES = st.recursive(
    PLAIN | TEXT.filter(lambda text: not strict.UNSEEN.search(text)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(string.ascii_lowercase, min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@given(VALUES)
@EXAMPLES
def test_yaml_gives_what_was_written_as_json(scratch, value):
    """JSON is YAML of which there is one reading: the reference is Python's reader of JSON."""
    text = json.dumps(value, ensure_ascii=False)
    assert read(scratch, text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("-007", -7), ("+5", 5), ("0", 0), ("1e-3", 0.001), ("1.0e-3", 0.001), ("1E3", 1000.0),
        ("1.", 1.0), (".5", 0.5), ("true", True), ("False", False), ("~", None), ("null", None), ("", None),
        ("1_0", "1_0"), ("1:30", "1:30"), ("190:20:30.15", "190:20:30.15"), ("0x10", "0x10"), ("0o7", "0o7"),
        ("0b1", "0b1"), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("No", "No"),
        ("2024-01-31", "2024-01-31"), ("2024-02-30", "2024-02-30"), (".inf", ".inf"), (".nan", ".nan"), ("=", "="),
        ("1.2.3", "1.2.3"), ("12e", "12e"), ("<<", "<<"), ("'010'", "010"), ('"1e-3"', "1e-3"), ("1,000", "1,000"),
        ("١٠", "١٠"),
    ],
)  # fmt: skip
def test_a_plain_value_is_what_a_person_means_by_it_or_a_text(tmp_path, text, value):
    found = read(tmp_path, f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


BOMB = "\n".join(["a: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: expected the key 'a' once"),
        ("a:\n  b: {c: 1, c: 2}", "line 2: expected the key 'c' once"),
        ("{1: a, 1: b}", "expected the key '1' once"),
        ("a: 1e999", "expected float, got '1e999'"),
        (f"a: {'9' * 5000}", "expected int, got '999"),
        ("a: !!int x", "expected int, got 'x'"),
        ("a: !!bool maybe", "expected bool, got 'maybe'"),
        ("a: !!timestamp 2024-13-45", "expected no tag, got 'tag:yaml.org,2002:timestamp'"),
        ("a: !!python/object/apply:os.system [touch y]", "expected no tag"),
        ("a: !!binary eA==", "expected no tag"),
        ("a: !!set {b}", "expected no tag"),
        ("&a [*a]", "expected at most 40 levels"),
        (BOMB, "expected at most 200,000 values, aliases written out"),
        ("[" * 500 + "]" * 500, "expected at most 40 levels"),
        ("- " * 3000 + "x", ""),
        ("[" * 50 + "]" * 50, "expected at most 40 levels"),
        ('a: "\\e[31m"', "got U+001B"),
        ("a: b\u202ec", "got U+202E"),
        ("? [a]\n: b", "unhashable key"),
        ("a: [", "line 2"),
        ("a: \x01", "line 1: expected text that shows all it holds, got U+0001"),
        ("--- a\n--- b", "another document"),
    ],
)
def test_yaml_that_means_two_things_or_hides_something_is_one_line(tmp_path, text, message):
    with pytest.raises(XlscaleError, match=rf"^\S*a\.yaml: not valid YAML \(.*{re.escape(message)}") as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


UNSEEN = "\u200b\ufeff\u2028\x85\u2029\u202e\u2066\u200c\u200e\u00ad\u2060\u00a0\u3000\u3164\ufe0f\u034f\U000e0041"


@pytest.mark.parametrize("character", UNSEEN)
@pytest.mark.parametrize(
    "form", ["a: b\nc: x{}y", "a: b\n{}c: x", "a: b\n# x {}c: y", "a: b\nc: 'x{}'", 'a: b\nc: "{}"']
)
def test_nothing_in_yaml_is_unseen_in_names_texts_and_comments(tmp_path, form, character):
    """A comment that a character ends which no editor takes for the end of a line would hold a key."""
    with pytest.raises(XlscaleError, match=rf"a\.yaml: not valid YAML \(line 2: .*U\+{ord(character):04X}"):
        read(tmp_path, form.format(character))
    with pytest.raises(XlscaleError, match=rf"a\.yaml: not valid YAML \(line 2: .*U\+{ord(character):04X}"):
        read(tmp_path, f'a: b\nc: "x\\U{ord(character):08x}"')


@pytest.mark.parametrize("character", UNSEEN)
def test_nothing_in_the_names_of_a_lock_is_unseen(character):
    lock = {"card": "x", "sha256": "0" * 64, "labels": ["a", "b"], "revisions": {}, "files": {"a": (1, "0" * 64)}}
    assert strict.parse(sources.Lock, lock, "x.json")
    for changed in ({"labels": ["a", f"a{character}"]}, {"files": {f"a{character}": (1, "0" * 64)}}):
        with pytest.raises(XlscaleError, match=rf"x\.json: .*U\+{ord(character):04X}") as error:
            strict.parse(sources.Lock, lock | changed, "x.json")
        assert str(error.value).isprintable()


def test_letters_signs_and_spaces_of_any_script_are_seen(tmp_path):
    text = "Größe naïve कि ไทย 한국어 日本語 العربية עברית 😀"
    assert read(tmp_path, f"a: {text}\r\nb: 1\r\n") == {"a": text, "b": 1}


def test_anchors_are_written_out(tmp_path):
    assert read(tmp_path, "a: &x {b: [1]}\nc: *x") == {"a": {"b": [1]}, "c": {"b": [1]}}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: \xe9", b"a: 1\n" + bytes(2**18)])
def test_a_yaml_file_is_short_and_utf8(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(XlscaleError, match=r"a\.yaml: (line 1: expected UTF-8|expected at most 65,536 bytes)"):
        strict.read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "path", sorted(files.ROOT.glob("*/*.yaml")) + sorted(files.ROOT.glob("data_manifest/*/*.yaml"))
)
def test_our_own_files_mean_the_same_in_both_versions_of_yaml(path):
    assert strict.read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


class Seen(HTMLParser):
    """What a browser would make of HTML: its tags with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.data = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))
        self.data += "\n" if tag == "br" else ""

    def handle_comment(self, data):
        self.tags.append(("comment", data))

    def handle_data(self, data):
        self.data += data


@given(
    st.text(max_size=60)
    | st.sampled_from(["<script>alert(1)</script>", "'><img src=x onerror=x>", "{}", "&lt;", "]]>"])
)
@EXAMPLES
def test_data_in_html_is_text(text):
    made = markup.fill('<td title="{}">{}</td>', text, markup.fill("<b>{}</b>", text))
    seen = Seen(made)
    assert [tag for tag, _ in seen.tags if tag != "br"] == ["td", "b"] and [name for name, _ in seen.tags[0][1]] == [
        "title"
    ]
    if not files.HIDDEN.search(text):
        assert seen.data == text
    assert not files.HIDDEN.search(html.unescape(made))


MARKED = [
    "*a* _b_ `c`",
    "a_b _c",
    "| x |",
    "[a](javascript:b)",
    "![a](b)",
    "<b>",
    "&lt;",
    "\\*",
    "~~a~~",
    "# a #",
    "$x$",
]


@given(st.text(max_size=60) | st.sampled_from(MARKED))
@EXAMPLES
def test_data_in_markdown_are_text(text):
    """As an independent reading of CommonMark with tables has it."""
    from markdown_it import MarkdownIt

    made = markup.markdown(text)
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page = f"# Of {made}\n\n| a | b |\n| --- | --- |\n| {made}. | c |\n"
    told = [one for one in reader.parse(page) if one.type == "inline"]
    expected = files.printable(" ".join(text.split()))
    for one, whole in zip((told[0], told[3]), (f"Of {expected}".strip(), f"{expected}."), strict=True):
        assert {part.type for part in one.children} == {"text"}
        assert "".join(part.content for part in one.children) == whole
    assert len(told) == 5


def test_an_agreement_holds_no_markup_of_studies_and_machines():
    recorded = {"x": Result.model_construct(environment={"machine": "<b>| 1 |\n# mine"})}
    compared = pd.DataFrame(columns=["cell", "recorded", "yours", "tolerance", "verdict", "agrees"])
    text = verdicts.markdown("[a](b)\n\n**1 of 1 agree**", compared, recorded, {}, [])
    assert text.startswith("# Agreement with the record: \\[a\\](b) \\*\\*1 of 1 agree\\*\\*\n\n")
    assert "Machine of the record: \\<b\\>\\| 1 \\| \\# mine.\n" in text


def test_of_what_is_printed_every_line_is_bounded():
    text = "\n".join(["a" * 1000, *map(str, range(50)), "\x1b[2J"])
    shown = lines.each_bounded(text).split("\n")
    assert len(shown) == 52 and max(map(len, shown)) <= files.WIDTH and shown[1:51] == [*map(str, range(50))]
    assert shown[-1] == "\\x1b[2J"


LINES = ["", " ", "a\nb", "a\tb", "a\rb", "a\x1b[2Jb", "a\u202eb", "a\u2028b", "a" * 201]


@pytest.mark.parametrize("title", LINES)
@pytest.mark.parametrize("place", ["study", "name", "title", "citation", "task"])
def test_what_a_study_or_benchmark_is_called_is_one_line(place, title):
    """A second one would pass for what the program says."""
    if place == "study":
        schema, value = Study, yaml.safe_load((files.STUDIES / "smoke.yaml").read_text(encoding="utf-8"))
        value["title"] = title
    else:
        schema, path = Benchmark, files.MANIFEST / "benchmarks" / "xtreme.yaml"
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
        part, field = (value["tasks"][0], "title") if place == "task" else (value, place)
        part[field] = title
    field = {"study": "title", "task": "tasks.0.title"}.get(place, place)
    with pytest.raises(XlscaleError, match=rf"^x: {field}: (expected|String should have at (most 200|least))") as told:
        strict.parse(schema, value, "x")
    assert "\n" not in str(told.value)


HOSTILE = [r"$\frac{$", "$$", r"$\undefined$", "a_b^c$", r"\$", "$x$ and $", "50% of $100", "{}", r"$\text{"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_label_is_drawn_as_it_is(tmp_path, text):
    """Everywhere that data become a label. A formula that is none would stop the figure."""
    with style.look():
        fig, (ax,) = style.panels(1, 1, 3)
        ax.set_xscale("log")
        ax.plot([1, 1000], [0, 1])
        ax.set_yticks([0, 1], [text, text])
        ax.set_title(text)
        ax.set_xlabel(text)
        ax.annotate(text, (10, 0.5))
        style.legend(fig, {text: style.handle(marker="o")}, 1)
        style.note(fig, text)
    drawn = style.draw(fig)
    style.save(drawn, tmp_path / "figure")
    shown = style.show(drawn).data
    assert all(one.get_text() == text and not one.get_parse_math() for one in (ax.title, *ax.get_yticklabels()))
    # Powers of ten, of the library, stay formulas: 10 and its exponent are separate glyphs.
    assert shown.count("mathdefault") >= 1 and (tmp_path / "figure.pdf").exists()

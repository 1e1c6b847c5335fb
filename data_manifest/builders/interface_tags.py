"""Interface tags: which words of a paragraph name a part of a user interface, a key, a program, a file or a command.

Paragraphs of GNOME's help, whose authors mark such words inline (Mallard XML), and translators after them. English to
train on, translations to test on. Split by page. A paragraph that recurs on another page, or nearly (see
``similarity``), is trained on or left out, never tested.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from data_manifest.builders.debian import deb_files
from data_manifest.builders.exclusions import drop_near_duplicates, first_of_each, page_of
from xlscale.cards.catalogue import data_card
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data import load, words
from xlscale.data.schema import Row, shuffled
from xlscale.data.similarity import NEAR, containment, normal

# Our code -> the folder of the package.
FOLDERS = {
    "en": "C",
    "de": "de",
    "el": "el",
    "es": "es",
    "fa": "fa",
    "fi": "fi",
    "fr": "fr",
    "gu": "gu",
    "hu": "hu",
    "id": "id",
    "it": "it",
    "ja": "ja",
    "ko": "ko",
    "mr": "mr",
    "nl": "nl",
    "pl": "pl",
    "pt": "pt",
    "pt_br": "pt_BR",
    "ru": "ru",
    "ta": "ta",
    "uk": "uk",
    "vi": "vi",
    "zh": "zh_CN",
}
SEED = "interface tags 1"
ROWS = {"train": 2000, "dev": 300, "test": 300}  # of one language, at most
TESTED = 640  # English paragraphs of the pages that are tested on
SHORTEST = 3  # tokens
# Targets that this set keeps away from as well, by their bundled files: none of them is built from this set.
AVOIDED = ("help_retrieval", "symbol_group", "topic", "udhr")
# A paragraph that marks nothing but keys counts less in the choice of pages, or the lists of key combinations, which
# are translated everywhere, would all be tested and none be trained on.
KEYS_ALONE = 1 / 3
# What a reader sees between the parts of these, where the file has nothing.
_JOINED = {"keyseq": "+", "guiseq": " ▸ "}
_PAGE = re.compile(r"usr/share/help/([^/]+)/([^/]+/[^/]+)\.page")


class Paragraph(NamedTuple):
    """A paragraph: what is read, and the spans that are marked in it, as characters of the text."""

    text: str
    spans: list[words.Span]


Texts = dict[str, Paragraph]  # <guide>/<page>#<path in the page> -> paragraph


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from the Debian package; item and group are the paragraph's page and its path there.

    Raises XlscaleError when a language is missing, or when there are fewer dev paragraphs than wanted.
    """
    texts = texts_of(files[0], card.labels)
    if missing := [code for code in FOLDERS if not texts[code]]:
        raise XlscaleError(f"{card.name}: {files[0].name}: expected pages in {FOLDERS[missing[0]]}, got none")
    english = texts.pop("en")
    alone = _alone(english)
    translated = {code: _translations(english, found, alone) for code, found in texts.items()}
    tested = _tested(english, translated)
    ranked = _ranked([item for item in alone if page_of(item) in tested], translated)
    rows = [_row("test", "en", item, english[item]) for item in ranked[: ROWS["test"]]]
    for code, found in translated.items():
        chosen = [item for item in ranked if item in found][: ROWS["test"]]
        rows += [_row("test", code, item, found[item], english[item].text) for item in chosen]

    excluded = {row["text"] for row in rows} | _tested_elsewhere()
    left = [item for item in english if page_of(item) not in tested]
    left = drop_near_duplicates(left, lambda item: [english[item].text], excluded)
    # Page after page: the order of a page's paragraphs stays.
    single = set(alone)
    dev = [item for item in shuffled(left, SEED, key=page_of) if item in single][: ROWS["dev"]]
    if len(dev) < ROWS["dev"]:
        raise XlscaleError(f"{card.name}: dev: expected {ROWS['dev']} paragraphs, got {len(dev)}")
    tuned = {page_of(item) for item in dev}
    train = shuffled((item for item in left if page_of(item) not in tuned), SEED)
    train = first_of_each(train, lambda item: normal(english[item].text))
    for split, items in (("dev", dev), ("train", train[: ROWS["train"]])):
        rows += [_row(split, "en", item, english[item]) for item in items]
    return rows


def texts_of(package: Path, types: Sequence[str]) -> dict[str, Texts]:
    """Language -> its paragraphs that can be tagged, in order of pages: those whose spans are whole tokens."""
    languages = {folder: code for code, folder in FOLDERS.items()}
    pages: dict[str, dict[str, bytes]] = {code: {} for code in FOLDERS}
    for name, content in deb_files(package):
        if (match := _PAGE.fullmatch(name)) and match[1] in languages:
            pages[languages[match[1]]][match[2]] = content
    found: dict[str, Texts] = {}
    for code, files in pages.items():
        found[code] = {}
        for page in sorted(files):
            for path, paragraph in _paragraphs(files[page], types).items():
                tokens = words.split(paragraph.text)
                if len(tokens) >= SHORTEST and words.tags(tokens, paragraph.spans) is not None:
                    found[code][f"{page}#{path}"] = paragraph
    return found


def _paragraphs(page: bytes, types: Sequence[str]) -> Texts:
    """Path -> paragraph of a page's running text, lists and tables.

    The path is that of elements from the page down, numbered among those of the same name: translators' credits
    shift nothing. Left out are the text that stands for a picture, fragments that a page includes, and paragraphs with
    a hole: a picture, or a link whose text is another page's title.
    """
    found = {}
    for element in etree.fromstring(page, etree.XMLParser(resolve_entities=False)).iter("{*}p"):
        above = [node for node in (element, *element.iterancestors()) if node.getparent() is not None]
        names = [etree.QName(node).localname for node in above]
        holes = [*element.iter("{*}media"), *(x for x in element.iter("{*}link") if not "".join(x.itertext()).strip())]
        if not holes and not {"info", "media"} & set(names):
            numbers = [sum(1 for _ in node.itersiblings(node.tag, preceding=True)) + 1 for node in above]
            path = "/".join(f"{name}{n}" for name, n in zip(reversed(names), reversed(numbers), strict=True))
            found[path] = _read(element, types)
    return found


def _read(paragraph: etree._Element, types: Sequence[str]) -> Paragraph:
    """A paragraph as its reader sees it, white space collapsed, with the outermost marks of the given types."""
    parts: list[str] = []
    marks: list[words.Span] = []

    def walk(node: etree._Element, marked: bool) -> None:
        joint = _JOINED.get(etree.QName(node).localname)
        if joint and node.get("type") == "sequence":  # keys one after another, not at once
            joint = " "
        add(node.text, joint)
        for number, child in enumerate(node.iterchildren("*")):
            kind = etree.QName(child).localname
            parts.append(joint if joint and number else "")
            begin = sum(map(len, parts))
            walk(child, marked or kind in types)
            if kind in types and not marked:
                marks.append((kind, begin, sum(map(len, parts))))
            add(child.tail, joint)

    def add(text: str | None, joint: str | None) -> None:
        if text and (text.strip() or not joint):
            parts.append(text)

    for comment in list(paragraph.iter(etree.Comment, etree.ProcessingInstruction)):
        _drop(comment)
    walk(paragraph, False)
    return _tidy("".join(parts), marks)


def _drop(comment: etree._Element) -> None:
    """Take a comment out and leave the text behind it."""
    before, above = comment.getprevious(), comment.getparent()
    if before is not None:
        before.tail = (before.tail or "") + (comment.tail or "")
    else:
        above.text = (above.text or "") + (comment.tail or "")
    above.remove(comment)


def _tidy(raw: str, marks: Sequence[words.Span]) -> Paragraph:
    """Collapse white space and move the marks along; white space at a mark's ends, and empty marks, are no marks."""
    text, positions = "", []
    for character in raw:
        positions.append(len(text))
        if not character.isspace():
            text += character
        elif text and text[-1] != " ":
            text += " "
    positions.append(len(text))
    spans = []
    for kind, begin, end in marks:
        begin, end = positions[begin], positions[end]
        inside = text[begin:end]
        begin, end = begin + len(inside) - len(inside.lstrip()), begin + len(inside.rstrip())
        if begin < end:
            spans.append((kind, begin, end))
    return Paragraph(text.rstrip(), spans)


def _alone(english: Texts) -> list[str]:
    """Items that have no near-duplicate on another page, equal ones of a page once."""
    items = list(english)
    texts = [english[item].text for item in items]
    near = (containment(texts, texts) >= NEAR).tocoo()
    recurring = {int(a) for a, b in zip(near.row, near.col, strict=True) if page_of(items[a]) != page_of(items[b])}
    single = (item for i, item in enumerate(items) if i not in recurring)
    return first_of_each(single, lambda item: normal(english[item].text))


def _translations(english: Texts, found: Texts, alone: Sequence[str]) -> Texts:
    """The translations of ``alone`` that differ from English and have as many spans of each type as the original."""
    return {
        item: found[item]
        for item in alone
        if item in found
        and normal(found[item].text) != normal(english[item].text)
        and Counter(kind for kind, _, _ in found[item].spans) == Counter(kind for kind, _, _ in english[item].spans)
    }


def _tested(english: Texts, translated: Mapping[str, Texts]) -> set[str]:
    """Pages to test on, with about TESTED English paragraphs: where a language's few translations lie comes first.

    A page counts, per paragraph of it, by the shares that it holds of each language's paragraphs with marks.
    """
    sizes = Counter(map(page_of, english))
    worth: Counter[str] = Counter()
    for found in translated.values():
        worths = {item: _worth(paragraph) for item, paragraph in found.items()}
        total = sum(worths.values())
        for item, value in worths.items():
            worth[page_of(item)] += value / total
    pages, count = set(), 0
    for page in sorted(sizes, key=lambda page: (-worth[page] / sizes[page], page)):
        if count >= TESTED:
            break
        pages.add(page)
        count += sizes[page]
    return pages


def _worth(paragraph: Paragraph) -> float:
    kinds = {kind for kind, _, _ in paragraph.spans}
    return KEYS_ALONE if kinds == {"key"} else float(bool(kinds))


def _ranked(items: Iterable[str], translated: Mapping[str, Texts]) -> list[str]:
    """Items in the order in which they are tested: first what most languages have, so that languages share items."""
    return sorted(shuffled(items, SEED), key=lambda item: -sum(item in found for found in translated.values()))


def _tested_elsewhere() -> set[str]:
    """The test texts of the targets in AVOIDED, and the English originals of translated ones, from their files."""
    tables = [load.table(data_card(name)).to_pandas().query("split == 'test'") for name in AVOIDED]
    texts = [rows[name].dropna() for rows in tables for name in ("text", "original") if name in rows]
    return set().union(*texts)


def _row(split: str, language: str, item: str, paragraph: Paragraph, original: str | None = None) -> Row:
    """A row of the bundle; a translation brings its English original along."""
    tokens = words.split(paragraph.text)
    return {
        "split": split,
        "language": language,
        "item": item,
        "group": item,
        "text": paragraph.text,
        "tokens": [paragraph.text[begin:end] for begin, end in tokens],
        "tags": words.tags(tokens, paragraph.spans),
        "original": original,
    }

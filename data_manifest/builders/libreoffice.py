"""LibreOffice's help pages as they lie in Debian's packages ``libreoffice-help-<language>``, and who may use which.

A page is one HTML file, and its paragraphs carry ids that are the same in every language. Pages are divided once, by
their names: some are reserved for test splits, all others are free for training and unlabelled text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from lxml import html

from data_manifest.builders.debian import deb_files
from xlscale.data.schema import sampled

SEED = "libreoffice help 1"
RESERVED = 0.4  # share of the pages that is kept for test splits

_PAGE = re.compile(r"usr/share/libreoffice/help/[^/]+/text/(.+)\.html")
_PARAGRAPH = re.compile(r"(par|hd)_")


def pages(deb: Path, wanted: Callable[[str], bool] = lambda page: True) -> dict[str, dict[str, str]]:
    """Page -> {paragraph id: text}, from a package ``libreoffice-help-<language>``.

    A page is named by its path, such as ``swriter/guide/auto_numbering``; the first part is the module (``shared`` for
    what all modules use). Paragraphs are headings (``hd_...``) and running text, table cells and list items
    (``par_...``), in the page's order, with white space collapsed. Text that a page embeds from another page has no id
    there and is not repeated. Where a text differs between systems or modules, the common variant is taken. Only pages
    that are ``wanted`` by their names are read.

    Raises XlscaleError when the file is not a whole Debian package.
    """
    found = {}
    for name, content in deb_files(deb):
        if (match := _PAGE.fullmatch(name)) and wanted(match[1]):
            found[match[1]] = _paragraphs(content)
    return found


def tested(page: str) -> bool:
    """Whether a page is reserved for test splits: nothing of it, in any language, may be trained on.

    The name alone decides, so that whoever takes text from the help need not know which segments were chosen.
    (``help_retrieval`` in turn takes no segment that has a near-duplicate on a free page of the English help.)
    """
    return sampled(page, SEED, RESERVED)


def _paragraphs(page: bytes) -> dict[str, str]:
    tree = html.fromstring(page, parser=html.HTMLParser(encoding="utf-8"))
    for switch in tree.find_class("switchinline"):
        for variant in list(switch):
            if not (variant.get("id") or "").startswith("default"):
                variant.drop_tree()
    paragraphs = {}
    for element in tree.iter("p", "h1", "h2", "h3", "h4", "h5", "h6"):
        identifier = element.get("id") or ""
        text = " ".join(element.text_content().split())
        if text and _PARAGRAPH.match(identifier):
            paragraphs.setdefault(identifier, text)
    return paragraphs

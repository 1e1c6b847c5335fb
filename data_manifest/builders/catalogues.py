"""Messages of programs in many languages, as translators wrote them and as a reader sees them.

Two kinds of files are read: gettext's binary catalogues (.mo), whose keys are the English messages, and MediaWiki's
JSON files, one per language and component, whose keys are names.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import struct
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import polib

from data_manifest.builders.debian import deb_files
from xlscale.core.files import XlscaleError, relative

HOLE = "…"  # stands for what a program fills in
MOST_HOLES = 2  # of a message that still says something

Messages = dict[str, tuple[str, str]]  # name -> message, English message

# MediaWiki: a switch over numbers or genders keeps its last form, a word form its word, a link what is shown of it.
_SWITCH = re.compile(r"\{\{(?:PLURAL|GENDER)\s*:[^{}|]*\|(?:[^{}|]*\|)*([^{}|]*)\}\}", re.IGNORECASE)
_FORM = re.compile(r"\{\{GRAMMAR\s*:[^{}|]*\|([^{}|]*)\}\}", re.IGNORECASE)
_SITE = re.compile(r"\{\{SITENAME\}\}", re.IGNORECASE)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_QUOTES = re.compile(r"'{2,}")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_FILLED = re.compile(r"\$[1-9]|%(?:[1-9]\$)?[-#0.]*[0-9]*(?:l|ll|z)?[sdifugx]|%\([a-z_]+\)[sd]")
_ACCELERATOR = re.compile(r"(?<!\w)_(?=\w)")
# Code, markup and addresses that are left after all this: such a message is no running text.
_CODE = re.compile(r"[{}\[\]<>|\\_=@^]|https?:|www\.|\.php|::|--|&\w+;|\$")


def gettext(deb: Path, pattern: str, locales: Mapping[str, str]) -> dict[str, Messages]:
    """Language -> messages by a hash of their keys, from the .mo files of a Debian package.

    ``pattern``: a regular expression for a file's path whose first group is the locale; ``locales``: locale -> our
    code. Only messages with a translation. Raises XlscaleError when the package or a catalogue is not whole.
    """
    found: dict[str, Messages] = defaultdict(dict)
    for name, raw in deb_files(deb):
        if (match := re.fullmatch(pattern, name)) and match[1] in locales:
            try:
                entries = polib.mofile(raw)
            except (struct.error, ValueError, OSError):
                entries = None
            # The parser does not miss what is cut off within the last string. Every string ends with a zero.
            if entries is None or not raw.endswith(b"\0"):
                raise XlscaleError(f"{relative(deb)}: {name}: expected a whole gettext catalogue (.mo)")
            for entry in entries:
                text = entry.msgstr_plural[0] if entry.msgstr_plural else entry.msgstr
                if entry.msgid and text:
                    found[locales[match[1]]][_digest(entry)] = (text, entry.msgid)
    return dict(found)


def _digest(entry: polib.MOEntry) -> str:
    """A hash of an entry's key as the file has it: context, message and plural."""
    context = "" if entry.msgctxt is None else f"{entry.msgctxt}\x04"
    plural = f"\x00{entry.msgid_plural}" if entry.msgid_plural else ""
    return hashlib.sha256(f"{context}{entry.msgid}{plural}".encode()).hexdigest()[:12]


def mediawiki(deb: Path, locales: Mapping[str, str]) -> dict[str, Messages]:
    """Language -> messages by component and key, from Debian's package of MediaWiki and its extensions.

    ``locales``: MediaWiki's code -> ours; the English messages ("en") are always read. Left out are the descriptions
    of the programming interface, most of which follow a few templates.
    """
    files = {}
    for name, raw in deb_files(deb):
        if match := re.fullmatch(r".*?/mediawiki/(.+/)?i18n/(?:(.+)/)?([a-z-]+)\.json", name):
            component = "/".join(part.strip("/") for part in (match[1], match[2]) if part)
            if match[3] in {*locales, "en"} and "api" not in component.split("/"):
                files[component, match[3]] = json.loads(raw)
    found: dict[str, Messages] = defaultdict(dict)
    for (component, locale), texts in files.items():
        english = files.get((component, "en"), {})
        for key, text in texts.items():
            if isinstance(text, str) and isinstance(english.get(key), str) and not key.startswith(("api", "@")):
                found[locales.get(locale, locale)][f"{component}/{key}"] = (text, english[key])
    return dict(found)


def plain(message: str) -> str:
    """A message without markup, white space collapsed, with HOLE for what is filled in; "" where that is no text.

    >>> plain("'''Note:''' [[Special:Users|$1 users]] have {{PLURAL:$2|one page|$2 pages}}<br />on {{SITENAME}}.")
    'Note: … users have … pages on Wiki.'
    """
    text = html.unescape(_TAG.sub(" ", message))
    text = _SITE.sub("Wiki", _QUOTES.sub("", text))
    text = _LINK.sub(r"\1", _SWITCH.sub(r"\1", _FORM.sub(r"\1", text)))
    text, holes = _FILLED.subn(HOLE, _ACCELERATOR.sub("", text))
    text = " ".join(text.split())
    return "" if holes > MOST_HOLES or _CODE.search(text) else text

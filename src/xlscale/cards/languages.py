"""Codes of languages: one for each, so that no language counts twice in a mean and English is never taken for another.

A code is the shortest one of ISO 639, in lower case (``de``, ``yue``). After it stand, with underscores between, a
script that is not the one its language is mostly written in (``zh_hant``, ``sr_latn``), and a region where that makes
another variety (``pt_br``; ``pt`` is European). What is another way to write which follows Unicode's CLDR.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated

from pydantic import AfterValidator

ENGLISH = "en"
_FORM = re.compile(r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}|[0-9]{3}))?", re.IGNORECASE)
# Where CLDR has two codes for a language, or prefers another one than XTREME-R.
_SAME = {"fil": "tl", "nb": "no", "azj": "az", "pbt": "ps"}
_HOME = {"pt": "PT"}  # CLDR's is Brazil
# Scripts that say no more than Korean or Chinese, or nothing: unknown, common, inherited, unwritten.
_VAGUE = {"Hang", "Hani", "Zzzz", "Zyyy", "Zinh", "Zxxx"}
_ANYWHERE = {"ZZ", "001"}  # regions: unknown, the world
# Codes that small languages have, and that in a table of scores mean none.
_NONE = {"all", "any", "ave", "avg", "max", "mix", "non", "oth", "sum", "tot", "und", "var"}


@cache
def canonical(code: str) -> str:
    """The code of the language that ``code`` means, however it is written: ``eng``, ``en-US``, ``eng_Latn`` are ``en``.

    Raises ValueError for what is no code of one language.
    """
    from babel.core import Locale, get_global

    likely, names = get_global("likely_subtags"), Locale(ENGLISH)
    match = _FORM.fullmatch(code.strip())
    given, script, region = (part or "" for part in match.groups()) if match else ("", "", "")
    language, *implied = get_global("language_aliases").get(given.lower(), given.lower()).split("_")
    language = _SAME.get(language, language)
    script = script.title() or next((part for part in implied if len(part) == 4), "")
    region = region.upper() or next((part for part in implied if len(part) < 4), "")
    region = "" if region in _ANYWHERE else region
    known = language in likely and script in {"", *names.scripts} and region in {"", *names.territories}
    if not known or given.lower() in _NONE:
        raise ValueError("expected the code of a language, such as 'de', 'pt_br' or 'zh_hant'")
    if language == ENGLISH:
        return language
    _, usual, _ = likely[language].split("_")
    if script in {"", *_VAGUE}:
        _, script, _ = likely.get(f"{language}_{region}", likely[language]).split("_")
    home = likely.get(f"{language}_{script}", likely[language]).split("_")[2]
    parts = [language, script if script != usual else "", region if region != _HOME.get(language, home) else ""]
    return "_".join(part.lower() for part in parts if part)


def checked(code: str) -> str:
    """The code, if it is the canonical one. Raises ValueError naming that."""
    if (expected := canonical(code)) != code:
        raise ValueError(f"expected {expected!r}, the one code of its language, for {code!r}")
    return code


def once(codes: list[str]) -> list[str]:
    """The codes, if there is each once. Raises ValueError."""
    if twice := {code for code in codes if codes.count(code) > 1}:
        raise ValueError(f"expected each language once, {min(twice)!r} is there twice")
    return codes


Language = Annotated[str, AfterValidator(checked)]
Languages = Annotated[list[Language], AfterValidator(once)]

"""Groups of languages: by the script that they are written in, and by whether the pretrained model saw them.

No card says what a model saw. The vocabulary of the models here is that of XLM-R, and what they were distilled from was
trained as XLM-R was, so that a language counts as seen where XLM-R's own text has it. What came after that in their
training may hold others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from babel.core import get_global

# The text of Conneau et al. 2020, as the README of their code lists it: 100 forms of languages, of which five
# transliterations and a second encoding of Burmese are no languages of their own here.
_SEEN = """
af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id is it ja jv
ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps pt ro ru sa sd si sk sl so sq sr su sv sw
ta te th tl tr ug uk ur uz vi xh yi zh zh_hant
"""
SEEN = frozenset(_SEEN.split())
OTHER = "other scripts"
_BRAHMIC = "Deva Beng Guru Gujr Orya Taml Telu Knda Mlym Sinh Thai Laoo Khmr Mymr"
_NAMES = {"Latn": "Latin", "Cyrl": "Cyrillic", "Arab": "Arabic"}
_NAMES |= dict.fromkeys(_BRAHMIC.split(), "Brahmic") | dict.fromkeys(("Hans", "Hant", "Jpan", "Kore"), "East Asian")
SCRIPTS = (*dict.fromkeys(_NAMES.values()), OTHER)


def script(code: str) -> str:
    """The group of scripts, one of SCRIPTS, that a language is written in, by its code in the data."""
    language, *parts = code.split("_")
    given = next((part for part in parts if len(part) == 4), None)
    likely = get_global("likely_subtags")
    return _NAMES.get((given or likely.get(code, likely[language]).split("_")[1]).title(), OTHER)


def seen(code: str) -> bool:
    """Whether XLM-R's text has a language, in one of its varieties."""
    return code in SEEN or code.split("_")[0] in SEEN


def of(code: str) -> tuple[str, bool]:
    """Script and whether it was seen: the group of a language in figures."""
    return script(code), seen(code)


def within(codes: Iterable[str]) -> dict[str, Callable[[str], bool]]:
    """Name of a group -> whether a code is in it: scripts, and what the model saw or not. Of the groups that hold some
    of ``codes`` and not all."""
    groups: dict[str, Callable[[str], bool]] = {name: lambda code, name=name: script(code) == name for name in SCRIPTS}
    groups |= {"seen in pretraining": seen, "not seen in pretraining": lambda code: not seen(code)}
    return {name: inside for name, inside in groups.items() if len({inside(code) for code in codes}) == 2}

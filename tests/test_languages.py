"""Codes of languages: however one is written it is one language, English is always found, and no row is for all."""

import json

import pytest
import yaml

from xlscale.acquire.external import convert
from xlscale.cards import catalogue
from xlscale.cards.languages import canonical
from xlscale.cards.schema import DataCard
from xlscale.cards.sources import Lock, SplitSource
from xlscale.core.files import MANIFEST, XlscaleError
from xlscale.core.strict import parse
from xlscale.metrics.answers import normaliser
from xlscale.xtreme import benchmark

SPELT = {
    "en": "eng en-US en_GB EN eng_Latn en-Latn-US en_001 en_AU enG",
    "fr": "fra fr_Zzzz fr_Zyyy fr_ZZ fr-001 fr_Latn_ZZ",
    "zh": "zh-CN zh_CN zh-Hans zho cmn chi zh_Hans_CN cmn_Hans zho_Hans cmn_Hani ZH",
    "zh_hant": "zh-TW zh_TW zh-Hant zho_Hant cmn_Hant_TW",
    "pt": "por pt-PT pt_PT por_Latn",
    "pt_br": "pt-BR pt_BR por_BR pt-Latn-BR",
    "de": "deu ger de-DE deu_Latn",
    "tl": "tgl fil tgl_Latn",
    "he": "iw heb iw_IL",
    "id": "in ind ind_Latn",
    "jv": "jw jav",
    "fa": "pes fas per pes_Arab",
    "sw": "swh swa",
    "ar": "arb ara arb_Arab",
    "no": "nb nob nob_Latn nor",
    "sr": "srp srp_Cyrl sr_RS",
    "sr_latn": "sh srp_Latn sr-Latn",
    "ko": "kor kor_Hang ko_KR",
    "yue": "yue_Hant yue_Hani",
    "ms": "zsm msa zsm_Latn",
    "az": "azj aze azj_Latn",
    "qu": "que quz",
    "my": "mya bur mya_Mymr",
}
PAIRS = [(code, spelt) for code, several in SPELT.items() for spelt in several.split()]
NONE = ["all", "ALL", "any", "avg", "mul", "und", "zxx", "mis", "xx", "multi", "multilingual", "other", "qaa", "zh-yue"]
NONE += ["ave", "max", "var", "non"]
NONE += ["english", "German", "en_Abcd", "de_ZZZ", "12", "d"]
NONE += ["", " ", "en de", "en,de", "en_US.UTF-8", "ca-valencia", "en-x-pirate", "d\u0435", "\u0435n"]


@pytest.mark.parametrize(("code", "spelt"), PAIRS)
def test_a_language_has_one_code_however_it_is_written(code, spelt):
    assert canonical(spelt) == code == canonical(code)


@pytest.mark.parametrize("code", NONE)
def test_what_names_no_language_is_refused(code):
    with pytest.raises(ValueError, match="expected the code of a language, such as 'de', 'pt_br' or 'zh_hant'"):
        canonical(code)


def test_scripts_and_regions_that_make_a_variety_stay():
    codes = ["zh", "zh_hant", "zh_hant_hk", "yue", "sr", "sr_latn", "hi", "hi_latn", "pt", "pt_br", "es_419", "uz_cyrl"]
    assert [canonical(code) for code in codes] == codes


def test_a_canonical_code_is_its_own_for_all_that_cldr_knows():
    from babel.core import get_global

    found = {}
    for code in {*get_global("language_aliases"), *get_global("likely_subtags")}:
        try:
            found[code] = canonical(code)
        except ValueError:
            continue
    assert len(found) > 7000 and all(canonical(code) == code for code in found.values())
    assert {code for code, meant in found.items() if meant == "en"} == {"en", "eng", "en_Shaw"}


def test_the_codes_of_this_checkout_are_canonical_and_the_rest_of_xtreme_s_too():
    cards = [catalogue.data_card(name) for kind in ("data", "sources") for name in catalogue.names(kind)]
    codes = {code for card in cards for code in card.languages}
    codes |= {code for name in benchmark.names() for task in benchmark.load(name).tasks for code in task.languages}
    assert len(codes) > 50 and all(canonical(code) == code for code in codes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"languages": ["eng"]},
            "languages.0: expected 'en', the one code of its language, for 'eng', got 'eng'",
        ),
        ({"languages": ["de", "zh-CN"]}, "languages.1: expected 'zh', the one code of its language"),
        ({"languages": ["all"]}, "languages.0: expected the code of a language, such as 'de'"),
        ({"languages": ["de", "de"]}, "languages: expected each language once, 'de' is there twice"),
        (
            {"splits": {"test": {"en-US": 3}}},
            "splits.test.en-US.*: expected 'en', the one code of its language",
        ),
    ],
)
def test_a_card_with_another_code_is_one_line_that_names_the_code(change, message):
    values = yaml.safe_load((MANIFEST / "data" / "udhr.yaml").read_text(encoding="utf-8"))
    with pytest.raises(XlscaleError, match=f"card: {message}") as error:
        parse(DataCard, values | change, "card")
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    "change", [{"languages": ["eng"]}, {"languages": {"eng": "en"}}, {"language": "eng"}, {"languages": ["en", "en"]}]
)
def test_so_is_a_source(change):
    values = {"split": "test", "languages": ["en"], "places": [{"origin": "o", "files": "f"}]}
    assert parse(SplitSource, values | {"language": "{language}"}, "card")
    with pytest.raises(XlscaleError, match="card: .*(expected 'en', the one code|expected each language once)"):
        parse(SplitSource, values | change, "card")


def test_so_is_a_lock():
    values = {"card": "x", "sha256": "0" * 64, "revisions": {}, "files": {}, "splits": {"test": {"en_US": 1}}}
    with pytest.raises(XlscaleError, match="expected 'en', the one code of its language"):
        parse(Lock, values, "lock")


def test_languages_that_records_name_are_read_as_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("XLSCALE_MINE", str(tmp_path))
    monkeypatch.setattr(catalogue, "LOCKS", tmp_path / "locks")
    values = catalogue.documented("tatoeba").model_dump()
    place = {"origin": "o", "files": "x.jsonl", "reader": "jsonl"}
    values["source"] = {
        "origins": {"o": {"kind": "folder", "variable": "XLSCALE_MINE", "schema_read": ""}},
        "columns": {"text": "text", "group": "id", "item": "id"},
        "parts": [{"split": "test", "languages": ["en"], "language": "{code}", "places": [place]}],
    }
    card = parse(DataCard, values | {"languages": ["de", "zh"]}, "card")

    def made(*codes):
        records = [{"id": "1", "text": "x", "code": code} for code in codes]
        (tmp_path / "x.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
        return convert.rows(card)["language"].to_pylist()

    assert made("deu_Latn", "en-GB", "zh_Hans") == ["de", "en", "zh"]
    with pytest.raises(XlscaleError, match=r"x\.jsonl, record 2: language: expected the code of a language.*got 'all'"):
        made("de", "all")
    with pytest.raises(XlscaleError, match="'1' occurs more than once in split test, language 'zh', expected once"):
        made("en", "de", "zh", "cmn")


def test_answers_are_normalised_by_language_whatever_script_and_region():
    assert normaliser("mlqa", "zh_hant")("\u8c93\u5728") == normaliser("mlqa", "zh")("\u8c93\u5728") == "\u8c93 \u5728"
    assert normaliser("mlqa", "es_mx")("la casa") == "casa" and normaliser("mlqa", "pt_br")("la casa") == "la casa"

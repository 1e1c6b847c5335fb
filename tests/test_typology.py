"""The table of distances from English: how it is made, on a small package made here, and that it is what is bundled."""

import io
import zipfile

import numpy as np
import pytest

from data_manifest.builders import __main__, typology
from xlscale.acquire import packages
from xlscale.cards import catalogue
from xlscale.cards import typology as languages
from xlscale.core.files import XlscaleError

# Three codes of Chinese, of which the second has the most that is stated; Basque is in no family.
CODES = ["eng", "deu", "cmn", "zho", "eus"]
SYNTAX = {"eng": [1, 1, 0, 0], "deu": [1, 0, 0, 0], "cmn": [0, 0, 1, 1], "zho": [1, 1, 1, 1], "eus": [0, 0, 0, 1]}
STATED = {"eng": 4, "deu": 2, "cmn": 3, "zho": 4, "eus": 0}
FAMILIES = {"F_Indo-European": ["eng", "deu"], "F_Germanic": ["eng"], "F_Sino-Tibetan": ["zho", "cmn"]}


def _stored(codes, feats, values) -> bytes:
    data = io.BytesIO()
    np.savez(data, langs=np.array(codes), feats=np.array(feats), data=np.array(values, float)[:, :, None])
    return data.getvalue()


@pytest.fixture
def package(tmp_path):
    """A wheel with the files of lang2vec; the families have an order of their own, as they do there."""
    feats = ["S_A", "S_B", "P_C", "S_D", "S_E"]
    full = [[*SYNTAX[code][:2], 9, *SYNTAX[code][2:]] for code in CODES]
    stated = [[x if i < STATED[code] else -1 for i, x in enumerate(SYNTAX[code])] for code in CODES]
    backwards = CODES[::-1]
    members = [[code in inside for inside in FAMILIES.values()] for code in backwards]
    path = tmp_path / "lang2vec.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (
            (typology.PREDICTED, _stored(CODES, feats, full)),
            (typology.STATED, _stored(CODES, [name for name in feats if name[0] == "S"], stated)),
            (typology.FAMILIES, _stored(backwards, [*FAMILIES], members)),
        ):
            archive.writestr(typology.FOLDER + name, content)
    return path


def test_distances_are_of_syntax_alone_and_of_the_code_with_the_most_features(package, monkeypatch):
    monkeypatch.setattr(typology, "tested", lambda: ["de", "en", "eu", "zh_hant"])
    assert typology.build(languages.card(), [package]).splitlines() == [
        "language,code,family,syntax,known",
        f"de,deu,Indo-European,{1 - 1 / 2**0.5:.4f},0.5000",
        "en,eng,Indo-European,0.0000,1.0000",
        "eu,eus,isolate eus,1.0000,0.0000",
        f"zh_hant,zho,Sino-Tibetan,{1 - 2 / 2**0.5 / 2:.4f},1.0000",
    ]
    with zipfile.ZipFile(package.with_name("empty.whl"), "w"):
        pass
    with pytest.raises(XlscaleError, match=r"empty.whl: expected lang2vec/data/feature_predictions.npz with feats"):
        typology.build(languages.card(), [package.with_name("empty.whl")])


def test_the_table_is_as_its_card_says_and_of_every_language_that_is_tested(tmp_path, monkeypatch):
    found = languages.distances()
    assert [*found] == typology.tested() and found["en"].known == 1
    assert all(0 <= one.syntax <= 1 and one.family for one in found.values())
    changed = tmp_path / "typology.csv"
    changed.write_text((languages.CARD.parent / "typology.csv").read_text().replace("deu", "dsb"), encoding="utf-8")
    monkeypatch.setattr(languages, "located", lambda root, file: changed)
    languages.distances.cache_clear()
    with pytest.raises(XlscaleError, match="typology.csv"):
        languages.distances()
    languages.distances.cache_clear()


def test_the_package_gives_the_table_again():
    card = languages.card()
    if packages.missing([card.package]):
        pytest.skip("the package is neither in the cache nor in XLSCALE_PACKAGES: `make data` gets it")
    assert "as in the card" in __main__.of_languages(None, update=False)


def test_no_data_set_is_called_as_the_table_is():
    assert __main__.LANGUAGES not in {*catalogue.names("data"), *catalogue.names(catalogue.SOURCES)}

"""What intermediate data are: a written rule, two codings, and what their fields say of a score."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from xlscale.core.files import XlscaleError
from xlscale.published import coding, scores, tables
from xlscale.report.numbers import Numbers
from xlscale.report.sections import published as report


@pytest.fixture(scope="module")
def layer():
    return tables.load()


@pytest.fixture(scope="module")
def table(layer):
    return scores.table(layer)


def test_every_label_of_the_layer_is_coded_twice(layer, table):
    coded = set(layer.coding["intermediate_task"])
    assert coded == set(layer.training["intermediate_task"]) - {"none"}
    assert layer.coding["coder"].value_counts()[[*coding.CODERS]].tolist() == [len(coded)] * 2
    assert (table["data_language"] != coding.NOT_CODED).all()


def test_kappa_is_that_of_an_independent_implementation(layer):
    found = coding.agreement(layer.coding).set_index("field")
    for field in coding.FIELDS:
        one, two = (
            layer.coding[layer.coding["coder"] == coder].set_index("intermediate_task")[field]
            for coder in coding.CODERS
        )
        assert found.loc[field, "kappa"] == pytest.approx(cohen_kappa_score(one, two[one.index]))
        assert found.loc[field, "raw"] == pytest.approx(np.mean(one == two[one.index]))
        assert found.loc[field, "raw"] < 1  # the codings were not made to agree


def test_one_language_is_no_domain_and_one_domain_is_always_called_so(layer):
    of = coding.decided(layer.coding)
    kinds = layer.training.set_index("intermediate_task")["type"].drop("none")
    assert ((kinds == "domain") == (of["breadth"].reindex(kinds.index) == "one")).all()
    text = of[(of["kind"] == "text") & ~of["languages"].isin(["en", "several", "unknown"])]
    assert len(text) >= 8 and (text["breadth"] == "many").all()


def test_basque_text_is_never_domain_specific_english_data(table):
    basque = table[table["data_languages"] == "eu"]
    assert set(basque.loc[basque["language"] == "eu", "data_language"]) == {coding.TESTED}
    assert set(basque.loc[basque["language"] == "es", "data_language"]) == {coding.ANOTHER}
    assert not basque["type"].eq("domain").any() and not basque["data_breadth"].eq("one").any()
    podcasts = table[table["training"] == "medical podcasts"]
    assert set(podcasts["data_language"]) == {coding.ENGLISH} and set(podcasts["data_breadth"]) == {"one"}


@pytest.mark.parametrize(
    ("coded", "tested", "is_"),
    [
        ("en", "sw", "English"),
        ("eu", "eu", "the tested language"),
        ("ja en", "ja", "the tested language"),
        ("eu", "es", "another"),
        ("eu en", "es", "another"),
        ("eu", "avg", "another"),
        ("several", "sw", "several"),
        ("unknown", "sw", "not stated"),
        ("not coded", "sw", "not coded"),
    ],
)
def test_what_data_are_to_a_score(coded, tested, is_):
    assert coding.relation(coded, tested) == is_


@pytest.mark.parametrize(
    ("column", "text", "said"),
    [
        (
            "languages",
            "Basque",
            "languages: expected one or two codes of languages, 'several' or 'unknown', got 'Basque'",
        ),
        ("languages", "eu en es", "languages: expected one or two codes"),
        ("languages", "eng", "languages: expected one or two codes"),
        (
            "kind",
            "texts",
            "kind: expected one of task, instructions, text, text and instructions, unknown, got 'texts'",
        ),
        ("breadth", "wide", "breadth: expected one of one, many, unknown, got 'wide'"),
        ("disclosed", "", "disclosed: expected one of yes, no, got ''"),
        ("coder", "3", "coder: expected one of 1, 2, agreed, got '3'"),
    ],
)
def test_a_wrong_coding_is_one_line(tmp_path, column, text, said):
    folder = shutil.copytree(tables.FOLDER, tmp_path / "published")
    table = pd.read_csv(folder / "coding.csv", dtype=str, keep_default_na=False)
    table.loc[1, column] = text
    table.to_csv(folder / "coding.csv", index=False)
    with pytest.raises(XlscaleError, match=r"coding\.csv: line 3: ") as caught:
        tables.load(folder)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def coded(*rows):
    return pd.DataFrame([("a", *row, "") for row in rows], columns=tables.HEADERS["coding"])


EN, JA = ("en", "text", "many", "yes"), ("ja", "text", "many", "yes")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("1", *EN)], "a: coder: expected 1, 2, got 1"),
        ([("1", *EN), ("2", *JA)], "a: coder: expected 1, 2, agreed, got 1, 2"),
        ([("1", *EN), ("2", *EN), ("agreed", *EN)], "a: coder: expected 1, 2, got 1, 2, agreed"),
        ([("1", *EN), ("2", *JA), ("agreed", "eu", *EN[1:])], "a: languages: expected what one of the coders has"),
    ],
)
def test_a_label_needs_two_codings_and_a_decision_where_they_differ(rows, said):
    with pytest.raises(XlscaleError, match=said):
        coding.check(coded(*rows))
    coding.check(coded(("1", *EN), ("2", *JA), ("agreed", *JA)))
    assert coding.decided(coded(("1", *EN), ("2", *JA), ("agreed", *JA))).loc["a", "languages"] == "ja"


def test_the_agreement_is_printed(layer):
    numbers = Numbers("06_published")
    report.add_coding(numbers, layer)
    assert numbers.numbers["published_coding_labels"]["value"] == layer.coding["intermediate_task"].nunique()
    rows = {row[0]: row[1:] for row in numbers.tables["published_coding"]["rows"]}
    assert (
        set(rows) == {*coding.FIELDS}
        and rows["breadth"][-1] == numbers.numbers["published_coding_kappa_breadth"]["text"]
    )

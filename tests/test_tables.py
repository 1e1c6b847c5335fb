"""Tables over predictions, read file by file, against what pandas gives on all of them at once."""

import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import gold

from xlscale.cards.catalogue import data_card
from xlscale.core.files import RESULTS, XlscaleError
from xlscale.metrics import predictions
from xlscale.record import aggregate, store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A record of six target cells of the committed one, three of each target; two of them with an F1."""
    folder = tmp_path_factory.mktemp("record")
    (folder / "predictions").mkdir()
    known = store.results()
    complete = [result for result in known.values() if result.phase == "target" and result.status == "complete"]
    topic, udhr = ([r for r in complete if r.parameters["target"] == name][:3] for name in ("topic", "udhr"))
    chosen = [*topic, *udhr]
    for result in chosen:
        name = f"{result.id}.parquet"
        items = pd.read_parquet(RESULTS / "predictions" / name)
        if result in chosen[:2]:  # another order of items, and fewer
            items = items.sample(frac=0.9, random_state=1)
            items["f1"] = np.linspace(0, 1, len(items), dtype=np.float32)
        items.to_parquet(folder / "predictions" / name, index=False)
    others = [result for result in known.values() if result.phase != "target"]
    store._write({result.id: result for result in [*chosen, *others]}, folder / "cells.parquet")
    return folder


@pytest.fixture
def spoilt(folder, tmp_path):
    """A copy of the record and the path of one of its files."""
    shutil.copytree(folder, tmp_path / "record")
    return tmp_path / "record", sorted((tmp_path / "record" / "predictions").iterdir())[0]


def _everything(folder) -> pd.DataFrame:
    """All items of a record with their groups, as one table."""
    parts = []
    for path in sorted((folder / "predictions").glob("target-*")):
        result = store.results(folder)[path.stem]
        items = gold(data_card(result.parameters["target"]))
        own = pd.read_parquet(path).merge(items, on=["language", "item"], validate="1:1")
        parts.append(own.assign(cell=result.id, target=result.parameters["target"]))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("target", [None, "udhr"])
@pytest.mark.parametrize(("key", "table"), [("language", aggregate.by_language), ("group", aggregate.by_group)])
def test_sums_are_those_of_all_items_at_once(folder, key, table, target):
    items = _everything(folder)
    items = items if target is None else items[items["target"] == target]
    # A sum over nothing known is missing, not 0.
    sums = items.astype({"correct": float, "f1": float}).groupby(["cell", key])
    expected = sums.agg(n=("item", "size"), correct=("correct", "sum"), f1=("f1", lambda f1: f1.sum(min_count=1)))
    found = table(folder, target)
    assert found.columns.tolist() == ["cell", key, "n", *predictions.SCORES]
    assert [str(dtype) for dtype in found.dtypes[:3]] == ["category", "category", "int32"]
    assert (found.dtypes.iloc[3:] == np.float64).all()
    assert found[["matches", "spans", "average_precision"]].isna().all(axis=None)  # no such targets here
    found = found.drop(columns=["matches", "spans", "average_precision"]).astype(
        {"cell": object, key: object, "n": np.int64}
    )
    pd.testing.assert_frame_equal(found, expected.reset_index(), check_dtype=False)


def test_the_languages_of_the_results_are_those_of_their_predictions():
    found = aggregate.by_language().astype({"cell": object, "language": object})
    recorded = store.languages().sort_values(["cell", "language"], ignore_index=True)
    cells = store.cells().set_index("cell")
    tested = [cell for cell in cells.index if cells["phase"][cell] == "target" and cells["split"][cell] != "dev"]
    assert len(tested) < (cells["phase"] == "target").sum(), "some cells were evaluated on development rows"
    assert {*aggregate.by_group()["cell"]} == {*tested}
    recorded = recorded[recorded["cell"].isin(tested)].reset_index(drop=True)
    assert (found[["cell", "language", "n"]] == recorded[["cell", "language", "n"]]).all(axis=None)
    np.testing.assert_allclose(found["correct"] / found["n"], recorded["value"], atol=store.ROUNDING)


def test_without_a_record_the_tables_are_empty(tmp_path):
    for table in (aggregate.by_language, aggregate.by_group):
        assert table(tmp_path).empty
        assert {"cell", "n", "correct", "f1"} <= set(table(tmp_path).columns)


@pytest.mark.parametrize("table", [aggregate.by_language, aggregate.by_group])
def test_a_file_that_is_not_whole_is_one_line(spoilt, table):
    folder, path = spoilt
    whole = path.read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "not a readable Parquet file"),
        (whole[:3], "not a readable Parquet file"),
        (whole[:4] + bytes(64) + whole[68:], "not a readable Parquet file"),
        (None, "not found"),
    ):
        path.write_bytes(content) if content else path.unlink()
        with pytest.raises(XlscaleError, match=f"{path.name}: {message}") as error:
            table(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        (aggregate.by_language, {"language": "xx"}, "language: expected one of cs, da, .*, got xx"),
        (
            aggregate.by_group,
            {"item": "none/such"},
            "item: expected one of the data set's test split, got .*'none/such'",
        ),
        (aggregate.by_group, {"correct": None}, "column 'correct' is missing"),
    ],
)
def test_predictions_of_something_else_are_one_line(spoilt, table, change, message):
    folder, path = spoilt
    items = pd.read_parquet(path)
    (name, value), *_ = change.items()
    if value is None:
        items = items.drop(columns=name)
    else:
        items.loc[items.index[-1], name] = value
    items.to_parquet(path, index=False)
    with pytest.raises(XlscaleError, match=f"{path.name}: {message}"):
        table(folder)

"""Adding a source, and checks of the scores as they are: those given twice, those that contradict each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from xlscale.core import manifest
from xlscale.core.files import XlscaleError, bounded
from xlscale.published import rows
from xlscale.published.tables import FOLDER, HEADERS, STORED, Layer, load, write_results

ROUNDING = 0.0011  # two printings of one score may round it differently, at one decimal of a percent
AVERAGE = 0.002  # so may a mean over rounded scores


def add(path: Path, folder: Path = FOLDER) -> str:
    """Append the rows of a .csv or .csv.gz file to the layer in ``folder``; returns a report in lines.

    Everything is checked before anything is written. Raises XlscaleError with a line per fault, each naming file, line,
    field and expected value; then nothing has changed.
    """
    with manifest.alone(Path(folder)):
        return _add(Path(path), Path(folder))


def _add(path: Path, folder: Path) -> str:
    layer = load(folder)
    lines = rows.read(path)
    if not lines:
        raise XlscaleError(f"{path}: expected at least one row below the header")
    found = rows.faults(lines, layer)
    if found:
        raise XlscaleError("\n".join([*(f"{path}:{n}: {fault}" for n, fault in found), "nothing was changed"]))
    new = pd.DataFrame([row for _, row in lines])
    known = set(layer.sources["source_key"])
    names = [name for name in dict.fromkeys(new["source_key"]) if name not in known]
    stored = new[list(STORED)].assign(value=[rows.number(text) for text in new["value"]])
    results = pd.concat([layer.results, stored], ignore_index=True)
    # Renamed in order: a source without results does no harm, results without their source could not be read.
    sources = {"sources.csv": partial(_sources(layer, new, names).to_csv, index=False, lineterminator="\n")}
    manifest.write(folder, (sources if names else {}) | {"results.parquet": partial(write_results, results)})
    parts = [f"added {len(new)} scores of {', '.join(dict.fromkeys(new['source_key']))}"]
    return bounded("\n".join(parts + [f"warning: {path}: {text}" for text in rows.unknown(lines, layer)]))


def _sources(layer: Layer, new: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    fresh = new.drop_duplicates("source_key").set_index("source_key").loc[names].reset_index()
    fresh = fresh.assign(study=names, title=names, licence="not verified", limits="")
    return pd.concat([layer.sources, fresh[list(HEADERS["sources"])]], ignore_index=True)


_SAME = ["model", "size", "training", "regime", "task", "metric", "language"]
_PARTS = ["source_key", *_SAME]  # of which a source has several where it gives the subjects of a test


def repeated(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores that several sources give: _SAME, ``sources`` (text), ``low`` and ``high`` (0..1), ``agree`` (bool).

    They agree if they differ by no more than rounding. ``scores`` is that of ``scores.table``.
    """
    parts = scores.groupby(_PARTS, dropna=False)["task_label"].transform("nunique") > 1
    part = scores["task_label"].where(parts, "")
    grouped = scores.groupby([*_SAME, part.rename("part")], dropna=False, sort=True)
    found = grouped.agg(
        sources=("source_key", lambda keys: ", ".join(sorted(set(keys)))),
        count=("source_key", "nunique"),
        low=("score", "min"),
        high=("score", "max"),
    ).reset_index()
    found = found[found["count"] > 1].drop(columns=["count", "part"]).reset_index(drop=True)
    return found.assign(agree=found["high"] - found["low"] <= ROUNDING)


def averages(scores: pd.DataFrame) -> pd.DataFrame:
    """Printed averages that are the mean neither over all languages of their row nor over all but English.

    Columns: source_key, model, task, metric, language (the average's label), printed, mean (the nearer one; 0..1),
    languages (number). Only rows with at least three languages are compared.
    """
    keys = ["source_key", "model", "training", "regime", "task", "metric"]
    single = scores[scores["kind"].isin(["language", "english"])]
    means = pd.DataFrame(
        {
            "all": single.groupby(keys)["score"].mean(),
            "without": single[single["kind"] == "language"].groupby(keys)["score"].mean(),
            "languages": single.groupby(keys).size(),
        }
    )
    # The metric of a computed mean names the mean, so it has no row of languages of the same metric.
    printed = scores[scores["kind"] == "average"].join(means, on=keys, how="inner")
    distance = printed[["all", "without"]].sub(printed["score"], axis=0).abs()
    nearer = printed["all"].where(distance["all"] <= distance["without"].fillna(2), printed["without"])
    out = printed.assign(printed=printed["score"], mean=nearer)
    out = out[((out["printed"] - out["mean"]).abs() > AVERAGE) & (out["languages"] >= 3)]
    return out[["source_key", "model", "task", "metric", "language", "printed", "mean", "languages"]].reset_index(
        drop=True
    )

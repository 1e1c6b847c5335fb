"""Adding, replacing and withdrawing a source; checks of the scores as they are: those given twice, contradictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pandas as pd

from xlscale.core import manifest
from xlscale.core.files import XlscaleError, bounded, relative
from xlscale.core.strict import SHORT
from xlscale.published import formats, gains, rows, scores
from xlscale.published.tables import COLUMNS, FOLDER, HEADERS, OPTIONAL, STORED, Layer, load, write_results

_OTHERS = (".json", ".jsonl")  # what ``formats`` reads
ROUNDING = 0.0011  # two printings of one score may round it differently, at one decimal of a percent
AVERAGE = 0.002  # so may a mean over rounded scores


def read(path: Path, given: dict[str, str]) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """The rows of a file as (line or number, text by column), and what of it was left out, a line each.

    ``given``: what the file does not say, by column; it counts where a row has nothing. Raises XlscaleError as
    ``rows.read`` and ``formats.read`` do, for a column that there is not, and for one that every row has something in.
    """
    path = Path(path)
    if wrong := [name for name in given if name not in (*COLUMNS, *OPTIONAL)]:
        raise XlscaleError(f"SET: expected columns ({', '.join([*COLUMNS, *OPTIONAL])}), got {wrong[0]!r}")
    if path.suffix not in _OTHERS:
        lines, left = rows.read(path, given), []
    else:
        found, left = formats.read(path)
        lines = [(n, dict.fromkeys((*COLUMNS, *OPTIONAL), "") | row) for n, row in enumerate(found, 1)]
    for name, text in given.items():
        if lines and all(row[name] for _, row in lines):
            said = f"{SHORT.repr(lines[0][1][name])} in {path}"
            got = f"got {SHORT.repr(text)} beside {said}"
            raise XlscaleError(f"SET: {name}: expected a column that the file leaves open, {got}")
    return [(n, row | {name: text for name, text in given.items() if not row[name]}) for n, row in lines], left


def add(
    path: Path,
    folder: Path = FOLDER,
    given: dict[str, str] | None = None,
    replace: bool = False,
    wrong: Callable[[str, str], str] = lambda field, text: "",
) -> str:
    """Append the rows of a file to the layer in ``folder``; returns a report in lines.

    ``path``: .csv, .csv.gz, or what ``formats`` reads; it is read once. ``replace``: the sources of the file first lose
    the rows that they have. ``wrong``: what else is wrong with the text of a field; nothing where it is right.
    Everything is checked before anything is written. Raises XlscaleError with a line per fault, each naming file, line,
    field and expected value; then nothing has changed.
    """
    with manifest.alone(Path(folder)):
        return _add(Path(path), Path(folder), given or {}, replace, wrong)


def withdraw(key: str, folder: Path = FOLDER) -> str:
    """Take a source and all of its rows out of the layer in ``folder``; returns a line. Raises XlscaleError, and
    changes nothing, for a key that is none."""
    folder = Path(folder)
    with manifest.alone(folder):
        layer = load(folder)
        if key not in [*layer.sources["source_key"]]:
            raise XlscaleError(
                f"KEY: expected a source_key of {relative(folder / 'sources.csv')}, got {SHORT.repr(key)}"
            )
        kept, rest = (table[table["source_key"] != key] for table in (layer.results, layer.sources))
        write = {"results.parquet": partial(write_results, kept), "sources.csv": _csv(rest)}
        manifest.write(folder, write)
        return bounded(f"withdrew {len(layer.results) - len(kept)} scores of {key}")


def _csv(table: pd.DataFrame) -> partial:
    return partial(table.to_csv, index=False, lineterminator="\n")


def _add(path: Path, folder: Path, given: dict[str, str], replace: bool, wrong: Callable[[str, str], str]) -> str:
    layer = load(folder)
    lines, left = read(path, given)
    if not lines:
        what = "score" if path.suffix in _OTHERS else "row below the header"
        raise XlscaleError("\n".join([f"{path}: expected at least one {what}", *left]))
    keys = {row["source_key"] for _, row in lines}
    before = len(layer.results)
    if replace:
        others = [key not in keys for key in layer.results["source_key"]]
        layer = dataclasses.replace(layer, results=layer.results[others])
    found = rows.faults(lines, layer) or [
        (n, f"{field}: {fault}") for n, row in lines for field, text in row.items() if (fault := wrong(field, text))
    ]
    if found:
        raise XlscaleError("\n".join([*(f"{path}:{n}: {fault}" for n, fault in found), "nothing was changed"]))
    new = pd.DataFrame([row for _, row in lines])
    known = set(layer.sources["source_key"])
    names = [name for name in dict.fromkeys(new["source_key"]) if name not in known]
    numbers = {name: [rows.number(text) for text in new[name]] for name in ("value", "stderr")}
    results = pd.concat([layer.results, new.assign(**numbers)[list(STORED)]], ignore_index=True)
    sources = _sources(layer, new, names)
    # Renamed in order: a source without results does no harm, results without their source could not be read.
    first = {"sources.csv": _csv(sources)} if names else {}
    manifest.write(folder, first | {"results.parquet": partial(write_results, results)})
    parts = [f"added {len(new)} scores of {', '.join(dict.fromkeys(new['source_key']))}"]
    if replace:
        parts[0] += f", in the place of {before - len(layer.results)}"
    said = [
        *left,
        *rows.unknown(lines, layer),
        *remarks(dataclasses.replace(layer, results=results, sources=sources), keys),
    ]
    return bounded("\n".join(parts + [f"warning: {path}: {text}" for text in said]))


def remarks(layer: Layer, keys: set[str]) -> list[str]:
    """What to know of these sources, a line each: tuned models without a base, several models under one label at one
    size, several metrics of one rank, several values of one score in a study."""
    studies = set(layer.sources.loc[layer.sources["source_key"].isin(keys), "study"])
    of = layer.sources.set_index("source_key")["study"]
    near = layer.results["source_key"].map(of).isin(studies)
    table = scores.table(dataclasses.replace(layer, results=layer.results[near]))
    mine = table[table["source_key"].isin(keys)]
    bases = gains.bases(table)
    bases = bases[bases["model"].isin(mine["model"])]
    lost = bases.loc[bases["base"] == "", "model"]
    said = [f"{len(lost)} of {len(bases)} tuned models have no base: {_some(lost)}"] if len(lost) else []
    used = scores.usable(mine)
    label = ["family", "training", "regime", "size"]
    for key, models in used.groupby(label)["model"].unique().items():
        if len(models) > 1:
            said.append(f"{key[0]}, {key[1]}, {key[2]}: several models of one size are one point: {_some(models)}")
    metrics = used[used["rank"] == used.groupby(["model", "regime", "task_label"])["rank"].transform("min")]
    for key, names in metrics.groupby(["model", "regime", "task_label"])["metric"].unique().items():
        if len(names) > 1:
            said.append(f"{key[0]}, {key[2]}: several metrics of one rank, of which the first counts: {_some(names)}")
    same = scores.usable(table).groupby(_GIVEN).agg(values=("score", "nunique"), of=("source_key", "unique"))
    several = same[(same["values"] > 1) & ~same["of"].map(keys.isdisjoint)]
    if len(several):
        named = [f"{', '.join(filter(None, label))} ({', '.join(of)})" for label, of in several["of"].items()]
        said.append(f"{len(several)} scores have several values, of which the first counts: {_some(named)}")
    return said


# What a study has one score of: the size is that of the model.
_GIVEN = ["model", "training", "regime", "task", "part", "metric", "language", "study"]


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _sources(layer: Layer, new: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    fresh = new.drop_duplicates("source_key").set_index("source_key").loc[names].reset_index()
    study = fresh["study"].where(fresh["study"] != "", fresh["source_key"])
    fresh = fresh.assign(study=study, title=names, licence="not verified", limits="")
    return pd.concat([layer.sources, fresh[list(HEADERS["sources"])]], ignore_index=True)


_SAME = ["model", "size", "training", "regime", "task", "metric", "language"]


def repeated(table: pd.DataFrame) -> pd.DataFrame:
    """Scores that several sources give: _SAME, ``sources`` (text), ``low`` and ``high`` (0..1), ``agree`` (bool).

    They agree if they differ by no more than rounding. ``table`` is that of ``scores.table``.
    """
    grouped = table.groupby([*_SAME, "part"], dropna=False, sort=True)
    found = grouped.agg(
        sources=("source_key", lambda keys: ", ".join(sorted(set(keys)))),
        count=("source_key", "nunique"),
        low=("score", "min"),
        high=("score", "max"),
    ).reset_index()
    found = found[found["count"] > 1].drop(columns=["count", "part"]).reset_index(drop=True)
    return found.assign(agree=found["high"] - found["low"] <= ROUNDING)


def averages(table: pd.DataFrame) -> pd.DataFrame:
    """Printed averages that are the mean neither over all languages of their row nor over all but English.

    Columns: source_key, model, task, metric, language (the average's label), printed, mean (the nearer one; 0..1),
    languages (number). Only rows with at least three languages are compared.
    """
    keys = ["source_key", "model", "training", "regime", "task", "metric"]
    single = table[table["kind"].isin(["language", "english"])]
    means = pd.DataFrame(
        {
            "all": single.groupby(keys)["score"].mean(),
            "without": single[single["kind"] == "language"].groupby(keys)["score"].mean(),
            "languages": single.groupby(keys).size(),
        }
    )
    # The metric of a computed mean names the mean, so it has no row of languages of the same metric.
    printed = table[table["kind"] == "average"].join(means, on=keys, how="inner")
    distance = printed[["all", "without"]].sub(printed["score"], axis=0).abs()
    nearer = printed["all"].where(distance["all"] <= distance["without"].fillna(2), printed["without"])
    out = printed.assign(printed=printed["score"], mean=nearer)
    out = out[((out["printed"] - out["mean"]).abs() > AVERAGE) & (out["languages"] >= 3)]
    return out[["source_key", "model", "task", "metric", "language", "printed", "mean", "languages"]].reset_index(
        drop=True
    )

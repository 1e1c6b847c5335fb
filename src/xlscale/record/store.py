"""The record: recorded cells in ``results/``, from which the paper is built.

``cells.parquet`` holds one row per cell with its whole result as JSON; ``predictions/<cell>.parquet`` what it
predicted per item. The items themselves are in the bundled data, whose sha256 is part of every cell's identity.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xlscale.cards.catalogue import data_card
from xlscale.core.files import RESULTS, RUNS, XlscaleError, atomic, relative
from xlscale.core.format import MISSING
from xlscale.core.strict import parse
from xlscale.experiment import cells as cells_
from xlscale.experiment.cells import NONE, Cell
from xlscale.experiment.results import Result, result_of
from xlscale.metrics.predictions import SCORES, by_language, digest, zero_shot_mean
from xlscale.record import canary

SMALL = ["language", "item", "prediction", "score", *SCORES]  # gold and group are the data set's
ROUNDING = 1e-6  # predictions are stored in float32
FACTS = [
    "cell",
    "phase",
    "model",
    "layers",
    "intermediate",
    "intermediate_type",
    "placebo",
    "condition",
    "target",
    "overlaps_target",
    "seed",
]


def results(folder: Path = RESULTS) -> dict[str, Result]:
    """All recorded results that count, by cell id, in order of id; empty without a record.

    Left out is what a canary has voided: cells of code that the present code was found to differ from, and cells with
    such an ancestor. Raises XlscaleError naming the file when it cannot be read or holds a row that is no valid result.
    """
    found = _all(folder)
    gone = canary.void(found, folder)
    for _ in cells_.PARAMETERS:  # as deep as lineages go
        gone |= {result.id for result in found.values() if result.parent in gone}
    return {name: result for name, result in found.items() if name not in gone}


def _all(folder: Path) -> dict[str, Result]:
    path = Path(folder) / "cells.parquet"
    if not path.exists():
        return {}
    try:
        rows = pq.read_table(path, columns=["result"]).column("result").to_pylist()
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise XlscaleError(f"{relative(path)}: not a readable record ({' '.join(str(error).split())})") from None
    where = relative(path)
    parsed = [parse(Result, json.loads(row), where) for row in rows]
    return {result.id: result for result in sorted(parsed, key=lambda result: result.id)}


def add(new: list[Cell], folder: Path = RESULTS, runs: Path = RUNS) -> int:
    """Take over the complete cells of ``new`` from ``runs`` into the record; returns how many were new or changed."""
    known = _all(folder)
    changed = 0
    for cell in new:
        result = result_of(cell, runs)
        if result is None or known.get(cell.id) == result:
            continue
        if result.status == "complete":
            path = runs / cell.id / "predictions.parquet"
            _check_predictions(result, path)
            predicted = pd.read_parquet(path)
            with atomic(Path(folder) / "predictions" / f"{cell.id}.parquet") as path:
                small = [name for name in SMALL if name in predicted]
                predicted[small].to_parquet(path, index=False, compression="zstd")
        known[cell.id] = result
        changed += 1
    if changed:
        _write(known, Path(folder) / "cells.parquet")
    return changed


def _write(known: dict[str, Result], path: Path) -> None:
    rows = [known[cell] for cell in sorted(known)]
    table = pa.table(
        {
            "cell": [row.id for row in rows],
            "phase": [row.phase for row in rows],
            "status": [row.status for row in rows],
            "value": pa.array([row.value for row in rows], pa.float64()),
            "result": [json.dumps(row.model_dump(), sort_keys=True) for row in rows],
        }
    )
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def check(folder: Path = RESULTS) -> dict[str, str]:
    """Check identity and hash of every recorded cell; returns cell id -> 'ok' or what is wrong, in one line.

    Identity: the id follows from the recorded parameters and from the data and model that the cards name today. The
    predictions have the recorded hash, and the recorded values are what these predictions score. Their files are read
    one at a time: about a minute and under 1 GB for 100 million items.
    """
    verdicts, made = {}, {}
    for name, result in results(folder).items():
        try:
            spec = {"id": name, "phase": result.phase, "parameters": result.parameters}
            cells_.from_spec(spec, f"cell {name}", made)
            if result.status == "complete":
                _check_predictions(result, Path(folder) / "predictions" / f"{name}.parquet")
            verdicts[name] = "ok"
        except XlscaleError as error:
            verdicts[name] = str(error)
    return verdicts


def _check_predictions(result: Result, path: Path) -> None:
    where, items = relative(path), read_predictions(path, ["language", "item", "prediction"], SCORES)
    try:
        found = digest(items)
    except ValueError as error:
        raise XlscaleError(f"{where}: {error}") from None
    if found != result.predictions_sha256:
        raise XlscaleError(f"{where}: predictions_sha256: expected {result.predictions_sha256}, got {found}")
    try:
        follow = by_language(data_card(data_set(result)).metric, items)
    except ValueError as error:
        raise XlscaleError(f"{where}: {error}") from None
    stated = {language: score.value for language, score in result.languages.items()}
    if stated.keys() != follow.keys() or any(abs(stated[code] - follow[code]) > ROUNDING for code in stated):
        raise XlscaleError(f"{where}: languages: expected scores of {result.id} that follow from its predictions")
    if abs(zero_shot_mean(stated) - result.value) > ROUNDING:
        raise XlscaleError(f"{where}: value: expected the mean over languages of {result.id}, got {result.value}")


def data_set(result: Result) -> str:
    """Name of the data set that a cell is evaluated on."""
    return cells_.PROBE if result.phase == "pretrained" else result.parameters[result.phase]


def read_predictions(path: Path, names: list[str], scores: list[str]) -> pa.Table:
    """Columns of one cell's predictions: ``names`` as dictionaries of strings, and those of ``scores`` that it has.

    Raises XlscaleError with one line when the file is missing, is not whole, or lacks one of ``names`` or ``correct``.
    """
    try:
        with pq.ParquetFile(path, read_dictionary=names) as file:
            there = file.schema_arrow.names
            if missing := sorted({*names, "correct"} - set(there)):
                raise XlscaleError(f"{relative(path)}: column {missing[0]!r} is missing, expected in predictions")
            return file.read([*names, *(name for name in scores if name in there)], use_threads=False)
    except FileNotFoundError:
        raise XlscaleError(f"{relative(path)}: not found, expected the predictions of a recorded cell") from None
    except (pa.ArrowException, OSError) as error:
        raise XlscaleError(f"{relative(path)}: not a readable Parquet file ({' '.join(str(error).split())})") from None


def describe(result: Result) -> dict[str, object]:
    """The descriptive columns of a result (FACTS); overlaps_target: the intermediate set holds data of the target's own."""
    values = result.parameters
    intermediate = values.get("intermediate", NONE)
    card = None if intermediate == NONE else data_card(intermediate)
    return {
        "cell": result.id,
        "phase": result.phase,
        "model": values["model"],
        "layers": values["layers"],
        "intermediate": intermediate,
        "intermediate_type": card.type if card else NONE,
        "placebo": bool(values.get("placebo", False)),
        "condition": cells_.condition(values),
        "target": values.get("target"),
        "overlaps_target": bool(card) and values.get("target") in card.overlaps_targets,
        "seed": values.get("seed", 0),
    }


def table(found: dict[str, Result], phase: str | None = None) -> pd.DataFrame:
    """One row per result: FACTS, other parameters, sizes, ``value`` and ``english`` (0 to 1, NaN if failed), costs."""
    rows = []
    for result in found.values():
        if phase not in (None, result.phase):
            continue
        facts = describe(result)
        rows.append(
            facts
            | {name: value for name, value in result.parameters.items() if name not in facts}
            | {
                "status": result.status,
                "reason": result.reason,
                "value": result.value,
                "english": result.english,
                "total_parameters": result.total_parameters,
                "non_embedding_parameters": result.non_embedding_parameters,
                "train_seconds": result.seconds.get("train", 0.0),
                "eval_seconds": result.seconds.get("evaluate", 0.0),
                "wall_seconds": sum(result.seconds.values()),
                "train_tokens": result.train_tokens,
                "train_flops": result.train_flops,
                "peak_memory_gb": result.peak_memory_gb,
                "fingerprint": result.fingerprint,
                "predictions_sha256": result.predictions_sha256,
                "machine": result.environment.get("machine"),
            }
        )
    empty = [*FACTS, "status", "value", "english", "non_embedding_parameters"]
    frame = pd.DataFrame(rows, columns=None if rows else empty)
    return frame.astype({"value": float, "english": float})


def cells(folder: Path = RESULTS, phase: str | None = None) -> pd.DataFrame:
    """``table`` of the record in ``folder``."""
    return table(results(folder), phase)


def with_missing(cells: pd.DataFrame, expected: list[Cell]) -> pd.DataFrame:
    """The rows of ``cells`` (as ``table`` gives them) for ``expected``; with status "missing" for what is not
    recorded."""
    known = cells[cells["cell"].isin([cell.id for cell in expected])]
    absent = {cell.id: _absent(cell) for cell in expected if cell.id not in set(known["cell"])}
    if not absent:
        return known.reset_index(drop=True)
    missing = table(absent).assign(status=MISSING)
    missing = missing.reindex(columns=cells.columns).astype(cells.dtypes.to_dict(), errors="ignore")
    return pd.concat([known, missing], ignore_index=True)


def _absent(cell: Cell) -> Result:
    return Result(
        id=cell.id,
        phase=cell.phase,
        parent=None,
        parameters=cell.parameters.model_dump(),
        reads=dict(cell.reads),
        status="failed",
        reason="not in the record",
        fingerprint="0" * 64,
    )


def languages(folder: Path = RESULTS) -> pd.DataFrame:
    """One row per complete target cell and language: FACTS, sizes, ``n`` items, ``value`` (0 to 1)."""
    rows = []
    for result in results(folder).values():
        if result.phase == "target":
            facts = describe(result) | {"non_embedding_parameters": result.non_embedding_parameters}
            for code, score in result.languages.items():
                rows.append(facts | {"language": code, "n": score.items, "value": score.value})
    return pd.DataFrame(rows, columns=None if rows else [*FACTS, "language", "n", "value"])

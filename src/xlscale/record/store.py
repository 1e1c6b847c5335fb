"""The record: recorded cells in ``results/``, from which the paper is built.

``cells.parquet`` holds one row per cell with its whole result as JSON; ``predictions/<cell>.parquet`` what it
predicted per item. The items themselves are in the bundled data, whose sha256 is part of every cell's identity. What
follows from all that is checked by ``record.recompute``, the rest is held by ``core.manifest``.
"""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xlscale.cards.catalogue import data_card
from xlscale.core import manifest
from xlscale.core.files import RESULTS, RUNS, XlscaleError, atomic, one_line, relative
from xlscale.core.format import MISSING
from xlscale.core.json_text import once
from xlscale.core.strict import SHORT, parse
from xlscale.experiment import cells as cells_
from xlscale.experiment import conditions, studies
from xlscale.experiment.cells import NONE, Cell
from xlscale.experiment.results import PREDICTIONS, RESULT, Result, altered, result_of
from xlscale.metrics.predictions import SCORES
from xlscale.record import canary

CELLS = manifest.CELLS
TEXTS = dict.fromkeys(["cell", "phase", "status"], pa.string())
TYPES = pa.schema(TEXTS | {"value": pa.float64(), "result": pa.string()})  # of its columns
SHOWN = 19  # cells that are told of; the rest is counted
SMALL = ["language", "item", "prediction", "score", *SCORES]  # gold and group are the data set's
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
    "overlaps",
    "seed",
]


def results(folder: Path = RESULTS, void: bool = False) -> dict[str, Result]:
    """All recorded results that count, by cell id, in order of id; empty without a record.

    Left out, unless ``void``, is what a canary has voided: cells of code that the present code was found to differ
    from, and cells with such an ancestor. Raises XlscaleError naming the file when it is not as its manifest says,
    cannot be read or holds a row that is no valid result.
    """
    found = _all(folder)
    gone = set() if void else _void(found, folder)
    return {name: result for name, result in found.items() if name not in gone}


def _void(found: dict[str, Result], folder: Path) -> set[str]:
    gone = canary.void(found, folder)
    for _ in cells_.PARAMETERS:  # as deep as lineages go
        gone |= {result.id for result in found.values() if result.parent in gone}
    return gone


def _all(folder: Path) -> dict[str, Result]:
    if (path := Path(folder) / CELLS).exists():
        manifest.verify(path, Path(folder))
    return {name: result for name, (result, _) in _rows(folder).items()}


def _rows(folder: Path) -> dict[str, tuple[Result, dict[str, object]]]:
    """Cell id -> its result, and what the other columns of its row say, in order of id."""
    path = Path(folder) / CELLS
    if not path.exists():
        return {}
    where = relative(path)
    try:
        rows = pq.read_table(path).to_pylist()
        # Infinite numbers are left to the schema, which names the field.
        texts = [json.loads(row.pop("result"), object_pairs_hook=once) for row in rows]
    except (pa.ArrowException, KeyError, OSError, ValueError, TypeError, RecursionError) as error:
        raise XlscaleError(f"{where}: not a readable record ({one_line(error)})") from None
    both = [(parse(Result, text, where), row) for text, row in zip(texts, rows, strict=True)]
    both.sort(key=lambda pair: pair[0].id)
    found = {result.id: (result, row) for result, row in both}
    if len(found) < len(both):
        again = next(one.id for (one, _), (other, _) in pairwise(both) if one.id == other.id)
        raise XlscaleError(f"{where}: cell: expected every cell once, got {again} again")
    return found


def add(new: list[Cell], folder: Path = RESULTS, runs: Path = RUNS) -> int:
    """Take over the complete cells of ``new`` from ``runs`` into the record; returns how many were new or changed.

    Prints which cells of the record are replaced, which stay although there is another result (see ``_stays``), and
    which are left out since their files were changed after they ended. Who wants to write meanwhile waits. Raises
    XlscaleError, once the others are taken, for cells whose result or predictions are broken.
    """
    from xlscale.record.recompute import Check  # imports torch

    folder, check, said, broken, taken = Path(folder), Check(), [], [], {}
    with manifest.alone(folder):
        known = _all(folder)
        counting = known.keys() - _void(known, folder)
        for cell in new:
            old = known.get(cell.id)
            try:
                if result := _result(cell, runs, old, cell.id in counting, said):
                    check(result, data_card(data_set(result)), runs / cell.id / PREDICTIONS)
                    said += [f"replaced: {cell.id}: {_outcome(old)}, now {_outcome(result)}"] if old else []
                    taken[cell.id] = result
            except XlscaleError as error:
                broken.append(f"left out: {cell.id}: {error}")
        if taken:
            complete = [name for name, result in taken.items() if result.status == "complete"]
            files = {f"predictions/{name}.parquet": partial(_small, runs / name / PREDICTIONS) for name in complete}
            manifest.write(folder, files | {CELLS: partial(_write, known | taken)})
    for line in said[:SHOWN]:
        print(line)
    if len(said) > SHOWN:
        print(f"and {len(said) - SHOWN} more")
    if broken:
        raise XlscaleError("\n".join([*broken, f"(others: {len(taken)} were new or changed in {relative(folder)})"]))
    return len(taken)


def _result(cell: Cell, runs: Path, old: Result | None, counts: bool, said: list[str]) -> Result | None:
    """The result of a cell in ``runs`` that is to be recorded, None where there is none or ``old`` stays; ``said`` gets
    a line where there is something to tell. Raises XlscaleError for a broken one."""
    result = result_of(cell, runs)
    if result is None and (runs / cell.id / RESULT).exists():
        said.append(f"left out: {cell.id}: {altered(runs / cell.id) or PREDICTIONS} is not as the cell left it")
    if result is None or result == old:
        return None
    if old and (why := _stays(old, result, counts)) is not None:
        said += [f"kept: {cell.id}: {why}"] if why else []
        return None
    return result


def _stays(old: Result, new: Result, counts: bool) -> str | None:
    """Why a recorded result stays, in a line, which is empty where there is nothing to tell; None where it does not.

    A complete result stays when the new one failed; and while it counts, when the new one has equal predictions or is
    of another type of machine: a record of two types could not be compared bit for bit on either.
    """
    if old.status == "complete" and new.status == "failed":
        return f"complete in the record, failed in this run ({new.reason})"
    if old.status == "failed" or not counts:
        return None
    recorded, here = (result.environment.get("machine") for result in (old, new))
    if recorded != here:
        return f"recorded on {recorded}, run on {here}"
    return "" if old.predictions_sha256 == new.predictions_sha256 else None


def _outcome(result: Result) -> str:
    return f"failed ({result.reason})" if result.status == "failed" else f"{result.value:.4f}"


def _small(predictions: Path, path: Path) -> None:
    """Write to ``path`` what of a cell's predictions does not stand in its data set."""
    table = pd.read_parquet(predictions)
    table[[name for name in SMALL if name in table]].to_parquet(path, index=False, compression="zstd")


def _columns(result: Result) -> dict[str, object]:
    """What of a result has a column of its own."""
    return {"cell": result.id, "phase": result.phase, "status": result.status, "value": result.value}


def _write(known: dict[str, Result], path: Path) -> None:
    rows = [known[cell] for cell in sorted(known)]
    table = pa.Table.from_pylist(
        [_columns(row) | {"result": json.dumps(row.model_dump(), sort_keys=True)} for row in rows], schema=TYPES
    )
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


@manifest.as_they_are()  # it is told of a file beside the others
def check(folder: Path = RESULTS) -> dict[str, str]:
    """Hold every recorded cell against what it follows from, and every file against the manifest.

    Returns cell id -> 'ok' or what is wrong, in one line; beside them the names of files with which something is wrong.
    A cell's id follows from its parameters and from the data and model that the cards name today; its predictions have
    the recorded hash, and are right where they are said to be; items, values and sizes follow from them and from the
    cards. Files are read one at a time.
    """
    from xlscale.record.recompute import Check  # imports torch

    folder, held, verdicts = Path(folder), Check(), {}
    rows = _rows(folder)
    every = {name: result for name, (result, _) in rows.items()}
    void = _void(every, folder)
    for name, result in every.items():
        if name in void:
            continue
        try:
            _check_columns(result, rows[name][1], relative(folder / CELLS))
            held(result, data_card(data_set(result)), _predictions(folder, name))
            verdicts[name] = "ok"
        except XlscaleError as error:
            verdicts[name] = str(error)
    complete = {_predictions(folder, name) for name, result in every.items() if result.status == "complete"}
    advice = "where `make record` was killed, run it again"
    for path in sorted({*(folder / "predictions").glob("[!.]*")} - complete):
        verdicts[path.name] = f"{relative(path)}: expected no predictions but those of complete cells; {advice}"
    return verdicts | manifest.faults([folder])


def _check_columns(result: Result, row: dict[str, object], where: str) -> None:
    """Raise XlscaleError unless the columns of a row say what its result says, whoever reads them."""
    stated = _columns(result)
    for field in sorted(stated.keys() | row.keys()):
        if field not in row or field not in stated or row[field] != stated[field]:
            expected, got = (SHORT.repr(one.get(field, "nothing")) for one in (stated, row))
            raise XlscaleError(f"{where}: {field}: expected {expected} as in the result of {result.id}, got {got}")


def _predictions(folder: Path, name: str) -> Path:
    return folder / "predictions" / f"{name}.parquet"


def data_set(result: Result) -> str:
    """Name of the data set that a cell is evaluated on."""
    return cells_.PROBE if result.phase == "pretrained" else result.parameters[result.phase]


def describe(result: Result) -> dict[str, object]:
    """The descriptive columns of a result (FACTS); overlaps: the intermediate set holds data of the target's own."""
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
        "condition": conditions.condition(values),
        "target": values.get("target"),
        "overlaps": bool(card) and values.get("target") in card.overlaps_targets,
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
    here = set(known["cell"])
    absent = {cell.id: _absent(cell) for cell in expected if cell.id not in here}
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


def recorded(known: pd.DataFrame, study: str) -> pd.DataFrame:
    """The rows of ``known`` (as ``table`` gives them) of a study, once every cell of it is there, failed ones included;
    before that, and where there is no such study, none. Conditions are called as the study does."""
    wanted = studies.load(study).conditions() if study in studies.names() else {}
    own = known[known["cell"].isin(wanted)]
    return named(own, wanted) if len(own) == len(wanted) else own.iloc[:0]


def named(known: pd.DataFrame, conditions: dict[str, str]) -> pd.DataFrame:
    """Rows of cells with the names that a study gives their conditions, by cell id."""
    return known.assign(condition=known["cell"].map(conditions))


def languages(folder: Path = RESULTS) -> pd.DataFrame:
    """One row per complete target cell and language: FACTS, sizes, ``n`` items, ``value`` (0 to 1)."""
    rows = []
    for result in results(folder).values():
        if result.phase == "target":
            facts = describe(result) | {"non_embedding_parameters": result.non_embedding_parameters}
            for code, score in result.languages.items():
                rows.append(facts | {"language": code, "n": score.items, "value": score.value})
    return pd.DataFrame(rows, columns=None if rows else [*FACTS, "language", "n", "value"])

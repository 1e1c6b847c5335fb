"""The verb export: what cells predicted, as folders that ``make score`` and XTREME's own program read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from xlscale import tasks as families
from xlscale.acquire.new_card import as_yaml
from xlscale.cards.catalogue import data_card
from xlscale.cards.schema import DataCard
from xlscale.commands.options import BEGUN, begun, check_out
from xlscale.commands.steps import Build
from xlscale.core.files import RUNS, XlscaleError, relative, write_text
from xlscale.core.format import percent, slug
from xlscale.data import load
from xlscale.engine import runner
from xlscale.experiment import cells as cells_
from xlscale.experiment.conditions import SHUFFLED, condition
from xlscale.experiment.results import PREDICTIONS, Result, result_of
from xlscale.metrics.predictions import SCORES, digest
from xlscale.record import homes, recompute, store
from xlscale.xtreme import layout
from xlscale.xtreme.benchmark import Benchmark, Task

LABELS, DESCRIPTION = "labels", "benchmark.yaml"
SELECTIONS = ("stated", "all")


def export(cells: str, out: str, study: str) -> bool:
    """Write what target cells predicted below ``out``, a folder per trained model and seed, and the labels of the same
    items beside them; returns whether that could be done for all of them.

    ``cells``: ids with spaces between, or "stated" or "all" of ``study``, as ``reproduce`` has them. Raises
    XlscaleError for ids that are not of target cells evaluated on test, and for a folder that is not empty.
    """
    folder = Path(out)
    check_out(folder, f"OUT={out}")
    chosen, left = _chosen(cells, study)
    with begun(folder, f"OUT={out}") if chosen else nullcontext():
        return _export(folder, chosen, left)


def _export(folder: Path, chosen: list[tuple[Result, Path]], left: list[str]) -> bool:
    tasks: dict[str, Task] = {}
    systems = _systems([result for result, _ in chosen])
    for result, path in chosen:
        try:
            predicted, labels, task = _written(result, path)
            _check_labels(folder / LABELS, labels)
        except XlscaleError as error:
            left.append(f"not exported: {result.id}: {error}")
            continue
        tasks[task.name] = task
        for file, text in labels.items():
            write_text(folder / LABELS / file, text)
        for name in systems[result.id]:
            for file, text in predicted.items():
                write_text(folder / name / file, text)
            print(f"{folder / name / result.parameters['target']}: value {percent(result.value)} of {relative(path)}")
    if tasks:
        _describe(folder, tasks, min(path.name for path in folder.iterdir() if path.name not in (LABELS, BEGUN)))
    for line in left:
        print(line)
    return not left


Files = dict[str, str]  # path below the folder of a system, or of the labels -> text


def _chosen(cells: str, study: str) -> tuple[list[tuple[Result, Path]], list[str]]:
    """Results and predictions of the cells that are asked for, and a line for each that there is nothing of."""
    if cells in SELECTIONS:
        names = [cell.id for cell in Build(study, "record", cells).chosen() if _evaluated(cell.phase, cell.parameters)]
        if not names:
            raise XlscaleError(f"studies/{study}.yaml: expected target cells that are evaluated on test, found none")
    elif not (names := list(dict.fromkeys(cells.split()))):
        raise XlscaleError("CELLS: expected ids of cells with spaces between, stated or all, got nothing")
    recorded, found, left = {}, [], []
    for record in (folder for folder in homes.records() if homes.ids(folder) & {*names}):
        recorded = {name: (result, record) for name, result in store.results(record).items()} | recorded
    for name in names:
        if name in recorded:
            result, path = recorded[name][0], recorded[name][1] / "predictions" / f"{name}.parquet"
            cell = cells_.from_spec(result.model_dump(include={"id", "phase", "parameters"}), f"cell {name}")
        else:
            cell = runner.find(name)
            result, path = result_of(cell, RUNS), RUNS / name / PREDICTIONS
        if not _evaluated(cell.phase, cell.parameters):
            raise XlscaleError(f"CELLS: {name}: expected a target cell that is evaluated on test")
        if result is None or result.status == "failed":
            why = "failed" if result else f"expected its result in results/ or runs/; make cell ID={name}"
            left.append(f"not exported: {name}: {why}")
        else:
            found.append((result, path))
    return found, left


def _evaluated(phase: str, parameters: cells_.Parameters) -> bool:
    return phase == "target" and parameters.split == "test"


def _systems(results: list[Result]) -> dict[str, list[str]]:
    """Cell id -> the folders that its predictions belong into: that of its model, rung, condition and seed.

    What is not trained has no seed, and is the same beside every seed of the others. Raises XlscaleError for two cells
    of one folder and target.
    """
    stems, seeds = {}, {}
    for result in results:
        values = result.parameters
        stem = stems[result.id] = "-".join([values["model"], f"k{values['layers']}", *_trained(values)])
        seeds.setdefault(stem, set()).add(values["seed"])
    found, taken = {}, {}
    for result in results:
        stem, seed = stems[result.id], result.parameters["seed"]
        own = {seed} if seed else seeds[stem] - {0} or {0}
        found[result.id] = [f"{stem}-s{one}" for one in sorted(own)]
        for name in found[result.id]:
            key = name, result.parameters["target"]
            if (other := taken.setdefault(key, result.id)) != result.id:
                raise XlscaleError(f"CELLS: {' of '.join(key[::-1])}: expected one cell, got {other} and {result.id}")
    return found


def _trained(values: Mapping[str, Any]) -> list[str]:
    """The condition of a cell's parameters as parts of a file's name: "squad_wiki", "shuffled"."""
    name, *how = condition(values).removesuffix(SHUFFLED).split(", ")
    return [name, *map(slug, how), *(["shuffled"] if values["placebo"] else [])]


def _written(result: Result, path: Path) -> tuple[Files, Files, Task]:
    """The files of a cell's predictions and of the labels, and how they are scored."""
    card = data_card(result.parameters["target"])
    table = recompute.read_predictions(path, ["language", "item", "prediction"], SCORES)
    if (sha256 := digest(table)) != result.predictions_sha256:
        raise XlscaleError(f"{relative(path)}: predictions_sha256: expected {result.predictions_sha256}, got {sha256}")
    predictions = table.select(["language", "item", "prediction"]).to_pandas().astype(str)
    rows = rows_of(card.name)
    asked = asked_of(card, rows, predictions)
    task = layout.described(card, asked, rows)
    files = {task.file.format(language=one): texts for one, texts in layout.files(card, asked, rows)}
    predicted, labels = ({f"{card.name}/{name}": texts[side] for name, texts in files.items()} for side in (0, 1))
    return predicted, labels, task


def asked_of(card: DataCard, rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """As ``layout.asked``, with the texts of answers that are recorded by their place.

    Raises XlscaleError as there, and for what is no place in the context.
    """
    asked = layout.asked(card, rows, predictions)
    if card.family != "span_qa":
        return asked
    try:
        return asked.assign(prediction=[*map(families.of(card).answer, asked["prediction"], asked["context"])])
    except ValueError as error:
        raise XlscaleError(f"{card.name}: {error}") from None


@cache
def rows_of(name: str) -> pd.DataFrame:
    """What is read of the test split of a data set, see ``layout.FAMILIES``."""
    card = data_card(name)
    rows = load.splits(card)["test"]
    wanted = ["language", "item", "group", *layout.FAMILIES[card.family][2]]
    return rows.select_columns([name for name in wanted if name in rows.column_names]).to_pandas()


def _check_labels(folder: Path, labels: Files) -> None:
    """Raise XlscaleError unless the labels are those that other cells have left in ``folder``."""
    for name, text in labels.items():
        if (folder / name).exists() and (folder / name).read_text(encoding="utf-8") != text:
            raise XlscaleError("expected the test items of the other cells of this target, got others")


def _describe(folder: Path, tasks: dict[str, Task], system: str) -> None:
    """Write how all this is scored, and say so, with ``system`` as the example."""
    about = Benchmark(name="export", title="the exported tasks", citation="none", tasks=list(tasks.values()))
    write_text(folder / DESCRIPTION, as_yaml(about.model_dump()))
    given = {"PREDICTIONS": folder / system, "LABELS": folder / LABELS, "BENCHMARK": folder / DESCRIPTION}
    print("make score", *(f"{name}={shlex.quote(str(path))}" for name, path in given.items()))
    print("The values are means over all languages but English; the scorer's averages are over all of them.")

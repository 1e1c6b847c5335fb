"""How checks of the record and planning grow: up to 100 million predictions, plan and dry run of up to 10,000 cells.

    python benchmarks/scale.py --check 1e6 1e7 1e8 --cells 100 1000 10000 --out scale.json

Every figure comes from a process of its own, on a synthetic record or study in a temporary folder. Cells have 10,000
predictions each, 20 languages of 500 groups; a few distinct files are linked under the cells' names, so little disk is
needed, and reading from a cold disk is not part of the times. ``checking`` and ``planning`` can be imported; this
module itself imports nothing heavy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODES = "en de fr es it pt nl sv da fi pl cs hu ro bg el ru uk tr ar"
LANGUAGES = len(CODES.split())
GROUPS = 500
ITEMS = LANGUAGES * GROUPS  # per cell
DISTINCT = 20  # files of predictions
NAME = "scale"  # of the synthetic study and data set


def checking(rows: int) -> dict[str, float]:
    """Check identity, hash and scores of all cells of a record of ``rows`` predictions: wall seconds and peak memory in
    GB."""
    with tempfile.TemporaryDirectory(prefix="xlscale-scale-") as folder:
        environment = _environment() | {"XLSCALE_ROOT": folder}
        _child("record", folder, str(rows // ITEMS), environment=environment)
        return json.loads(_child("check", environment=environment).splitlines()[-1])


def planning(cells: int) -> dict[str, float]:
    """List a study of about ``cells`` cells, and let Snakemake plan it: wall seconds of both, and the number of cells.

    The study is the pilot with more seeds; nothing of it has been run.
    """
    with tempfile.TemporaryDirectory(prefix="xlscale-scale-") as name:
        folder = Path(name)
        (folder / "studies").mkdir()
        (folder / "runs").mkdir()
        environment = _environment() | {
            f"XLSCALE_{part.upper()}": str(folder / part) for part in ("studies", "runs", "results")
        }
        _child("study", str(folder / "studies"), str(cells), environment=environment)
        plan = [sys.executable, "-m", "xlscale", "cells", "--study", NAME]
        plan_s, listed = _timed(plan, environment)
        dry_run = [sys.executable, "-m", "snakemake", "--dry-run", "--snakefile", str(ROOT / "Snakefile")]
        dry_run += ["--directory", str(folder / "runs"), "--profile", str(ROOT / "profiles" / "local")]
        dry_run_s, _ = _timed([*dry_run, "--cores", "2", "--config", f"study={NAME}"], environment)
        return {"plan_s": plan_s, "dry_run_s": dry_run_s, "cells": len(listed.splitlines())}


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XLSCALE_")}
    return kept | {"PYTHONPATH": str(ROOT / "src")}


def _child(*arguments: str, environment: dict[str, str]) -> str:
    return _timed([sys.executable, __file__, "--child", *arguments], environment)[1]


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return round(seconds, 2), done.stdout


# What follows runs in the processes that are started above, and imports the package there.


def _study(folder: str, cells: str) -> None:
    """Write a study of about ``cells`` cells: the pilot with other seeds."""
    import yaml

    from xlscale.core import files

    pilot = yaml.safe_load((ROOT / "studies" / "pilot.yaml").read_text(encoding="utf-8"))
    for name in ("tuning", "recompute", "canary", "published"):
        pilot.pop(name)
    # A seed adds a cell per rung, condition and phase; both targets without training are one cell per rung.
    rungs = sum(map(len, pilot["models"].values()))
    per_seed = rungs * (3 * (2 * len(pilot["intermediate"]) - 1) - 2)
    seeds = list(range(1, 1 + max(1, round((int(cells) - 2 * rungs) / per_seed))))
    files.write_text(Path(folder) / f"{NAME}.yaml", yaml.safe_dump(pilot | {"name": NAME, "seeds": seeds}))


def _record(folder: str, count: str) -> None:
    """Write data, cards and a record of ``count`` target cells below ``folder``, the root of a checkout."""
    import numpy as np
    import yaml

    from xlscale.core import files, manifest
    from xlscale.experiment import results
    from xlscale.record import store

    cards = Path(folder) / "data_manifest"
    (cards / "data").mkdir(parents=True)
    for name in ("models", "sources", "locks"):  # a card names others
        (cards / name).symlink_to(ROOT / "data_manifest" / name)
    for card in (ROOT / "data_manifest" / "data").glob("*.yaml"):
        (cards / "data" / card.name).symlink_to(card)
    topic = yaml.safe_load((ROOT / "data_manifest" / "data" / "topic.yaml").read_text(encoding="utf-8"))
    items = _data_set(cards, topic)
    generator = np.random.default_rng(1)
    kinds = [_predictions(Path(folder) / f"{i}.parquet", items, topic["labels"], generator) for i in range(DISTINCT)]
    found = {}
    (files.RESULTS / "predictions").mkdir(parents=True)
    for index, cell in enumerate(_target_cells(int(count))):
        path, languages, digest = kinds[index % DISTINCT]
        os.link(path, files.RESULTS / "predictions" / f"{cell.id}.parquet")
        found[cell.id] = results.Result(
            **cell.spec(),
            status="complete",
            value=sum(score.value for code, score in languages.items() if code != "en") / (LANGUAGES - 1),
            english=languages["en"].value,
            languages=languages,
            total_parameters=10**8,
            non_embedding_parameters=10**6 * cell.parameters.layers,
            seconds={"load": 1.0, "train": 10.0, "evaluate": 5.0},
            losses=[2.5 - 0.01 * step for step in range(100)],
            environment={"machine": "none", "platform": "none", "packages": {}},
            fingerprint="0" * 64,
            predictions_sha256=digest,
        )
    store._write(found, files.RESULTS / store.CELLS)
    manifest.state([files.RESULTS])


def _target_cells(count: int) -> list:
    """The first ``count`` target cells of the pilot's grid on the synthetic data set."""
    import yaml

    from xlscale.experiment import studies

    values = yaml.safe_load((ROOT / "studies" / "pilot.yaml").read_text(encoding="utf-8"))
    recipe = values["target_recipes"]["topic"] | {"test_items": GROUPS}
    values |= {
        "name": NAME,
        "published": False,
        "recompute": [],
        "canary": [],
        "targets": [NAME],
        "target_recipes": {NAME: recipe},
    }
    conditions = 2 * len(values["intermediate"]) - 1
    per_seed = conditions * sum(map(len, values["models"].values()))
    study = studies.Study(**values | {"seeds": list(range(1, 2 + count // per_seed))})
    return [cell for cell in study.cells() if cell.phase == "target"][:count]


def _data_set(manifest: Path, topic: dict) -> list[dict]:
    """Write a data set of the family of ``topic`` and its card; returns its test rows."""
    import yaml

    from xlscale.core import files
    from xlscale.data import schema

    codes = CODES.split()
    labels = topic["labels"]
    rows = [
        {"split": split, "language": code, "item": f"{split}-{i}/package-{i}", "group": f"source-{i}"}
        | {"text": "a text", "label": labels[i % len(labels)]}
        for split, own, number in (("test", codes, GROUPS), ("train", codes[:1], 1000))
        for code in own
        for i in range(number)
    ]
    path = manifest / "bundled" / f"{NAME}.parquet"
    table = schema.table("classification", rows)
    schema.write(table, path)
    card = topic | {"name": NAME, "languages": codes[1:], "splits": schema.counts(table), "builder": None}
    card |= {"file": f"bundled/{NAME}.parquet", "sha256": files.sha256_file(path), "packages": []}
    files.write_text(manifest / "data" / f"{NAME}.yaml", yaml.safe_dump(card))
    return [row for row in table.to_pylist() if row["split"] == "test"]


def _predictions(path: Path, items: list[dict], labels: list[str], generator) -> tuple:
    """Write one file of random predictions, as ``store.add`` does; returns it, its scores and its hash."""
    import numpy as np
    import pandas as pd

    from xlscale.experiment import results
    from xlscale.metrics import predictions
    from xlscale.metrics.classification import macro_f1

    table = pd.DataFrame(items)
    table["prediction"] = np.where(generator.random(ITEMS) < 0.5, table["label"], generator.choice(labels, ITEMS))
    table["score"] = generator.random(ITEMS, dtype=np.float32)
    table["correct"] = (table["prediction"] == table["label"]).astype(np.float32)
    table = table[["language", "item", "prediction", "score", "correct"]]
    table.to_parquet(path, index=False, compression="zstd")
    table["label"] = [row["label"] for row in items]
    scores = {
        code: results.Score(
            items=GROUPS,
            value=float(part["correct"].mean()),
            others={"macro_f1": macro_f1(part["prediction"], part["label"])},
        )
        for code, part in table.groupby("language")
    }
    return path, scores, predictions.digest(table)


def _check() -> None:
    began = time.perf_counter()
    from xlscale.record import store

    verdicts = store.check()
    seconds = time.perf_counter() - began
    assert set(verdicts.values()) == {"ok"}, next(v for v in verdicts.values() if v != "ok")
    print(json.dumps({"seconds": round(seconds, 2), "peak_gb": _peak_gb(), "rows": ITEMS * len(verdicts)}))


def _peak_gb() -> float:
    """Largest resident size of this process. Linux counts what started it into ru_maxrss, but not into VmHWM."""
    import resource

    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = 1024 * int(text.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return round(peak / 1e9, 3)


_CHILDREN = {"study": _study, "record": _record, "check": _check}


def main() -> None:
    """Measure what the command line asks for, and print and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", nargs="*", type=float, default=[], help=f"numbers of predictions, from {ITEMS} on")
    parser.add_argument("--cells", nargs="*", type=int, default=[], help="numbers of cells")
    parser.add_argument("--out", type=Path, help="file to write")
    options = parser.parse_args()
    found: dict[str, list] = {"checking": [], "planning": []}
    jobs = [("planning", planning, cells) for cells in options.cells]
    jobs += [("checking", checking, int(rows)) for rows in options.check]
    for name, measure, size in jobs:
        found[name].append(measure(size))
        print(f"{name} {size:,}: {found[name][-1]}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _CHILDREN[sys.argv[2]](*sys.argv[3:])
    else:
        main()

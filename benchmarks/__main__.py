"""``make bench``: every speed the README quotes, measured side by side in one run.

Writes benchmarks/latest.json, latest.md and latest.svg. Sides alternate, each measurement is a process of its own, and
the figures are medians over rounds. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import overhead  # noqa: E402
import scale  # noqa: E402

# What a user could switch on in a plain Trainer, one after the other; the last one is the product.
STEPS = {
    "plain Trainer in float32": ["--precision", "float32"],
    "plain Trainer": [],
    "word embeddings frozen": ["--frozen"],
    "no dropout": ["--frozen", "--no-dropout"],
    "attention as matrix products": ["--frozen", "--no-dropout", "--attention", "eager"],
    "batches of similar lengths": ["--frozen", "--no-dropout", "--attention", "eager", "--buckets"],
}
OURS = "this package"


def together(*commands: list[str]) -> list[dict]:
    """Run Python scripts of this folder at the same time; what each prints last, as JSON."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src"), "TOKENIZERS_PARALLELISM": "false"}
    started = [
        subprocess.Popen(
            [sys.executable, str(HERE / name), *options],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, *options in commands
    ]  # fmt: skip
    found = []
    for process in started:
        output, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{process.args}: exit code {process.returncode}\n{errors[-2000:]}")
        found.append(json.loads(output.splitlines()[-1]))
    return found


def throughput(what: str, side: str, processes: int, threads: int, *options: str) -> dict[str, float]:
    """``processes`` at once, ``threads`` each: their examples/s and FLOP/s added up."""
    command = ["throughput.py", what, side, "--threads", str(threads), *options]
    found = together(*[command] * processes)
    rates = ("examples_per_s", "flops_per_s", "matmul_flops_per_s")
    total = {name: sum(one[name] for one in found) for name in rates}
    return total | {"share_of_matmul": total["flops_per_s"] / total["matmul_flops_per_s"]}


def side_by_side(what: str, cores: int, rounds: int) -> dict[str, dict[str, float]]:
    """The machine as each side uses it: a Trainer with a thread per core, a sweep with a cell of one thread per core.

    Then one thread against one thread. Medians over ``rounds``, the sides alternating.
    """
    setups = {
        "plain": ("plain", 1, cores),
        "ours": ("ours", cores, 1),
        "plain_one_thread": ("plain", 1, 1),
        "ours_one_thread": ("ours", 1, 1),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in setups}
    for number in range(rounds):
        for name, setup in setups.items():
            found[name].append(throughput(what, *setup))
            speed = found[name][-1]["examples_per_s"]
            print(f"{what} {number + 1}/{rounds} {name}: {speed:.1f} examples/s", flush=True)
    return {name: _medians(rows) for name, rows in found.items()}


def ladder_of_steps(rounds: int) -> dict[str, float]:
    """Training examples/s of one thread, from the plain Trainer to this package, a switch more each time."""
    found: dict[str, list[float]] = {name: [] for name in [*STEPS, OURS]}
    for _ in range(rounds):
        for name in found:
            side = ["ours"] if name == OURS else ["plain", *STEPS[name]]
            row = throughput("train", side[0], 1, 1, "--steps", "5", *side[1:])
            found[name].append(row["examples_per_s"])
            print(f"{name}: {found[name][-1]:.1f} examples/s", flush=True)
    return {name: statistics.median(values) for name, values in found.items()}


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def machine() -> dict[str, object]:
    """What was measured on."""
    from xlscale.core import machine as here

    dtype = here.precision("auto")
    return {"type": here.machine_type(dtype), "cores": _cores(), "environment": here.environment(dtype)}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def everything(rounds: int) -> dict[str, object]:
    """All measurements; the summary keys come first."""
    cores = _cores()
    noop = overhead.nothing_to_do()["noop"]
    train, evaluate = side_by_side("train", cores, rounds), side_by_side("evaluate", cores, rounds)
    steps = ladder_of_steps(max(1, rounds - 1))
    cells = {"one_at_a_time": overhead.cells(1), "one_per_core": overhead.cells(cores)}
    planning = [scale.planning(number) for number in (100, 1_000, 10_000)]
    precision = [together(["precision.py", "--layers", str(layers)])[0] for layers in (1, 4)]
    return {
        "train_ratio": train["ours"]["examples_per_s"] / train["plain"]["examples_per_s"],
        "train_share_of_matmul": train["ours"]["share_of_matmul"],
        "eval_ratio": evaluate["ours"]["examples_per_s"] / evaluate["plain"]["examples_per_s"],
        "cell_overhead_s": cells["one_per_core"]["median"],
        "noop_s": noop,
        "plan_10k_s": max(planning[-1]["plan_s"], planning[-1]["dry_run_s"]),
        "machine": machine(),
        "rounds": rounds,
        "train": train,
        "evaluate": evaluate,
        "steps": steps,
        "cells": cells,
        "planning": planning,
        "precision": precision,
    }


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="only rewrite table and figure from latest.json")
    options = parser.parse_args()
    path = HERE / "latest.json"
    if not options.report:
        path.write_text(json.dumps(everything(options.rounds), indent=1) + "\n", encoding="utf-8")
    import report

    found = json.loads(path.read_text(encoding="utf-8"))
    (HERE / "latest.md").write_text(report.markdown(found), encoding="utf-8")
    report.figure(found, HERE / "latest.svg")
    print(report.markdown(found))


if __name__ == "__main__":
    main()

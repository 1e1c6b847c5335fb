"""The scorer's speed on full-size XTREME-R folders, beside the reference scorer's where somebody has it.

    python benchmarks/score.py [--reference CHECKOUT] [--rounds 3] [--folder FOLDER]

CHECKOUT is one of google-research/xtreme, with seqeval installed. Folders are random, in the true sizes
(score_sizes.yaml says which are unverified), made once and kept in FOLDER. Writes score.json and score.md. The sides
alternate, each run is a process of its own. The reference gets everything but LAReQA, which it cannot score.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import numpy as np  # noqa: E402
import prediction_folders  # noqa: E402

from xlscale.xtreme import benchmark  # noqa: E402

BENCHMARK = "xtreme-r"
UNSCORED = "lareqa"  # of the reference
SEED = 0


def run(command: list[str], cwd: Path = HERE.parent) -> dict[str, float]:
    """Seconds on the clock, seconds of processor time and peak memory in GB of a process; it has to end well."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src"), "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{command}: exit code {process.returncode}\n{errors.read()[-2000:].decode()}")
    unit = 1e9 if sys.platform == "darwin" else 1e6  # ru_maxrss is in bytes there, in kilobytes here
    return {"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_gb": usage.ru_maxrss / unit}


def ours(folder: Path, out: Path, *names: str) -> dict[str, float]:
    """This package's scorer, of all tasks or some."""
    command = [sys.executable, "-m", "xlscale.score", "--benchmark", BENCHMARK, "--json", str(out)]
    command += ["--predictions", str(folder / "predictions"), "--labels", str(folder / "labels")]
    return run([*command, *(["--tasks", *names] if names else [])])


def theirs(folder: Path, out: Path, checkout: Path) -> dict[str, float]:
    """The reference, on the same files without the task that it cannot score."""
    with tempfile.TemporaryDirectory() as temporary:
        for side in ("predictions", "labels"):
            (Path(temporary) / side).mkdir()
            for task in (folder / side).iterdir():
                if task.name != UNSCORED:  # links are not followed by its os.walk, but counted as folders
                    (Path(temporary) / side / task.name).symlink_to(task.resolve())
        command = [sys.executable, "evaluate.py", "--xtreme_version", BENCHMARK, "--output_file", str(out)]
        command += ["--prediction_folder", f"{temporary}/predictions", "--label_folder", f"{temporary}/labels"]
        return run(command, cwd=checkout)


def difference(own: dict[str, Any], other: dict[str, Any]) -> float:
    """The greatest difference of a language's score, in points, over every metric that both give."""
    found = []
    for name, task in own["tasks"].items():
        for metric, values in other.get(name, {}).items():
            if not metric.startswith("avg"):
                mine = task["languages"][f"mlqa_{metric}" if name == "mlqa" else metric]
                found += [abs(mine[language] - value) for language, value in values.items()]
    return max(found)


def counts(folder: Path) -> dict[str, float]:
    """What is scored: files and megabytes of both sides, tokens of the tagging tasks, questions and queries."""
    paths = [path for path in folder.rglob("test-*") if path.is_file()]
    tagged = [path for path in paths if path.parent.name in ("udpos", "panx") and path.parts[-3] == "labels"]
    return {
        "files": len(paths),
        "megabytes": sum(path.stat().st_size for path in paths) / 1e6,
        "tokens": sum(len(path.read_text(encoding="utf-8").split()) for path in tagged),
    }


def measure(folder: Path, checkout: Path | None, rounds: int) -> dict[str, Any]:
    """All measurements: medians over rounds."""
    description = benchmark.load(BENCHMARK)
    if not (folder / "predictions").is_dir():
        prediction_folders.make(description, folder, np.random.default_rng(SEED))
    both = [task.name for task in description.tasks if task.name != UNSCORED]
    rows: dict[str, list[dict[str, float]]] = {}
    found: dict[str, Any] = {"rounds": rounds, "load": [os.getloadavg()[0]], **counts(folder)}
    with tempfile.TemporaryDirectory() as temporary:
        own, other = Path(temporary) / "own.json", Path(temporary) / "other.json"
        for _ in range(rounds):
            rows.setdefault("ours", []).append(ours(folder, own))
            rows.setdefault("ours_shared", []).append(ours(folder, own, *both))
            if checkout:
                rows.setdefault("reference", []).append(theirs(folder, other, checkout))
            print({side: found_rows[-1] for side, found_rows in rows.items()}, flush=True)
        if checkout:
            found["difference"] = difference(*(json.loads(path.read_text(encoding="utf-8")) for path in (own, other)))
    found["load"].append(os.getloadavg()[0])
    for side, values in rows.items():
        found[side] = {key: statistics.median(row[key] for row in values) for key in values[0]}
    if checkout:
        for key in ("seconds", "cpu_s"):
            pairs = zip(rows["reference"], rows["ours_shared"], strict=True)
            found[f"ratio_{key}"] = statistics.median(theirs[key] / ours[key] for theirs, ours in pairs)
    return found


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--reference", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the random folders are or will be (default: temporary)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(options.folder or Path(temporary), options.reference, options.rounds)
    import report

    (HERE / "score.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (HERE / "score.md").write_text(report.scorer(found), encoding="utf-8")
    print(report.scorer(found))


if __name__ == "__main__":
    main()

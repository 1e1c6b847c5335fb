"""The measurements as a Markdown table and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

GOALS = {
    "train_ratio": ("training, times a plain Trainer's examples/s", "at least 4"),
    "train_share_of_matmul": ("training, share of the matrix-product rate", "at least 0.60"),
    "eval_ratio": ("evaluation, times a plain Trainer's examples/s", "at least 4"),
    "cell_overhead_s": ("a cell besides training and evaluation, s", "at most 2"),
    "noop_s": ("`make reproduce` with nothing to do, s", "at most 5"),
    "plan_10k_s": ("planning 10,000 cells (the slower of plan and dry run), s", "at most 20"),
}
GREY, BLUE = "0.65", "#0072b2"


def markdown(found: dict[str, Any]) -> str:
    """All figures, as the README quotes them."""
    here = found["machine"]
    lines = [f"Measured by `make bench` on {here['cores']} cores: {here['type']}."]
    lines += [f"Medians of {found['rounds']} rounds."]
    lines += ["", "| what | measured | goal |", "| --- | --- | --- |"]
    lines += [f"| {text} | {found[key]:.3g} | {goal} |" for key, (text, goal) in GOALS.items()]
    for what in ("train", "evaluate"):
        rows = found[what]
        lines += ["", f"| {what} | examples/s | GFLOP/s | share of matrix-product rate |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {_side(name, here['cores'])} | {row['examples_per_s']:.1f} | {row['flops_per_s'] / 1e9:.0f} "
            f"| {row['share_of_matmul']:.2f} |"
            for name, row in rows.items()
        ]
        lines += [
            "",
            f"At the matrix-product rate itself the ratio would be {most(rows):.1f}: no code can pass that here.",
        ]
    lines += ["", "| training on one thread | examples/s |", "| --- | --- |"]
    lines += [f"| {name} | {value:.1f} |" for name, value in found["steps"].items()]
    lines += ["", "| cells | seconds besides training and evaluation | first cells | whole sweep, per cell |"]
    lines += ["| --- | --- | --- | --- |"]
    lines += [
        f"| {name.replace('_', ' ')} | {row['median']:.2f} | {row['first']:.2f} | {row['sweep']:.2f} |"
        for name, row in found["cells"].items()
    ]
    lines += ["", "| cells planned | plan, s | dry run, s |", "| --- | --- | --- |"]
    lines += [f"| {row['cells']:,} | {row['plan_s']:.1f} | {row['dry_run_s']:.1f} |" for row in found["planning"]]
    lines += ["", "| bfloat16 minus float32, zero-shot accuracy | points | 95% t interval | seeds | times as fast |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row['layers']} layer{'s' * (row['layers'] > 1)} | {100 * row['difference']:+.2f} "
        f"| {100 * row['interval'][0]:+.2f} to {100 * row['interval'][1]:+.2f} | {len(row['bf16'])} "
        f"| {row['seconds_ratio']:.1f} |"
        for row in found["precision"]
    ]
    return "\n".join(lines) + "\n"


def scorer(found: dict[str, Any]) -> str:
    """The scorer's measurements, from score.py."""
    names = {
        "ours": "this package, all ten tasks",
        "ours_shared": "this package, without LAReQA",
        "reference": "reference, without LAReQA",
    }
    lines = [
        f"Measured by `benchmarks/score.py`: {found['files']} files of predictions and labels, "
        f"{found['megabytes']:.0f} MB, {found['tokens'] / 1e6:.1f} million tagged tokens. Medians of {found['rounds']} "
        f"rounds; load of the machine {found['load'][0]:.1f} before, {found['load'][1]:.1f} after.",
        "",
        "| scorer | seconds | processor time, s | peak memory, GB |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {text} | {found[side]['seconds']:.1f} | {found[side]['cpu_s']:.1f} | {found[side]['peak_gb']:.2f} |"
        for side, text in names.items()
        if side in found
    ]
    if "reference" in found:
        lines += [
            "",
            f"The reference takes {found['ratio_seconds']:.0f} times as long ({found['ratio_cpu_s']:.0f} times the "
            f"processor time). The greatest difference in any language's score is {found['difference']:.0e} points.",
        ]
    return "\n".join(lines) + "\n"


def scorer_sentence(found: dict[str, Any]) -> str:
    """What the README says of the scorer, in one line."""
    return (
        f"Full-size folders take {found['ours']['cpu_s']:.1f} s of processor time and {found['ours']['peak_gb']:.1f} "
        f"GB; XTREME's own program takes {found['ratio_cpu_s']:.0f} times as long for what both can score."
    )


def most(rows: dict[str, dict[str, float]]) -> float:
    """The ratio to the plain Trainer that a side running at the matrix-product rate would reach."""
    return rows["plain"]["matmul_flops_per_s"] / rows["plain"]["flops_per_s"]


def sentences(found: dict[str, Any]) -> str:
    """What the README says of the ratios, in one line."""
    ours, plain = (found["train"][side]["share_of_matmul"] for side in ("ours", "plain"))
    limits = f"{most(found['train']):.1f} and {most(found['evaluate']):.1f}"
    return (
        f"Training is {found['train_ratio']:.1f} times as fast as a plain `transformers.Trainer` ({ours:.0%} of this "
        f"machine's matrix-product rate against {plain:.0%}), evaluation {found['eval_ratio']:.1f} times; at the "
        f"matrix-product rate itself, which no code can pass, it would be {limits}. A cell "
        f"takes {found['cell_overhead_s']:.1f} s besides its training and evaluation; 10,000 cells are planned in "
        f"{found['plan_10k_s']:.0f} s."
    )


def _side(name: str, cores: int) -> str:
    side = "this package" if name.startswith("ours") else "plain Trainer"
    if name.endswith("one_thread"):
        return f"{side}, one thread"
    return f"{side}, {cores} {'cells of one thread each' if name == 'ours' else 'threads'}"


def figure(found: dict[str, Any], path: Path) -> None:
    """Training speed step by step, and how planning grows, as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "xlscale", "font.size": 8}):
        drawn = Figure(figsize=(7.2, 2.6), layout="constrained")
        bars, growth = drawn.subplots(1, 2, width_ratios=[3, 2])
        names = list(found["steps"])
        bars.barh(names[::-1], [found["steps"][n] for n in names[::-1]], color=[BLUE] + [GREY] * (len(names) - 1))
        bars.set(xlabel="training, examples/s on one thread (12 layers, 64 tokens, batches of 32)")
        rows = found["planning"]
        for key, name, marker in (("plan_s", "plan", "o-"), ("dry_run_s", "dry run", "s--")):
            growth.loglog([row["cells"] for row in rows], [row[key] for row in rows], marker, color=BLUE, label=name)
        growth.set(xlabel="cells planned", ylabel="seconds")
        for axes in (bars, growth):
            axes.spines[["top", "right"]].set_visible(False)
        growth.legend(frameon=False)
        drawn.savefig(path, metadata={"Date": None})

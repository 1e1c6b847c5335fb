"""What a GPU does beside what ``make plan`` assumes of it: share of the data sheet's operations, and memory.

``python benchmarks/gpu.py FILE`` adds to a file of JSON, and to a text beside it: for every model that fits, with
random weights, a training by the plan's first placement on one GPU, and a pass without gradients. From it come the
shares in data_manifest/hardware/h100.yaml.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Any

# Model, method: one of every size class, both kinds of attention, and both methods.
TRIED = [
    ("xlm_r_base", "full"), ("xlm_r_large", "full"), ("xlm_r_xl", "full"),
    ("qwen25_0_5b", "lora"), ("qwen25_1_5b", "lora"), ("qwen25_3b", "lora"), ("gemma3_4b", "lora"),
    ("qwen25_7b", "lora"), ("llama31_8b", "lora"), ("gemma3_12b", "lora"), ("qwen25_14b", "lora"),
    ("gemma3_27b", "lora"), ("qwen25_32b", "lora"),
]  # fmt: skip
LENGTH, STEP, LABELS = 256, 8192, 3  # tokens of an input and, at most, of a micro-batch; classes
SECONDS = 3


def measure(name: str, method: str, parts: int) -> dict[str, Any]:
    """Seconds of a step and of a pass, shares of the data sheet's operations, and memory beside the plan's, in GiB."""
    import numpy as np
    import torch

    from xlscale.cards.catalogue import data_card, model_card
    from xlscale.core import registry
    from xlscale.data.batches import Encoded
    from xlscale.models import hf
    from xlscale.planning import hardware, placement, plan, profile
    from xlscale.tasks.classification import Classification
    from xlscale.training import evaluate, loop
    from xlscale.training.model import Model

    card, h100 = model_card(name), hardware.load(hardware.DEFAULT)
    layers, way = max(card.rungs), plan.WIDE if method == "lora" else {"frozen": "word_embeddings"}
    found = profile.of(name, layers, profile.recipe_of(method, **way))
    place = placement.choose(placement.Load(found, method, True, parts * STEP, LENGTH), h100)
    backend = registry.get("backend", "cuda")("auto", place.tokens, place.again)
    frozen = method != "full"
    config = hf.described(card, layers).config
    torch.cuda.reset_peak_memory_stats()
    with torch.device("cuda"):
        kind = torch.bfloat16 if frozen else torch.float32
        encoder = hf.blank(config, kind).eval()
    encoder.get_input_embeddings().weight.requires_grad_(False)
    encoder.config.pad_token_id = encoder.config.pad_token_id or 0
    encoder = backend.place(encoder, frozen)
    numbers = {"learning_rate": 1e-6, "batch_size": parts * place.tokens // LENGTH, "epochs": 1, "max_length": LENGTH}
    recipe = profile.recipe_of(method, **way | numbers)
    registry.get("method", method)().prepare(encoder, recipe, torch.Generator().manual_seed(1))
    task = Classification(data_card("topic"), card)
    head = task.head_of(encoder, torch.Generator().manual_seed(2)).to(backend.device)
    model = Model(encoder, backend, task, head)
    random = np.random.default_rng(1)

    def inputs(batches: int) -> Encoded:
        rows = batches * recipe.batch_size
        ids = random.integers(10, 10_000, (rows, LENGTH)).tolist()
        return Encoded.of(ids, targets={"label": random.integers(0, LABELS, rows)})

    def timed(work, *arguments) -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        work(*arguments)
        torch.cuda.synchronize()
        return time.perf_counter() - began

    tokens, most = recipe.batch_size * LENGTH, h100.teraflops * 1e12

    def several(operations: float) -> int:
        """Batches that take some seconds at a quarter of what the data sheet says, six at least."""
        return max(6, round(SECONDS * most / 4 / operations / tokens))

    trained = found.operations("step_again" if place.again else "step", LENGTH)
    loop.finetune(model, inputs(2), recipe, random)
    steps = several(trained)
    a_step = timed(loop.finetune, model, inputs(steps), recipe, random) / steps
    peak = torch.cuda.max_memory_allocated()
    evaluated = found.operations("forward", LENGTH)
    evaluate.run(model, inputs(2))
    batches = several(evaluated)
    a_token = timed(evaluate.run, model, inputs(batches)) / (batches * tokens)
    return {
        "model": name,
        "method": method,
        "parameters": found.parameters,
        "tokens": place.tokens,
        "again": place.again,
        "seconds_of_a_step": round(a_step, 4),
        "tokens_per_second_trained": round(tokens / a_step),
        "tokens_per_second_evaluated": round(1 / a_token),
        "share_trained": round(trained * tokens / a_step / most, 3),
        "share_evaluated": round(evaluated / a_token / most, 3),
        "peak_gib": round(peak / hardware.GIB, 2),
        "planned_gib": round(place.memory.total / hardware.GIB, 2),
    }


def markdown(runs: list[dict[str, Any]]) -> str:
    """What was measured, as text."""
    return "\n".join([
        "Measured by `benchmarks/gpu.py`, with random weights, inputs of 256 tokens and the first placement of",
        "`make plan` on one GPU. Micro-batch: tokens; again: layers are computed again in the backward pass; trained,",
        "evaluated: tokens a second, and the share of 989 TFLOP/s, the data sheet's, that their operations are; peak:",
        "GiB that PyTorch had allocated at most, beside the plan's.",
        *(line for run in runs for line in _table(run)),
    ]) + "\n"  # fmt: skip


def _table(run: dict[str, Any]) -> list[str]:
    head = ["model", "method", "micro-batch", "again", "trained", "evaluated", "share", "share", "peak", "planned"]
    rows = [
        [
            *(row["model"], row["method"], f"{row['tokens']:,}", "yes" if row["again"] else "no"),
            *(f"{row[f'tokens_per_second_{what}']:,}" for what in ("trained", "evaluated")),
            *(f"{row[f'share_{what}']:.1%}" for what in ("trained", "evaluated")),
            *(f"{row[f'{what}_gib']:.1f}" for what in ("peak", "planned")),
        ]
        for row in run["rows"]
    ]
    said = f"Micro-batches of a step: {run['parts']}. Machine: {run['machine']}."
    return ["", said, "", *(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])]


def main() -> None:
    import torch

    from xlscale.core import machine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--parts", type=int, default=1, help="micro-batches of a step")
    parser.add_argument("--models", nargs="*", default=[name for name, _ in TRIED])
    options = parser.parse_args()
    rows, before = [], json.loads(options.file.read_text(encoding="utf-8")) if options.file.exists() else []
    for name, method in TRIED:
        if name in options.models:
            rows.append(measure(name, method, options.parts))
            print(json.dumps(rows[-1]), flush=True)
            gc.collect()
            torch.cuda.empty_cache()
            here = machine.machine_type(torch.bfloat16, torch.device("cuda"))
            runs = [*before, {"machine": here, "parts": options.parts, "rows": rows}]
            options.file.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
            options.file.with_suffix(".md").write_text(markdown(runs), encoding="utf-8")


if __name__ == "__main__":
    main()

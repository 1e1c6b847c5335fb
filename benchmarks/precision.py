"""What bfloat16 costs in accuracy: the same training in both precisions, over several seeds.

``python benchmarks/precision.py --layers 4`` prints one JSON line. Package topic: English training as in the pilot,
zero-shot accuracy (mean over languages) of the two precisions, paired by seed.
"""

from __future__ import annotations

import argparse
import json
import time

RATES = {1: 3e-3, 4: 6e-4}  # the pilot's
EXAMPLES, EPOCHS, BATCH, LENGTH, ITEMS = 800, 2, 16, 48, 50


def measure(layers: int, seeds: int) -> dict[str, object]:
    """Zero-shot accuracy per seed in both precisions, 95% t interval of the difference, and the ratio of times."""
    import numpy as np
    import torch
    from scipy import stats

    from xlscale import tasks
    from xlscale.cards.catalogue import data_card, model_card
    from xlscale.core import machine
    from xlscale.data import load
    from xlscale.experiment.recipe import Recipe
    from xlscale.metrics import predictions
    from xlscale.models import ladder
    from xlscale.training import evaluate, loop, token_cache
    from xlscale.training.backends.cpu import CPU
    from xlscale.training.model import Model

    torch.set_num_threads(machine.THREADS)
    card, task = model_card("e5_small"), tasks.of(data_card("topic"))
    rows = load.splits(task.card)
    index = task.test_rows(rows["test"], ITEMS)
    test = token_cache.encoded(task, rows, "test", card, LENGTH).of_rows(index)
    train = token_cache.encoded(task, rows, "train", card, LENGTH)
    recipe = Recipe(
        examples=EXAMPLES, epochs=EPOCHS, learning_rate=RATES[layers], batch_size=BATCH, max_length=LENGTH,
        test_items=ITEMS,
    )  # fmt: skip
    values: dict[str, list[float]] = {"bf16": [], "float32": []}
    seconds = dict.fromkeys(values, 0.0)
    for seed in range(seeds):
        for name in values:
            chosen = train.of_rows(loop.sample(len(rows["train"]), EXAMPLES, np.random.default_rng([seed, 0])))
            encoder = ladder.load(card, layers)
            head = task.head(encoder.config.hidden_size, torch.Generator().manual_seed(seed))
            began = time.perf_counter()
            model = Model(encoder, CPU(name), task, head)
            loop.finetune(model, chosen, recipe, np.random.default_rng([seed, 1]))
            outputs = evaluate.run(model, test)
            seconds[name] += time.perf_counter() - began
            scores = task.scores(task.predictions(rows["test"].select(index), test, outputs))
            values[name].append(predictions.zero_shot_mean({code: score.value for code, score in scores.items()}))
    difference = np.array(values["bf16"]) - np.array(values["float32"])
    half = stats.t.ppf(0.975, seeds - 1) * difference.std(ddof=1) / seeds**0.5
    return {
        "layers": layers,
        **values,
        "difference": float(difference.mean()),
        "interval": [float(difference.mean() - half), float(difference.mean() + half)],
        "seconds_ratio": seconds["float32"] / seconds["bf16"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--layers", type=int, choices=list(RATES), default=1)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps(measure(options.layers, options.seeds)))

"""What a task costs, tokens and operations of every split, into its card: the verb ``data cost``."""

from __future__ import annotations

import re

import numpy as np

from xlscale import tasks
from xlscale.acquire import new_card
from xlscale.cards import catalogue, schema
from xlscale.core.files import MANIFEST, write_text
from xlscale.models import ladder
from xlscale.training import token_cache

MODEL = "e5_small"  # whose vocabulary and whole depth the cost is stated for
LENGTH = 128  # tokens per input, at most
PASSES = {"train": 3, "dev": 1, "test": 1}  # a step costs a forward pass and a backward one, which counts twice


def of(card: schema.DataCard) -> schema.Cost:
    """Tokens of all rows of every split, and TFLOP for one epoch over train and one evaluation of the others.

    Raises XlscaleError when the file of the data set is not what its card says.
    """
    model = catalogue.model_card(MODEL)
    layers = max(model.rungs)
    task, encoder = tasks.of(card), ladder.empty(model, layers)
    rows = task.rows()
    counts, operations = {}, {}
    for split in rows:
        inputs = token_cache.encoded(task, rows, split, model, LENGTH)
        if split == "train":
            inputs = task.training_inputs(inputs, np.random.default_rng(0))  # of a context one window
        lengths = inputs.lengths
        per_token = ladder.flops_per_token(encoder, float(np.square(lengths).sum() / lengths.sum()))
        counts[split] = int(lengths.sum())
        operations[split] = float(f"{PASSES[split] * counts[split] * per_token / 1e12:.3g}")
    return schema.Cost(model=MODEL, layers=layers, max_length=LENGTH, tokens=counts, tflop=operations)


def main(names: list[str]) -> None:
    """Write the cost of every task, or of those named, into its card."""
    for name in names or catalogue.names("data"):
        card = catalogue.data_card(name)
        if card.task:
            path, found = MANIFEST / "data" / f"{name}.yaml", of(card)
            rest = re.sub(r"^cost:.*\n(?: .*\n|\n)*", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            write_text(path, f"{rest.rstrip()}\n{new_card.as_yaml({'cost': found.model_dump()})}")
            print(f"{name}: {found.tflop} TFLOP")

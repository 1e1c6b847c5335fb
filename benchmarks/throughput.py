"""Training and evaluation speed of a cell beside a plain ``transformers.Trainer``: one measurement per process.

``python benchmarks/throughput.py train ours --threads 1`` prints one JSON line. Both sides get the same model, data,
lengths, batch size, number of steps and precision. The plain side is what a user would write first: the tokenizer's
default padding, a random order, all parameters trained, the model's own dropout; switches take these away one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

LAYERS, LENGTH, BATCH = 12, 64, 32  # the size of rung, tokens and examples at which the project's goals are stated
TOKENS, NARROW, WIDE = 2048, 384, 1536  # shapes of the model's own largest matrix products
RATE = 2e-5


def matmul_rate(dtype, repeats: int = 25) -> float:
    """FLOP/s of this model's largest matrix products, forward and backward, median."""
    import torch

    x = torch.randn(TOKENS, NARROW, dtype=dtype, requires_grad=True)
    up = torch.randn(WIDE, NARROW, dtype=dtype, requires_grad=True)
    down = torch.randn(NARROW, WIDE, dtype=dtype, requires_grad=True)
    gradient = torch.randn(TOKENS, NARROW, dtype=dtype)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        torch.autograd.grad((x @ up.T) @ down.T, (x, up, down), gradient)
        seconds.append(time.perf_counter() - began)
    return 3 * 2 * 2 * TOKENS * NARROW * WIDE / sorted(seconds)[repeats // 2]


class Work:
    """What both sides work on: package topic, English training rows or test rows of all languages."""

    def __init__(self, side: str, layers: int, precision: str):
        from xlscale import tasks
        from xlscale.cards.catalogue import data_card, model_card
        from xlscale.data import load
        from xlscale.models import ladder
        from xlscale.training.backends.cpu import CPU

        self.card = model_card("e5_small")
        self.backend = CPU(precision)
        self.layers = layers
        self.task = tasks.of(data_card("topic"))
        self.rows = load.splits(self.task.card)
        self.encoder = ladder.load(self.card, layers)
        self.tokenizer = ladder.tokenizer(self.card)

    def encoded(self, split: str, index):
        """Token ids of rows of a split."""
        return self.task.encode(self.rows[split].select(index), self.tokenizer, self.card.prefix, LENGTH)

    def flops(self, encoded) -> float:
        """Of one forward pass over all inputs, without padding."""
        from xlscale.models import ladder

        lengths = encoded.lengths
        return lengths.sum() * ladder.flops_per_token(self.encoder, (lengths**2).sum() / lengths.sum())

    def model(self):
        """The encoder with a fresh head."""
        import torch

        from xlscale.training.model import Model

        head = self.task.head(self.encoder.config.hidden_size, torch.Generator().manual_seed(0))
        return Model(self.encoder, self.backend, self.task, head)

    def train_ours(self, encoded) -> float:
        """Seconds of the product's own training loop over all inputs, once."""
        import numpy as np

        from xlscale.experiment.recipe import Recipe
        from xlscale.training import loop

        recipe = Recipe(
            examples=None, epochs=1, learning_rate=RATE, batch_size=BATCH, max_length=LENGTH, test_items=None
        )
        model, order = self.model(), np.random.default_rng(0)
        began = time.perf_counter()
        loop.finetune(model, encoded, recipe, order)
        return time.perf_counter() - began

    def evaluate_ours(self, encoded) -> float:
        """Seconds of the product's own evaluation of all inputs."""
        from xlscale.training import evaluate

        model = self.model()
        began = time.perf_counter()
        evaluate.run(model, encoded)
        return time.perf_counter() - began

    def trainer(self, encoded, folder: str, options: argparse.Namespace):
        """A plain Trainer on the same inputs."""
        import torch
        from transformers import BertForSequenceClassification, Trainer, TrainingArguments
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        config = self.encoder.config
        config.num_labels, config._attn_implementation = len(self.task.classes), options.attention
        if not options.dropout:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        model = BertForSequenceClassification(config)
        model.bert.load_state_dict(self.encoder.state_dict(), strict=False)
        model.bert.embeddings.word_embeddings.weight.requires_grad_(not options.frozen)
        rows = [
            {"input_ids": encoded.ids_of(i).tolist(), "labels": int(label)}
            for i, label in enumerate(encoded.targets["label"])
        ]
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=RATE,
            bf16=self.backend.dtype == torch.bfloat16,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            **({"train_sampling_strategy": "group_by_length"} if options.buckets else {}),
        )
        return Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, processing_class=self.tokenizer)

    def train_plain(self, encoded, folder: str, options: argparse.Namespace) -> float:
        """Seconds of ``Trainer.train``."""
        trainer = self.trainer(encoded, folder, options)
        began = time.perf_counter()
        trainer.train()
        return time.perf_counter() - began

    def evaluate_plain(self, encoded, folder: str, options: argparse.Namespace) -> float:
        """Seconds of ``Trainer.predict``."""
        trainer = self.trainer(encoded, folder, options)
        began = time.perf_counter()
        trainer.predict(trainer.eval_dataset)
        return time.perf_counter() - began


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Examples/s, achieved FLOP/s and the matrix-product rate, measured in this process."""
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    work = Work(options.side, options.layers, options.precision)
    if options.what == "train":
        index, warm = range(options.steps * BATCH), range(2 * BATCH)
    else:  # every language equally, in the order of the file
        languages = np.array(work.rows["test"]["language"])
        index = np.sort(np.concatenate([np.flatnonzero(languages == c)[: options.items] for c in np.unique(languages)]))
        warm = index[: 2 * BATCH]
    split = "train" if options.what == "train" else "test"
    encoded = work.encoded(split, index)
    with tempfile.TemporaryDirectory() as folder:
        run = getattr(work, f"{'train' if options.what == 'train' else 'evaluate'}_{options.side}")
        arguments = (folder, options) if options.side == "plain" else ()
        run(work.encoded(split, warm), *arguments)
        seconds = run(encoded, *arguments)
    flops = work.flops(encoded) * (3 if options.what == "train" else 1)
    return {
        "examples_per_s": len(encoded) / seconds,
        "flops_per_s": flops / seconds,
        "matmul_flops_per_s": matmul_rate(work.backend.dtype),
        "mean_length": float(encoded.lengths.mean()),
    }


def parser() -> argparse.ArgumentParser:
    """The command line of one measurement."""
    found = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    found.add_argument("what", choices=["train", "evaluate"])
    found.add_argument("side", choices=["ours", "plain"])
    found.add_argument("--layers", type=int, default=LAYERS)
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--steps", type=int, default=10)
    found.add_argument("--items", type=int, default=40, help="test items per language")
    found.add_argument("--precision", choices=["auto", "bf16", "float32"], default="auto")
    found.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    found.add_argument("--dropout", action=argparse.BooleanOptionalAction, default=True)
    found.add_argument("--frozen", action="store_true", help="plain: word embeddings frozen")
    found.add_argument("--buckets", action="store_true", help="plain: batches of similar lengths")
    return found


if __name__ == "__main__":
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    print(json.dumps(measure(parser().parse_args())))

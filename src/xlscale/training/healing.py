"""Healing a ladder: every cut rung distilled to the whole model it was cut from, and the evidence that it helped.

``make heal`` works through the card of a healed model: it trains the rungs that are not there yet, writes what has to
be added to each as a bundled file, and judges all of them, before and after, on languages and registers that were in
no training text. What it finds is committed: ``results/healing.csv`` and ``results/healing.json``.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import nn

from xlscale import tasks
from xlscale.cards.catalogue import data_card, healed_card, model_card
from xlscale.cards.schema import HealedRung, ModelCard
from xlscale.core import machine, manifest
from xlscale.core.files import (
    CACHE,
    RESULTS,
    XlscaleError,
    atomic,
    digest,
    read_json,
    relative,
    sha256_file,
    write_json,
    write_text,
)
from xlscale.core.seals import seal, sealed
from xlscale.data import load
from xlscale.data.batches import Encoded
from xlscale.experiment.recipe import Recipe
from xlscale.models import healed, ladder, store
from xlscale.training import evaluate, loop, token_cache
from xlscale.training.backends.cpu import CPU
from xlscale.training.model import Model
from xlscale.training.objectives import distillation
from xlscale.training.objectives.distillation import HiddenStates

EVIDENCE, RUNS = RESULTS / "healing.csv", RESULTS / "healing.json"
RETRIEVAL = "udhr"  # a register that is in no training text, with no label that could be learnt
RETRIEVAL_LENGTH = 128
RECIPE = "recipe"  # metadata of a rung's file: the digest of all that it follows from


def inputs(card: ModelCard, rows: Dataset) -> Encoded:
    """The inputs of rows of unlabelled text, as a healed model was trained on them."""
    prefixed = [card.prefix + text for text in rows["text"]]
    length = card.healed.max_length
    return Encoded.of(ladder.tokenizer(card)(prefixed, truncation=True, max_length=length)["input_ids"])


def teacher(card: ModelCard, split: str, encoded: Encoded) -> distillation.Teacher:
    """What the whole model gives for a split: computed once, then read from the cache, mapped into memory."""
    backend = CPU()
    made_from = [card.member_sha256, data_card(card.healed.text).sha256, card.prefix, card.healed.max_length]
    made_from.append(machine.machine_type(backend.dtype))
    path = CACHE / "healing" / f"{card.name}-{split}-{digest(made_from)[:16]}.safetensors"
    if not sealed(path):
        whole = HiddenStates(ladder.load(card, max(card.rungs)), backend)
        found = distillation.teach(whole, encoded)
        with atomic(path) as temporary:
            spreads = np.array([found.spread, found.pooled_spread])
            save_file({"hidden": found.hidden, "spreads": spreads}, temporary)
            seal(path, temporary)
    with safe_open(path, "pt") as file:
        spread, pooled_spread = file.get_tensor("spreads").tolist()
        return distillation.Teacher(file.get_tensor("hidden").numpy(), encoded.offsets, spread, pooled_spread)


def cut(card: ModelCard) -> ModelCard:
    """The ladder before it was healed."""
    return card.model_copy(update={"healed": None})


def _recipe(card: ModelCard, layers: int) -> str:
    rung = card.healed.rungs[layers]
    text = data_card(card.healed.text).sha256
    recipe = card.healed.model_dump(exclude={"rungs"}) | {"epochs": rung.epochs, "learning_rate": rung.learning_rate}
    return digest([card.member_sha256, card.prefix, text, layers, recipe])


def _is_made(card: ModelCard, layers: int, rung: HealedRung) -> bool:
    try:
        with safe_open(rung.path, "np") as file:
            return (file.metadata() or {}).get(RECIPE) == _recipe(card, layers)
    except (OSError, SafetensorError):
        return False


def heal(name: str, layers: int) -> dict[str, float]:
    """Distil one rung of the model called ``name``, write its file, and return what the training took."""
    torch.set_num_threads(machine.THREADS)
    card = model_card(name)
    rung = card.healed.rungs[layers]
    recipe = Recipe(
        examples=None, epochs=rung.epochs, learning_rate=rung.learning_rate, batch_size=card.healed.batch_size,
        max_length=card.healed.max_length, test_items=None, objective="distillation",
    )  # fmt: skip
    encoded = inputs(card, load.splits(data_card(card.healed.text))["train"])
    student, began = ladder.load(cut(card), layers), time.process_time()
    objective = distillation.Distillation(teacher(card, "train", encoded))
    generator = np.random.default_rng([card.healed.seed, layers])
    log = loop.finetune(HiddenStates(student, CPU()), encoded, recipe, generator, objective)
    seconds = time.process_time() - began
    before = ladder.load(cut(card), layers)
    healed.write(before, student, rung.path, store.WORD_EMBEDDINGS, {RECIPE: _recipe(card, layers)})
    flops = 3 * log.tokens * ladder.flops_per_token(student, log.mean_length)
    ends = {"first_loss": float(np.mean(log.losses[:10])), "last_loss": float(np.mean(log.losses[-100:]))}
    took = {"steps": len(log.losses), "tokens": log.tokens, "tflop": flops / 1e12, "cpu_seconds": seconds}
    return {"epochs": rung.epochs, "learning_rate": rung.learning_rate, **took, **ends}


def judge(name: str, layers: int) -> pd.DataFrame:
    """A rung before and after: a row per state ("cut" and "healed", or "whole"), measure, language and register.

    On development texts: ``missed``, the mean share of the whole model's variance that a text's mean-pooled state
    misses (1 is what a constant would reach), and ``nearest``, how often the nearest other text of the same language,
    or of the same register, is that of the whole model ("" is the other one of the two). ``p_at_1``: retrieval among
    the parallel articles of RETRIEVAL. ``unseen``: was the language, the register, both or nothing ("") of it held out
    from the training text?
    """
    torch.set_num_threads(machine.THREADS)
    card = healed_card(name)
    rows = load.splits(data_card(card.healed.text))
    encoded = inputs(card, rows["dev"])
    whole = teacher(card, "dev", encoded)
    theirs = whole.pooled()
    frame = rows["dev"].to_pandas()[["language", "register"]]
    found, states = [], {"cut": cut(card), "healed": card} if card.healed_rung(layers) else {"whole": card}
    for state, one in states.items():
        encoder = ladder.load(one, layers)
        mine = distillation.pooled(HiddenStates(encoder, CPU()), encoded)
        found += [part.assign(state=state) for part in _likeness(frame, mine, theirs, whole.pooled_spread)]
        found.append(_retrieved(card, encoder).assign(state=state, measure="p_at_1"))
    table = pd.concat(found).assign(layers=layers)
    seen = {name: set(rows["train"][name]) for name in ("language", "register")}
    new = {name: ~table[name].isin({*values, ""}) for name, values in seen.items()}
    cases = [new["language"] & new["register"], new["language"], new["register"]]
    table["unseen"] = np.select(cases, ["both", "language", "register"], "")
    return table[["layers", "state", "measure", "language", "register", "unseen", "items", "value"]]


def _likeness(frame: pd.DataFrame, mine: np.ndarray, theirs: np.ndarray, spread: float) -> Iterator[pd.DataFrame]:
    missed = frame.assign(value=distillation.variance_unexplained(mine, theirs, spread), measure="missed")
    groups = missed.groupby(["measure", "language", "register"])["value"]
    yield groups.agg(value="mean", items="size").reset_index()
    for kind, other in (("language", "register"), ("register", "language")):
        for name, places in frame.groupby(kind).indices.items():
            same = distillation.neighbour_agreement(mine[places], theirs[places])
            row = {kind: name, other: "", "measure": "nearest", "value": same.mean(), "items": len(same)}
            yield pd.DataFrame([row])


def _retrieved(card: ModelCard, encoder: nn.Module) -> pd.DataFrame:
    task = tasks.of(data_card(RETRIEVAL))
    rows = load.splits(task.card)["test"]
    encoded = token_cache.anew(task, rows, card, RETRIEVAL_LENGTH)
    outputs = evaluate.run(Model(encoder, CPU(), task), encoded)
    scores = task.scores(task.predictions(rows, encoded, outputs))
    values = [(language, RETRIEVAL, score.items, score.value) for language, score in scores.items() if language != "en"]
    return pd.DataFrame(values, columns=["language", "register", "items", "value"])


def workers(jobs: int) -> ProcessPoolExecutor:
    """Processes that train and judge, and end with this one, however it ends: alone they would wait for ever."""
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _end_with_parent)


def _end_with_parent() -> None:
    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(name: str, jobs: int) -> None:
    """Heal the rungs of the model ``name`` that its card describes and its files do not hold; judge every rung.

    Prints the sha256 that the card has to state. Raises XlscaleError when the card is not of a healed model, or the
    record holds what was found about another one.
    """
    card = healed_card(name)
    known = read_json(RUNS) if RUNS.exists() else {"model": name, "runs": {}}
    if not (isinstance(known, dict) and isinstance(known.get("runs"), dict) and "model" in known):
        raise XlscaleError(f"{relative(RUNS)}: model, runs: expected both, as `make heal` writes them")
    if (other := known["model"]) != name:
        why = "which is not written over; XLSCALE_RESULTS names another folder"
        raise XlscaleError(f"{relative(RUNS)}: model: expected {name!r}, got {other!r}, {why}")
    for split, rows in load.splits(data_card(card.healed.text)).items():
        teacher(card, split, inputs(card, rows))
    runs = known["runs"]
    rungs = sorted(card.healed.rungs, reverse=True)  # the longest first
    missing = [layers for layers in rungs if not _is_made(card, layers, card.healed.rungs[layers])]
    with workers(jobs) as pool:
        started = {pool.submit(heal, name, layers): layers for layers in missing}
        for done in as_completed(started):
            layers, took = started[done], done.result()
            runs[str(layers)] = took
            said = {"model": name, "machine": machine.machine_type(machine.precision("auto")), "runs": runs}
            manifest.write(RESULTS, {RUNS.name: partial(write_json, value=said)})
            print(f"{layers} layers: {took['cpu_seconds']:.0f} CPU s, loss {took['last_loss']:.3f}", flush=True)
        if wrong := [_line(rung) for rung in card.healed.rungs.values() if sha256_file(rung.path) != rung.sha256]:
            raise XlscaleError(f"data_manifest/models/{name}.yaml: healed: expected the hashes of {'; '.join(wrong)}")
        judged = [max(card.rungs), *rungs]
        found = pd.concat(pool.map(judge, [name] * len(judged), judged))
    text = found.sort_values(found.columns[:-2].tolist()).to_csv(index=False, float_format="%.4f")
    manifest.write(RESULTS, {EVIDENCE.name: partial(write_text, text=text)})


def _line(rung: HealedRung) -> str:
    return f"{Path(rung.file).name}, sha256 {sha256_file(rung.path)}"

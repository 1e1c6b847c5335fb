"""How many tokens a training and an evaluation read: counted where data and tokenizer are here and ``count`` is true,
else by numbers that ``data_manifest/lengths.yaml`` states, which are marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, get_args

import numpy as np
from datasets import DatasetDict
from pydantic import Field

from xlscale import tasks
from xlscale.cards import catalogue
from xlscale.cards.catalogue import data_card, model_card
from xlscale.cards.schema import DataCard
from xlscale.cards.sources import Rows, Split
from xlscale.core.files import MANIFEST, XlscaleError, relative
from xlscale.core.strict import Name, Strict, parse, read_yaml
from xlscale.models import ladder
from xlscale.training import token_cache

PATH = MANIFEST / "lengths.yaml"
Basis = Literal["counted", "measured", "assumed", "longest"]  # from the surest on
BASES: tuple[Basis, ...] = get_args(Basis)
Tokens = Annotated[float, Field(gt=0, le=1e6)]
SAMPLE = 2_000  # rows that are tokenised of a split that is too large to be tokenised whole


class Part(Strict):
    """One split; what the fields mean stands in the file."""

    tokens: Tokens
    other: Tokens | None = None
    inputs: Tokens = 1
    rows: Rows | None = None
    candidates: Annotated[int, Field(ge=0)] = 0
    candidate_tokens: Tokens = 1


class Entry(Strict):
    """The splits of one data set."""

    basis: Literal["measured", "assumed"]
    train: Part | None = None
    dev: Part | None = None
    test: Part | None = None


class Vocabulary(Strict):
    """Tokens of a text beside those that XLM-R's vocabulary gives."""

    en: Tokens
    other: Tokens


class Lengths(Strict):
    """The whole file."""

    vocabularies: dict[str, Vocabulary]
    sets: dict[Name, Entry]


@dataclass(frozen=True)
class Work:
    """What is read once: rows, the inputs that are made of them, and their tokens; and how that is known."""

    rows: float
    inputs: float
    tokens: float
    basis: Basis

    @property
    def length(self) -> float:
        """Tokens of an input; 0 where there is none."""
        return self.tokens / self.inputs if self.inputs else 0.0

    def times(self, factor: float) -> Work:
        """The same, so many times."""
        return Work(factor * self.rows, factor * self.inputs, factor * self.tokens, self.basis)


def together(all_of: Sequence[Work]) -> Work:
    """All of them, known as surely as the least sure one."""
    basis = BASES[max((BASES.index(one.basis) for one in all_of), default=0)]
    return Work(*(sum(getattr(one, name) for one in all_of) for name in ("rows", "inputs", "tokens")), basis)


@cache
def stated() -> Lengths:
    """The file. Raises XlscaleError where it is broken, or names a set that has no card."""
    found = parse(Lengths, read_yaml(PATH), relative(PATH))
    for name in found.sets:
        try:
            _check(data_card(name), found.sets[name])
        except XlscaleError as error:
            raise XlscaleError(f"{relative(PATH)}: sets: {error}") from None
    if "default" not in found.vocabularies:
        raise XlscaleError(f"{relative(PATH)}: vocabularies: expected an entry 'default'")
    return found


def _check(card: DataCard, entry: Entry) -> None:
    """Raise XlscaleError where an entry has more candidates than its card rows, or fewer rows than languages."""
    for split in get_args(Split):
        if not (part := getattr(entry, split, None)):
            continue
        known = [rows for rows in card.splits.get(split, {}).values() if rows is not None]
        if not part.rows and known and part.candidates >= sum(known):
            raise XlscaleError(
                f"{card.name}: {split}: candidates: expected fewer than the {sum(known)} rows of the card"
            )
        if part.rows and part.rows < len(card.splits.get(split, ())):
            raise XlscaleError(f"{card.name}: {split}: rows: expected one for each language at least, got {part.rows}")


@cache
def training(name: str, model: str, examples: int, length: int, count: bool = True) -> Work:
    """One epoch over ``examples`` rows of a set (of a mixture: of each of its sets), all where it has fewer, cut to
    ``length`` tokens an input."""
    card = _card(name, count)
    if card.sets:
        return together([training(one, model, examples, length, count) for one in card.sets])
    if count and (rows := _here(name, model)):
        return _counted_training(card, rows, model, examples, length)
    part, basis = _part(card, "train")
    known = part.rows or sum(n or 0 for n in card.splits["train"].values()) or examples
    return _read(part, basis, model, {"en": min(examples, known)}, length)


@cache
def evaluation(name: str, model: str, split: Split, items: int, length: int, count: bool = True) -> Work:
    """One evaluation on at most ``items`` rows per language of a split, and what these need (of a mixture: of each of
    its sets)."""
    card = _card(name, count)
    if card.sets:
        return together([evaluation(one, model, split, items, length, count) for one in card.sets])
    if count and (rows := _here(name, model)):
        return _counted_evaluation(card, rows, model, split, items, length)
    part, basis = _part(card, split)
    languages = card.splits.get(split) or dict.fromkeys(["en"])
    if part.rows and None in languages.values():  # of one language as of another
        languages = dict.fromkeys(languages, part.rows // len(languages))
    queries = {code: rows or 0 for code, rows in languages.items()}
    if part.candidates and not part.rows:  # the card's rows are queries and candidates
        share = 1 - part.candidates / max(1, sum(queries.values()))
        queries = {code: round(rows * share) for code, rows in queries.items()}
    whole = card.family in ("retrieval", "mining")  # the English rows are the candidates
    chosen = {code: rows if whole and code == "en" else min(rows, items) for code, rows in queries.items()}
    return _read(part, basis, model, chosen, length)


def _card(name: str, count: bool) -> DataCard:
    """A card; unless what is here counts, without the numbers of rows that its lock has."""
    return catalogue.documented(name) if not count and name in catalogue.names(catalogue.SOURCES) else data_card(name)


def _read(part: Part, basis: Basis, model: str, rows: dict[str, int], length: int) -> Work:
    """What so many rows of each language, and the candidates beside them, come to."""
    vocabulary = _vocabulary(model)
    tokens = {
        code: part.inputs
        * min(length, part.tokens * vocabulary.en if code == "en" else (part.other or part.tokens) * vocabulary.other)
        for code in rows
    }
    total = sum(count * tokens[code] for code, count in rows.items())
    total += part.candidates * min(length, part.candidate_tokens * vocabulary.other)
    count = sum(rows.values())
    if basis == "measured" and vocabulary != stated().vocabularies["xlm-roberta"]:
        basis = "assumed"
    return Work(count, count * part.inputs + part.candidates, total, basis)


def _vocabulary(model: str) -> Vocabulary:
    known, card = stated().vocabularies, model_card(model)
    kind = card.architecture.model_type if card.architecture else "bert" if card.package else "default"
    return known.get(kind, known["default"])


def _part(card: DataCard, split: Split) -> tuple[Part, Basis]:
    """What the file says of a set's split, or of the set's that it is a variant of."""
    for name in filter(None, (card.name, card.variant_of)):
        entry = stated().sets.get(name)
        if entry and (part := getattr(entry, split)):
            return part, entry.basis
    return Part(tokens=1e6), "longest"


def _here(name: str, model: str) -> DatasetDict | None:
    """The splits of a set where they and the model's tokenizer are on this machine."""
    return _splits(name) if _tokenizes(model) else None


@cache
def _tokenizes(model: str) -> bool:
    try:
        return ladder.tokenizer(model_card(model)) is not None
    except XlscaleError:  # told by the commands that need it
        return False


@cache
def _splits(name: str) -> DatasetDict | None:
    try:
        return tasks.of(data_card(name)).rows()  # a lexicon keeps words apart
    except XlscaleError:
        return None


def _counted_training(card: DataCard, rows: DatasetDict, model: str, examples: int, length: int) -> Work:
    encoder = model_card(model)
    task, here = tasks.of(card, encoder), len(rows["train"])
    index = None if here <= token_cache.WHOLE else _spread(here)
    inputs = token_cache.encoded(task, rows, "train", encoder, length, index)
    share = min(examples, here) / (here if index is None else len(index))
    inputs = task.training_inputs(inputs, np.random.default_rng(0))  # of a context one window
    return Work(min(examples, here), len(inputs) * share, float(inputs.lengths.sum()) * share, "counted")


def _counted_evaluation(card: DataCard, rows: DatasetDict, model: str, split: Split, items: int, length: int) -> Work:
    encoder = model_card(model)
    task = tasks.of(card, encoder)
    chosen = task.test_rows(rows[split], items)
    index = chosen if len(rows[split]) <= token_cache.WHOLE else chosen[_spread(len(chosen))]
    inputs = token_cache.encoded(task, rows, split, encoder, length, index)
    share = len(chosen) / len(index)
    return Work(len(chosen), len(inputs) * share, float(inputs.lengths.sum()) * share, "counted")


def _spread(rows: int) -> np.ndarray:
    """At most SAMPLE indices of so many rows, evenly."""
    return np.unique(np.linspace(0, rows - 1, min(rows, SAMPLE)).astype(np.int64))

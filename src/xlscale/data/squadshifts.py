"""Extractive question answering in two domains, collected with one protocol (SQuADShifts, Miller et al. 2020).

Both sets have the same number of contexts and the same number of questions per context in every split, and are split
by article. They differ in more than domain: the same number of contexts comes from few long Wikipedia articles and from
many short groups of reviews.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlscale.cards import DataCard
from xlscale.data.bundles import Row, shuffled
from xlscale.data.similarity import NEAR, nearest
from xlscale.files import XlscaleError

MEMBERS = {"squad_wiki": "new_wiki_v1.0.json", "squad_amazon": "amazon_reviews_v1.0.json"}
FOLDER = "bigbench-1.0.0/bigbench/benchmark_tasks/squad_shifts"
SEED = "squadshifts 1"
CONTEXTS = {"dev": 200, "train": 1000}
QUESTIONS = 2  # per context


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from BIG-bench's source package; group = one context, article = its title.

    Articles are dealt to dev until it has enough contexts, all others are for training. Raises XlscaleError when
    there are too few contexts, or when the file's canary string is not the card's.
    """
    with tarfile.open(files[0]) as package:
        data = json.load(package.extractfile(f"{FOLDER}/{MEMBERS[card.name]}"))
    if data["canary"] != card.canary:
        raise XlscaleError(f"{card.name}: canary: expected {data['canary']!r} as in the package, got {card.canary!r}")
    articles = shuffled(data["data"], SEED, key=lambda article: article["title"])
    contexts = [context for article in articles for context in _contexts(article)]
    # Dev comes first in the order of articles; the article in which it fills up is used by neither split after that.
    dev = contexts[: CONTEXTS["dev"]]
    held = {context["article"] for context in dev}
    rest = [context for context in contexts if context["article"] not in held]
    near = nearest([c["context"] for c in rest], [c["context"] for c in dev])
    train = shuffled((c for c, share in zip(rest, near, strict=True) if share < NEAR), SEED, key=lambda c: c["group"])
    rows = []
    for split, chosen in (("dev", dev), ("train", train[: CONTEXTS["train"]])):
        if len(chosen) < CONTEXTS[split]:
            raise XlscaleError(f"{card.name}: {split}: expected {CONTEXTS[split]} contexts, got {len(chosen)}")
        rows += [_row(split, context, question) for context in chosen for question in context["questions"]]
    return rows


def _contexts(article: dict[str, Any]) -> list[dict[str, Any]]:
    """An article's contexts that have enough answerable questions, with ``QUESTIONS`` of them each."""
    contexts = []
    for number, paragraph in enumerate(article["paragraphs"]):
        context = paragraph["context"].rstrip()  # on the right only: offsets count from the left
        asked = (
            {"id": qa["id"], "text": " ".join(qa["question"].split()), "answers": _answers(context, qa["answers"])}
            for qa in paragraph["qas"]
        )
        questions = shuffled((q for q in asked if q["text"] and q["answers"]), SEED, key=lambda q: q["id"])
        if len(questions) >= QUESTIONS:
            contexts.append(
                {
                    "article": article["title"],
                    "group": f"{article['title']}/{number}",
                    "context": context,
                    "questions": questions[:QUESTIONS],
                }
            )
    return contexts


def _answers(context: str, answers: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """Distinct answers with their character offsets, in the order given.

    An answer is kept when it stands at its offset, or stands in the context exactly once. A question with an answer
    that is neither is not used: its other answers may be just as wrong.
    """
    found = []
    for answer in answers:
        text, start = answer["text"].strip(), answer["answer_start"]
        start += len(answer["text"]) - len(answer["text"].lstrip())
        if not text or context[start : start + len(text)] != text:
            if not text or context.count(text) != 1:
                return []
            start = context.index(text)
        if (text, start) not in found:
            found.append((text, start))
    return found


def _row(split: str, context: dict[str, Any], question: dict[str, Any]) -> Row:
    return {
        "split": split,
        "language": "en",
        "item": question["id"],
        "group": context["group"],
        "question": question["text"],
        "context": context["context"],
        "answers": [text for text, _ in question["answers"]],
        "answer_starts": [start for _, start in question["answers"]],
        "article": context["article"],
    }

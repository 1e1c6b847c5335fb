"""Extractive question answering in five domains, collected with one protocol (SQuADShifts, Miller et al. 2020).

All sets have the same number of contexts and the same number of questions per context in every split, and are split
by article. They differ in more than domain: the same number of contexts comes from few long Wikipedia articles, from
newspaper articles, from groups of reviews, and from comments that stand alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_manifest.builders import bigbench
from data_manifest.builders.exclusions import drop_near_duplicates
from data_manifest.builders.intermediate import from_earlier_sets
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.schema import Row, shuffled

MEMBERS = {
    "squad_amazon": "amazon_reviews_v1.0.json",
    "squad_nyt": "nyt_v1.0.json",
    "squad_reddit": "reddit_v1.0.json",
    "squad_v1": "squaddev_v1.1.json",
    "squad_wiki": "new_wiki_v1.0.json",
}
FOLDER = f"{bigbench.FOLDER}/squad_shifts"
SEED = "squadshifts 1"
CONTEXTS = {"dev": 200, "train": 1000}
QUESTIONS = 2  # per context


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from BIG-bench's source package; group = one context, article = its title.

    Articles are dealt to dev until it has enough contexts, all others are for training. What sets before this one hold
    is left out (see ``intermediate``). Raises XlscaleError when there are too few contexts, or when the file's canary
    string is not the card's.
    """
    data = bigbench.read(files[0], f"squad_shifts/{MEMBERS[card.name]}", card)["data"]
    articles = shuffled(_single(data), SEED, key=lambda article: article["title"])
    contexts = [context for article in articles for context in _contexts(article)]
    # Dev comes first in the order of articles; the article in which it fills up is used by neither split after that.
    dev = drop_near_duplicates(contexts, _texts, from_earlier_sets(card, "dev").texts)[: CONTEXTS["dev"]]
    tuned = {context["article"] for context in dev}
    rest = [context for context in contexts if context["article"] not in tuned]
    excluded = from_earlier_sets(card, "train").texts | {context["context"] for context in dev}
    train = shuffled(drop_near_duplicates(rest, _texts, excluded), SEED, key=lambda c: c["group"])
    rows = []
    for split, chosen in (("dev", dev), ("train", train[: CONTEXTS["train"]])):
        if len(chosen) < CONTEXTS[split]:
            raise XlscaleError(f"{card.name}: {split}: expected {CONTEXTS[split]} contexts, got {len(chosen)}")
        rows += [_row(split, context, question) for context in chosen for question in context["questions"]]
    return rows


def _texts(context: dict[str, Any]) -> list[str]:
    """What of a context is compared."""
    return [context["context"]]


def _single(articles: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The articles; where the file calls everything one article (Reddit), every context is one."""
    if len(articles) > 1:
        return list(articles)
    title, paragraphs = articles[0]["title"], articles[0]["paragraphs"]
    return [{"title": f"{title}/{number}", "paragraphs": [one]} for number, one in enumerate(paragraphs)]


def _contexts(article: dict[str, Any]) -> list[dict[str, Any]]:
    """An article's contexts that have enough answerable questions, with ``QUESTIONS`` of them each."""
    contexts = []
    for number, paragraph in enumerate(article["paragraphs"]):
        context = paragraph["context"].rstrip()  # on the right only: offsets count from the left
        candidates = (
            {"id": qa["id"], "text": " ".join(qa["question"].split()), "answers": _answers(context, qa["answers"])}
            for qa in paragraph["qas"]
        )
        questions = shuffled((q for q in candidates if q["text"] and q["answers"]), SEED, key=lambda q: q["id"])
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

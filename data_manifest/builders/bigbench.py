"""English sets from BIG-bench's source package: its reader, and the tasks that are a single ``task.json``.

Social IQa and wikiHow (multiple choice), VitaminC (classification). ``squadshifts``, ``next_passage`` and
``medical_reviews`` read the same package. None of the files is installed or run.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_manifest.builders.intermediate import ROWS, Item, multiple_choice, split
from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError
from xlscale.data.schema import Row, shuffled

FOLDER = "bigbench-1.0.0/bigbench/benchmark_tasks"
SEED = "bigbench 1"
# Card -> the folders of the tasks that it is made of.
TASKS = {
    "social_iqa": ["social_iqa"],
    "vitaminc": ["vitaminc_fact_verification"],
    "wikihow": ["goal_step_wikihow/goal_inference", "goal_step_wikihow/step_inference"],
}
# Social IQa has 1,954 questions, not all of them far from each other.
SIZES = {"social_iqa": {"dev": 200, "train": 1600}}
CHOICES = {"social_iqa": 3, "wikihow": 4}
# Chosen before the costly search for near-duplicates: VitaminC has 54,668 claims about 3,068 pages.
PAGES = 900
CLAIMS = 3  # of one page and verdict; its claims are made in pairs that differ in a word
TEMPLATE = re.compile(r"The most reasonable (goal|step) of '(.*)' is ")
CLAIM = re.compile(r"(?s)(.*)\nClaim: (.*)")


def read(path: Path, member: str, card: DataCard) -> dict[str, Any]:
    """A JSON file of the package, by its path in the folder of tasks; raises as ``read_all`` does."""
    return read_all(path, [member], card)[member]


def read_all(path: Path, members: Sequence[str], card: DataCard) -> dict[str, dict[str, Any]]:
    """JSON files of the package, by their paths in the folder of tasks; the package is unpacked once, and not to disk.

    Raises XlscaleError when one is not there, or when its canary string is not the card's.
    """
    wanted = {f"{FOLDER}/{member}": member for member in members}
    found: dict[str, dict[str, Any]] = {}
    with tarfile.open(path, "r|*") as package:
        for entry in package:
            if member := wanted.get(entry.name):
                found[member] = json.load(package.extractfile(entry))
            if len(found) == len(wanted):
                break
    for name, member in wanted.items():
        if member not in found:
            raise XlscaleError(f"{path.name}: expected a file {name}, found none")
        if (canary := found[member]["canary"]) != card.canary:
            raise XlscaleError(f"{card.name}: canary: expected {canary!r} as in the package, got {card.canary!r}")
    return found


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the set that ``card`` names; raises XlscaleError when there are too few, or for a wrong canary string."""
    rules = {"social_iqa": _social, "vitaminc": _claims, "wikihow": _wikihow}
    items = []
    for task in TASKS[card.name]:
        examples = read(files[0], f"{task}/task.json", card)["examples"]
        items += rules[card.name](task.rpartition("/")[2], examples)
    return split(card, items, SEED, rows=SIZES.get(card.name, ROWS), scarce=card.name in SIZES)


def _correct(example: dict[str, Any]) -> list[str]:
    return [choice for choice, score in example["target_scores"].items() if score]


def _social(task: str, examples: Sequence[dict[str, Any]]) -> Iterator[Item]:
    """A situation with a question and three answers; the few with two are left out."""
    for number, example in enumerate(examples):
        yield from _choice("social_iqa", f"{task}/{number}", f"{task}/{number}", example["input"], example)


def _wikihow(task: str, examples: Sequence[dict[str, Any]]) -> Iterator[Item]:
    """A step and four goals, or a goal and four steps.

    The sentence in which the package wraps them is the same for all, so only its changing part is kept, with what it
    is; otherwise any two short ones would count as near-duplicates.
    """
    kind = {"goal_inference": "Step", "step_inference": "Goal"}[task]
    for number, example in enumerate(examples):
        given = TEMPLATE.fullmatch(example["input"]).group(2)
        yield from _choice("wikihow", f"{task}/{number}", f"{task}/{given}", f"{kind}: {given}", example)


def _choice(name: str, item: str, group: str, text: str, example: dict[str, Any]) -> Iterator[Item]:
    choices = [" ".join(choice.split()) for choice in example["target_scores"]]
    if len(set(choices)) == len(choices) == CHOICES[name] and len(_correct(example)) == 1:
        correct = " ".join(_correct(example)[0].split())
        fields = multiple_choice(correct, [c for c in choices if c != correct], f"{SEED}\n{item}")
        yield Item(item, group, " ".join(text.split()), fields)


def _claims(task: str, examples: Sequence[dict[str, Any]]) -> Iterator[Item]:
    """A claim and a passage of Wikipedia, of pages sampled without regard to how many claims they have."""
    pages: dict[str, dict[str, list[Item]]] = {}
    for number, example in enumerate(examples):
        passage, claim = (" ".join(part.split()) for part in CLAIM.fullmatch(example["input"]).groups())
        page, verdict = passage.partition(": ")[0], _correct(example)[0]
        if "\ufffd" not in example["input"]:  # a character that was lost before the package was made
            item = Item(f"{task}/{number}", page, f"Claim: {claim}\nPassage: {passage}", {"label": verdict})
            pages.setdefault(page, {}).setdefault(verdict, []).append(item)
    for page in shuffled(pages, SEED)[:PAGES]:
        for of_verdict in pages[page].values():
            yield from shuffled(of_verdict, SEED, key=lambda item: item.name)[:CLAIMS]

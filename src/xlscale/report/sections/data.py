"""What ``00_data.ipynb`` says in the paper: data sets in numbers, baselines without a model, the search for leaks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from xlscale.cards.schema import DataCard
from xlscale.core.format import DASH, percent, slug
from xlscale.data import contamination
from xlscale.data.similarity import NEAR, WIDTH
from xlscale.report import labels
from xlscale.report.labels import title
from xlscale.report.numbers import Numbers
from xlscale.tasks.baselines import BASELINES

ROLES = ("target", "intermediate", "unlabelled", "lexicon")


def add_sets(numbers: Numbers, cards: Sequence[DataCard], facts: pd.DataFrame) -> None:
    """Add the table of data sets and the size of each; ``facts`` is that of ``samples.overview``."""
    cards = sorted(cards, key=lambda card: (ROLES.index(card.role), card.type or "", card.name))
    header = ["Data set", "Role", "Family", "Train", "Dev", "Test", "Languages", "Characters"]
    numbers.table("data_sets", header, [_add_set(numbers, card, facts.loc[card.name].reset_index()) for card in cards])
    numbers.count("data_sets", len(cards))


def _add_set(numbers: Numbers, card: DataCard, facts: pd.DataFrame) -> list[str]:
    """Add the numbers of one set, from its rows of ``facts``; returns its row of the table."""
    test = facts[(facts["split"] == "test") & facts["language"].isin(card.languages)]
    rows = {split: int(facts.loc[facts["split"] == split, "rows"].sum()) for split in ("train", "dev")}
    rows["test"] = int(test["rows"].sum())
    for key, value in (rows | {"languages": len(test)}).items():
        numbers.count(f"{card.name}_{key}", value)
    shown = test if len(test) else facts
    characters = _mean(shown, "mean_characters")
    numbers.add(f"{card.name}_characters", characters, f"{characters:.0f}")
    shares = ["same_as_english"] if len(test) else []
    shares += ["word_overlap", "character_overlap"] if card.family == "multiple_choice" else []
    for column in shares:
        numbers.add(f"{card.name}_{column}", _mean(shown, column), percent(_mean(shown, column)), "%")
    if card.family == "span_qa":
        train = facts[facts["split"] == "train"].iloc[0]
        numbers.count(f"{card.name}_contexts", train["groups"])
        numbers.count(f"{card.name}_articles", train["articles"])
    return [
        card.title,
        card.role if card.type is None else f"{card.role}, {card.type}",
        labels.family(card.family),
        *(f"{n:,}" if n else DASH for n in rows.values()),
        str(len(test) or DASH),
        f"{characters:.0f}",
    ]


def add_sources(numbers: Numbers, cards: Sequence[DataCard]) -> None:
    """Add the table ``data_sources``: whose each set is, and under which licence, as its card has it."""
    rows = [[card.title, card.citation, card.licence.split(" (")[0].split(":")[0]] for card in cards]
    numbers.table("data_sources", ["Data set", "Source", "Licence"], rows)
    numbers.count("data_sources", len(rows), "data sets")


def _mean(facts: pd.DataFrame, column: str) -> float:
    """The mean of a column over languages (and splits), weighted by their numbers of rows."""
    return float((facts[column] * facts["rows"]).sum() / facts["rows"].sum())


def add_proof(numbers: Numbers, proofs: pd.DataFrame) -> None:
    """Add what ``contamination.proof`` found, and its short form as a table, a row per split that must stay unseen."""
    numbers.count("leak_pairs", len(proofs))
    numbers.count("leaks", proofs["leak"].sum())
    numbers.count("leak_questions", proofs["shared_questions"].max() if len(proofs) else 0)
    numbers.add("leak_similarity", _largest(proofs), f"{_largest(proofs):.3f}")
    numbers.add("leak_threshold", NEAR, f"{NEAR:.2f}")
    numbers.count("leak_words", WIDTH)
    rows = []
    for row in contamination.summary(proofs).itertuples():
        found = [row.seen_splits, f"{row.seen_texts:,}", row.shared, f"{row.max_similarity:.3f}"]
        rows.append([_split(row.unseen), *found, _split(row.seen)])
    numbers.table("proof", ["Unseen", "Splits seen", "Texts seen", "Shared", "Largest similarity", "Of"], rows)


def _split(name: str) -> str:
    """What a split is called, whose name is that of its set, "/" and its own."""
    card, _, own = name.partition("/")
    return f"{title(card)}, {own}" if own else name


def add_baselines(numbers: Numbers, cards: Sequence[DataCard], summary: pd.DataFrame) -> None:
    """Add what each target gives without a model (``baselines.summary``): zero-shot means, and a table."""
    titles = {card.name: card.title for card in cards}
    rows = []
    for target, part in summary.groupby("target", sort=False):
        values = part.set_index("baseline")
        for name, row in values.iterrows():
            zero_shot = percent(row["zero_shot"], missing=DASH)
            numbers.add(f"baseline_{target}_{slug(name)}", float(row["zero_shot"]), zero_shot, unit="%")
        cells = [values["zero_shot"].get(name) for name in BASELINES]
        cells += [values[column].get(BASELINES[-1]) for column in ("english", "latin", "other")]
        rows.append([titles[target], *(percent(value, missing=DASH) for value in cells)])
    header = ["Target", "Chance", "Majority", "Shared strings", "n-grams"]
    header += ["n-grams, English", "Latin script", "Other scripts"]
    numbers.table("baselines", header, rows)


def verdict(checked: pd.DataFrame, proofs: pd.DataFrame) -> str:
    """One line: is every data set what its card says, and was nothing tested trained on?"""
    wrong = checked[checked["verdict"] != "agrees"]
    if wrong.empty and not proofs["leak"].any():
        return (
            f"AGREES: {len(checked)} data sets are what their cards say; "
            f"no leak in {len(proofs)} pairs of splits (largest similarity {_largest(proofs):.2f})."
        )
    return "DIFFERS: " + "; ".join([*wrong["verdict"], *contamination.lines(proofs)])


def _largest(proofs: pd.DataFrame) -> float:
    return float(proofs["max_similarity"].max()) if len(proofs) else 0.0

"""What ``00_data.ipynb`` hands to the paper: the data sets in numbers, baselines without a model, the leak proof."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from xlscale.cards.schema import DataCard
from xlscale.data import contamination
from xlscale.data.similarity import NEAR, WIDTH
from xlscale.report.typeset import Numbers
from xlscale.tasks.baselines import BASELINES

DASH = "–"


def add_sets(numbers: Numbers, cards: Sequence[DataCard], facts: pd.DataFrame) -> None:
    """Add the table of data sets and the size of each."""
    rows = []
    roles = ["target", "intermediate", "unlabelled", "lexicon"]
    for card in sorted(cards, key=lambda card: (roles.index(card.role), card.type or "", card.name)):
        of_set = facts.loc[card.name].reset_index()
        test = of_set[(of_set["split"] == "test") & of_set["language"].isin(card.languages)]
        size = {split: int(of_set.loc[of_set["split"] == split, "rows"].sum()) for split in ("train", "dev")}
        shown = test if len(test) else of_set
        characters = (shown["mean_characters"] * shown["rows"]).sum() / shown["rows"].sum()
        rows.append(
            [
                card.title,
                card.role if card.type is None else f"{card.role}, {card.type}",
                card.family.replace("_", " "),
                *(f"{n:,}" if n else DASH for n in (size["train"], size["dev"], int(test["rows"].sum()))),
                str(len(test) or DASH),
                f"{characters:.0f}",
            ]
        )
        for key, value in {
            "train": size["train"],
            "dev": size["dev"],
            "test": int(test["rows"].sum()),
            "languages": len(test),
        }.items():
            numbers.add(f"{card.name}_{key}", value, f"{value:,}")
        numbers.add(f"{card.name}_characters", float(characters), f"{characters:.0f}")
        if len(test):
            same = float((test["same_as_english"] * test["rows"]).sum() / test["rows"].sum())
            numbers.add(f"{card.name}_same_as_english", same, f"{100 * same:.1f}", unit="%")
        if card.family == "multiple_choice":
            for column in ("word_overlap", "character_overlap"):
                solved = float((shown[column] * shown["rows"]).sum() / shown["rows"].sum())
                numbers.add(f"{card.name}_{column}", solved, f"{100 * solved:.1f}", unit="%")
        if card.family == "span_qa":
            train = of_set[of_set["split"] == "train"].iloc[0]
            numbers.add(f"{card.name}_contexts", int(train["groups"]), f"{train['groups']:,}")
            numbers.add(f"{card.name}_articles", int(train["articles"]), f"{train['articles']:,.0f}")
    numbers.table(
        "data_sets",
        ["Data set", "Role", "Family", "Train", "Dev", "Test", "Languages", "Characters"],
        rows,
    )
    numbers.add("data_sets", len(cards), str(len(cards)))


def add_proof(numbers: Numbers, proofs: pd.DataFrame) -> None:
    """Add what ``leaks.find`` found, and its short form as a table, a row per split that must stay unseen."""
    numbers.add("leak_pairs", len(proofs), str(len(proofs)))
    numbers.add("leaks", int(proofs["leak"].sum()), str(int(proofs["leak"].sum())))
    asked = int(proofs["shared_questions"].max()) if len(proofs) else 0
    numbers.add("leak_questions", asked, str(asked))
    numbers.add("leak_similarity", _largest(proofs), f"{_largest(proofs):.3f}")
    numbers.add("leak_threshold", NEAR, f"{NEAR:.2f}")
    numbers.add("leak_words", WIDTH, str(WIDTH))
    rows = [
        [
            row.unseen,
            str(row.seen_splits),
            f"{row.seen_texts:,}",
            str(row.shared),
            f"{row.max_similarity:.3f}",
            row.seen,
        ]
        for row in contamination.summary(proofs).itertuples()
    ]
    numbers.table("proof", ["Unseen", "Splits seen", "Texts seen", "Shared", "Largest similarity", "Of"], rows)


def add_baselines(numbers: Numbers, cards: Sequence[DataCard], summary: pd.DataFrame) -> None:
    """Add what each target gives without a model (``baselines.summary``): zero-shot means, and a table."""
    titles = {card.name: card.title for card in cards}
    rows = []
    for target, part in summary.groupby("target", sort=False):
        values = part.set_index("baseline")
        for name, row in values.iterrows():
            key = f"baseline_{target}_{name.replace(' ', '_').replace('-', '_')}"
            numbers.add(key, float(row["zero_shot"]), _percent(row["zero_shot"]), unit="%")
        cells = [_percent(values["zero_shot"].get(name)) for name in BASELINES]
        others = [_percent(values[column].get(BASELINES[-1])) for column in ("english", "latin", "other")]
        rows.append([titles[target], *cells, *others])
    header = [
        "Target",
        "Chance",
        "Majority",
        "Shared strings",
        "n-grams",
        "n-grams, English",
        "Latin script",
        "Other scripts",
    ]
    numbers.table("baselines", header, rows)


def _percent(value: float | None) -> str:
    return DASH if value is None or pd.isna(value) else f"{100 * value:.1f}"


def verdict(checked: pd.DataFrame, proofs: pd.DataFrame) -> str:
    """One line: does everything agree with the cards, and is nothing leaked?"""
    wrong = checked[checked["verdict"] != "agrees"]
    if wrong.empty and not proofs["leak"].any():
        return (
            f"AGREES: {len(checked)} data sets are what their cards say; "
            f"no leak in {len(proofs)} pairs of splits (largest similarity {_largest(proofs):.2f})."
        )
    return "DIFFERS: " + "; ".join([*wrong["verdict"], *contamination.lines(proofs)])


def _largest(proofs: pd.DataFrame) -> float:
    return float(proofs["max_similarity"].max()) if len(proofs) else 0.0

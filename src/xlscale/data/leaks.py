"""Proof that nothing tested was ever trained on: no item, no group, no near-duplicate, over all cards together."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from xlscale.cards import DataCard
from xlscale.data import corpora
from xlscale.data.similarity import NEAR, nearest, normal

NAMES = ("item", "group", "article")  # columns whose values must not be shared
SHARED = ["shared_texts", *(f"shared_{name}s" for name in NAMES)]


def find(cards: Sequence[DataCard], threshold: float = NEAR) -> pd.DataFrame:
    """Compare every split that is trained or tuned on with every split that must stay unseen by it.

    Those are the train and dev splits of all cards against the test splits of all cards, and the train split of each
    card against its dev split. Of a translated test item its English original is compared as well.

    Returns a row per pair: seen, unseen ("<data set>/<split>"), shared_texts (equal but for layout and case),
    shared_items, shared_groups, shared_articles (equal names, of whatever language), max_similarity (containment of
    word shingles, see ``similarity``), nearest (the item of ``seen`` that it belongs to), leak (True where anything
    is shared, or where max_similarity reaches the threshold).
    """
    splits = [
        (card, split, part)
        for card in cards
        for split, part in corpora.table(card).to_pandas().groupby("split", sort=False)
    ]
    proofs = []
    for card, split, seen in splits:
        for other, unseen_split, unseen in splits:
            tuned = card.name == other.name and (split, unseen_split) == ("train", "dev")
            tested = split != "test" and unseen_split == "test"
            if tuned or tested:
                names = {"seen": f"{card.name}/{split}", "unseen": f"{other.name}/{unseen_split}"}
                proofs.append(names | _compare(card, seen, other, unseen, threshold))
    return pd.DataFrame(proofs, columns=["seen", "unseen", *SHARED, "max_similarity", "nearest", "leak"]).astype(
        {"leak": bool, "max_similarity": float}
    )


def _compare(card: DataCard, seen: pd.DataFrame, other: DataCard, unseen: pd.DataFrame, threshold: float) -> dict:
    left, right = _texts(card, seen), _texts(other, unseen)
    shared = {"shared_texts": len(set(left.map(normal)) & set(right.map(normal)))}
    for name in NAMES:
        both = name in seen and name in unseen
        shared[f"shared_{name}s"] = len(set(seen[name]) & set(unseen[name])) if both else 0
    near = nearest(left.tolist(), right.tolist())
    similarity = float(near.max(initial=0.0))
    return shared | {
        "max_similarity": similarity,
        "nearest": str(left.index[near.argmax()]) if similarity else "",
        "leak": similarity >= threshold or any(shared.values()),
    }


def _texts(card: DataCard, part: pd.DataFrame) -> pd.Series:
    """Distinct texts of a split, and the English originals of translated ones, indexed by item."""
    rows = part.set_index("item")
    texts = [rows[column].dropna() for column in (corpora.TEXT[card.family], "original") if column in rows]
    return pd.concat(texts).drop_duplicates()

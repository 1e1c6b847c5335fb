"""Was anything tested ever trained on? No shared item or group, and no near-duplicate by runs of words, over all cards.

Such runs find copies and quotations. They do not find paraphrases, nor templates whose fixed parts are shorter.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from xlscale.cards import DataCard
from xlscale.data import corpora
from xlscale.data.similarity import NEAR, WIDTH, nearest, normal

SHORT = 2 * WIDTH  # words of a choice from which on shared runs of them are looked for
NAMES = ("item", "group", "article")  # columns whose values must not be shared
SHARED = ["shared_texts", *(f"shared_{name}s" for name in NAMES)]


def find(cards: Sequence[DataCard], threshold: float = NEAR) -> pd.DataFrame:
    """Compare every split that is trained or tuned on with every split that must stay unseen by it.

    Those are the train and dev splits of all cards against the test splits of all cards, and the train splits of all
    cards against the dev splits of all cards. Of a translated test item its English original is compared as well, and
    a choice, right or wrong, counts as a text. A question, and a choice of fewer than SHORT words, is compared by
    equality only: in so few words a shared run means little. Those that two sets share are counted and are no leak, as
    each belongs to a context or text, and these are compared; one that is an unseen text is a leak.

    Returns a row per pair: seen, unseen ("<data set>/<split>"), shared_texts (equal but for layout and case),
    shared_items, shared_groups, shared_articles (equal names, of whatever language), shared_questions, shared_choices
    (short ones), max_similarity (containment of word shingles, see ``similarity``), nearest (the item of ``seen`` that
    it belongs to), leak (True where anything but a question or a short choice is shared, or where max_similarity
    reaches the threshold).
    """
    splits = [
        (card, split, part)
        for card in cards
        for split, part in corpora.table(card).to_pandas().groupby("split", sort=False)
    ]
    proofs = []
    for card, split, seen in splits:
        for other, unseen_split, unseen in splits:
            tuned = (split, unseen_split) == ("train", "dev")
            tested = split != "test" and unseen_split == "test"
            if tuned or tested:
                names = {"seen": f"{card.name}/{split}", "unseen": f"{other.name}/{unseen_split}"}
                proofs.append(names | _compare(card, seen, other, unseen, threshold))
    columns = ["seen", "unseen", *SHARED, "shared_questions", "shared_choices", "max_similarity", "nearest", "leak"]
    return pd.DataFrame(proofs, columns=columns).astype({"leak": bool, "max_similarity": float})


def _compare(card: DataCard, seen: pd.DataFrame, other: DataCard, unseen: pd.DataFrame, threshold: float) -> dict:
    left, right = _texts(card, seen), _texts(other, unseen)
    asked, offered, told = _questions(seen), _short_choices(seen), set(right.map(normal))
    shared = {"shared_texts": len((set(left.map(normal)) | asked | offered) & told)}
    for name in NAMES:
        both = name in seen and name in unseen
        shared[f"shared_{name}s"] = len(set(seen[name]) & set(unseen[name])) if both else 0
    near = nearest(left.tolist(), right.tolist())
    similarity = float(near.max(initial=0.0))
    leak = similarity >= threshold or any(shared.values())
    return shared | {
        "shared_questions": len(asked & _questions(unseen)),
        "shared_choices": len(offered & _short_choices(unseen)),
        "max_similarity": similarity,
        "nearest": str(left.index[near.argmax()]) if similarity else "",
        "leak": leak,
    }


def _questions(part: pd.DataFrame) -> set[str]:
    """The questions of a split, equal for those that differ in layout and case only."""
    return set(part["question"].map(normal)) if "question" in part else set()


def _choices(part: pd.DataFrame, short: bool) -> pd.Series:
    """The choices of a split with fewer than SHORT words, or the other ones, indexed by item."""
    choices = part.set_index("item")["choices"].explode()
    return choices[(choices.map(normal).str.count(" ") + 1 < SHORT) == short]


def _short_choices(part: pd.DataFrame) -> set[str]:
    """The short choices of a split, equal for those that differ in layout and case only."""
    return set(_choices(part, short=True).map(normal)) if "choices" in part else set()


def _texts(card: DataCard, part: pd.DataFrame) -> pd.Series:
    """Distinct texts and longer choices of a split, and the English originals of translated ones, indexed by item."""
    rows = part.set_index("item")
    texts = [rows[column].dropna() for column in (corpora.TEXT[card.family], "original") if column in rows]
    texts += [_choices(part, short=False)] if "choices" in part else []
    return pd.concat(texts).drop_duplicates()

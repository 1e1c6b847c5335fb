"""Was anything tested ever trained on? The comparison of what is seen with what is tested, over all cards.

Shared items and groups are found, and near-duplicates by runs of words. Such runs find copies and quotations. They do
not find paraphrases, nor templates whose fixed parts are shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from scipy.sparse import csr_matrix

from xlscale.cards.schema import DataCard
from xlscale.core import cache
from xlscale.data import load, schema
from xlscale.data.similarity import NEAR, WIDTH, contained, incidence, normal, shingles

SHORT = 2 * WIDTH  # words of a choice, or of a name in a lexicon, from which on shared runs of them are looked for
NAMES = ("item", "group", "article", "page")  # whose values must not be shared
SHARED = ["shared_texts", *(f"shared_{name}s" for name in NAMES)]


class Part(NamedTuple):
    """A split of a data set, made ready once to be compared with many."""

    name: str  # "<data set>/<split>"
    split: str
    names: dict[str, frozenset[str]]  # NAMES -> values
    items: list[str]  # of the texts
    texts: frozenset[str]  # normal forms of the texts
    questions: frozenset[str]  # of the questions
    choices: frozenset[str]  # of the short choices and names
    shingles: csr_matrix  # which text has which shingle


def find(cards: Sequence[DataCard], threshold: float = NEAR) -> pd.DataFrame:
    """Compare every split that is trained or tuned on with every split that must stay unseen by it.

    Those are the train and dev splits of all cards, unlabelled text and lexicons among them, against the test splits of
    all cards, and the train splits of all cards against the dev splits of all cards. Of a translated test item its
    English original is compared as well, and a choice, correct or not, counts as a text, as do both names of a pair in
    a lexicon. A question, and a choice or name of fewer than SHORT words, is compared by equality only: in so few words
    a shared run means little. Those that two sets share are counted and are no leak, as each belongs to a context or
    text, and these are compared; one that is an unseen text is a leak.

    Returns a row per pair: seen, unseen ("<data set>/<split>"), seen_texts (distinct ones that were compared),
    shared_texts (equal but for layout and case), shared_items, shared_groups, shared_articles (equal names, of whatever
    language), shared_pages (what stands before "#" in the names of items), shared_questions, shared_choices (short
    ones), max_similarity (containment of word shingles, see ``similarity``), nearest (the item of ``seen`` that it
    belongs to), leak (True where anything but a question or a short choice is shared, or where max_similarity reaches
    the threshold).
    """
    known: dict[str, int] = {}
    parts = [
        _part(card, split, rows, known)
        for card in cards
        for split, rows in load.table(card).to_pandas().groupby("split", sort=False)
    ]
    for part in parts:
        part.shingles.resize(part.shingles.shape[0], len(known))
    pairs = [
        (seen, unseen)
        for seen in parts
        for unseen in parts
        if (seen.split, unseen.split) == ("train", "dev") or (seen.split != "test" and unseen.split == "test")
    ]
    proofs = [_compare(seen, unseen, threshold) for seen, unseen in pairs]
    counts = ["seen_texts", *SHARED, "shared_questions", "shared_choices"]
    columns = ["seen", "unseen", *counts, "max_similarity", "nearest", "leak"]
    return pd.DataFrame(proofs, columns=columns).astype({"leak": bool, "max_similarity": float})


def proof(cards: Sequence[DataCard]) -> pd.DataFrame:
    """What ``find`` finds, kept on disk for as long as no file and none of the code has changed."""
    return cache.table("contamination", [[card.name, card.sha256] for card in cards], lambda: find(cards))


def summary(proofs: pd.DataFrame) -> pd.DataFrame:
    """The short form of ``find``: a row per unseen split, over all that is seen before it.

    Columns: unseen, seen_splits and seen_texts (that it was compared with), shared (texts, items, groups, articles and
    pages, added up; 0 without a leak), max_similarity, seen and nearest (the split and item that it belongs to; "" if
    nothing is alike), leaks (pairs that leak).
    """
    rows = []
    for unseen, part in proofs.groupby("unseen", sort=False):
        nearest = part.loc[part["max_similarity"].idxmax()]
        similarity, seen = float(nearest["max_similarity"]), nearest["seen"] if nearest["max_similarity"] else ""
        texts, shared, leaks = (int(part[names].to_numpy().sum()) for names in ("seen_texts", SHARED, "leak"))
        rows.append((unseen, len(part), texts, shared, similarity, seen, nearest["nearest"], leaks))
    columns = ["unseen", "seen_splits", "seen_texts", "shared", "max_similarity", "seen", "nearest", "leaks"]
    return pd.DataFrame(rows, columns=columns)


def lines(proofs: pd.DataFrame) -> list[str]:
    """One line per pair that leaks: which, and what of it."""
    found = []
    for row in proofs[proofs["leak"]].to_dict("records"):
        shared = [f"{row[name]} {name.replace('_', ' ')}" for name in SHARED if row[name]]
        if row["nearest"]:
            shared.append(f"similarity {row['max_similarity']:.2f} at {row['nearest']!r}")
        found.append(f"{row['seen']} leaks into {row['unseen']}: {', '.join(shared)}")
    return found


def _part(card: DataCard, split: str, rows: pd.DataFrame, known: dict[str, int]) -> Part:
    """Make a split ready; ``known`` numbers the shingles of all splits and grows."""
    texts = _texts(card, rows)
    names = {name: frozenset(rows[name]) for name in NAMES if name in rows}
    # A symbol may be a "#" itself: no page.
    names["page"] = frozenset(item.partition("#")[0] for item in rows["item"] if item.find("#") > 0)
    return Part(
        name=f"{card.name}/{split}",
        split=split,
        names=names,
        items=texts.index.tolist(),
        texts=frozenset(texts.map(normal)),
        questions=frozenset(rows["question"].map(normal)) if "question" in rows else frozenset(),
        choices=frozenset(_choices(rows, short=True).map(normal)),
        shingles=incidence(map(shingles, texts), known),
    )


def _compare(seen: Part, unseen: Part, threshold: float) -> dict:
    shared = {"shared_texts": len((seen.texts | seen.questions | seen.choices) & unseen.texts)}
    for name in NAMES:
        shared[f"shared_{name}s"] = len(seen.names.get(name, frozenset()) & unseen.names.get(name, frozenset()))
    similarity, index = _nearest(seen.shingles, unseen.shingles)
    return {
        "seen": seen.name,
        "unseen": unseen.name,
        "seen_texts": len(seen.items) + len(seen.choices),
        **shared,
        "shared_questions": len(seen.questions & unseen.questions),
        "shared_choices": len(seen.choices & unseen.choices),
        "max_similarity": similarity,
        "nearest": seen.items[index] if similarity else "",
        "leak": similarity >= threshold or any(shared.values()),
    }


def _nearest(seen: csr_matrix, unseen: csr_matrix) -> tuple[float, int]:
    """The largest containment (see ``similarity``) of any two texts, and the index of the one in ``seen``."""
    shared = contained(seen, unseen)
    if not shared.nnz:
        return 0.0, 0
    largest = shared.data.max()
    return float(largest), int(shared.row[shared.data == largest].min())  # the first of those that are equally near


def _choices(part: pd.DataFrame, short: bool) -> pd.Series:
    """The choices, or names in a lexicon, of fewer than SHORT words, or the other ones, indexed by item."""
    rows = part.set_index("item")
    columns = [rows["choices"].explode()] if "choices" in rows else []
    columns += [rows["text"], rows["source"]] if "source" in rows else []
    choices = pd.concat(columns).drop_duplicates() if columns else pd.Series(dtype=object)
    return choices[(choices.map(normal).str.count(" ") + 1 < SHORT) == short] if len(choices) else choices


def _texts(card: DataCard, part: pd.DataFrame) -> pd.Series:
    """Distinct texts and longer choices or names of a split, and the English originals of translated ones, by item."""
    rows = part.set_index("item")
    columns = () if "source" in rows else (schema.TEXT[card.family], "original")
    texts = [rows[column].dropna() for column in columns if column in rows]
    return pd.concat([*texts, _choices(part, short=False)]).drop_duplicates()

"""Was anything tested ever trained on? No shared item or group, and no near-duplicate by runs of words, over all cards.

Such runs find copies and quotations. They do not find paraphrases, nor templates whose fixed parts are shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from xlscale.cards.schema import DataCard
from xlscale.core import cache
from xlscale.data import load, schema
from xlscale.data.similarity import NEAR, WIDTH, normal, shingles

SHORT = 2 * WIDTH  # words of a choice, or of a name in a lexicon, from which on shared runs of them are looked for
NAMES = ("item", "group", "article", "page")  # whose values must not be shared
SHARED = ["shared_texts", *(f"shared_{name}s" for name in NAMES)]


class Part(NamedTuple):
    """A split of a data set, made ready once to be compared with many."""

    name: str  # "<data set>/<split>"
    split: str
    names: dict[str, frozenset[str]]  # NAMES -> values
    items: list[str]  # of the texts
    told: frozenset[str]  # normal forms of the texts
    asked: frozenset[str]  # of the questions
    offered: frozenset[str]  # of the short choices and names
    runs: csr_matrix  # which text (row) holds which shingle (column), as 0 and 1


def find(cards: Sequence[DataCard], threshold: float = NEAR) -> pd.DataFrame:
    """Compare every split that is trained or tuned on with every split that must stay unseen by it.

    Those are the train and dev splits of all cards, unlabelled text and lexicons among them, against the test splits of
    all cards, and the train splits of all cards against the dev splits of all cards. Of a translated test item its
    English original is compared as well, and a choice, right or wrong, counts as a text, as do both names of a pair in
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
    pairs = [
        (seen, unseen)
        for seen in parts
        for unseen in parts
        if (seen.split, unseen.split) == ("train", "dev") or (seen.split != "test" and unseen.split == "test")
    ]
    proofs = [_compare(seen, unseen, len(known), threshold) for seen, unseen in pairs]
    counts = ["seen_texts", *SHARED, "shared_questions", "shared_choices"]
    columns = ["seen", "unseen", *counts, "max_similarity", "nearest", "leak"]
    return pd.DataFrame(proofs, columns=columns).astype({"leak": bool, "max_similarity": float})


def proof(cards: Sequence[DataCard]) -> pd.DataFrame:
    """What ``find`` finds, kept on disk for as long as no file and none of the code has changed."""
    files, code = [[card.name, card.sha256] for card in cards], ["data.leaks", "data.similarity", "data.corpora"]
    return cache.table("leaks", files, code, lambda: find(cards))


def summary(proofs: pd.DataFrame) -> pd.DataFrame:
    """The short form of ``find``: a row per unseen split, over all that is seen before it.

    Columns: unseen, seen_splits and seen_texts (that it was compared with), shared (texts, items, groups, articles and
    pages, added up; 0 without a leak), max_similarity, seen and nearest (the split and item that it belongs to; "" if
    nothing is alike), leaks (pairs that leak).
    """
    rows = []
    for unseen, part in proofs.groupby("unseen", sort=False):
        nearest = part.loc[part["max_similarity"].idxmax()]
        rows.append(
            {
                "unseen": unseen,
                "seen_splits": len(part),
                "seen_texts": int(part["seen_texts"].sum()),
                "shared": int(part[SHARED].sum().sum()),
                "max_similarity": float(nearest["max_similarity"]),
                "seen": nearest["seen"] if nearest["max_similarity"] else "",
                "nearest": nearest["nearest"],
                "leaks": int(part["leak"].sum()),
            }
        )
    columns = ["unseen", "seen_splits", "seen_texts", "shared", "max_similarity", "seen", "nearest", "leaks"]
    return pd.DataFrame(rows, columns=columns)


def lines(proofs: pd.DataFrame) -> list[str]:
    """One line per pair that leaks: which, and what of it."""
    found = []
    for row in proofs[proofs["leak"]].to_dict("records"):
        shared = [f"{row[name]} {name.replace('_', ' ')}" for name in SHARED if row[name]]
        near = f"similarity {row['max_similarity']:.2f} at {row['nearest']!r}"
        found.append(f"{row['seen']} leaks into {row['unseen']}: {', '.join([*shared, near])}")
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
        told=frozenset(texts.map(normal)),
        asked=_questions(rows),
        offered=_short_choices(rows),
        runs=_runs(texts, known),
    )


def _runs(texts: Iterable[str], known: dict[str, int]) -> csr_matrix:
    rows = [[known.setdefault(run, len(known)) for run in shingles(text)] for text in texts]
    starts = np.cumsum([0, *map(len, rows)])
    indices = np.fromiter((run for row in rows for run in row), dtype=np.int64, count=starts[-1])
    return csr_matrix((np.ones(len(indices), dtype=np.float32), indices, starts), shape=(len(rows), len(known)))


def _compare(seen: Part, unseen: Part, runs: int, threshold: float) -> dict:
    shared = {"shared_texts": len((seen.told | seen.asked | seen.offered) & unseen.told)}
    for name in NAMES:
        shared[f"shared_{name}s"] = len(seen.names.get(name, frozenset()) & unseen.names.get(name, frozenset()))
    similarity, place = _nearest(seen.runs, unseen.runs, runs)
    return {
        "seen": seen.name,
        "unseen": unseen.name,
        "seen_texts": len(seen.items) + len(seen.offered),
        **shared,
        "shared_questions": len(seen.asked & unseen.asked),
        "shared_choices": len(seen.offered & unseen.offered),
        "max_similarity": similarity,
        "nearest": seen.items[place] if similarity else "",
        "leak": similarity >= threshold or any(shared.values()),
    }


def _nearest(left: csr_matrix, right: csr_matrix, runs: int) -> tuple[float, int]:
    """The largest containment (see ``similarity``) of any two texts, and the place of the one in ``left``."""
    x, y = (csr_matrix((part.data, part.indices, part.indptr), shape=(part.shape[0], runs)) for part in (left, right))
    shared = (x @ y.T).tocoo()
    if not shared.nnz:
        return 0.0, 0
    share = shared.data / np.minimum(np.diff(x.indptr)[shared.row], np.diff(y.indptr)[shared.col])
    # The first text of those that are equally near.
    place = int(shared.row[share == share.max()].min())
    return float(share.max()), place


def _questions(part: pd.DataFrame) -> frozenset[str]:
    """The questions of a split, equal for those that differ in layout and case only."""
    return frozenset(part["question"].map(normal)) if "question" in part else frozenset()


def _choices(part: pd.DataFrame, short: bool) -> pd.Series:
    """The choices, or names in a lexicon, of fewer than SHORT words, or the other ones, indexed by item."""
    rows = part.set_index("item")
    told = [rows["choices"].explode()] if "choices" in rows else []
    told += [rows["text"], rows["source"]] if "source" in rows else []
    choices = pd.concat(told).drop_duplicates() if told else pd.Series(dtype=object)
    return choices[(choices.map(normal).str.count(" ") + 1 < SHORT) == short] if len(choices) else choices


def _short_choices(part: pd.DataFrame) -> frozenset[str]:
    """The short choices and names of a split, equal for those that differ in layout and case only."""
    return frozenset(_choices(part, short=True).map(normal))


def _texts(card: DataCard, part: pd.DataFrame) -> pd.Series:
    """Distinct texts and longer choices or names of a split, and the English originals of translated ones, by item."""
    rows = part.set_index("item")
    columns = () if "source" in rows else (schema.TEXT[card.family], "original")
    texts = [rows[column].dropna() for column in columns if column in rows]
    return pd.concat([*texts, _choices(part, short=False)]).drop_duplicates()

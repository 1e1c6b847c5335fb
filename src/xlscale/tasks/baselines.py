"""What a target task's test items give away without a pretrained model: chance, majority, shared strings, n-grams.

Transfer is what a model scores above these. Each baseline answers the items of a cell with the whole test split, learns
from the English training split alone, and is scored by the task's own ``scores``. Nothing here sees a label of a test
item. Texts are not cut to a number of tokens, as they are for a model.

``chance``: what guessing scores on average. ``majority``: the most frequent label or index of the correct choice in the
training split; in tagging that no word is marked. Neither is defined for every family: retrieval has no majority, and
span F1 no chance.

``shared strings``: words in Latin script, numbers and punctuation that are in English texts of the set too: in those
that the classifier or tagger learns from, among the candidates of a retrieval, anywhere in a multiple-choice set. They
need no knowledge of another language: names, formats, commands, and also words that are spelt alike by accident.

``character n-grams``: runs of one to five characters within words. Within, because what crosses languages is names,
stems and cognates, whereas a run over a word boundary holds the order of English words; a text without spaces counts as
one word, so that such scripts lose nothing.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from xlscale import tasks
from xlscale.cards.schema import DataCard
from xlscale.core import cache, registry
from xlscale.core.files import XlscaleError
from xlscale.data import load, overlap, words
from xlscale.metrics import spans
from xlscale.metrics.classification import accuracy
from xlscale.metrics.predictions import zero_shot_mean

CHANCE, MAJORITY, STRINGS, NGRAMS = BASELINES = ("chance", "majority", "shared strings", "character n-grams")
LONGEST = 5  # characters of a run
GRID = (0.01, 0.1, 1.0)  # inverse strength of regularisation, chosen by the score on the English dev split
COLUMNS = ["target", "baseline", "language", "n", "value", "token_accuracy", "latin"]

Answers = dict[str, Sequence[str]]  # baseline -> predictions, in the order of the items


def table(card: DataCard) -> pd.DataFrame:
    """Score every baseline on the test split of a target: a row per baseline and language.

    Computed once, then kept on disk for as long as data, code and libraries are the same.

    Columns: target, baseline (of BASELINES), language, n (items), value (of the card's metric, 0 to 1), token_accuracy
    (tagging; NaN elsewhere), latin (share of the items' letters that are Latin, 0 to 1). English is no language of a
    retrieval task, whose candidates it holds.

    Raises XlscaleError for a family without baselines, a card without the splits that it takes, and what
    ``load.table`` raises.
    """
    if card.family not in ANSWERING:
        raise XlscaleError(f"{card.file}: family: expected one of {', '.join(ANSWERING)}, got {card.family!r}")
    needed = ["test"] if card.family == "retrieval" else ["train", "dev"]
    if missing := [split for split in needed if "en" not in card.splits.get(split, {})]:
        raise XlscaleError(f"{card.file}: splits: expected English rows in {missing[0]}, found none")
    if not {*card.splits.get("test", ())} - ({"en"} if card.family == "retrieval" else set()):
        raise XlscaleError(f"{card.file}: splits: expected test, got only {', '.join(card.splits)}")
    parts = [registry.module("task", card.family)]
    return cache.table(f"baselines-{card.name}", [card.sha256, card.labels], lambda: _score(card), parts=parts)


def _score(card: DataCard) -> pd.DataFrame:
    rows = load.table(card).to_pandas()
    items = rows[(rows["split"] == "test") & ((rows["language"] != "en") | (card.family != "retrieval"))]
    items = items.reset_index(drop=True)
    latin = {language: _latin_share(part) for language, part in items.groupby("language")}
    gold, answers = ANSWERING[card.family](card, rows, items)
    found = [(CHANCE, language, n, value, np.nan) for language, n, value in _chance(card, items)]
    for baseline, predicted in answers.items():
        for language, score in _scores(card, items, gold, predicted).items():
            found.append((baseline, language, score.items, score.value, score.others.get("token_accuracy", np.nan)))
    lines = [(card.name, *line, latin[line[1]]) for line in found]
    return pd.DataFrame(lines, columns=COLUMNS).astype({"token_accuracy": float})


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Means of ``table`` (or of several, one below another), a row per target and baseline in their order.

    Columns: target, baseline, zero_shot (``predictions.zero_shot_mean``, as for models), english, latin and other (mean
    over the languages besides English whose letters are mostly Latin, and over the rest); 0 to 1, NaN where there is no
    such language.
    """
    lines = []
    for (target, baseline), part in frame.groupby(["target", "baseline"], sort=False):
        values = part.set_index("language")["value"]
        abroad = part[part["language"] != "en"]
        in_latin = abroad["latin"] > 0.5
        english = values.get("en", np.nan)
        scripts = [abroad.loc[chosen, "value"].mean() for chosen in (in_latin, ~in_latin)]
        lines.append((target, baseline, zero_shot_mean(values.to_dict()), english, *scripts))
    return pd.DataFrame(lines, columns=["target", "baseline", "zero_shot", "english", "latin", "other"])


def _scores(card: DataCard, items: pd.DataFrame, gold: Sequence[str], predicted: Sequence[str]) -> dict:
    task, frame = tasks.of(card), items[["language", "item"]].assign(gold=list(gold), prediction=list(predicted), cut=0)
    frame["correct"] = (frame["gold"] == frame["prediction"]).astype(np.float32)
    if card.family == "tagging":
        frame = frame.assign(**task.counts(frame["prediction"].str.split(), frame["gold"].str.split()))
    return task.scores(frame)


def _chance(card: DataCard, items: pd.DataFrame) -> list[tuple[str, int, float]]:
    """(language, items, what guessing scores on average) of every language; none for span F1."""
    if card.family == "tagging":
        return []
    if card.family == "multiple_choice":
        each = 1 / items["choices"].str.len()
    else:
        each = 1 / (len(card.labels) if card.family == "classification" else card.splits["test"]["en"])
    parts = items.assign(each=each).groupby("language")["each"]
    return [(language, len(part), float(part.mean())) for language, part in parts]


@lru_cache(maxsize=1 << 12)
def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN ")


def _latin_share(rows: pd.DataFrame) -> float:
    texts = [*rows["text"], *(choice for choices in rows.get("choices", ()) for choice in choices)]
    letters = Counter(_plain("".join(texts)))
    counted = {letter: n for letter, n in letters.items() if letter.isalpha()}
    return sum(n for letter, n in counted.items() if _is_latin(letter)) / (sum(counted.values()) or 1)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@lru_cache(maxsize=1 << 16)
def _copied(word: str) -> bool:
    """Whether a word has no letter of another script than Latin."""
    return all(_is_latin(character) for character in word if character.isalpha())


def strings(text: str) -> tuple[str, ...]:
    """The words of a text in Latin script, its numbers and marks of punctuation, NFKC and case-folded, in order."""
    return tuple(string for part in _plain(text).split() for string in _strings(part))


@lru_cache(maxsize=1 << 16)
def _strings(part: str) -> list[str]:
    """``strings`` of what stands between white space."""
    return [part[a:b] for a, b in words.split(part) if _copied(part[a:b])]


def _string_vectors() -> TfidfVectorizer:
    return TfidfVectorizer(analyzer=strings, sublinear_tf=True)


def runs(text: str) -> list[str]:
    """Every run of one to LONGEST characters of every word, the longer ones with a space where the word begins or ends.

    A space alone is no run: it would be all that a word of an unknown script shares with English, and as vectors have
    unit length it would then weigh as much as a whole known word.
    """
    return [run for word in text.split() for run in _runs(word)]


@lru_cache(maxsize=1 << 16)
def _runs(word: str) -> list[str]:
    padded = f" {word} "
    return [*word, *(padded[i : i + n] for n in range(2, LONGEST + 1) for i in range(len(padded) - n + 1))]


def _run_vectors(preprocessor: Callable[[str], str] = _plain, norm: str | None = "l2") -> TfidfVectorizer:
    return TfidfVectorizer(analyzer=lambda text: runs(preprocessor(text)), sublinear_tf=True, norm=norm)


def _best_model(models: Sequence, score: Callable[[object], float]):
    """The model with the best score; of equal ones the first, which is the most regularised."""
    return models[int(np.argmax([score(model) for model in models]))]


def _classifiers(features: sparse.csr_matrix, labels: Sequence[str]) -> list[LinearSVC]:
    """A linear classifier, one class against the others, for every entry of GRID."""
    return [LinearSVC(C=strength, random_state=0).fit(features, labels) for strength in GRID]


def _english(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    return rows[(rows["split"] == split) & (rows["language"] == "en")]


def _by_language(rows: pd.DataFrame, answer: Callable[[pd.DataFrame], Sequence]) -> list:
    """What ``answer`` gives, a value per row, for the rows of each language, in the order of ``rows``."""
    found: dict[int, object] = {}
    for _, part in rows.groupby("language"):
        found |= zip(part.index, answer(part), strict=True)
    return [found[i] for i in rows.index]


def _most_frequent(values: Sequence[str], order: Sequence[str]) -> str:
    """The most frequent value; of equally frequent ones the first in ``order``."""
    counts = Counter(values)
    return max(order, key=lambda value: counts[value])


def _classification(card: DataCard, rows: pd.DataFrame, items: pd.DataFrame) -> tuple[Sequence[str], Answers]:
    train, dev = _english(rows, "train"), _english(rows, "dev")
    majority = _most_frequent(train["label"], card.labels)
    answers: Answers = {MAJORITY: [majority] * len(items)}
    for baseline, vectors in ((STRINGS, _string_vectors()), (NGRAMS, _run_vectors())):
        models = _classifiers(vectors.fit_transform(train["text"]), train["label"])
        tuned = vectors.transform(dev["text"])
        model = _best_model(models, lambda m, x=tuned: accuracy(m.predict(x), dev["label"]))
        features = vectors.transform(items["text"])
        known = np.diff(features.indptr) > 0
        answers[baseline] = np.where(known, model.predict(features), majority)
    return items["label"], answers


def _retrieval(card: DataCard, rows: pd.DataFrame, items: pd.DataFrame) -> tuple[Sequence[str], Answers]:
    """Nearest candidate by cosine; rarity is weighed by the candidates, of equal ones the first is taken."""
    candidates = _english(rows, "test")
    if missing := sorted({*items["group"]} - {*candidates["group"]}):
        raise XlscaleError(f"{card.file}: group: expected an English row for {missing[0]!r}, found none")
    answers: Answers = {}
    for baseline, vectors in ((STRINGS, _string_vectors()), (NGRAMS, _run_vectors())):
        features = vectors.fit_transform(candidates["text"])
        cosine = (vectors.transform(items["text"]) @ features.T).toarray()
        answers[baseline] = candidates["group"].to_numpy()[cosine.argmax(1)]
    return items["group"], answers


def _multiple_choice(card: DataCard, rows: pd.DataFrame, items: pd.DataFrame) -> tuple[Sequence[str], Answers]:
    train, dev = _english(rows, "train"), _english(rows, "dev")
    prior = Counter(train["answer"])
    order = sorted(range(max(map(len, rows["choices"]))), key=lambda index: (-prior[index], index))
    english = _vocabulary(rows)
    answers: Answers = {
        MAJORITY: _greatest([np.zeros(len(choices)) for choices in items["choices"]], order),
        STRINGS: _greatest(_by_language(items, lambda part: _overlaps(part, english)), order),
    }
    pairs, tuned = _likeness(train), _likeness(dev)
    steps = np.concatenate([np.delete(x[a] - x, a, axis=0) for x, a in zip(pairs, train["answer"], strict=True)])
    sides = np.repeat([1, 0], len(steps))
    models = [
        LogisticRegression(C=strength, fit_intercept=False).fit(np.concatenate([steps, -steps]), sides)
        for strength in GRID
    ]
    gold = dev["answer"].astype(str)
    model = _best_model(models, lambda m: accuracy(_greatest([x @ m.coef_[0] for x in tuned], order), gold))
    answers[NGRAMS] = _greatest([x @ model.coef_[0] for x in _by_language(items, _likeness)], order)
    return items["answer"].astype(str), answers


def _greatest(values: Sequence[np.ndarray], order: Sequence[int]) -> list[str]:
    """The index of the greatest value of every row; of equal ones the first in ``order``."""
    return [str(next(i for i in order if i < len(row) and row[i] == row.max())) for row in values]


def _vocabulary(rows: pd.DataFrame) -> frozenset[str]:
    """Every string of the English texts, of those that test items translate too."""
    english = rows[rows["language"] == "en"]
    texts = [*english["text"], *(choice for choices in english["choices"] for choice in choices)]
    originals = rows["original"].dropna() if "original" in rows else ()
    return frozenset(string for text in {*texts, *originals} for string in strings(text))


def _overlaps(rows: pd.DataFrame, english: frozenset[str]) -> list[np.ndarray]:
    """The weight of the shared strings of every text with each of its choices."""
    texts, index = list(rows["text"]), _distinct(rows)
    sides = ([english.intersection(strings(text)) for text in side] for side in (texts, index))
    weights = overlap.shared(*sides).toarray()
    return [weights[i, [index[choice] for choice in row]] for i, row in enumerate(rows["choices"])]


def _likeness(rows: pd.DataFrame) -> list[np.ndarray]:
    """Cosines of every text with each of its choices, (choices, LONGEST): one for each length of runs.

    Rarity is weighed by the texts and choices of ``rows``, which have to be of one language.
    """
    texts, index = list(rows["text"]), _distinct(rows)
    vectors = _run_vectors(norm=None)
    features = vectors.fit_transform([*texts, *index])
    lengths = np.array([len(run) for run in vectors.get_feature_names_out()])
    left = np.repeat(np.arange(len(texts)), rows["choices"].str.len())
    right = [len(texts) + index[choice] for row in rows["choices"] for choice in row]
    cosines = np.empty((len(left), LONGEST))
    for length in range(1, LONGEST + 1):
        unit = normalize(features[:, lengths == length])
        cosines[:, length - 1] = np.asarray(unit[left].multiply(unit[right]).sum(1)).ravel()
    return np.split(cosines, np.flatnonzero(np.diff(left)) + 1)


def _distinct(rows: pd.DataFrame) -> dict[str, int]:
    choices = dict.fromkeys(choice for row in rows["choices"] for choice in row)
    return {choice: i for i, choice in enumerate(choices)}


def _tagging(card: DataCard, rows: pd.DataFrame, items: pd.DataFrame) -> tuple[Sequence[str], Answers]:
    train, dev = _english(rows, "train"), _english(rows, "dev")
    order = tasks.of(card).tags
    answers: Answers = {MAJORITY: [" ".join([words.OUTSIDE] * len(tags)) for tags in items["tags"]]}
    seen = defaultdict(list)
    for tokens, tags in zip(train["tokens"], train["tags"], strict=True):
        for token, tag in zip(tokens, tags, strict=True):
            seen[token].append(tag)
    usual = {token: _most_frequent(tags, order) for token, tags in seen.items() if _copied(token)}
    answers[STRINGS] = [" ".join(usual.get(token, words.OUTSIDE) for token in tokens) for tokens in items["tokens"]]
    vectors = _run_vectors(preprocessor=str)  # capitals tell names of controls
    vectors.fit(sorted(seen))
    models = _classifiers(_in_context(vectors, train["tokens"]), np.concatenate(list(train["tags"])))
    tuned = _in_context(vectors, dev["tokens"])
    model = _best_model(models, lambda m: spans.scores(_cut(m.predict(tuned), dev["tokens"]), dev["tags"])[0])

    def tagged(part: pd.DataFrame) -> list[str]:
        return [*map(" ".join, _cut(model.predict(_in_context(vectors, part["tokens"])), part["tokens"]))]

    answers[NGRAMS] = _by_language(items, tagged)
    return items["tags"].str.join(" "), answers


def _in_context(vectors: TfidfVectorizer, rows: Sequence[Sequence[str]]) -> sparse.csr_matrix:
    """Runs of every token, of the one before it and of the one after it, side by side: (tokens, 3 * runs)."""
    index: dict[str, int] = {}
    tokens = np.array([index.setdefault(token, len(index)) for row in rows for token in ("", *row, "")])
    known = vectors.transform(index)  # "" at the ends has no runs
    inside = np.concatenate([[False, *[True] * len(row), False] for row in rows]).nonzero()[0]
    return sparse.hstack([known[tokens[inside + step]] for step in (0, -1, 1)], format="csr")


def _cut(tags: np.ndarray, rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Tags of all tokens, one row after another, as the tags of every row."""
    return [part.tolist() for part in np.split(tags, np.cumsum([len(row) for row in rows])[:-1])]


ANSWERING: dict[str, Callable[[DataCard, pd.DataFrame, pd.DataFrame], tuple[Sequence[str], Answers]]] = {
    "classification": _classification,
    "multiple_choice": _multiple_choice,
    "retrieval": _retrieval,
    "tagging": _tagging,
}

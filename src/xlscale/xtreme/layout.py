"""What a cell predicted as files of XTREME's layout, with the labels of the same items beside them.

The opposite of the readers: a prediction table and the rows of its data set in, texts of files out, one pair of them
per language. They hold ids, labels and answers, and of the data no other text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from xlscale.cards.schema import DataCard
from xlscale.core.files import XlscaleError, one_line
from xlscale.core.lines import LONGEST
from xlscale.data import words
from xlscale.xtreme import benchmark
from xlscale.xtreme.benchmark import Task

# family -> format, ending of its files, and the columns of the rows that are read besides language, item and group.
# The text of retrieval is there to sort the candidates, the context of questions to look up what an answer is, choices
# to count them.
FAMILIES: dict[str, tuple[str, str, list[str]]] = {
    "classification": ("labels", "tsv", ["label"]),
    "multiple_choice": ("json_labels", "jsonl", ["answer", "choices"]),
    "tagging": ("tags", "tsv", ["tags"]),
    "span_qa": ("answers", "json", ["answers", "context"]),
    "retrieval": ("indices", "tsv", ["text", "pool"]),
    "mining": ("pairs", "tsv", ["pool"]),
    "ranking": ("ranking", "json", ["role", "relevant"]),
}
# The metric of a card -> what the scorer calls it.
METRIC = {
    "accuracy": "accuracy",
    "f1": "f1",
    "map_at_20": "map@20",
    "mining_f1": "f1",
    "p_at_1": "accuracy",
    "span_f1": "f1",
    "token_accuracy": "accuracy",
}
Files = tuple[str, str]  # of a language: predictions, labels


def described(card: DataCard, asked: pd.DataFrame, rows: pd.DataFrame) -> Task:
    """How the files of a card are scored, in the languages of ``asked`` (see there): as its benchmark says, or, for a
    set that is in none, by the card's metric."""
    parts = dict(iter(asked.groupby("language", sort=False)))
    sizes = {one: len(_candidates(part, rows)) for one, part in parts.items()} if card.family == "retrieval" else {}
    here = {"languages": [*parts], "candidates": {one: n for one, n in sizes.items() if n != len(parts[one])}}
    if card.benchmarks:
        known = benchmark.load(card.benchmarks[0]).tasks
        return next(one for one in known if one.name == card.name).model_copy(update=here)
    form, ending, _ = FAMILIES[card.family]
    return Task(
        name=card.name,
        title=one_line(card.title, LONGEST),
        group=card.family,
        format=form,
        file=f"test-{{language}}.{ending}",
        development="dev-{language}.tsv" if form == "pairs" else None,
        labels=_labels_of(card, asked) if form in ("labels", "json_labels", "tags") else None,
        metrics=[metric(card)],
        score=[metric(card)],
        parallel=len({tuple(part["group"]) for part in parts.values()}) == 1,
        **here,
    )


def metric(card: DataCard) -> str:
    """What the scorer calls the metric whose mean over languages other than English is a cell's value."""
    return f"mlqa_{METRIC[card.metric]}" if card.normalisation == "mlqa" else METRIC[card.metric]


def _labels_of(card: DataCard, asked: pd.DataFrame) -> list[str]:
    if card.family == "multiple_choice":
        return [str(place) for place in range(int(asked["choices"].map(len).max()))]
    return words.bio(card.labels) if card.family == "tagging" and card.tags == "bio" else card.labels


def asked(card: DataCard, rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows that were predicted, in the order of the data set, with the column ``prediction``.

    ``rows``: of the split that was predicted, whole, with the columns that FAMILIES names. ``predictions``: language,
    item and prediction, as the family's task gives them. Raises XlscaleError for an item that the rows lack.
    """
    keys = ["language", "item"]
    merged = rows.merge(predictions[[*keys, "prediction"]], "left", keys)
    found = merged[merged["prediction"].notna()]
    if len(found) != len(predictions):
        lost = predictions.merge(rows[keys], "left", keys, indicator=True).query("_merge == 'left_only'")
        where = lost[keys].agg(" ".join, axis=1).min() if len(lost) else "an item twice"
        raise XlscaleError(f"{card.name}: item: expected those of the data set, each once, got {where}")
    return found


def files(card: DataCard, asked: pd.DataFrame, rows: pd.DataFrame) -> Iterator[tuple[str, Files]]:
    """The language and both files of every language that was predicted; ``asked`` and ``rows`` as there.

    Raises XlscaleError for predictions that the layout has no room for.
    """
    for language, part in asked.groupby("language", sort=False):
        yield str(language), _WRITE[card.family](card, part, rows)


def _labels(card: DataCard, part: pd.DataFrame, rows: pd.DataFrame) -> Files:
    return _lines(part["prediction"]), _lines(part["label"])


def _choices(card: DataCard, part: pd.DataFrame, rows: pd.DataFrame) -> Files:
    form = '{{"label": {}}}'.format
    return _lines(map(form, part["prediction"])), _lines(map(form, part["answer"]))


def _tags(card: DataCard, part: pd.DataFrame, rows: pd.DataFrame) -> Files:
    predicted = [text.split() for text in part["prediction"]]
    if card.tags == "plain":
        predicted = [_known(card, *both) for both in zip(predicted, part["tags"], strict=True)]
    return tuple("\n\n".join(map("\n".join, side)) + "\n" for side in (predicted, part["tags"]))


def _known(card: DataCard, predicted: list[str], gold: Iterable[str]) -> list[str]:
    """Plain tags, a wrong one in the place of none: a word without a position counts as wrong in the cell's value."""
    wrong = (next(label for label in card.labels if label != true) for true in gold)
    return [other if tag == words.OUTSIDE else tag for tag, other in zip(predicted, wrong, strict=True)]


def _answers(card: DataCard, part: pd.DataFrame, rows: pd.DataFrame) -> Files:
    answers = zip(part["item"], part["answers"], strict=True)
    asked = [{"id": item, "answers": [{"text": text} for text in texts]} for item, texts in answers]
    gold = {"version": "1.1", "data": [{"title": "", "paragraphs": [{"context": "", "qas": asked}]}]}
    return _json(dict(zip(part["item"], part["prediction"], strict=True))), _json(gold)


def _indices(card: DataCard, part: pd.DataFrame, rows: pd.DataFrame) -> Files:
    """Places among the candidates, which XTREME sorts by their text."""
    candidates = _candidates(part, rows)
    order = candidates.iloc[sorted(range(len(candidates)), key=candidates["text"].str.strip().tolist().__getitem__)]
    place = {group: str(i) for i, group in enumerate(order["group"])}
    return _lines(part["prediction"].map(place)), _lines(part["group"].map(place))


def _candidates(part: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    english = rows[rows["language"] == "en"]
    return english[english["pool"].isin(part["pool"])] if "pool" in rows else english


def _pairs(card: DataCard, part: pd.DataFrame, rows: pd.DataFrame) -> Files:
    """Ids as the source has them: ours say language and split before."""
    language = part["language"].iloc[0]
    prefix, english = f"{language}-test-", rows.loc[rows["language"] == "en", "group"]
    sides = part["prediction"] != "", part["group"].isin(english)
    found, gold = (
        [f"{item.removeprefix(prefix)}\t{group.removeprefix(prefix)}" for item, group in both]
        for both in (
            zip(part.loc[sides[0], "item"], part.loc[sides[0], "prediction"], strict=True),
            zip(part.loc[sides[1], "item"], part.loc[sides[1], "group"], strict=True),
        )
    )
    if not found:
        raise XlscaleError(f"{card.name}: {language}: expected a predicted pair, since the layout has no empty file")
    return _lines(found), _lines(gold)


def _ranking(card: DataCard, part: pd.DataFrame, rows: pd.DataFrame) -> Files:
    """A query that is asked in several languages is named after both, as in LAReQA's code."""
    queries, candidates = rows[rows["role"] == "query"], rows[rows["role"] == "candidate"]
    suffix = f"_{part['language'].iloc[0]}" if queries["item"].duplicated().any() else ""
    answers = candidates[["item", "relevant"]].explode("relevant").groupby("relevant")["item"].agg(list)
    names = part["item"] + suffix
    ranked = [[one.partition(":")[2] for one in text.split()] for text in part["prediction"]]
    gold = dict(zip(names, part["group"].map(answers), strict=True))
    return _json(dict(zip(names, ranked, strict=True))), _json(gold)


_WRITE: dict[str, Callable[[DataCard, pd.DataFrame, pd.DataFrame], Files]] = {
    "classification": _labels,
    "multiple_choice": _choices,
    "tagging": _tags,
    "span_qa": _answers,
    "retrieval": _indices,
    "mining": _pairs,
    "ranking": _ranking,
}


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=0) + "\n"

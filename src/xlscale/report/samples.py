"""What ``00_data.ipynb`` shows of the data sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
from IPython.display import HTML

from xlscale.cards import catalogue
from xlscale.cards.schema import DataCard
from xlscale.core import cache
from xlscale.core.files import XlscaleError, relative
from xlscale.data import load, schema, words
from xlscale.data.describe import describe
from xlscale.metrics import spans
from xlscale.report.markup import Markup, fill, join, plain
from xlscale.report.predictions import marked

TITLES = ("label", "register", "group")  # columns to show beside a sample: the first that its set has


def cards(sets: Sequence[str], read: Sequence[str]) -> list[DataCard]:
    """The cards of ``sets``; where none is named, of what is bundled those of ``read`` alone.

    Raises XlscaleError for a broken card that is named or read; of another one it is told that it is left out.
    """
    found = []
    for name in sets or catalogue.names("data"):
        try:
            card = catalogue.data_card(name)
        except XlscaleError as error:
            if name in sets or name in read:
                raise
            print(f"left out: {error}")
            continue
        if name in sets or (card.bundled and name in read):
            found.append(card)
    return found


def check(cards: Sequence[DataCard]) -> pd.DataFrame:
    """Compare every file with its card: hash, columns, languages, numbers of rows; one line each, verdict last."""
    rows = []
    for card in cards:
        try:
            load.table(card)
            verdict = "agrees"
        except XlscaleError as error:
            verdict = str(error)
        size = card.path.stat().st_size if card.path.exists() else 0
        rows.append((card.name, relative(card.path), size, card.sha256[:16], verdict))
    return pd.DataFrame(rows, columns=["set", "file", "bytes", "sha256", "verdict"])


def overview(cards: Sequence[DataCard]) -> pd.DataFrame:
    """``data.describe`` of all sets, one table; cached for as long as a file and the code are the same."""
    found = []
    for card in cards:
        facts = cache.table(f"facts-{card.name}", [card.sha256, card.family], partial(describe, card))
        found.append(facts.assign(set=card.name))
    return pd.concat(found).set_index(["set", "split", "language"])


def costs(cards: Sequence[DataCard]) -> pd.DataFrame:
    """Cost of training and evaluating on all rows of each task, from its card: thousands of tokens and TFLOP by
    split."""
    stated = [card for card in cards if card.cost]
    rows = [{f"{split} tokens (k)": n / 1000 for split, n in card.cost.tokens.items()} for card in stated]
    rows = [row | {f"{k} TFLOP": n for k, n in card.cost.tflop.items()} for row, card in zip(rows, stated, strict=True)]
    return pd.DataFrame(rows, index=pd.Index([card.name for card in stated], name="set"))


def labels(card: DataCard) -> pd.DataFrame:
    """Rows (of a tagging set spans) per label (columns) in every split and language (rows)."""
    rows = load.table(card).to_pandas()
    if card.family == "tagging":
        rows["label"] = [[kind for kind, _, _ in spans.of(tags)] for tags in rows["tags"]]
        rows = rows.explode("label", ignore_index=True)
    found = pd.crosstab([rows["split"], rows["language"]], rows["label"])
    return found.reindex(columns=card.labels, fill_value=0).reindex(schema.SPLITS, level="split")


def folded(card: DataCard, about: pd.DataFrame) -> HTML:
    """A table about a set, folded up."""
    return _folded(card.title, Markup(about.to_html()))  # which escapes what is in it


def _folded(said: str, content: Markup) -> HTML:
    return HTML(plain(fill("<details><summary>{}</summary>{}</details>", said, content)))


def provenance(cards: Sequence[DataCard]) -> HTML:
    """Licence, origin, packages and limits of every set, as their cards state them."""
    parts = []
    for card in cards:
        packages = ", ".join(sorted({f"{p.client}: {p.name.rpartition('/')[2]} {p.version}" for p in card.packages}))
        facts = {
            "what": card.description,
            "licence": card.licence,
            "origin": card.citation,
            "packages": packages,
            "limits": card.limits,
            "canary": card.canary,
        }
        lines = join(fill("<dt><b>{}</b></dt><dd>{}</dd>", name, text) for name, text in facts.items() if text)
        parts.append(fill("<h4>{} (<code>{}</code>)</h4><dl>{}</dl>", card.title, card.name, lines))
    return HTML(plain(join(parts)))


def samples(card: DataCard, count: int) -> HTML:
    """``count`` rows of every language, from the last split of the set, folded up; parallel ones where possible.

    Every text has its own direction, so right-to-left scripts are set right to left. Answers are marked; of a tagging
    set only rows with a span are shown.
    """
    rows = load.table(card).to_pandas()
    rows = rows[rows["split"] == [split for split in schema.SPLITS if split in card.splits][-1]]
    if card.family == "tagging":
        rows = rows[[set(tags) != {words.OUTSIDE} for tags in rows["tags"]]]
    lines = []
    for language, part in rows.groupby("language"):
        chosen = schema.shuffled(part["item"], "samples")[:count]
        for _, row in part.set_index("item").loc[chosen].iterrows():
            title = next(row[name] for name in TITLES if name in row)
            cells = '<tr><td>{}</td><td>{}</td><td dir="auto" style="text-align:start">{}</td></tr>'
            lines.append(fill(cells, language, title, _text(row)))
    head = fill("<tr><th>language</th><th>label, register or group</th><th>text</th></tr>")
    said = f"{card.title}: {len(lines)} rows in {rows['language'].nunique()} languages"
    return _folded(said, fill("<table>{}{}</table>", head, join(lines)))


def _text(row: pd.Series) -> Markup:
    """A row's text as HTML, by family: a context with the first answer to its question marked, if there is one, a
    text with its spans, a text and its choices with the correct one marked, or the English name and its translation."""
    if "source" in row:
        return fill("{} = <bdi>{}</bdi>", row["source"], row["text"])
    if "tags" in row:
        return marked(row["text"], row["tokens"], row["tags"])
    if "choices" in row:
        choices = [fill("<mark>{}</mark>" if i == row["answer"] else "{}", one) for i, one in enumerate(row["choices"])]
        items = join(fill('<li dir="auto" style="text-align:start">{}</li>', choice) for choice in choices)
        return fill("<b>{}</b><ol>{}</ol>", row["text"], items)
    if "question" not in row:
        return fill("{}", row["text"])
    if not len(row["answers"]):  # an array, of a question that has none
        return fill("<b>{}</b><br>{}", row["question"], row["context"])
    context, start = row["context"], row["answer_starts"][0]
    end = start + len(row["answers"][0])
    parts = context[:start], context[start:end], context[end:]
    return fill("<b>{}</b><br>{}<mark>{}</mark>{}", row["question"], *parts)

"""What ``00_data.ipynb`` shows of the data sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape

import pandas as pd
from IPython.display import HTML

from xlscale.cards.schema import DataCard
from xlscale.core import cache
from xlscale.core.files import XlscaleError, relative
from xlscale.data import load, schema, words
from xlscale.data.describe import describe
from xlscale.metrics import spans

TITLES = ("label", "register", "group")  # columns to show beside a sample: the first that its set has


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
        lines = "".join(f"<dt><b>{name}</b></dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
        parts.append(f"<h4>{escape(card.title)} (<code>{card.name}</code>)</h4><dl>{lines}</dl>")
    return HTML("".join(parts))


def samples(card: DataCard, count: int) -> HTML:
    """``count`` rows of every language, from the last split of the set; parallel ones where possible.

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
            lines.append(
                f"<tr><td>{language}</td><td>{escape(title)}</td>"
                f'<td dir="auto" style="text-align:start">{_text(row)}</td></tr>'
            )
    head = "<tr><th>language</th><th>label, register or group</th><th>text</th></tr>"
    return HTML(f"<h4>{escape(card.title)}</h4><table>{head}{''.join(lines)}</table>")


def _text(row: pd.Series) -> str:
    """A row's text as HTML, by family: a context with the first answer to its question marked, a text with its spans, a
    text and its choices with the correct one marked, or the English name and its translation."""
    if "source" in row:
        return f"{escape(row['source'])} = <bdi>{escape(row['text'])}</bdi>"
    if "tags" in row:
        return _marked(row)
    if "choices" in row:
        choices = [escape(choice) for choice in row["choices"]]
        choices[row["answer"]] = f"<mark>{choices[row['answer']]}</mark>"
        item = '<li dir="auto" style="text-align:start">{}</li>'
        return f"<b>{escape(row['text'])}</b><ol>{''.join(map(item.format, choices))}</ol>"
    if "question" not in row:
        return escape(row["text"]).replace("\n", "<br>")
    start = row["answer_starts"][0]
    end = start + len(row["answers"][0])
    before, answer, after = (
        escape(part) for part in (row["context"][:start], row["context"][start:end], row["context"][end:])
    )
    return f"<b>{escape(row['question'])}</b><br>{before}<mark>{answer}</mark>{after}"


def _marked(row: pd.Series) -> str:
    """The text of a tagged row with its spans marked, each with its type."""
    text, begins = row["text"], words.starts(row["text"], row["tokens"])
    parts, done = [], 0
    for kind, first, last in spans.of(row["tags"]):
        start, end = begins[first], begins[last - 1] + len(row["tokens"][last - 1])
        parts += [escape(text[done:start]), f"<mark>{escape(text[start:end])}</mark><sub>{kind}</sub>"]
        done = end
    return "".join([*parts, escape(text[done:])])

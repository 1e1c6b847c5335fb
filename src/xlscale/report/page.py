"""The report: claims, figures, numbers and every recorded cell on one page that needs no server and no network.

Belongs here: what goes into the places of ``page.html``. How it looks is in ``page.css``; ``page.js`` draws the rows of
the long tables, from JSON. What is data reaches the page through ``markup.fill`` or ``embedded``, which end no element,
and the page's own policy lets nothing but its one script and its one style sheet work.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

from xlscale.core.format import DASH
from xlscale.experiment.results import Result
from xlscale.record import store
from xlscale.report.checklist import Row
from xlscale.report.labels import METRICS, metric, title
from xlscale.report.markup import Markup, fill, join
from xlscale.report.rooms import Room

HERE = Path(__file__).parent
HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{}">
<meta name="generator" content="xlscale">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{}</title>
<style>{}</style>
</head>
"""  # of every page: its policy, title and style
_DECIMALS = 4  # of percentages, minutes and gigabytes: more than are shown


class About(NamedTuple):
    """What is known of a cell besides its result. ``state`` and ``why``: see ``commands.status``; ``notebook``: folder
    of the executed notebook as seen from the page, "" for none; ``tolerance``: 0 to 1, None where there is none."""

    state: str
    why: str = ""
    studies: tuple[str, ...] = ()
    notebook: str = ""
    tolerance: float | None = None


class Figure(NamedTuple):
    """A figure of the paper, as SVG, the notebook that made it, and whether it is what that would make now."""

    name: str
    notebook: str
    svg: bytes
    state: str


@dataclass(frozen=True)
class Report:
    """What a page shows. Links are as seen from the page.

    ``answer``: texts; ``slopes``: names of numbers, each with what it is about; ``main``: name of the figure that comes
    first; ``made``: as ``typeset.merge`` has it; ``behind``: see ``behind.Behind``;
    ``reads``: notebook -> what else it reads, in words; ``links``: notebook -> text -> link; ``note``: on tolerances.
    """

    title: str
    answer: list[str]
    slopes: dict[str, tuple[str, str]]
    main: str
    figures: list[Figure]
    claims: list[Row]
    note: str
    made: dict[str, dict[str, dict[str, Any]]]
    behind: Callable[[str, str], Sequence[str]]
    reads: dict[str, str]
    links: dict[str, dict[str, str]]
    cells: dict[str, Any]  # see ``cells``
    places: Mapping[tuple[str, str], str]  # ("figures" or "tables", name) -> what the paper calls it, in its order
    study: str = ""  # whose cells are shown at first; all, where there is none
    code: Sequence[Room] = ()


def html(report: Report) -> str:
    """The page. The same report gives the same text."""
    # Ours, without a place for data.
    style, script = (Markup((HERE / f"page.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    order = [name for kind, name in report.places if kind == "figures"]
    figures = sorted(report.figures, key=lambda one: order.index(one.name) if one.name in order else len(order))
    drawn = {figure.name: _figure(figure, report) for figure in figures}
    main = drawn.pop(report.main, Markup())
    answer = join(fill("<p>{}</p>", text) for text in report.answer)
    parts = [
        policy(style, script),
        report.title,
        style,
        report.title,
        answer,
        main,
        _slopes(report),
        _claims(report.claims),
    ]
    parts += [report.note, join(drawn.values()), join(map(_room, report.code)), embedded(data(report)), script]
    return fill(HEAD + (HERE / "page.html").read_text(encoding="utf-8"), *parts)


def embedded(value: Any) -> Markup:
    """``value`` as JSON for a script element of type application/json: ASCII, in which nothing can end the element.

    Raises ValueError for numbers that are not finite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def policy(style: str, script: str = "") -> str:
    """What a page allows: images in it, this style sheet and this script, and nothing else."""
    allowed = f"style-src {_hash(style)}; " + (f"script-src {_hash(script)}; " if script else "")
    return f"default-src 'none'; img-src data:; {allowed}base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def data(report: Report) -> dict[str, Any]:
    """What ``page.js`` draws from: cells (see ``cells``), and a row per number, table and figure: kind, name, text,
    unit, notebook, position of its cells in ``groups``, lists of positions of cells, -1 for none, and what it is called
    in the paper."""
    position = {row[0]: i for i, row in enumerate(report.cells["rows"])}
    groups, rows = _Shared(), []
    for kind, entries in report.made.items():
        for name, entry in entries.items():
            text = _flat(entry) if kind == "tables" else entry.get("text", "")
            ids = [position[one] for one in report.behind(entry["source"], name)]
            row = [kind.removesuffix("s"), name, text, entry.get("unit", ""), entry["source"]]
            rows.append([*row, groups(ids) if ids else -1, report.places.get((kind, name), "")])
    return {
        "cells": report.cells,
        "numbers": rows,
        "tables": {name: [entry["header"], *entry["rows"]] for name, entry in report.made["tables"].items()},
        "groups": groups.values,
        "reads": report.reads,
        "links": report.links,
        "study": report.study,
    }


class _Shared:
    """Values that are the same for many, each once; called with one, gives its position."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._known: dict[str, int] = {}

    def __call__(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True)
        if key not in self._known:
            self._known[key] = len(self.values)
            self.values.append(value)
        return self._known[key]


def _flat(table: dict[str, Any]) -> str:
    return " ".join(text for row in [table["header"], *table["rows"]] for text in row)


def cells(known: Mapping[str, Result], about: Mapping[str, About]) -> dict[str, Any]:
    """All cells as the page takes them: ``fields``, ``rows`` with a value for each, the id first, and what many cells
    share, to which rows give the position: shapes (languages, items, metrics), recipes, facts and studies.

    Scores, values and tolerances are in percent, ``minutes`` of wall time, ``memory`` in GB. What failed has no value.
    """
    shared = {name: _Shared() for name in ("shapes", "recipes", "facts", "studies")}
    called = cache(lambda name: (title(name), metric(name)))  # of a data set; asks the file system
    rows = [_row(result, about[name], shared, called) for name, result in known.items()]
    lists = {name: one.values for name, one in shared.items()}
    return {"fields": [*rows[0]] if rows else [], "rows": [[*row.values()] for row in rows], **lists}


_OWN = ("model", "layers", "intermediate", "placebo", "target", "seed")  # parameters that are no part of a recipe


def _row(
    result: Result, about: About, shared: dict[str, _Shared], called: Callable[[str], tuple[str, str]]
) -> dict[str, Any]:
    described, measured = store.describe(result), store.data_set(result)
    set_title, main = called(measured)
    others = sorted({name for score in result.languages.values() for name in score.others})
    each = result.languages.values()
    shape = {
        "languages": [*result.languages],
        "items": [score.items for score in each],
        "metrics": [main, *(METRICS.get(name, name.replace("_", " ")) for name in others)],
    }
    facts = {"machine": str(result.environment.get("machine", "unknown")), "code": result.fingerprint[:12]}
    facts |= {"set": set_title, "parameters": result.total_parameters, "own": result.non_embedding_parameters}
    recipe = {name: value for name, value in result.parameters.items() if value is not None and name not in _OWN}
    return {
        "id": result.id,
        "phase": result.phase,
        "set": measured,
        **{name: described[name] for name in ("model", "layers", "condition", "seed")},
        "status": about.state,
        "why": "; ".join(filter(None, (result.reason, about.why))),
        "value": _rounded(result.value, 100),
        "english": _rounded(result.english, 100),
        "minutes": _rounded(sum(result.seconds.values()), 1 / 60),
        "memory": _rounded(result.peak_memory_gb),
        "tokens": result.train_tokens,
        "flops": result.train_flops,
        "parent": result.parent,
        "notebook": about.notebook,
        "tolerance": _rounded(about.tolerance, 100),
        "scores": [_rounded(value, 100) for s in each for value in (s.value, *map(s.others.get, others))],
        "shapes": shared["shapes"](shape),
        "recipes": shared["recipes"](recipe),
        "facts": shared["facts"](facts),
        "studies": shared["studies"](list(about.studies)),
    }


def _rounded(value: float | None, factor: float = 1) -> float | None:
    return None if value is None or value != value else round(factor * value, _DECIMALS)


def _slopes(report: Report) -> Markup:
    numbers = report.made["numbers"]
    return join(
        line(*about, numbers[name]["text"], _behind(numbers[name]["source"], name, report))
        for name, about in report.slopes.items()
    )


def _claims(rows: Iterable[Row]) -> Markup:
    return join(line(*map(prose, row)) for row in rows)


def _figure(figure: Figure, report: Report) -> Markup:
    """A figure as an image of its own, in which no script runs and no name meets another one."""
    links = join(fill(' · <a href="{}">{}</a>', link, text) for text, link in report.links[figure.notebook].items())
    made_of = _behind(figure.notebook, figure.name, report)
    name, about = figure.name.replace("_", " "), f"notebook {figure.notebook}, {figure.state}"
    name = " · ".join(filter(None, [report.places.get(("figures", figure.name)), name]))
    caption = fill("<figcaption><b>{}</b> · {}{} · {}</figcaption>", name, about, links, made_of)
    source = b64encode(figure.svg).decode()
    own = re.search(rb"<title>([^<]*)</title>", figure.svg)  # what an SVG says in its place
    instead = ". ".join(filter(None, [name, unescape(own[1].decode()) if own else ""]))
    image = fill('<img alt="Figure: {}" loading="lazy" src="data:image/svg+xml;base64,{}">', instead, source)
    return fill('<figure id="figure-{}">{}{}</figure>', figure.name, image, caption)


def _room(room: Room) -> Markup:
    """A room of the code, folded up."""
    said = ((name, prose(text.replace("``", "`"))) for name, text in room.modules)
    modules = join(fill("<dt><code>{}</code></dt><dd>{}</dd>", *one) for one in said)
    summary = fill("<summary><b>{}</b> · {}</summary>", room.name, room.about)
    return fill("<details>{}<dl>{}</dl></details>", summary, modules)


def _behind(notebook: str, name: str, report: Report) -> Markup:
    """The button that shows the cells behind a number or a figure; without any, what it is made from."""
    if not (count := len(report.behind(notebook, name))):
        return fill("{}", report.reads.get(notebook, DASH))
    button = '<button type="button" data-name="{}/{}" aria-label="{} cells behind {}">{} cells</button>'
    return fill(button, notebook, name, count, name, count)


def line(first: object, *rest: object) -> Markup:
    """A row of a table, with its head."""
    return fill('<tr><th scope="row">{}</th>{}</tr>', first, join(fill("<td>{}</td>", one) for one in rest))


def prose(text: str) -> Markup:
    """Text in which code stands between backticks and links are as in Markdown, of which the text is left."""
    parts = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).split("`")
    return join(fill("<code>{}</code>" if i % 2 else "{}", part) for i, part in enumerate(parts))

"""What ``make reproduce`` found, as a page: the verdict, the two machines, the recomputed points over the recorded
ones, every recomputed cell beside the record, links to the notebooks as they ran here. It needs no server or network.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from xlscale.core.files import Phase
from xlscale.core.format import percent
from xlscale.experiment.results import Result
from xlscale.report import verdicts
from xlscale.report.markup import Markup, fill, join
from xlscale.report.page import HEAD, HERE, line, policy, prose

BODY = """<body>
<header><h1>{}</h1></header>
<main>
{}
<figure><img alt="Recomputed points over the recorded ones" src="data:image/svg+xml;base64,{}">
<figcaption>The main figure, with the recomputed points over the recorded ones</figcaption></figure>
<h2>Cell by cell</h2>
<div class="scroll" role="region" tabindex="0" aria-label="Recomputed cells">
<table>
<thead><tr>
<th scope="col">Cell</th><th scope="col">Recorded</th><th scope="col">Yours</th><th scope="col">Tolerance</th>
<th scope="col">Verdict</th><th scope="col">As it ran here</th>
</tr></thead>
<tbody>{}</tbody>
</table>
</div>
<h2>The analyses</h2>
<ul>{}</ul>
</main>
</body>
</html>
"""


def html(
    title: str,
    compared: pd.DataFrame,
    recorded: dict[str, Result],
    mine: dict[str, Result],
    changed: Iterable[Phase],
    drawn: Path,
    links: Mapping[str, str],
) -> str:
    """The page. ``compared``, ``recorded``, ``mine`` and ``changed`` are as for ``verdicts.markdown``; ``drawn``: the
    overlaid figure, SVG; ``links``: name of a cell or notebook -> link to it as it was executed here. Values are in
    percent."""
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    head = f"Agreement with the record: {title}"
    said = verdicts.sentences(compared, recorded, mine, changed)
    # Without what marks in Markdown.
    text = join(fill("<p>{}</p>", prose(re.sub(r"\*\*|\\(?=\W)", "", one))) for one in said)
    rows = join(line(*_row(row, links)) for row in compared.itertuples())
    notebooks = join(_link(name, link) for name, link in links.items() if name not in mine)
    image = b64encode(drawn.read_bytes()).decode()
    return fill(HEAD + BODY, policy(style), head, style, head, text, image, rows, notebooks)


def _row(row: tuple, links: Mapping[str, str]) -> list[object]:
    values = [percent(value, 2) for value in (row.recorded, row.yours, row.tolerance)]
    here = fill('<a href="{}">notebook</a>', links[row.cell]) if row.cell in links else ""
    return [row.cell, *values, row.verdict, here]


def _link(name: str, link: str) -> Markup:
    return fill('<li><a href="{}">{}</a></li>', link, name)

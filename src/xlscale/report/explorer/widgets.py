"""The explorer's widgets: what a hand moves, and what is shown of it.

Belongs here: widgets and how they hang together, nothing that is computed. Data reach the page through ``markup.fill``
alone, in HTML widgets, which interpret no formulas, and as the options of lists, which are text.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from threading import Thread
from typing import Any

import ipywidgets
from ipywidgets import HTML, Box, Button, Dropdown, HBox, IntProgress, Layout, SelectMultiple, ToggleButtons, VBox
from matplotlib.figure import Figure

from xlscale.core.files import XlscaleError
from xlscale.report import verdicts
from xlscale.report.explorer import choice as choice_
from xlscale.report.explorer import costs, curves, items, languages
from xlscale.report.explorer.choice import Choice, Record
from xlscale.report.explorer.run import Run
from xlscale.report.figures import style
from xlscale.report.labels import label, layers
from xlscale.report.markup import Markup, fill, join, plain

POLL = 0.5  # seconds between looks at a run
CALLED = {"models": "Models", "targets": "Tasks", "conditions": "Training", "languages": "Languages"}
WIDTH = {"models": "20em", "targets": "28em", "conditions": "40em", "languages": "14em"}
_WIDE, _NAMED = Layout(width="100%", max_width="60em"), {"description_width": "7em"}


class Explorer:
    """The parts of ``explore.ipynb``, which share one choice. Raises XlscaleError for an unknown study."""

    def __init__(self, study: str = "pilot", record: str = ""):
        self.folder = record
        self.record = Record(study, record)
        names = sorted({study, *choice_.explorable(self.record.folder)})
        self.study = Dropdown(options=names, value=study, description="Study", style=_NAMED)
        self.lists = {
            name: SelectMultiple(rows=8, description=text, style=_NAMED, layout=Layout(width=WIDTH[name]))
            for name, text in CALLED.items()
        }
        self.told = HTML()
        self._views: list[tuple[Callable[[bool], None], bool]] = []  # how to update it, whether it follows the choice
        self._offering = False
        self._fill()
        self.study.observe(self._study, "value")
        for one in self.lists.values():
            one.observe(lambda _: self._changed(), "value")

    @property
    def choice(self) -> Choice:
        """What is chosen."""
        return Choice(**{name: tuple(one.value) for name, one in self.lists.items()})

    def choose(self) -> Box:
        """The study, and what is chosen of it."""
        return VBox([self.study, HBox([*self.lists.values()], layout=Layout(flex_flow="row wrap")), self.told])

    def curves(self) -> Box:
        """Values or gains against size."""
        quantity = ToggleButtons(options=curves.QUANTITIES, style={"button_width": "auto"})
        out = HTML(layout=_WIDE)

        def show() -> Markup:
            found = curves.table(self.record, self.choice, quantity.value)
            drawn = curves.figure(self.record, self.choice, found, quantity.value)
            shown = _image(drawn, f"{quantity.value} against size")
            rows = curves.printed(found, quantity.value)
            return fill("{}{}{}", shown, fill("<p>{}</p>", curves.INTERVALS), _table(curves.HEADS, rows))

        return VBox([quantity, self._follows(out, show, quantity)])

    def languages(self) -> Box:
        """One condition less another, by language."""
        model, target, rung, one, other = (
            Dropdown(description=text, style=_NAMED, layout=_WIDE)
            for text in ("Model", "Task", "Layers", "First", "Second")
        )
        out = HTML(layout=_WIDE)

        def offer() -> None:
            options = self.record.options()
            _offer(model, options["models"])
            _offer(target, [(choice_.task(name), name) for name in options["targets"]])
            names = [(label(name), name) for name in options["conditions"]]
            _offer(other, names)
            _offer(one, names, first=names[1][1] if len(names) > 1 else None)

        def rungs(*_: Any) -> None:
            known = self.record.rungs(model.value, target.value)
            _offer(rung, [(layers(count), count) for count in known], first=known[-1] if known else None)

        def show() -> Markup:
            pair = languages.Pair(model.value, target.value, rung.value, one.value, other.value)
            found = languages.table(self.record, pair)
            drawn = _image(languages.figure(found, pair), f"Difference by language. {pair}")
            rows = languages.printed(found)
            return fill("{}{}{}", drawn, fill("<p>{}</p>", languages.INTERVALS), _table(languages.HEADS, rows))

        for widget in (model, target):
            widget.observe(rungs, "value")
        controls = [model, target, rung, one, other]
        return VBox([*controls, self._follows(out, show, *controls, offers=[offer, rungs])])

    def items(self) -> Box:
        """Single items of two cells, with their texts."""
        target, one, other, language, only = (
            Dropdown(description=text, style=_NAMED, layout=_WIDE)
            for text in ("Task", "First", "Second", "Language", "Show")
        )
        back, on = (Button(description=text, layout=Layout(width="8em")) for text in ("Previous", "Next"))
        out, at = HTML(), [0]
        only.options, only.value = items.FILTERS, items.EVERY

        def offer() -> None:
            _offer(target, [(choice_.task(name), name) for name in self.record.options()["targets"]])

        def cells(*_: Any) -> None:
            known = [*items.cells(self.record, target.value).items()]
            _offer(one, known)
            _offer(other, [("none", ""), *known])

        def spoken(*_: Any) -> None:
            known = sorted(self.record.results[one.value].languages) if one.value else []
            _offer(language, [("all", ""), *((code, code) for code in known)])

        def show() -> Markup:
            page = items.Page(one.value, other.value or "", language.value or "", only.value, at[0])
            count = len(items.selected(self.record, page))
            back.disabled, on.disabled = at[0] == 0, items.SIZE * (at[0] + 1) >= count
            return items.table(self.record, page)

        def turn(by: int) -> None:
            at[0] += by
            out.value = _guarded(show)

        def first(*_: Any) -> None:
            at[0] = 0

        controls = [target, one, other, language, only]
        for widget in controls:
            widget.observe(first, "value")
        target.observe(cells, "value")
        one.observe(spoken, "value")
        back.on_click(lambda _: turn(-1))
        on.on_click(lambda _: turn(1))
        shown = self._follows(out, show, *controls, offers=[offer, cells, spoken, first])
        return VBox([*controls, HBox([back, on]), shown])

    def costs(self) -> Box:
        """What the chosen cells cost."""

        def show() -> Markup:
            rows = costs.printed(costs.table(self.record, self.choice))
            return fill("<p>{}</p>{}", costs.ABOUT, _table(costs.HEADS, rows, opened=True))

        return self._follows(HTML(layout=Layout(width="100%")), show)

    def run(self) -> Box:
        """A recorded cell, run now."""
        kind, cell = (Dropdown(description=text, style=_NAMED, layout=_WIDE) for text in ("Task or phase", "Cell"))
        start, stop = Button(description="Run this cell now", button_style="primary"), Button(description="Stop")
        bar = IntProgress(max=100, layout=_WIDE)
        out, running = HTML(layout=_WIDE), []
        stop.disabled = True

        def offer() -> None:
            tasks = [(choice_.task(name), name) for name in self.record.options()["targets"]]
            _offer(kind, [*tasks, ("intermediate training", "intermediate"), ("pretrained", "pretrained")])

        def cells(*_: Any) -> None:
            _offer(cell, [*items.cells(self.record, kind.value).items()])

        def show() -> Markup:
            if running:
                return Markup(out.value)
            start.disabled = cell.value is None
            if cell.value is None:
                return fill("<p>{}: expected a recorded cell, there is none.</p>", kind.label or "Cell")
            seconds = Run(self.record, cell.value).expected()
            return fill("<p>About {} s on the machine of the record, with what it starts from.</p>", round(seconds))

        def go(_: Any) -> None:
            out.value = _guarded(begin)

        def begin() -> Markup:
            one = Run(self.record, cell.value)
            one.start()
            running.append(one)
            start.disabled, stop.disabled = True, False
            Thread(target=watch, args=(one,), daemon=True).start()
            return Markup()

        def watch(one: Run) -> None:
            out.value = _guarded(lambda: _outcome(one, wait(one)))
            running.clear()
            bar.value, start.disabled, stop.disabled = 100, False, True

        def wait(one: Run) -> str:
            while not (now := one.progress()).ended:
                bar.value, out.value = round(100 * now.share), fill("<p>{}</p>", now.text)
                time.sleep(POLL)
            return now.text

        start.on_click(go)
        stop.on_click(lambda _: [one.stop() for one in running])
        kind.observe(cells, "value")
        shown = self._follows(out, show, kind, cell, offers=[offer, cells])
        return VBox([kind, cell, HBox([start, stop]), bar, shown])

    def _study(self, change: dict[str, Any]) -> None:
        self.told.value = fill("<p>Reading the record ...</p>")
        try:
            self.record = Record(change["new"], self.folder)
        except XlscaleError as error:
            self.told.value = fill("<p><b>{}</b></p>", error)
            return
        self._fill()
        self._changed(new=True)

    def _fill(self) -> None:
        """Offer what the study has; nothing chosen is all of it."""
        try:
            options = self.record.options()
        except XlscaleError as error:
            self.told.value = fill("<p><b>{}</b></p>", error)
            options = {name: [] for name in CALLED}
        else:
            count = len(self.record.done)
            self.told.value = fill("<p>{} complete runs on tasks. Nothing chosen in a list: all of it.</p>", count)
        called = {"targets": choice_.task, "conditions": label}
        self._offering = True
        for name, one in self.lists.items():
            one.options = [(called.get(name, str)(value), value) for value in options[name]]
        self._offering = False

    def _changed(self, new: bool = False) -> None:
        if not self._offering:
            for update, follows in self._views:
                if new or follows:
                    update(new)

    def _follows(
        self,
        out: HTML,
        show: Callable[[], Markup],
        *controls: ipywidgets.Widget,
        offers: Sequence[Callable[[], None]] = (),
    ) -> HTML:
        """``out``, showing what ``show`` gives whenever one of ``controls`` changes. Of a new study ``offers`` first
        give the controls what it has; without any, ``show`` is of the choice and follows that."""

        def update(new: bool = False) -> None:
            if self._offering:
                return
            self._offering = True  # of all the changes that an offer makes only the last is shown
            fault = _guarded(lambda: _all(offers if new else ()))
            self._offering = False
            out.value = fault or _guarded(show)

        for one in controls:
            one.observe(lambda _: update(), "value")
        self._views.append((update, not offers))
        update(new=True)
        return out


def _all(steps: Iterable[Callable[[], None]]) -> Markup:
    for step in steps:
        step()
    return Markup()


def _offer(one: Dropdown, options: list, first: Any = None) -> None:
    """Give a list new options, and keep what is chosen where that is still there."""
    values = [option[1] if isinstance(option, tuple) else option for option in options]
    chosen = one.value if one.value in values else first if first is not None else next(iter(values), None)
    if [*one.options] != [*options]:
        one.options = options
    one.value = chosen


def _guarded(show: Callable[[], Markup]) -> Markup:
    """What ``show`` gives, or the line of a fault."""
    try:
        return show()
    except XlscaleError as error:
        return fill("<p><b>{}</b></p>", error)


def _image(fig: Figure, text: str) -> Markup:
    data = b64encode(style.screen(fig)).decode()
    return fill('<img alt="{}" src="data:image/svg+xml;base64,{}" style="max-width:100%;background:white">', text, data)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], opened: bool = False) -> Markup:
    """A table of texts, which a click opens."""
    head = join(fill('<th scope="col" style="text-align:start;padding:0 0.6em">{}</th>', name) for name in heads)
    each = (join(fill('<td style="padding:0 0.6em">{}</td>', text) for text in row) for row in rows)
    body = join(fill("<tr>{}</tr>", row) for row in each)
    table = '<details{}><summary>Table</summary><div style="max-height:30em;overflow:auto;line-height:1.35">'
    table += "<table><tr>{}</tr>{}</table></div></details>"
    return plain(fill(table, Markup(" open" if opened else ""), head, body))


def _outcome(one: Run, text: str) -> Markup:
    """How a run ended, and its value beside the recorded one."""
    if one.result() is None:
        return fill("<p><b>{}</b></p>", text)
    found = one.compared()
    row = found.iloc[0]
    said = fill("<p><b>{}</b></p>", verdicts.sentence(row))
    where = fill("<p>Predictions and the executed notebook: <code>{}</code></p>", one.folder)
    return fill("{}{}", said, where)

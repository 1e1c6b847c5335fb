"""From the paper to what is behind it: the verbs ``cells``, those of a study or behind a figure or table, and
``notebook``, which runs one analysis again and says whether it gives what the paper says.
"""

from __future__ import annotations

from xlscale.commands.steps import MADE_FROM, READS, paper_of
from xlscale.core.files import NOTEBOOKS, RUNS, XlscaleError, read_json, relative, write_json
from xlscale.core.format import DASH, listing, percent
from xlscale.core.lines import each_bounded
from xlscale.experiment import results, studies
from xlscale.experiment.results import Result
from xlscale.record import store
from xlscale.report import typeset


def cells(study: str, figure: int | None = None, table: int | None = None) -> None:
    """Print one line per cell of a study, or per recorded cell behind a figure or table of its paper: id, value in
    percent, and whether it is recorded or complete in ``runs/``. Raises XlscaleError for a figure or table that there
    is not."""
    known = store.results()
    if figure and table:
        raise XlscaleError(f"FIGURE={figure}, TABLE={table}: expected one of them, not both")
    if figure or table:
        kind, number = ("figures", figure) if figure else ("tables", table)
        found = {name: known[name] for name in _behind(study, kind, number or 0, known)}
    else:
        found = {cell.id: known.get(cell.id) or results.result_of(cell) for cell in studies.load(study).cells()}
    for name, result in found.items():
        state = "recorded" if name in known else "done" if result else "to do"
        print(f"{name}  {_value(result)}  {state}")


def _value(result: Result | None) -> str:
    return DASH if result is None or result.value is None else f"{percent(result.value, 2)}%"


def _behind(study: str, kind: str, number: int, known: dict[str, Result]) -> list[str]:
    """Ids of the recorded cells behind a figure or table of a study's paper, of which a line is printed."""
    from xlscale.report.behind import Behind

    paper, called = paper_of(study), typeset.CALLED[kind]
    shown = typeset.shown(paper.out)
    if (kind, number) not in shown:
        numbers = sorted(one for of, one in shown if of == kind)
        there = f"{called.lower()} {listing(numbers)}" if numbers else f"`make paper STUDY={study}` before this"
        raise XlscaleError(f"{called.upper()}={number}: expected {there}, which notebooks make")
    name = shown[kind, number]
    source = typeset.built(paper.out)[kind][name]["source"]
    found = Behind(store.table(known), paper.study)(source, name)
    behind = f"{len(found)} runs, `make cell ID=...` repeats one"
    again = f"no run is behind it; `make notebook NAME={source}` makes it again, and says whether its numbers agree"
    print(f"{called} {number}: {name}, by notebook {source}; {behind if found else again}")
    return found


def notebook(name: str) -> None:
    """Run an analysis notebook by hand, and print what its last cell says. Raises XlscaleError for another name, and
    with one line where it breaks."""
    from xlscale.engine import notebook as engine

    known = [one for one in READS if one[0].isdigit()]
    if name not in known:
        raise XlscaleError(f"NAME={name}: expected one of {', '.join(known)}")
    executed, made_from = RUNS / "by-hand" / name / "executed.ipynb", paper_of(studies.MAIN).made_from(name)
    engine.execute(NOTEBOOKS / f"{name}.ipynb", executed, {})
    write_json(executed.with_name(MADE_FROM), made_from)  # for `make status`
    last = [cell for cell in read_json(executed)["cells"] if cell["cell_type"] == "code"][-1]
    said = "".join("".join(one.get("text", "")) for one in last["outputs"])
    print(each_bounded(f"{said.strip()}\nexecuted: {relative(executed)}"))

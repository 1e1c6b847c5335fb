"""The verbs that look at what there is and compute nothing: list, show and compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from xlscale.cards import catalogue
from xlscale.core import registry
from xlscale.core.files import RUNS, XlscaleError, one_line, read_json, relative
from xlscale.core.format import DASH, interval, listing, percent, probability, signed
from xlscale.core.lines import each_bounded
from xlscale.core.strict import parse
from xlscale.experiment import results, studies
from xlscale.experiment.results import PREDICTIONS, RESULT, Result
from xlscale.record import canary, homes, store

# Where a cell may have been run on this machine, besides ``runs/`` itself.
PLACES = ("", "by-hand", "explore", "verify", "reproduce")
SHOWN = 12  # ids that are named where one is wanted
HASH = 6  # characters of a hash that tell a cell apart


def everything(kind: str) -> str:
    """What there is of a kind, or of all kinds, a line each, by name."""
    chosen = KINDS if kind == "all" else {kind: KINDS[kind]}
    lines = [line for name, rows in chosen.items() for line in (f"{name}:", *(f"  {row}" for row in rows()), "")]
    return each_bounded("\n".join(lines).strip())


def _each(names: Iterable[str], told: Callable[[str], str]) -> Iterator[str]:
    """What is told of every name, where it is told anything; of one whose file is broken, what is wrong with it."""
    for name in names:
        try:
            if line := told(name):
                yield f"{name}: {line}"
        except XlscaleError as error:
            yield f"{name}: cannot be read: {error}"


def _studies() -> Iterator[str]:
    return _each(studies.names(), lambda name: studies.load(name).title)


def _models() -> Iterator[str]:
    def told(name: str) -> str:
        card = catalogue.model_card(name)
        return f"{card.title}; layers: {listing(card.rungs)}"

    return _each(catalogue.names("models"), told)


def _data(role: str) -> Iterator[str]:
    def told(name: str) -> str:
        card = catalogue.data_card(name)
        return f"{card.title} ({card.family})" if card.role == role else ""

    return _each(sorted({*catalogue.names("data"), *catalogue.names(catalogue.SOURCES)}), told)


def _verbs() -> Iterator[str]:
    from xlscale.commands import verbs  # which imports this

    return (verb.name for verb in verbs.VERBS)


KINDS: dict[str, Callable[[], Iterator[str]]] = {
    "studies": _studies,
    "models": _models,
    "tasks": lambda: _data("target"),
    "intermediate": lambda: _data("intermediate"),
    "objectives": lambda: iter(registry.PARTS["objective"]),
    "methods": lambda: iter(registry.PARTS["method"]),
    "verbs": _verbs,
}


def show(cell_id: str) -> str:
    """A cell: what it is, its value by language, what it took, and where its files are. Raises XlscaleError where it is
    neither recorded nor has been run."""
    name = full(cell_id)
    record, here = homes.of(name), run_here(name)
    recorded = store.results(record).get(name)
    if not (recorded or here):
        raise XlscaleError(_nowhere(name))
    result = recorded or here[1]
    values, about = result.parameters, store.describe(result)
    lines = [
        name,
        f"phase {result.phase}: {values['model']}, {values['layers']} layers, {about['condition']}",
        f"on {store.data_set(result)}; seed {values.get('seed', DASH)}; {result.status} {result.reason or ''}".rstrip(),
    ]
    if result.status == "complete":
        lines += [f"value {percent(result.value, 2)}%; English {percent(result.english, 2)}", *_languages(result)]
        seconds = ", ".join(f"{name} {value:.0f}" for name, value in result.seconds.items())
        lines.append(f"seconds: {seconds}; memory {result.peak_memory_gb} GB")
    lines.append(f"starts from {result.parent}" if result.parent else "starts from the pretrained model")
    recipe = {key: value for key, value in values.items() if value is not None and key not in _OWN}
    lines.append("recipe: " + ", ".join(f"{key} {value}" for key, value in recipe.items()))
    if recorded:
        code = "the present code gives the same" if canary.accepted(recorded, record) else "its code has changed since"
        lines.append(f"recorded in {relative(record)}; {code}")
    lines += [f"run here: {relative(here[0])}"] if here else []
    return each_bounded("\n".join(lines))


_OWN = ("model", "layers", "intermediate", "placebo", "target", "seed")


def _languages(result: Result) -> list[str]:
    """Values by language, a few to a line."""
    each = [f"{code} {percent(score.value)}" for code, score in result.languages.items()]
    return ["  " + "  ".join(each[start : start + 12]) for start in range(0, len(each), 12)]


def compare(cell_id: str, other: str) -> str:
    """A run of this machine beside the record, in a sentence; or two cells of a task item by item: the difference in
    every language and in the mean, with intervals."""
    from xlscale.report import verdicts

    name = full(cell_id)
    if other:
        return _two(name, full(other))
    if (here := run_here(name)) is None:
        raise XlscaleError(f"{name}: expected a run of it on this machine; `make cell ID={name}`")
    return f"{verdicts.sentence(verdicts.of_one(here[1]).iloc[0])}\nrun here: {relative(here[0])}"


def _two(one: str, other: str) -> str:
    from xlscale.stats import items
    from xlscale.xtreme import paired

    sides = [_read(name) for name in (one, other)]
    targets = [result.parameters.get("target") for result, _ in sides]
    if None in targets or targets[0] != targets[1]:
        raise XlscaleError(f"{one}, {other}: expected two complete cells of one task")
    languages, mean = items.two(targets[0], *(path for _, path in sides))
    lines = [f"{one} less", f"{other}, on {targets[0]}:"]
    for code, row in [*languages.items(), (items.MEAN, mean)]:
        if row is not None:
            adjusted = "" if row.adjusted is None else f", p {probability(row.adjusted)}"
            said = f"{row.a:.1f} {DASH} {row.b:.1f} = {signed(row.difference, factor=1)}"
            lines.append(f"  {code:<8} {said} ({interval(row.low, row.high, factor=1)}{adjusted})")
    level = f"{100 * paired.LEVEL:g}%"
    lines.append(
        f"In parentheses {level} intervals from a bootstrap over items: they speak of other items, for these two"
    )
    lines.append("runs, and not of other seeds. p is adjusted for the number of languages (Holm).")
    return each_bounded("\n".join(lines))


def _read(name: str) -> tuple[Result, Path]:
    """The result of a cell and its predictions, those of the record first."""
    if recorded := store.results(record := homes.of(name)).get(name):
        return recorded, record / "predictions" / f"{name}.parquet"
    if not (here := run_here(name)):
        raise XlscaleError(_nowhere(name))
    folder, result = here
    return result, folder / PREDICTIONS


def _nowhere(name: str) -> str:
    return f"{name}: expected a result in the record, or one in runs/ that is as its cell left it; make cell ID={name}"


def run_here(name: str) -> tuple[Path, Result] | None:
    """The folder and result of a cell's latest complete run on this machine."""
    folders = [RUNS / place / name for place in PLACES]
    found = [folder for folder in folders if (folder / RESULT).exists() and not results.altered(folder)]
    read = [(folder, parse(Result, read_json(folder / RESULT), relative(folder / RESULT))) for folder in found]
    own = [(folder, result) for folder, result in read if result.id == name]  # and not what was copied there
    return max(own, key=lambda one: (one[0] / RESULT).stat().st_mtime, default=None)


def full(given: str) -> str:
    """The id of the cell that ``given`` is, begins, or is the hash of. Raises XlscaleError where that is none, or more
    than one."""
    if (found := matching(given)) is None:
        near = get_close_matches(given, _known(), 3, 0.6)
        hint = f"; did you mean {listing(near)}?" if near else "; see `make cells`"
        raise XlscaleError(f"ID={one_line(given)}: expected the id of a cell that is recorded or was run here{hint}")
    return found


def matching(given: str) -> str | None:
    """As ``full``; None where there is no such cell."""
    known = _known()
    if given in known:
        return given
    whole = sorted(name for name in known if given and (name.startswith(f"{given}-") or _ends(name, given)))
    found = whole or sorted(name for name in known if given and name.startswith(given))
    if len(found) > 1:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise XlscaleError("\n".join([f"ID={one_line(given)}: expected one cell, got", *found[:SHOWN]]) + more)
    return found[0] if found else None


def _known() -> set[str]:
    return {*(name for record in homes.records() for name in homes.ids(record)), *_run_here()}


def _ends(name: str, given: str) -> bool:
    return len(given) >= HASH and name.rpartition("-")[2].startswith(given)


def _run_here() -> Iterator[str]:
    return (path.parent.name for place in PLACES for path in (RUNS / place).glob(f"*/{RESULT}"))

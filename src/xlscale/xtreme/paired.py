"""Two folders of predictions against one folder of labels: differences by language and task, with intervals.

Intervals are from a paired bootstrap, the one way for all metrics: what is drawn are items, with what both folders have
predicted for them, and the scores are those of the drawn items together, so that F1 is that of the corpus. Items that
are parallel are drawn together in all languages: the same item in several languages is one cluster (Field and Welsh
2007), since whoever fails on it in one language tends to fail in another. Elsewhere each language is drawn by itself.
An interval is the difference plus and minus t times the standard deviation over the draws. No p is smaller than the
signs of so many differences can have it; where all items differ alike the interval is what their number leaves open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from xlscale.core.files import bounded
from xlscale.core.format import probability
from xlscale.core.lines import each_bounded
from xlscale.xtreme.benchmark import Benchmark, Task
from xlscale.xtreme.folders import FORMATS, ITEMS, chosen, missing, sources
from xlscale.xtreme.items import Items, score

LEVEL, DRAWS, SEED = 0.95, 2000, 1
BLOCK = 2**22  # weights that are held at a time
ROUNDING = 1e-9  # points: a spread below it is that of numbers that are equal
Pair = tuple[Items, Items]  # of both folders, the same items


@dataclass(frozen=True)
class Difference:
    """Scores ``a`` and ``b``, 0 to 100, their ``difference`` and its interval in points, over ``items``.

    ``p``: two-sided, of no difference; ``adjusted``: the same after Holm (1979) over the languages of the task, None
    of the task itself; ``tied``: whether the (adjusted) p is above 1 - LEVEL, so that neither is known to be better.
    """

    items: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    adjusted: float | None = None
    tied: bool = False


@dataclass(frozen=True)
class Comparison:
    """A task: differences by language, that of the mean over them (None if one is missing), and the missing files."""

    task: Task
    languages: dict[str, Difference]
    mean: Difference | None
    missing: dict[str, str]


def compare_folders(
    benchmark: Benchmark, both: tuple[Path, Path], labels: Path, names: Sequence[str] = (), allow_missing: bool = False
) -> list[Comparison]:
    """Compare the folders ``both`` on the tasks ``names``, or on all. Raises XlscaleError as ``score_folders`` does."""
    tasks = chosen(benchmark, names)
    absent = missing(benchmark, tasks, (*both, labels), allow_missing)
    found = []
    for task in tasks:
        pairs = {one: _read(task, one, both, labels) for one in task.languages if one not in absent[task.name]}
        languages, mean = compare(pairs, task.parallel)
        found.append(Comparison(task, languages, None if absent[task.name] else mean, absent[task.name]))
    return found


def _read(task: Task, language: str, both: tuple[Path, Path], labels: Path) -> Pair:
    *sides, gold = sources(task, language, *both, labels)
    for side in sides:
        FORMATS[task.format](task, side, gold)  # raises what there is to raise
    items = [ITEMS[task.format](task, side, gold) for side in sides]
    if several := [name for name, count in Counter(items[0].ids).items() if count > 1]:
        raise gold.fault(f"id: expected no two that are written alike without their language, got {several[0]!r} twice")
    return _aligned(*items)


def _aligned(one: Items, other: Items) -> Pair:
    """The same items in one order: of mined pairs, what only one side has adds nothing to the other."""
    if one.ids == other.ids:
        return one, other
    ids = sorted({*one.ids, *other.ids})
    place = {name: i for i, name in enumerate(ids)}
    found = []
    for side in (one, other):
        above, below = (np.zeros((len(ids), part.shape[1])) for part in (side.above, side.below))
        rows = [place[name] for name in side.ids]
        above[rows], below[rows] = side.above, side.below
        found.append(Items(ids, above, below))
    return found[0], found[1]


def compare(
    pairs: dict[str, Pair], parallel: bool, draws: int = DRAWS, seed: int = SEED
) -> tuple[dict[str, Difference], Difference | None]:
    """The differences of every language and of the mean over them; ``parallel``: equal ids are one item.

    Without languages there is no mean.
    """
    if not pairs:
        return {}, None
    generator = np.random.default_rng(seed)
    groups = [[*pairs]] if parallel else [[language] for language in pairs]
    drawn: dict[str, np.ndarray] = {}
    clusters = {}
    for group in groups:
        names = sorted({name for language in group for name in pairs[language][0].ids})
        drawn |= _drawn({language: pairs[language] for language in group}, names, draws, generator)
        clusters |= dict.fromkeys(group, len(names))
    scores = {one: [float(score(side.above.sum(0), side.below.sum(0))) for side in pair] for one, pair in pairs.items()}
    sizes = {language: len(pair[0].ids) for language, pair in pairs.items()}
    found = {one: _difference(sizes[one], scores[one], drawn[one], sizes[one] - 1) for one in pairs}
    adjusted = holm(np.array([one.p for one in found.values()]))
    languages = {
        name: replace(one, adjusted=float(p), tied=bool(p > 1 - LEVEL))
        for (name, one), p in zip(found.items(), adjusted, strict=True)
    }
    total = next(iter(clusters.values())) if parallel else sum(clusters.values())
    free = total - (1 if parallel else len(pairs))
    mean = _difference(total, np.mean([*scores.values()], 0), np.mean([*drawn.values()], 0), free)
    return languages, replace(mean, tied=mean.p > 1 - LEVEL)


def _drawn(
    pairs: dict[str, Pair], names: list[str], draws: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """language -> the difference of the scores of every draw of as many clusters as there are, float64 (draws,)."""
    place = {name: i for i, name in enumerate(names)}
    rows = {language: np.array([place[name] for name in pair[0].ids]) for language, pair in pairs.items()}
    found: dict[str, list[np.ndarray]] = {language: [] for language in pairs}
    block = max(1, BLOCK // len(names))
    for first in range(0, draws, block):
        size = min(block, draws - first)
        chosen = generator.integers(len(names), size=(size, len(names))) + len(names) * np.arange(size)[:, None]
        weights = np.bincount(chosen.ravel(), minlength=size * len(names)).reshape(size, -1).astype(np.float64)
        for language, pair in pairs.items():
            own = weights[:, rows[language]]
            one, other = (score(own @ side.above, own @ side.below) for side in pair)
            found[language].append(one - other)
    return {language: np.concatenate(parts) for language, parts in found.items()}


def _difference(items: int, scores: Sequence[float], drawn: np.ndarray, free: int) -> Difference:
    a, b = map(float, scores)
    found, spread = a - b, float(drawn.std(ddof=1))
    if free < 1:  # a single item says nothing about others
        return Difference(items, a, b, found, -100.0, 100.0, 1.0)
    least = 2.0**-free  # of so many independent items, the smallest p that the signs of their differences can have
    if spread < ROUNDING:
        # All items differ alike, or not at all, so that none says how others vary; their share is known to be small.
        others = 1 - (1 - LEVEL) ** (1 / (free + 1))
        low, high = found - others * (found + 100), found + others * (100 - found)
        return Difference(items, a, b, found, low, high, least if found else 1.0)
    half = float(stats.t.ppf((1 + LEVEL) / 2, free)) * spread
    p = float(2 * stats.t.sf(abs(found) / spread, free))
    return Difference(items, a, b, found, found - half, found + half, max(p, least))


def holm(p: np.ndarray) -> np.ndarray:
    """p values adjusted after Holm (1979), float64 like ``p``. statsmodels' collect garbage each time, which takes a
    hundred times as long."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(steps, 1.0)[np.argsort(order)]


def table(found: Sequence[Comparison], both: tuple[Path, Path]) -> str:
    """Every task by language, and which languages are tied."""
    parts = [bounded(f"A: {both[0]}\nB: {both[1]}\n")]
    for one in found:
        unit = "parallel item: the same in several languages is one" if one.task.parallel else "item of a language"
        metrics = " and ".join(one.task.score)
        rows = [f"{one.task.title} ({one.task.name}): {metrics}, in points; drawn by {unit}"]
        rows += [f"  {'':8}{'items':>8}{'A':>8}{'B':>8}{'A - B':>8}   {LEVEL:.0%} interval       p (Holm)"]
        rows += [_row(language, difference) for language, difference in one.languages.items()]
        rows += [_row("mean", one.mean)] if one.mean else []
        tied = [language for language, difference in one.languages.items() if difference.tied]
        rows += [f"  tied after Holm over {len(one.languages)} languages: {', '.join(tied) or 'none'}"]
        rows += [f"  missing: {fault}" for fault in one.missing.values()]
        parts.append("\n".join(rows) + "\n")
    return each_bounded("\n".join(parts))


def _row(name: str, one: Difference) -> str:
    p = one.p if one.adjusted is None else one.adjusted
    numbers = f"{one.items:>8,}{one.a:>8.2f}{one.b:>8.2f}{one.difference:>+8.2f}"
    return (
        f"  {name:8}{numbers}   {one.low:+7.2f} to {one.high:+7.2f}  {probability(p):>8}{'  tied' if one.tied else ''}"
    )


def document(found: Sequence[Comparison]) -> dict[str, Any]:
    """All of it, unrounded, for a JSON file."""
    return {
        "level": LEVEL,
        "draws": DRAWS,
        "tasks": {
            one.task.name: {
                "score_is_mean_of": one.task.score,
                "parallel": one.task.parallel,
                "mean": asdict(one.mean) if one.mean else None,
                "languages": {language: asdict(difference) for language, difference in one.languages.items()},
                "missing": one.missing,
            }
            for one in found
        },
    }

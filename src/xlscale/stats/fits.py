"""Curves through the rungs of a ladder, as description: a straight line, and a power law with an offset.

No claim rests on them. A power law with an offset has three numbers, and a ladder here has three to five rungs: how
much its offset is left open is the first thing to know about it, so every local optimum is kept, and the offset is
profiled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import optimize

from xlscale.experiment.cells import NONE
from xlscale.stats import groups
from xlscale.stats.slopes import FEWEST_RUNGS

STARTS = 200
OFFSETS = 41  # that are profiled
SAME = 1e-4  # relative: two optima that differ by less are one
OPEN = 1.0  # points of error, root mean square: offsets whose best curve misses the rungs by less fit as well
_LARGEST = 3.0  # exponents of the search, per factor of e


def line(sizes: Sequence[float], values: Sequence[float]) -> pd.Series:
    """Least squares of values (0..1) on log10 of sizes: slope (per factor of ten), intercept, rms (0..1)."""
    x, y = np.log10(np.asarray(sizes, dtype=float)), np.asarray(values, dtype=float)
    slope, intercept = np.polyfit(x, y, 1)
    rms = float(np.sqrt(np.mean((slope * x + intercept - y) ** 2)))
    return pd.Series({"slope": float(slope), "intercept": float(intercept), "rms": rms})


def power_laws(
    sizes: Sequence[float], errors: Sequence[float], rng: np.random.Generator, starts: int = STARTS
) -> pd.DataFrame:
    """All local optima of ``offset + scale * (size / smallest) ** -exponent`` by least squares, from random starts.

    ``errors``: 0..1, at least three sizes. ``offset`` and ``scale`` are within 0..1, the exponent is within 0..3.
    Columns: offset, scale, exponent, rms (0..1), starts (how many ended there), best first. Raises ValueError for fewer
    than three sizes.
    """
    relative, y = _relative(sizes), np.asarray(errors, dtype=float)
    if len(set(relative)) < FEWEST_RUNGS:
        raise ValueError(f"sizes: expected at least three, got {len(set(relative))}")
    upper = np.array([1.0, 1.0, _LARGEST])
    found: list[tuple[np.ndarray, float]] = []
    for start in rng.uniform(0, upper, (starts, 3)):
        fit = optimize.least_squares(
            lambda at: at[0] + at[1] * relative ** -at[2] - y, start, bounds=(0, upper), xtol=1e-12, ftol=1e-12
        )
        found.append((fit.x, float(np.sqrt(np.mean(fit.fun**2)))))
    rows: list[dict[str, float]] = []
    for at, rms in sorted(found, key=lambda one: one[1]):
        known = next((row for row in rows if np.allclose(at, list(row.values())[:3], rtol=SAME, atol=SAME)), None)
        if known:
            known["starts"] += 1
        else:
            rows.append(dict(zip(("offset", "scale", "exponent"), at, strict=True)) | {"rms": rms, "starts": 1})
    return pd.DataFrame(rows)


def profile(sizes: Sequence[float], errors: Sequence[float], offsets: Sequence[float]) -> pd.DataFrame:
    """The best power law for every offset: columns offset, scale, exponent, rms (0..1).

    For a given offset the scale has a closed form given the exponent, which is searched on its interval.
    """
    relative, y = _relative(sizes), np.asarray(errors, dtype=float)
    grid = np.linspace(0, _LARGEST, 61)

    def of(exponent: float | np.ndarray, offset: float) -> tuple[np.ndarray, np.ndarray]:
        curve = relative ** -np.asarray(exponent)[..., None]
        scale = np.maximum(0.0, curve @ (y - offset) / (curve**2).sum(-1))
        return scale, np.sqrt(np.mean((offset + scale[..., None] * curve - y) ** 2, axis=-1))

    rows = []
    for offset in offsets:
        near, step = grid[np.argmin(of(grid, offset)[1])], grid[1]
        best = optimize.minimize_scalar(
            lambda exponent, offset=offset: float(of(exponent, offset)[1]),
            bounds=(max(0.0, near - step), min(_LARGEST, near + step)), method="bounded",
        )  # fmt: skip
        scale, rms = of(best.x, offset)
        rows.append({"offset": float(offset), "scale": float(scale), "exponent": float(best.x), "rms": float(rms)})
    return pd.DataFrame(rows)


def left_open(found: pd.DataFrame) -> tuple[float, float]:
    """The lowest and highest offset of a ``profile`` whose curve is within OPEN points of the rungs, root mean square;
    NaN where none is."""
    fits = found.loc[100 * found["rms"] <= OPEN, "offset"]
    return (float(fits.min()), float(fits.max())) if len(fits) else (float("nan"), float("nan"))


def _relative(sizes: Sequence[float]) -> np.ndarray:
    sizes = np.asarray(sizes, dtype=float)
    return sizes / sizes.min()


def errors(cells: pd.DataFrame) -> dict[str, pd.Series]:
    """Target -> mean error (1 - value) over runs without intermediate training, by non-embedding parameters; of targets
    with at least three rungs."""
    own = groups.completed(cells)
    means = own[own["condition"] == NONE].groupby(["target", "non_embedding_parameters"])["value"].mean()
    found = {target: 1 - part.droplevel("target") for target, part in means.groupby("target")}
    return {target: part for target, part in found.items() if len(part) >= FEWEST_RUNGS}


def profiles(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Target -> ``profile`` of its ``errors``, over offsets from none to the smallest error."""
    found = errors(cells)
    return {target: profile(own.index, own, np.linspace(0, own.min(), OFFSETS)) for target, own in found.items()}


def by_target(cells: pd.DataFrame, found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A line and power laws through the ``errors`` of every target; ``found`` are its ``profiles``.

    Columns: target, rungs, slope and line_rms (of ``line``, of the value), offset, exponent and rms of the best power
    law, optima (how many were found), lowest and highest (of ``left_open``). Starts are seeded, and the same for all.
    """
    rows = []
    for target, own in errors(cells).items():
        straight, curves = line(own.index, 1 - own), power_laws(own.index, own, np.random.default_rng(1))
        lowest, highest = left_open(found[target])
        best = curves.iloc[0][["offset", "exponent", "rms"]].to_dict()
        about = {"target": target, "rungs": len(own), "slope": straight["slope"], "line_rms": straight["rms"]}
        rows.append(about | best | {"optima": len(curves), "lowest": lowest, "highest": highest})
    columns = ["target", "rungs", "slope", "line_rms", "offset", "exponent", "rms", "optima", "lowest", "highest"]
    return pd.DataFrame(rows, columns=columns)

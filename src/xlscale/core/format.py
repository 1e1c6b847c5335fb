"""Numbers as text, one way for each kind: percentages, differences, intervals, p values, counts, lists, keys.

Values are proportions (0 to 1) and are printed in percent or percentage points, unless a docstring says otherwise. What
is not known is printed as "missing", never as 0. Words about conditions and data sets are in ``report.labels``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

MISSING = "missing"
DASH = "–"
_MINUS = "\N{MINUS SIGN}"


def percent(value: float | None, digits: int = 1, missing: str = MISSING) -> str:
    """0.7312 as "73.1"; None and NaN as ``missing``."""
    return missing if pd.isna(value) else f"{100 * value:.{digits}f}"


def signed(value: float, digits: int = 1, factor: float = 100) -> str:
    """A difference of proportions in percentage points with its sign, 0.012 as "+1.2"; NaN as "missing"."""
    if pd.isna(value):
        return MISSING
    text = f"{factor * value:+.{digits}f}"
    # A sign before a rounded zero would claim a direction.
    return text[1:] if float(text) == 0 else text.replace("-", _MINUS)


def interval(low: float, high: float, digits: int = 1, factor: float = 100) -> str:
    """An interval in percentage points; "none" where it cannot be estimated, "exact" for a single point."""
    if pd.isna(low):
        return "none"
    return "exact" if low == high else f"{signed(low, digits, factor)} to {signed(high, digits, factor)}"


def probability(p: float) -> str:
    """A p value: "0.032", "<0.001"; "none" for NaN."""
    return "none" if pd.isna(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def share(value: float) -> str:
    """A confidence level or a power, 0.999 as "99.9%"."""
    return f"{100 * value:g}%"


def rate(value: float) -> str:
    """A learning rate without an exponent, 2e-5 as "0.00002"."""
    return np.format_float_positional(value, trim="-")


def millions(count: float) -> str:
    """A number of parameters as "21.3 million"."""
    return MISSING if pd.isna(count) else f"{count / 1e6:.1f} million"


def size_range(smallest: float, largest: float) -> str:
    """Numbers of parameters as people name models: "7B to 70B", "560M"."""
    ends = [f"{size / 1e9:.3g}B" if size >= 1e9 else f"{size / 1e6:.3g}M" for size in (smallest, largest)]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def listing(items: Iterable[Any]) -> str:
    """Items in a sentence: "a", "a and b", "a, b and c"; "none" where there are none."""
    words = [str(item) for item in items]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "none"


def slug(*words: str) -> str:
    """Words as a part of a key: "Llama-2", "Basque (v1)" is "llama_2_basque_v1"."""
    return re.sub(r"[^a-z0-9]+", "_", " ".join(words).lower()).strip("_")

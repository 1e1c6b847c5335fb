"""What intermediate data are: the two codings of ``coding.csv``, what was decided, and how far the codings agree.

The rule is in ``data_manifest/published/coding.md``. A label that nobody coded is NOT_CODED in every field.
"""

from __future__ import annotations

import pandas as pd

from xlscale.cards.languages import checked
from xlscale.core.files import XlscaleError

FIELDS = ("languages", "kind", "breadth", "disclosed")
CODERS = ("1", "2")
AGREED = "agreed"
UNKNOWN, SEVERAL, NOT_CODED = "unknown", "several", "not coded"
KINDS = ("task", "instructions", "text", "text and instructions", UNKNOWN)
BREADTHS = ("one", "many", UNKNOWN)
# What the languages of data are to the language that a score was tested in.
ENGLISH, TESTED, ANOTHER, MANY, NOT_STATED = "English", "the tested language", "another", "several", "not stated"


def languages(text: str) -> list[str]:
    """The codes of ``text``, one or two; none for SEVERAL and UNKNOWN. Raises ValueError for anything else."""
    codes = [] if text in (SEVERAL, UNKNOWN) else [checked(code) for code in text.split(" ")]
    if len(set(codes)) != len(codes) or len(codes) > 2:
        raise ValueError(text)
    return codes


def check(table: pd.DataFrame) -> None:
    """Raise XlscaleError naming the label unless each is coded by both coders, and decided where they differ."""
    for label, rows in table.groupby("intermediate_task", sort=False):
        of = rows.set_index("coder")[[*FIELDS]]
        both = of.reindex(CODERS)
        same = both.drop_duplicates().shape[0] == 1 or both.isna().any(axis=None)  # one that is missing is said below
        expected = [*CODERS] if same else [*CODERS, AGREED]
        if sorted(of.index) != sorted(expected):
            raise XlscaleError(f"coding.csv: {label}: coder: expected {', '.join(expected)}, got {', '.join(of.index)}")
        for field in FIELDS if not same else ():
            if of.loc[AGREED, field] not in set(both[field]):
                raise XlscaleError(
                    f"coding.csv: {label}: {field}: expected what one of the coders has in the row agreed"
                )


def decided(table: pd.DataFrame) -> pd.DataFrame:
    """FIELDS of every label (the index): what both coders said, or what was agreed."""
    return table.drop_duplicates("intermediate_task", keep="last").set_index("intermediate_task")[[*FIELDS]]


def relation(coded: str, tested: str) -> str:
    """What the coded ``languages`` of data are to the language of a score."""
    if coded == NOT_CODED:
        return coded
    if coded in (UNKNOWN, SEVERAL):
        return NOT_STATED if coded == UNKNOWN else MANY
    codes = languages(coded)
    return ENGLISH if codes == ["en"] else TESTED if tested in codes else ANOTHER


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """How far the coders agree, a row per field: field, labels (number), same (number), raw (0..1), kappa.

    Kappa is Cohen's (1960), unweighted: (observed - expected) / (1 - expected), where ``expected`` is the agreement of
    two coders who give each value as often as these did, at random. NaN where both gave one value throughout.
    """
    wide = table[table["coder"].isin(CODERS)].pivot(index="intermediate_task", columns="coder", values=[*FIELDS])
    found = []
    for field in FIELDS:
        one, two = (wide[field][coder] for coder in CODERS)
        same = one == two
        expected = float((one.value_counts(normalize=True) * two.value_counts(normalize=True)).sum())
        kappa = (same.mean() - expected) / (1 - expected) if expected < 1 else float("nan")
        found.append((field, len(wide), int(same.sum()), float(same.mean()), kappa))
    return pd.DataFrame(found, columns=["field", "labels", "same", "raw", "kappa"])

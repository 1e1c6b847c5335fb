"""All rows of a flat file as a data set: what is expected of them together, and what of a card follows from them.

Belongs here: splits and languages that a role has, classes, tags, pools, chance. Of one row: ``flat_rows``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xlscale.acquire.flat_files import Faults, Place
from xlscale.cards.languages import ENGLISH
from xlscale.cards.schema import LABEL, METRICS, TOKENS, is_label
from xlscale.core.strict import SHORT, unseen
from xlscale.data import schema, words

TRAINED = ("classification", "multiple_choice", "span_qa", "tagging")  # families of targets and intermediate sets
_ROLES = {"lexicon": "lexicon", "text": "unlabelled"} | dict.fromkeys(("retrieval", "mining", "ranking"), "target")
# What has to be there, and what may be, of a role; of a family that is not trained, or not by classes, its own.
_SPLITS = {
    "target": (("train", "test"), ("dev",)),
    "intermediate": (("train", "dev"), ()),
    "lexicon": (("train",), ()),
    "unlabelled": (("train",), ("dev",)),
    "retrieval": (("test",), ()),
    "mining": (("test",), ()),  # with pools of its own for development
    "ranking": (("test",), ("train", "dev")),
}
_FEW = 20  # faults that are looked for one after another


def role(family: str, places: Iterable[Place]) -> str:
    """What a set is: what is tested is a target, and what can be trained on and is not tested an intermediate set."""
    tested = any(place.row["split"] == "test" for place in places)
    return _ROLES.get(family) or ("target" if tested else "intermediate")


def check(family: str, role: str, places: list[Place], where: str, faults: Faults) -> None:
    """Note what is wrong with the rows together. ``where``: the file, of what is wrong with no row."""
    _check_splits(family, role, places, where, faults)
    _check_once(places, faults)
    _check_values(family, places, faults)
    if family == "classification":
        _check_labels(places, where, faults)
    elif family == "tagging":
        _check_tags(places, where, faults)
    elif family == "mining":
        _check_pools(places, faults)
    elif family == "ranking":
        _check_roles(places, faults)
    elif family == "retrieval":
        _check_candidates(places, faults)


def _check_splits(family: str, role: str, places: list[Place], where: str, faults: Faults) -> None:
    needed, more = _SPLITS.get(family) or _SPLITS[role]
    there = {place.row["split"] for place in places}
    told = f"{'an' if role[0] in 'aeiou' else 'a'} {role} set of family {family}"
    if missing := [split for split in needed if split not in there]:
        hint = "; what is tested in other languages makes a set a target" if role == "intermediate" else ""
        faults.add(where, f"split: expected rows in {' and '.join(needed)} of {told}, got none in {missing[0]}{hint}")
    for place in places:
        split, language = place.row["split"], place.row["language"]
        if split not in (*needed, *more):
            faults.add(place.where, f"split: expected {' or '.join((*needed, *more))} of {told}, got {split!r}")
        elif split != "test" and role in ("target", "intermediate") and language != ENGLISH:
            faults.add(place.where, f"language: expected 'en' in {split}: it is trained on English, got {language!r}")
    tested = [place.row["language"] for place in places if place.row["split"] == "test"]
    if role == "target" and tested and {*tested} <= {ENGLISH}:
        faults.add(where, "language: expected another than 'en' in split test of a target, got none")


def _check_once(places: list[Place], faults: Faults) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for place in places:
        key = tuple(place.row[name] for name in ("split", "language", "item"))
        if (before := seen.setdefault(key, place.where)) != place.where:
            faults.add(place.where, f"item: expected each once in a split and language, got {key[2]!r} as at {before}")


def _check_values(family: str, places: list[Place], faults: Faults) -> None:
    """What ``data.schema`` says of empty values, and of queries that nothing answers: it names one row at a time."""
    left = places
    for fault in (schema.fault, schema.unanswered):
        for _ in range(_FEW):
            found = fault(family, table(family, left)) if left else None
            if found is None:
                break
            faults.add(left[found[0]].where, found[1])
            left = [*left[: found[0]], *left[found[0] + 1 :]]


def _check_labels(places: list[Place], where: str, faults: Faults) -> None:
    trained = {place.row["label"] for place in places if place.row["split"] == "train"}
    if len(trained) == 1:
        faults.add(where, f"label: expected two classes or more in train, got {SHORT.repr(min(trained))} alone")
    for place in places:
        label = place.row["label"]
        if trained and label not in trained:
            known = ", ".join(sorted(trained)[:20])
            faults.add(place.where, f"label: expected one that train has ({known}), got {SHORT.repr(label)}")


def bio(places: Iterable[Place]) -> bool:
    """Whether tags mark spans: where none begins one, each is a word's own."""
    return any(tag.startswith("B-") for place in places for tag in place.row["tags"])


def _check_tags(places: list[Place], where: str, faults: Faults) -> None:
    spans = bio(places)
    trained = {_kind(tag, spans) for place in places if place.row["split"] == "train" for tag in place.row["tags"]}
    for place in places:
        for before, tag in zip([words.OUTSIDE, *place.row["tags"]], place.row["tags"], strict=False):
            if fault := _tag_fault(before, tag, spans):
                faults.add(place.where, f"tags: {fault}")
            elif trained and tag != words.OUTSIDE and _kind(tag, spans) not in trained:
                faults.add(place.where, f"tags: expected one that train has, got {SHORT.repr(tag)}")
    if not spans and len(trained) == 1:
        faults.add(where, f"tags: expected two tags or more in train, got {SHORT.repr(min(trained))} alone")


def _kind(tag: str, spans: bool) -> str:
    """The type of the span that a tag is of, O where it is of none; a word's own tag where there are no spans."""
    return tag[2:] if spans and tag != words.OUTSIDE else tag


def _tag_fault(before: str, tag: str, spans: bool) -> str:
    name = _kind(tag, spans)
    if spans and tag == words.OUTSIDE:
        return ""
    if spans and (tag[:2] not in ("B-", "I-") or not name):
        return f"expected O, B-<type> or I-<type>, as some tags begin with B-, got {SHORT.repr(tag)}"
    if not is_label("tagging", "bio" if spans else "plain", name) or unseen(name):
        return f"expected {LABEL.partition(', ')[2]}, of characters that show, got {SHORT.repr(tag)}"
    if spans and tag[0] == "I" and before[1:] != tag[1:]:
        return f"expected {tag!r} to follow B-{name} or I-{name}, got {before!r} before it"
    return ""


def _check_pools(places: list[Place], faults: Faults) -> None:
    pools: dict[str, set[bool]] = {}
    for place in places:
        pools.setdefault(place.row["pool"], set()).add(place.row["language"] == ENGLISH)
    wrong: dict[str, str] = {}
    for pool, sides in pools.items():
        kind, _, language = pool.partition("-")
        if kind not in ("test", "dev") or not language:
            wrong[pool] = f"expected test-<language> or dev-<language>, got {SHORT.repr(pool)}"
        elif len(sides) == 1:
            wrong[pool] = f"expected English rows and others in {SHORT.repr(pool)}, got one of the two"
        elif kind == "test" and f"dev-{language}" not in pools:
            wrong[pool] = f"expected dev-{language} beside {SHORT.repr(pool)}, where the threshold is chosen"
    for place in places:
        if fault := wrong.pop(place.row["pool"], ""):
            faults.add(place.where, f"pool: {fault}")


def _check_candidates(places: list[Place], faults: Faults) -> None:
    """English texts that are the same are equally near to every query: which is right has to be the same, too."""
    known: dict[tuple[Any, ...], Place] = {}
    for place in places:
        row = place.row
        if row["language"] == ENGLISH:
            before = known.setdefault((row["split"], row.get("pool"), row["text"]), place)
            if before.row["group"] != row["group"]:
                expected = f"{SHORT.repr(before.row['group'])}, that of the same text at {before.where}"
                faults.add(place.where, f"group: expected {expected}, got {SHORT.repr(row['group'])}")


def _check_roles(places: list[Place], faults: Faults) -> None:
    for place in places:
        pair, tested = place.row["role"] == "pair", place.row["split"] == "test"
        if pair == tested:
            expected = "query or candidate in test" if tested else f"pair in {place.row['split']}"
            faults.add(place.where, f"role: expected {expected}, got {place.row['role']!r}")


def table(family: str, places: list[Place]) -> pa.Table:
    """The rows in the family's columns, in the order given."""
    optional = [*schema.OPTIONAL.get(family, []), schema.ORIGINAL]
    given = [field for field in optional if any(place.row.get(field.name) is not None for place in places)]
    return pa.Table.from_pylist([p.row for p in places], schema=pa.schema([*schema.COLUMNS[family], *given]))


def ordered(rows: pa.Table) -> pa.Table:
    """By split and language, as bundles are; within, the order given."""
    rank = pc.index_in(rows["split"], pa.array(schema.SPLITS))
    by = [("rank", "ascending"), ("language", "ascending"), ("order", "ascending")]
    order = pa.array(np.arange(len(rows)))
    return rows.take(pc.sort_indices(rows.append_column("rank", rank).append_column("order", order), by))


def described(family: str, role: str, rows: pa.Table, spans: bool) -> dict[str, Any]:
    """The fields of a card that follow from checked rows; ``spans``: whether tags mark some."""
    counts = schema.counts(rows)
    languages = sorted({*counts.get("test", {})} - {ENGLISH}) if role == "target" else []
    fields: dict[str, Any] = {"metric": METRICS[family], "chance": 0.0} if role in ("target", "intermediate") else {}
    if family == "tagging":
        tags = {*pc.list_flatten(rows["tags"]).to_pylist()} - {words.OUTSIDE}
        fields["labels"] = sorted({_kind(tag, spans) for tag in tags})
        fields |= {} if spans else {"tags": "plain", "metric": TOKENS, "chance": 0.0}
    elif family == "classification":
        fields["labels"] = sorted({*rows["label"].to_pylist()})
    elif family == "span_qa" and pc.any(pc.equal(pc.list_value_length(rows["answers"]), 0)).as_py():
        fields["unanswerable"] = True
    if family in _CHANCE:
        fields["chance"] = float(f"{_CHANCE[family](rows):.4g}")
    elif family == "lexicon" and (chance := _of_names(rows)):  # without control pairs there is nothing to ask
        fields |= {"metric": METRICS[family], "chance": float(f"{chance:.4g}")}
    return fields | {"languages": languages, "splits": counts}


def _of_candidates(rows: pa.Table) -> float:
    """The mean over queries of the share of right ones, of the query's group, in the English rows that are searched."""
    pools = rows["pool"].to_pylist() if "pool" in rows.column_names else [""] * len(rows)
    every = [*zip(pools, rows["group"].to_pylist(), rows["language"].to_pylist(), strict=True)]
    sizes = Counter(pool for pool, _, language in every if language == ENGLISH)
    right = Counter((pool, group) for pool, group, language in every if language == ENGLISH)
    return float(np.mean([right[pool, group] / sizes[pool] for pool, group, lang in every if lang != ENGLISH]))


def _of_names(rows: pa.Table) -> float:
    """The mean over languages of 1 / the number of English names among which a control word's own is looked for."""
    names: dict[str, set[str]] = {}
    for language, name in zip(rows["language"].to_pylist(), rows["source"].to_pylist(), strict=True):
        if schema.is_control(name):
            names.setdefault(language, set()).add(name)
    return float(np.mean([1 / len(own) for own in names.values()])) if names else 0.0


_CHANCE: dict[str, Callable[[pa.Table], float]] = {
    "classification": lambda rows: 1 / len(pc.unique(rows["label"])),
    "multiple_choice": lambda rows: float(np.mean(1 / pc.list_value_length(rows["choices"]).to_numpy())),
    "retrieval": _of_candidates,
}

"""Mewsli-X's files (Botha et al. 2020; Ruder et al. 2021): mentions in news text, entities with descriptions.

The texts are those of the baseline of XTREME-R: the mention, a colon, and the sentence around it with the mention
between braces; an entity is the sentences of its description.

Parts of the entities are nested: those that some mention of the test set means come first, the rest by the hash of its
id, which has nothing to do with what it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlscale.acquire.external import readers
from xlscale.core.files import XlscaleError, relative

TEST, ENTITIES = "wikinews_mentions-test.jsonl", "candidate_set_entities.jsonl"
_BRACES = re.compile(r"\{(.*?)\}")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """A record per entity (``role`` candidate), mention (query) or pair (pair): id, text, entity, language, second; of
    ENTITIES also ``among``, the power of ten of the smallest part that it is in, "100000" of the second ten thousand.

    Which of the three a line is follows from its fields: an entity, a context with mentions, or a mention with its
    entity. Raises XlscaleError for another structure, and for a mention without an entity.
    """
    parts = _parts(path) if path.name == ENTITIES and (path.parent / TEST).exists() else {}
    for number, line in enumerate(readers.jsonl(path), 1):
        try:
            for record in _records(line):
                yield record | ({"among": parts[record["entity"]]} if parts else {})
        except (KeyError, TypeError, StopIteration) as error:
            message = f"expected an entity, a mention or a pair of Mewsli-X, without {error}"
            raise XlscaleError(f"{relative(path)}, line {number}: {message}") from None
        except ValueError as error:
            raise XlscaleError(f"{relative(path)}, line {number}: {error}") from None


def _parts(path: Path) -> dict[str, str]:
    """Entity -> the power of ten of the smallest part that it is in. What is broken is told where it is read."""
    meant = {one.get("entity_id") for line in readers.jsonl(path.parent / TEST) for one in line.get("mentions", ())}
    names = {name for line in readers.jsonl(path) if isinstance(name := line.get("entity_id"), str)}
    order = sorted(names, key=lambda name: (name not in meant, hashlib.sha256(name.encode()).digest()))
    return {name: f"1{'0' * len(str(rank))}" for rank, name in enumerate(order)}


def _records(line: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "description" in line:
        name, language = line["entity_id"], line["description_language"]
        yield _record("candidate", name, entity_text(line), name, language)
    elif "contextual_mention" in line:
        context, mention = (line["contextual_mention"][part] for part in ("context", "mention"))
        pair = _record(
            "pair", mention["example_id"], query_text(context, mention), mention["entity_id"], context["language"]
        )
        yield pair | {"second": entity_text(line["entity"])}
    else:
        for mention in line["mentions"]:
            text = query_text(line["context"], mention)
            yield _record("query", mention["example_id"], text, mention["entity_id"], line["context"]["language"])


def _record(role: str, name: str, text: str, entity: str, language: str) -> dict[str, Any]:
    if not entity:
        raise ValueError(f"example {name!r}: expected an entity_id{readers.EMPTIED}")
    return {"role": role, "id": name, "text": text, "entity": entity, "language": language, "second": None}


def entity_text(entity: dict[str, Any]) -> str:
    """The sentences of an entity's description, one after another."""
    spans = map(_span, entity["sentence_spans"])
    return _plain(" ".join(entity["description"][start:end] for start, end in spans))


def query_text(context: dict[str, Any], mention: dict[str, Any]) -> str:
    """``mention: sentence with { mention } in it``; braces that the sentence has itself become parentheses."""
    text, span = context["text"], mention["mention_span"]
    start, end = _span(span)
    inside = ((first, last) for first, last in map(_span, context["sentence_spans"]) if first <= start and end <= last)
    first, last = next(inside, (0, len(text)))
    left, right = (_BRACES.sub(r"(\1)", part) for part in (text[first:start], text[end:last]))
    return _plain(f"{span['text']}: {left} {{ {span['text']} }} {right}")


def _span(span: dict[str, Any]) -> tuple[int, int]:
    return readers.position(span["start"]), readers.position(span["end"])


def _plain(text: str) -> str:
    return " ".join(text.splitlines()).replace("  ", " ").strip()

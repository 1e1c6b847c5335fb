"""LAReQA's files (Roy et al. 2020): SQuAD's JSON with ``sentence_breaks``, the character ranges of sentences.

One candidate is one sentence with its paragraph, named ``<language>_<paragraph>_<sentence>`` as the benchmark's own
code does. A question is answered, in any language, by the sentence that holds the start of its answer there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlscale.acquire.external import readers


def read(path: Path) -> Iterator[dict[str, Any]]:
    """A record per question (``role`` query: id, text) and per sentence (``role`` candidate: id, text, answers).

    ``answers`` are the ids of the questions that a sentence answers. The language is the file's name. Raises
    XlscaleError for another structure.
    """
    with readers.expecting(path, "SQuAD's JSON with sentence_breaks"):
        for number, (_, paragraph) in enumerate(readers.paragraphs(path), 1):
            yield from _paragraph(paragraph, f"{path.stem}_{number}")


def _paragraph(paragraph: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    context = paragraph["context"]
    breaks = [(readers.position(start), readers.position(end)) for start, end in paragraph["sentence_breaks"]]
    answered: list[list[str]] = [[] for _ in breaks]
    for question in paragraph["qas"]:
        begins = readers.position(question["answers"][0]["answer_start"])
        index = next((i for i, (start, end) in enumerate(breaks) if start <= begins < end), None)
        if index is not None:  # an answer between sentences has no relevant candidate, and its question is left out
            answered[index].append(question["id"])
            yield {"role": "query", "id": question["id"], "text": question["question"], "answers": []}
    for index, (start, end) in enumerate(breaks):
        # One after the other, as in the reference: what answers, then where it stands.
        text = f"{context[start:end]} {context}".replace("\n", "")
        yield {"role": "candidate", "id": f"{name}_{index}", "text": text, "answers": answered[index]}

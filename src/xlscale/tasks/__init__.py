"""Task families: how rows become inputs, what head and loss they have, how outputs become predictions and scores.

One module per family. A task of an existing family is a card and a file, no code.
"""

from xlscale.cards import DataCard
from xlscale.tasks.classification import Classification
from xlscale.tasks.retrieval import Retrieval
from xlscale.tasks.span_qa import SpanQA

FAMILIES = {"classification": Classification, "retrieval": Retrieval, "span_qa": SpanQA}


def of(card: DataCard) -> Classification | Retrieval | SpanQA:
    """The task that a data card describes."""
    return FAMILIES[card.family](card)

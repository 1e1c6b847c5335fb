"""Task families: how rows become inputs, what head and loss they have, how outputs become predictions and scores.

One module per family. A task of an existing family is a card and a file, no code.
"""

from xlscale.cards.schema import DataCard
from xlscale.tasks.classification import Classification
from xlscale.tasks.mining import Mining
from xlscale.tasks.multiple_choice import MultipleChoice
from xlscale.tasks.ranking import Ranking
from xlscale.tasks.retrieval import Retrieval
from xlscale.tasks.span_qa import SpanQA
from xlscale.tasks.tagging import Tagging

FAMILIES = {
    "classification": Classification,
    "mining": Mining,
    "multiple_choice": MultipleChoice,
    "ranking": Ranking,
    "retrieval": Retrieval,
    "span_qa": SpanQA,
    "tagging": Tagging,
}


def of(card: DataCard) -> Classification | Mining | MultipleChoice | Ranking | Retrieval | SpanQA | Tagging:
    """The task that a data card describes."""
    return FAMILIES[card.family](card)

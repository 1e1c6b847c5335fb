"""Task families: how rows become inputs, what head and loss they have, how outputs become predictions and scores.

``base`` has the contract, and each family is a module of its own that imports no other one. A task of an existing
family is a card and a file, no code; a new family is a module and its name in ``core.registry``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlscale.cards.schema import DataCard, ModelCard
from xlscale.core import registry

if TYPE_CHECKING:
    from xlscale.tasks.base import Task


def of(card: DataCard, model: ModelCard | None = None) -> Task:
    """The task that a data card describes, as ``model`` reads it, by default as an encoder does. Raises XlscaleError
    for a card whose family is none of a task."""
    return registry.get("task", card.family)(card, model)

"""Which of the processes that work on one cell together this one is: the only one, unless ``engine.ranks`` started it.

They are called ranks, as torch calls them; what they share is the backend's to say, see ``training.backends.sharded``.
"""

from __future__ import annotations

import torch
from torch import distributed


def number() -> int:
    """The number of this process among them, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of which every rank may hold a part, put together; all ranks have to ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor

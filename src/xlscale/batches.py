"""From token ids of unequal length to batches: length buckets, so that next to no compute goes into padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass
class Encoded:
    """Tokenised inputs: one entry per input (for span QA a window; several windows may belong to one row).

    ``ids``: int64 arrays of token ids; ``row``: int64 (inputs,), index of the data row each input came from;
    ``targets``: name -> array (inputs, ...) of what the loss needs; ``spans``: per input, what decoding needs.
    """

    ids: list[np.ndarray]
    row: np.ndarray
    targets: dict[str, np.ndarray] = field(default_factory=dict)
    spans: list[np.ndarray] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """int64 (inputs,): number of tokens of each input."""
        return np.fromiter((len(ids) for ids in self.ids), np.int64, len(self.ids))


@dataclass
class Batch:
    """``ids`` int64 (batch, longest), ``mask`` bool (batch, longest), ``index`` int64 (batch,), ``targets``."""

    ids: torch.Tensor
    mask: torch.Tensor
    index: np.ndarray
    targets: dict[str, torch.Tensor]


def collate(encoded: Encoded, index: np.ndarray, pad: int) -> Batch:
    """Stack the inputs ``index`` into one batch, padded with ``pad`` to the longest of them."""
    longest = max(len(encoded.ids[i]) for i in index)
    ids = np.full((len(index), longest), pad, np.int64)
    mask = np.zeros((len(index), longest), bool)
    for place, i in enumerate(index):
        ids[place, : len(encoded.ids[i])] = encoded.ids[i]
        mask[place, : len(encoded.ids[i])] = True
    targets = {name: torch.from_numpy(values[index]) for name, values in encoded.targets.items()}
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask), index, targets)


def training_order(
    lengths: np.ndarray, batch_size: int, generator: np.random.Generator, pool: int = 16
) -> list[np.ndarray]:
    """One epoch of index batches: shuffled, sorted by length within pools of ``pool`` batches, batches shuffled.

    Every input occurs once. Sorting only within random pools keeps batches of similar lengths without tying the
    order of training to length.
    """
    order = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * pool):
        chunk = order[start : start + batch_size * pool]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def evaluation_order(lengths: np.ndarray, tokens: int = 4096) -> Iterator[np.ndarray]:
    """Index batches of about ``tokens`` tokens, inputs sorted by length; each input occurs once."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        # Sorted ascending, so the next input is the longest: it sets the padded width.
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= tokens:
            stop += 1
        yield order[start:stop]
        start = stop

"""From token ids of unequal length to batches: length buckets, so that next to no compute goes into padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from xlscale.core.files import XlscaleError


@dataclass
class Encoded:
    """Tokenised inputs: one entry per input. Several may belong to one row: the windows of a question's context, the
    choices of a multiple-choice item.

    ``ids``: int32 (tokens,), all inputs one after another, input i at ``offsets[i]:offsets[i + 1]``; ``row``: int64
    (inputs,), index of the data row each input came from; ``targets``: name -> array (inputs, ...) of what the loss
    needs; ``spans``: int32 (tokens, 2) or None, per token what decoding needs.
    """

    ids: np.ndarray
    offsets: np.ndarray
    row: np.ndarray
    targets: dict[str, np.ndarray] = field(default_factory=dict)
    spans: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        ids: list[list[int]],
        row: Iterable[int] | None = None,
        targets: dict[str, np.ndarray] | None = None,
        spans: list[np.ndarray] | None = None,
    ) -> Encoded:
        """From one list of ids, and one array of spans, per input; input i comes from row i unless ``row`` says so.

        Raises XlscaleError for an input without a token, which has no mean: an empty text, and nothing added to it.
        """
        offsets = np.cumsum([0, *map(len, ids)])
        if len(empty := np.flatnonzero(np.diff(offsets) == 0)):
            raise XlscaleError(f"input {empty[0]}: expected a text of which the tokenizer leaves something, got none")
        flat = np.concatenate([np.empty(0, np.int32), *(np.asarray(one, np.int32) for one in ids)])
        rows = np.arange(len(ids)) if row is None else np.fromiter(row, np.int64, len(ids))
        joined = None if spans is None else np.concatenate([np.empty((0, 2)), *spans]).astype(np.int32)
        return cls(flat, offsets, rows, targets or {}, joined)

    def __len__(self) -> int:
        return len(self.row)

    @property
    def lengths(self) -> np.ndarray:
        """int64 (inputs,): number of tokens of each input."""
        return np.diff(self.offsets)

    def ids_of(self, i: int) -> np.ndarray:
        """Token ids of input ``i``: int32 (tokens,)."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def spans_of(self, i: int) -> np.ndarray:
        """Spans of input ``i``: int32 (tokens, 2)."""
        return self.spans[self.offsets[i] : self.offsets[i + 1]]

    def take(self, index: np.ndarray) -> Encoded:
        """The inputs ``index``, in that order."""
        tokens = np.concatenate([np.empty(0, np.int64), *(np.arange(*self.offsets[[i, i + 1]]) for i in index)])
        return Encoded(
            self.ids[tokens],
            np.cumsum([0, *(self.offsets[index + 1] - self.offsets[index])]),
            self.row[index],
            {name: values[index] for name, values in self.targets.items()},
            None if self.spans is None else self.spans[tokens],
        )

    def of_rows(self, rows: np.ndarray) -> Encoded:
        """The inputs of the data rows ``rows``, in the order of ``rows``, numbered by their index in ``rows``."""
        index = {row: i for i, row in enumerate(rows.tolist())}
        where = np.array([index.get(row, -1) for row in self.row.tolist()], np.int64)
        chosen = np.flatnonzero(where >= 0)
        chosen = chosen[np.argsort(where[chosen], kind="stable")]
        found = self.take(chosen)
        found.row = where[chosen]
        return found


@dataclass
class Batch:
    """``ids`` int64 (batch, longest), ``mask`` bool (batch, longest), ``index`` int64 (batch,), ``targets``."""

    ids: torch.Tensor
    mask: torch.Tensor
    index: np.ndarray
    targets: dict[str, torch.Tensor]

    def to(self, device: torch.device) -> Batch:
        """The batch with its tensors on ``device``."""
        targets = {name: values.to(device) for name, values in self.targets.items()}
        return Batch(self.ids.to(device), self.mask.to(device), self.index, targets)


def collate(encoded: Encoded, index: np.ndarray, pad: int) -> Batch:
    """Stack the inputs ``index`` into one batch, padded with ``pad`` to the longest of them."""
    lengths = encoded.offsets[index + 1] - encoded.offsets[index]
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = np.concatenate([encoded.ids_of(i) for i in index])
    targets = {name: torch.from_numpy(values[index]) for name, values in encoded.targets.items()}
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask), index, targets)


def training_order(
    lengths: np.ndarray,
    batch_size: int,
    generator: np.random.Generator,
    pool: int = 16,
    row: np.ndarray | None = None,
) -> list[np.ndarray]:
    """One epoch of index batches: shuffled, sorted by length within pools of ``pool`` batches, batches shuffled.

    Every input occurs once. Sorting only within random pools keeps batches of similar lengths without tying the
    order of training to length. ``row``, int64 (inputs,), the row that each input came from: all inputs of a row are
    in one batch, side by side in their order, and ``batch_size`` counts rows; a row is as long as its longest input,
    which is what the others are padded to. Default: every input is a row.
    """
    members = _members(np.arange(len(lengths)) if row is None else row)
    longest = np.array([lengths[inputs].max() for inputs in members], np.int64)
    order = generator.permutation(len(members))
    batches = []
    for start in range(0, len(order), batch_size * pool):
        chunk = order[start : start + batch_size * pool]
        chunk = chunk[np.argsort(longest[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [np.concatenate([members[row] for row in batches[i]]) for i in generator.permutation(len(batches))]


def token_order(
    lengths: np.ndarray, tokens: int, generator: np.random.Generator, pool: int = 16, row: np.ndarray | None = None
) -> list[np.ndarray]:
    """As ``training_order``, but a batch is as many rows as ``tokens`` hold, padding included; one row at least.

    Of a row with several inputs the longest counts.
    """
    members = _members(np.arange(len(lengths)) if row is None else row)
    longest = np.array([lengths[inputs].max() for inputs in members], np.int64)
    order = generator.permutation(len(members))
    pools = np.cumsum(longest[order]) // (tokens * pool)
    batches = [
        chunk[index]
        for chunk in np.split(order, np.flatnonzero(np.diff(pools)) + 1)
        for index in evaluation_order(longest[chunk], tokens)
    ]
    return [np.concatenate([members[i] for i in batches[place]]) for place in generator.permutation(len(batches))]


def _members(row: np.ndarray) -> list[np.ndarray]:
    """The inputs of each row, rows in the order of their first inputs."""
    _, first, of_row = np.unique(row, return_index=True, return_inverse=True)
    inputs = np.argsort(first[of_row], kind="stable")
    return np.split(inputs, np.cumsum(np.bincount(of_row)[np.argsort(first)])[:-1])[: len(first)]


def evaluation_order(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
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

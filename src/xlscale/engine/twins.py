"""Targets whose training is the same, as of XQuAD and MLQA, which are both trained on SQuAD: the first of them that a
sweep comes to keeps what it trained, for those that have yet to be run.

Where the cards say that it may be the same, the inputs decide. What is kept goes when nobody is left who might read it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from torch import nn

from xlscale.core.files import CELL_FOLDER, RUNS, XlscaleError, digest, read_json, write_json
from xlscale.core.seals import seal, sealed
from xlscale.data.batches import Encoded
from xlscale.experiment.cells import Cell, training_of
from xlscale.experiment.results import CHECKPOINT, RESULT
from xlscale.models import ladder
from xlscale.training import token_cache
from xlscale.training.loop import TrainingLog

FOLDER, LOG = "trained", "log.json"


class Kept:
    """What one training leaves for ``others``, folders of cells, that are the same; ``inputs``: of its stages."""

    def __init__(self, cell: Cell, inputs: Sequence[Encoded], others: Sequence[Path]):
        self.cell, self.others = cell, others
        target = cell.parameters.target
        what = [cell.code(), cell.parent.id, *training_of(cell.parameters.model_dump())]
        what.append([read for read in cell.reads if read[0] != target])
        what += [token_cache.sha256_of(one) for one in inputs]
        self.folder = RUNS / FOLDER / digest(what)[:16]

    def load(self, encoder: nn.Module, head: nn.Module) -> tuple[str, TrainingLog] | None:
        """Set what trains of ``encoder`` and ``head`` to what is kept, and give the id of the cell that trained it and
        the log; None where nothing is kept, or it is not as it was written."""
        if not all(sealed(path) for path in (self._log, self._weights)):
            return None
        both = nn.ModuleList([encoder, head])
        try:
            ladder.restore(both, _trained(both), self._weights)
            found = read_json(self._log)
        except XlscaleError:  # removed meanwhile
            return None
        self._clear()
        return found["cell"], TrainingLog(**found["log"])

    def save(self, encoder: nn.Module, head: nn.Module, log: TrainingLog) -> None:
        """Keep what was trained, if there is a cell left that may want it."""
        if not self._waiting():
            return
        ladder.save(_trained(nn.ModuleList([encoder, head])), self._weights)
        seal(self._weights)
        write_json(self._log, {"cell": self.cell.id, "log": asdict(log)})
        seal(self._log)

    def _clear(self) -> None:
        if not self._waiting():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _waiting(self) -> bool:
        return not all((folder / RESULT).exists() for folder in self.others)

    @property
    def _weights(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def _log(self) -> Path:
        return self.folder / LOG


def of(cell: Cell) -> list[Path]:
    """Folders of this sweep's other cells whose training may be the same, by their parameters and cards."""
    if CELL_FOLDER not in os.environ or cell.phase != "target":  # by hand nothing is shared
        return []
    own, found = training_of(cell.parameters.model_dump()), []
    begins = cell.id.rpartition(f"-{cell.parameters.target}-")[0]
    for path in RUNS.glob(f"{begins}-*/spec.json"):
        with suppress(XlscaleError, KeyError, TypeError, AttributeError):  # the spec of another checkout, or broken
            other = read_json(path)["parameters"]
            if path.parent.name != cell.id and training_of(other) == own:
                found.append(path.parent)
    return found


def _trained(both: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in both.named_parameters() if parameter.requires_grad}

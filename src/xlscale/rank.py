"""One of the processes that work on a cell together: ``python -m xlscale.rank JOB``, started by ``engine.ranks``.

It opens the cell as its notebook does, trains and evaluates with the others, and the first one leaves what came of it.
"""

import os
import sys
from pathlib import Path

from xlscale.core import machine, registry, saving
from xlscale.core.files import XlscaleError
from xlscale.engine import processes, ranks


def main(path: Path) -> int:
    """Do the job of this file; gives the exit code."""
    job = ranks.read(path)
    with job.at_work(os.environ["RANK"]):
        return _work(job)


def _work(job: ranks.Job) -> int:
    from xlscale.engine import phase
    from xlscale.training.loop import Diverged

    try:
        precision = getattr(job.cell.parameters, "precision", "auto")
        backend = registry.get("backend", registry.SHARDED)(precision, job.place.tokens, job.place.again)
        run = phase.OpenCell(job.cell, job.folder, backend)
        encoder = run.starting_point()
        head, log = run.train(encoder)
        predictions, _ = run.evaluate(encoder, head, job.split)
        environment = run.environment()
        peak, gpu = backend.most(machine.peak_memory_gb(), environment.get("peak_gpu_gb", 0.0))
        environment |= {"peak_gpu_gb": gpu} if gpu else {}
        if backend.rank == 0:
            ranks.leave(job, ranks.Left(log, run.seconds, peak, environment), predictions)
    except (XlscaleError, Diverged) as error:
        ranks.leave_fault(job, error)
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    processes.die_with_parent(saving.GRACE)
    sys.exit(main(Path(sys.argv[1])))

"""The verb manifest: files that commands write, and that were changed by hand on purpose, are stated as they are."""

from __future__ import annotations

from xlscale.core import manifest
from xlscale.core.files import RESULTS, XlscaleError, bounded, relative
from xlscale.record import store


def state(study: str | None = None) -> None:
    """Write the manifest anew, with that of the record of a study of one's own, and print the names of what was not as
    it said.

    Raises XlscaleError, and writes nothing, where the record does not follow from its predictions, labels and cards.
    """
    changed = manifest.faults([RESULTS])
    wrong = [line for name, line in store.check().items() if line != "ok" and name not in changed]
    if wrong:
        raise XlscaleError("\n".join([*wrong, "nothing was changed"]))
    for places in [manifest.PLACES] + [[RESULTS]] * (RESULTS != manifest.RECORD):
        names = manifest.state(places)
        where = relative(manifest.where(places[0]))
        said = [f"changed: {name}" for name in names]
        print(bounded("\n".join([*said, f"{len(names)} files were not as in {where}; now it has them as they are"])))

"""How a fault of a command line is told: one line with what was expected. And the place of an output, before any work.

Nothing of this package is imported before there is one, so that help answers at once.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn


def check_place(path: Path, named: str) -> None:
    """Raise XlscaleError unless what is above an output is a folder, or nothing, which can become one.

    ``named``: the output as its user gave it.
    """
    from xlscale.core import files, manifest

    above = next((one for one in path.parents if os.path.lexists(one)), None)
    if above is not None and not above.is_dir():
        raise files.XlscaleError(f"{named}: expected a place in a folder, got {above}, which is none")
    sources = (files.ROOT / name for name in ("src", "notebooks", "tests"))
    if held := files.leads_into(path, [*manifest.PLACES, files.STUDIES, files.MANIFEST, *sources]):
        expected = f"expected a place outside {files.relative(held)}, which holds what this is made from"
        raise files.XlscaleError(f"{named}: {expected}")


def meant(given: str, known: Iterable[str]) -> str:
    """What somebody who wrote ``given`` may have meant, as the end of a message: "; did you mean x?", or nothing."""
    near = get_close_matches(given, known, 1, 0.7)
    return f"; did you mean {near[0]}?" if near else ""


class Parser(argparse.ArgumentParser):
    """A parser whose faults are one line, after ``name``, instead of argparse's usage and error."""

    name = "xlscale"

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line on stderr."""
        from xlscale.core.files import bounded

        if choice := re.search(r"invalid choice: (.*) \(choose from (.*)\)", message):
            known = choice[2].replace("'", "")
            hint = meant(choice[1].strip("'\""), known.split(", "))
            message = message.replace(choice[0], f"expected one of {known}, got {choice[1]}{hint}")
        self.exit(2, bounded(f"{self.name}: {' '.join(message.removeprefix('argument ').split())}") + "\n")

"""Files in a wheel, which is an archive: read as bytes, and nothing of it is ever run."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from xlscale.core.files import XlscaleError, relative

BLOCK = 2**24  # bytes that are held at a time
# What the library raises for an archive that is damaged, encrypted, or packed in a way that it does not know.
_BROKEN = (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError)


def blocks(wheel: Path, member: str) -> Iterator[bytes]:
    """The bytes of a file in a wheel, a block after the other. Raises XlscaleError naming both where it is not there or
    cannot be read."""
    where = f"{relative(wheel)}: {member}"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
            yield from iter(lambda: file.read(BLOCK), b"")
    except KeyError:
        raise XlscaleError(f"{where}: not in the archive, expected as in the card") from None
    except _BROKEN as error:
        raise XlscaleError(f"{where}: not readable, expected a whole wheel ({error})") from None

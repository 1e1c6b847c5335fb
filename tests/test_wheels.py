"""Files in wheels: their bytes, and one line where they cannot be had."""

import zipfile

import pytest

from xlscale.core import wheels
from xlscale.core.files import XlscaleError

MEMBER, CONTENT = "some/file.bin", b"0123456789" * 50


def flagged(content: bytes, local: int, central: int, value: int) -> bytes:
    """An archive of one file with another byte in its local header and in the directory."""
    found = bytearray(content)
    found[local] = found[content.index(b"PK\x01\x02") + central] = value
    return bytes(found)


def test_the_bytes_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "BLOCK", 64)
    with zipfile.ZipFile(tmp_path / "a.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, CONTENT)
    found = [*wheels.blocks(tmp_path / "a.whl", MEMBER)]
    assert b"".join(found) == CONTENT and len(found) == 8
    with pytest.raises(XlscaleError, match=r"a\.whl: other: not in the archive, expected as in the card$"):
        next(wheels.blocks(tmp_path / "a.whl", "other"))


@pytest.mark.parametrize(
    ("method", "damage"),
    [
        (zipfile.ZIP_STORED, lambda content: flagged(content, 6, 8, 1)),  # says that it is encrypted
        (zipfile.ZIP_STORED, lambda content: flagged(content, 8, 10, 99)),  # packed in a way that nobody knows
        (zipfile.ZIP_STORED, lambda content: content.replace(CONTENT, CONTENT[::-1])),  # not what its checksum says
        (zipfile.ZIP_LZMA, lambda content: content[:55] + b"\xff" * 12 + content[67:]),
        (zipfile.ZIP_DEFLATED, lambda content: content[:55] + b"\xff" * 5 + content[60:]),
        (zipfile.ZIP_DEFLATED, lambda content: content[:-30]),
        (zipfile.ZIP_STORED, lambda content: b""),
    ],
    ids=["encrypted", "unknown", "checksum", "lzma", "deflate", "cut", "empty"],
)
def test_a_damaged_archive_is_one_line(tmp_path, method, damage):
    with zipfile.ZipFile(tmp_path / "a.whl", "w", method) as archive:
        archive.writestr(MEMBER, CONTENT)
    (tmp_path / "a.whl").write_bytes(damage((tmp_path / "a.whl").read_bytes()))
    with pytest.raises(XlscaleError, match=r"a\.whl: some/file\.bin: not readable, expected a whole wheel") as raised:
        [*wheels.blocks(tmp_path / "a.whl", MEMBER)]
    assert "\n" not in str(raised.value)

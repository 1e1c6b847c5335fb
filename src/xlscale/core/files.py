"""Where things are in a checkout; the doors by which files are opened, read and written; how a fault is told.

A name that a file gives is opened by ``below``, a file of the user's read by ``read_bytes``, a file written by
``atomic``, whole or not at all. Nothing here knows what a cell, a card or a study is.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import re
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from xlscale.core.json_text import parsed


def _folder(name: str, default: Path) -> Path:
    """A folder that the environment variable ``name`` may move, absolute: notebooks run in another directory."""
    # Not Path.resolve, which raises for links that go round in a circle.
    return Path(os.path.realpath(os.environ.get(name) or default))


ROOT = _folder("XLSCALE_ROOT", Path(__file__).resolve().parents[3])
MANIFEST = ROOT / "data_manifest"
NOTEBOOKS = ROOT / "notebooks"
STUDIES = _folder("XLSCALE_STUDIES", ROOT / "studies")
RESULTS = _folder("XLSCALE_RESULTS", ROOT / "results")
PAPER = ROOT / "paper"  # sources; what is built lies there too, unless BUILT says otherwise
BUILT = _folder("XLSCALE_BUILT", PAPER)
RUNS = _folder("XLSCALE_RUNS", ROOT / "runs")
CELL_FOLDER = "XLSCALE_CELL_FOLDER"  # environment variable: where the notebook that a runner executes writes
CACHE = _folder("XLSCALE_CACHE", ROOT / ".cache")
REPRODUCTION = _folder("XLSCALE_REPRODUCTION", ROOT / "reproduction")
# Environment variables of one word that commands read, those that name a folder and others; a card's folder is named by
# none of them.
FOLDERS = {
    *("XLSCALE_BUILT", "XLSCALE_CACHE", "XLSCALE_GIT", "XLSCALE_HUB", "XLSCALE_LOCKS", "XLSCALE_PACKAGES"),
    *("XLSCALE_REPRODUCTION", "XLSCALE_RESULTS", "XLSCALE_ROOT", "XLSCALE_RUNS", "XLSCALE_STUDIES"),
}
SETTINGS = FOLDERS | {
    *("XLSCALE_DEADLINE", "XLSCALE_DEVICE", "XLSCALE_PLACEMENT", "XLSCALE_TEMPORARY", "XLSCALE_WATCHED"),
}
# What the hub's libraries read from the environment while they are imported: they keep their files in the checkout, and
# ask the hub for nothing.
HUB_ENVIRONMENT = {"HF_HOME": str(CACHE / "huggingface"), "HF_HUB_OFFLINE": "1"}
# Names of environment variables that choose how libraries compute: instructions, precision, order of sums, threads.
ARITHMETIC = re.compile(
    r"(MKL|MKLDNN|ONEDNN|DNNL|OMP|KMP|GOMP|ATEN|TORCH|PYTORCH|CUBLAS|CUBLASLT|CUDNN|NVIDIA_TF32|OPENBLAS|GOTO|BLIS"
    r"|FLEXIBLAS|VECLIB|NUMEXPR|NPY|ARROW|RAYON)_\w+|NCCL_(ALGO|PROTO)"
)


Phase = Literal["pretrained", "intermediate", "target"]
NOTEBOOK: dict[Phase, Path] = {
    "pretrained": NOTEBOOKS / "01_pretrained.ipynb",
    "intermediate": NOTEBOOKS / "02_intermediate.ipynb",
    "target": NOTEBOOKS / "03_target.ipynb",
}


WIDTH, LINES = 285, 20  # of a message: characters in a line, to which a prefix may come, and lines
# Characters that make a text look like another one: controls, and marks that turn the direction of what follows.
HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_GAP, _TAIL = " [...] ", 60  # what stands for the middle of a line that is too long; characters behind it


def bounded(text: str) -> str:
    """``text`` for a terminal: at most LINES lines of WIDTH characters, the middle left out of what is longer, and
    characters that do not print (controls, marks of direction, halves of pairs) as their codes."""
    rows = text.split("\n")
    if len(rows) > LINES:
        rows = [*rows[: LINES - 2], f"and {len(rows) - LINES + 1} more", rows[-1]]
    return "\n".join(_shortened(printable(_shortened(row))) for row in rows)


def _shortened(row: str) -> str:
    return row if len(row) <= WIDTH else row[: WIDTH - _TAIL - len(_GAP)] + _GAP + row[-_TAIL:]


def printable(text: str) -> str:
    """``text`` with the codes of those characters that do not print."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class XlscaleError(Exception):
    """A fault that the user can mend. Its message is one line that names file, field and expected value; of several
    faults a line each. It is ``bounded``."""

    def __str__(self) -> str:
        return bounded(super().__str__())


class XlscaleWarning(UserWarning):
    """Something that the user should know and that stops nothing."""


def one_line(error: object, limit: int = 160) -> str:
    """What an error or a text says, in one line of at most ``limit`` characters; the type of an error that says
    nothing."""
    nothing = type(error).__name__ if isinstance(error, BaseException) else ""
    return " ".join(str(error).split())[:limit] or nothing


def sha256_file(path: Path) -> str:
    """Hex sha256 of a plain file's bytes, read in blocks. Raises OSError for another one, which is not waited for."""
    found = hashlib.sha256()
    with open(path, "rb", opener=plain) as f:
        while block := f.read(2**18):  # None where it is to be waited for, which hashlib.file_digest does not take
            found.update(block)
    return found.hexdigest()


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the text that identities are hashes of.

    Raises ValueError for NaN and infinities, which JSON has not.
    """
    return _CANONICAL.encode(value)


def digest(value: Any) -> str:
    """Hex sha256 of ``canonical_json(value)``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


LEVELS, BYTES = 64, 255  # of a path that a file gives, and of each name in it: what file systems take


def inside(name: str) -> bool:
    """Whether a name that a file gives is that of something below a folder: relative, without "..", not the folder, and
    one that a file can have."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    try:
        longest = max((len(os.fsencode(part)) for part in parts), default=0)
    except UnicodeEncodeError:
        return False
    possible = 0 < longest <= BYTES and len(parts) <= LEVELS and "\0" not in name
    return possible and not name.startswith("/") and ".." not in parts


def leads_into(path: Path, places: Iterable[Path]) -> Path | None:
    """The first of ``places`` that ``path`` is, or lies in, once links are followed; None if it lies in none."""
    # Not Path.resolve, which raises for links that go round in a circle.
    real = Path(os.path.realpath(path))
    return next((place for place in places if real.is_relative_to(os.path.realpath(place))), None)


def below(root: Path, name: str) -> Path:
    """``root / name``, for a name that a card, another file or a hub gives. Raises XlscaleError where that is not below
    ``root``, links resolved."""
    path = Path(root) / name
    if not inside(name) or not leads_into(path, [root]):
        said = one_line(repr(name), 100)
        raise XlscaleError(f"{said}: expected the path of a file below {relative(root)}, links resolved")
    return path


def writable(path: Path) -> None:
    """Raise XlscaleError unless ``path`` is a plain file or nothing: a link or a device is not to be replaced."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise XlscaleError(f"{path}: expected a plain file or none, got a link, a folder or a device")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well it is flushed to disk and renamed to ``path``.

    A crash, a full disk or an exception leaves ``path`` as it was. Raises XlscaleError when the disk is full, and for
    what is no plain file.
    """
    path = Path(path)
    writable(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        said = error.strerror or one_line(str(error).replace(str(temporary), str(path)))  # a library's may name it
        raise XlscaleError(f"{path}: could not be written ({said}); nothing was changed") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically, keys in the given order."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


LIMIT = 64 * 2**20  # bytes of a file of the user's that is read whole


def expect_plain(path: Path) -> None:
    """Raise XlscaleError naming what is there and no plain file: a pipe would be waited for, a device never ends."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise XlscaleError(f"{relative(path)}: expected a plain file")


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a plain file. Raises XlscaleError naming the file when it is missing, no plain file (a device, a
    pipe, a folder) or longer than ``limit`` bytes."""
    expect_plain(path)
    try:
        about = os.stat(path)
        if about.st_size > limit:
            raise _too_long(path, limit)
        with open(path, "rb", opener=plain) as file:
            content = file.read(about.st_size + 1) or b""  # None where it is to be waited for
            if len(content) > about.st_size:  # it grows, or states no size, as files of /proc do
                content += file.read(limit + 1 - len(content)) or b""
    except FileNotFoundError:
        raise XlscaleError(f"{relative(path)}: not found") from None
    except OSError as error:
        raise XlscaleError(f"{relative(path)}: could not be read ({error.strerror or error})") from None
    return within(content, limit, path)


def plain(path: str, flags: int) -> int:
    """An opener of plain files, which are not waited for: some of /proc look plain and never end, and what was plain
    may be a pipe by now. Raises OSError for another file."""
    found = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(found).st_mode):
        return found
    os.close(found)
    raise OSError(errno.EINVAL, "expected a plain file", path)


def within(content: bytes, limit: int, path: Path) -> bytes:
    """``content``, of which at most ``limit`` + 1 bytes were read. Raises XlscaleError if there are more than that."""
    if len(content) > limit:
        raise _too_long(path, limit)
    return content


def _too_long(path: Path, limit: int) -> XlscaleError:
    return XlscaleError(f"{relative(path)}: expected at most {limit:,} bytes")


def unpacked(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a gzip file. Raises XlscaleError as ``read_bytes`` does, ``limit`` being that of what is in it."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(read_bytes(path, limit))) as file:
            return within(file.read(limit + 1), limit, path)
    except (OSError, EOFError, zlib.error) as error:
        raise XlscaleError(f"{relative(path)}: expected a whole gzip file ({error})") from None


def read_text(path: Path, limit: int = LIMIT) -> str:
    """The text of a UTF-8 file, unpacked if its name ends in .gz, without a byte order mark. Raises XlscaleError as
    ``read_bytes`` does, and naming the line that is not UTF-8."""
    content = (unpacked if Path(path).suffix == ".gz" else read_bytes)(path, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise XlscaleError(
            f"{relative(path)}: line {line}: expected UTF-8, got byte {error.object[error.start]:#04x}"
        ) from None


def read_json(path: Path, limit: int = LIMIT) -> Any:
    """Parse a JSON file of at most ``limit`` bytes. Raises XlscaleError naming the file when it is missing or broken,
    has a key twice, or a number that is not finite."""
    text = read_text(Path(path), limit)
    try:
        return parsed(text)
    except (ValueError, RecursionError) as error:
        raise XlscaleError(f"{relative(path)}: not valid JSON ({error})") from None


def relative(path: Path) -> str:
    """``path`` as seen from the checkout's root, for messages and records."""
    try:  # not by Path.resolve, which raises for links that go round in a circle
        return str(Path(os.path.realpath(path)).relative_to(ROOT))
    except ValueError:
        return str(path)


def verify(path: Path, expected: str, what: str) -> Path:
    """Return ``path`` if its sha256 is ``expected``; raises XlscaleError naming file, field and both hashes."""
    if not path.is_file():
        raise XlscaleError(f"{relative(path)}: not found, expected {what}")
    found = sha256_file(path)
    if found != expected:
        raise XlscaleError(f"{relative(path)}: sha256: expected {expected} for {what}, got {found}")
    return path

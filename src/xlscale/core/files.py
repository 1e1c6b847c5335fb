"""Where things are in a checkout, and how files are written: whole or not at all.

Nothing here knows what a cell, a card or a study is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal


def _folder(name: str, default: Path) -> Path:
    """A folder that the environment variable ``name`` may move, absolute: notebooks run in another directory."""
    return Path(os.environ.get(name) or default).resolve()


ROOT = _folder("XLSCALE_ROOT", Path(__file__).resolve().parents[3])
MANIFEST = ROOT / "data_manifest"
NOTEBOOKS = ROOT / "notebooks"
STUDIES = _folder("XLSCALE_STUDIES", ROOT / "studies")
RESULTS = _folder("XLSCALE_RESULTS", ROOT / "results")
PAPER = ROOT / "paper"  # sources; what is built lies there too, unless BUILT says otherwise
BUILT = _folder("XLSCALE_BUILT", PAPER)
RUNS = _folder("XLSCALE_RUNS", ROOT / "runs")
CACHE = _folder("XLSCALE_CACHE", ROOT / ".cache")
REPRODUCTION = _folder("XLSCALE_REPRODUCTION", ROOT / "reproduction")
# What the hub's libraries read from the environment while they are imported: they keep their files in the checkout, and
# ask the hub for nothing.
HUB_ENVIRONMENT = {"HF_HOME": str(CACHE / "huggingface"), "HF_HUB_OFFLINE": "1"}
# Names of environment variables that choose how libraries compute: instructions, precision, order of sums, threads.
ARITHMETIC = re.compile(
    r"(MKL|MKLDNN|ONEDNN|DNNL|OMP|KMP|GOMP|ATEN|TORCH|PYTORCH|CUBLAS|CUDNN|NVIDIA_TF32|OPENBLAS|GOTO|BLIS|FLEXIBLAS"
    r"|VECLIB|NUMEXPR|NPY|ARROW|RAYON)_\w+"
)


Phase = Literal["pretrained", "intermediate", "target"]
NOTEBOOK: dict[Phase, Path] = {
    "pretrained": NOTEBOOKS / "01_pretrained.ipynb",
    "intermediate": NOTEBOOKS / "02_intermediate.ipynb",
    "target": NOTEBOOKS / "03_target.ipynb",
}


class XlscaleError(Exception):
    """A fault that the user can mend. Its message is one line that names file, field and expected value."""


class XlscaleWarning(UserWarning):
    """Something that the user should know and that stops nothing."""


def one_line(error: object, limit: int = 160) -> str:
    """What an error says, in one line of at most ``limit`` characters; the name of its type where it says nothing."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in blocks."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the text that identities are hashes of.

    Raises ValueError for NaN and infinities, which JSON has not.
    """
    return _CANONICAL.encode(value)


def digest(value: Any) -> str:
    """Hex sha256 of ``canonical_json(value)``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well it is flushed to disk and renamed to ``path``.

    A crash, a full disk or an exception leaves ``path`` as it was. Raises XlscaleError when the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise XlscaleError(f"{path}: could not be written ({error.strerror or error}); nothing was changed") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically, keys in the given order."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises XlscaleError naming the file when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise XlscaleError(f"{path}: not found") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise XlscaleError(f"{path}: not valid JSON ({error})") from None


def relative(path: Path) -> str:
    """``path`` as seen from the checkout's root, for messages and records."""
    try:
        return str(Path(path).resolve().relative_to(ROOT))
    except ValueError:
        return str(path)


def verify(path: Path, expected: str, what: str) -> Path:
    """Return ``path`` if its sha256 is ``expected``; raises XlscaleError naming file, field and both hashes."""
    if not path.exists():
        raise XlscaleError(f"{relative(path)}: not found, expected {what}")
    found = sha256_file(path)
    if found != expected:
        raise XlscaleError(f"{relative(path)}: sha256: expected {expected} for {what}, got {found}")
    return path

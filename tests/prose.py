"""What `make lint` asks of texts: links lead to a file or heading that is there, and words are spelt as they should be.

Words are looked at by codespell, which knows common misspellings, where it is installed; its options are in
pyproject.toml. Addresses elsewhere are not asked for.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("benchmarks", "data_manifest", "notebooks", "paper", "profiles", "src", "studies", "tests")
CODE = re.compile(r"^ *(```|~~~).*?^ *\1|(`+)(?!`).+?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)
ENDS = (".cff", ".md", ".toml", ".yml")  # of texts beside the folders
# In line, and as a reference that is defined at the beginning of a line.
LINK = re.compile(r"\]\(\s*<?([^\s)>]+)>?[^)]*\)|^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def texts(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Files with Markdown, and that; of a notebook its text cells."""
    for end in ("*.md", "*.ipynb"):
        for path in sorted([*root.glob(end), *(one for name in FOLDERS for one in (root / name).rglob(end))]):
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                cells = json.loads(text)["cells"]
                text = "\n\n".join("".join(one["source"]) for one in cells if one["cell_type"] == "markdown")
            yield path, text


def anchors(text: str, notebook: bool = False) -> set[str]:
    """What links to the headings of a text are called, as hosts of repositories make them, or Jupyter in a notebook."""
    found: set[str] = set()
    blocks = re.sub(r"^ *(```|~~~).*?^ *\1", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in HEADING.findall(blocks):
        said = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = base = (said if notebook else re.sub(r"[^\w\- ]", "", said.lower())).replace(" ", "-")
        number = 0
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    return found


def broken(root: Path = ROOT) -> list[str]:
    """The links in this checkout that lead nowhere, a line each."""
    found, known = [], dict(texts(root))
    for path, text in known.items():
        for match in LINK.finditer(CODE.sub(" ", text)):
            link = match[1] or match[2]
            if ADDRESS.match(link):
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.exists() or not target.is_relative_to(root):
                found.append(f"{path.relative_to(root)}: {link}: expected a file or folder of this checkout")
            elif anchor and anchor not in anchors(known.get(target, ""), target.suffix == ".ipynb"):
                found.append(f"{path.relative_to(root)}: {link}: expected a heading of {target.relative_to(root)}")
    return found


def misspelt(root: Path = ROOT) -> int:
    """The exit code of codespell, which says what it finds; 0 and a line where it is not installed."""
    if find_spec("codespell_lib") is None:
        print("spelling: not looked at; .venv/bin/pip install -e '.[prose]'")
        return 0
    from codespell_lib import main

    known = (root / name for name in FOLDERS if name != "tests")  # where some words are misspelt on purpose
    files = (path for path in root.iterdir() if path.suffix in ENDS or path.name in ("Makefile", "Snakefile"))
    places = [str(path) for path in sorted([*known, *files]) if path.exists()]
    return main("--toml", str(ROOT / "pyproject.toml"), *places)


if __name__ == "__main__":
    lines = broken()
    print(*lines, sep="\n", end="\n" * bool(lines))
    sys.exit(bool(lines) or misspelt())

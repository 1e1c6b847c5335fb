"""Fingerprint of the code behind a phase: its notebook and every module of this package that it imports.

Taken from the syntax tree without comments, docstrings and formatting, so a cosmetic edit changes nothing and a
changed trainer is always noticed.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

from xlscale.cells import NOTEBOOK
from xlscale.files import read_json

PACKAGE = Path(__file__).parent
# What cannot change a prediction: how a cell is started, recorded, compared and drawn.
OUTSIDE = {"runner", "record", "verdicts", "figures", "paper", "fingerprint", "reproduce", "sweep", "stats"}


@cache
def of_phase(phase: str) -> str:
    """Hex sha256 of the code of ``phase``: its notebook's code cells and the transitive closure of its imports."""
    notebook = read_json(NOTEBOOK[phase])
    sources = [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]
    trees = [ast.parse(source) for source in sources]
    text = [normalised(tree) for tree in trees]
    for module in sorted(_closure(set().union(*(_imports(tree) for tree in trees)))):
        text.append(module + normalised(_tree(module)))
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def normalised(tree: ast.AST) -> str:
    """The syntax tree as text, docstrings and positions left out."""
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree, include_attributes=False)


def modules_of(phase: str) -> list[str]:
    """The package's modules that the phase's fingerprint covers, sorted."""
    notebook = read_json(NOTEBOOK[phase])
    code = [ast.parse("".join(cell["source"])) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return sorted(_closure(set().union(*(_imports(tree) for tree in code))))


def _closure(start: set[str]) -> set[str]:
    seen: set[str] = set()
    todo = set(start)
    while todo:
        module = todo.pop()
        if module in seen or module.split(".")[0] in OUTSIDE:
            continue
        seen.add(module)
        todo |= _imports(_tree(module))
    return seen


@cache
def _path(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _imports(tree: ast.AST) -> set[str]:
    """Modules of this package, without its own name, that a tree imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    inside = {name.removeprefix("xlscale.") for name in found if name.startswith("xlscale.")}
    return {name for name in inside if _path(name)}

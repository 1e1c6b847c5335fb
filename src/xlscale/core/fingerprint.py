"""Fingerprint of the code behind a phase: its notebook and every module of this package that it imports.

Taken from the syntax tree without comments, docstrings and formatting, so a cosmetic edit changes nothing and a
changed trainer is always noticed.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from xlscale.core.files import NOTEBOOK, read_json

PACKAGE = Path(__file__).parents[1]
# What cannot change a prediction: how a cell is started, recorded, compared and drawn, and how a file is got whose
# sha256 its card states.
OUTSIDE = {
    *(
        "engine.runner",
        "engine.kernels",
        "engine.warm",
        "engine.sweep",
        "record",
        "report",
        "stats",
        "core.fingerprint",
    ),
    *("commands", "acquire.datasets", "acquire.packages", "cards.places", "acquire.hub"),
}


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
    return _hash(text, _closure(set().union(*(_imports(tree) for tree in trees))))


def of_modules(modules: Iterable[str]) -> str:
    """Hex sha256 of the code of these modules of the package alone, named without the package: ``tasks.common``."""
    return _hash([], modules)


def _hash(text: list[str], modules: Iterable[str]) -> str:
    return hashlib.sha256("\n".join([*text, *map(_code, sorted(modules))]).encode()).hexdigest()


@cache
def _code(module: str) -> str:
    return module + normalised(_tree(module))


def normalised(tree: ast.AST) -> str:
    """The syntax tree as text without docstrings and positions, the same under every version of Python.

    ``ast.dump`` is not: later versions add fields to nodes, and leave out empty ones. Here empty fields never count.
    """
    if isinstance(tree, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        body = tree.body[1:] if ast.get_docstring(tree, clean=False) is not None else tree.body
        fields = [(name, body if name == "body" else value) for name, value in ast.iter_fields(tree)]
    else:
        fields = list(ast.iter_fields(tree))
    parts = [f"{name}={_text(value)}" for name, value in fields if value is not None and value != []]
    return f"{type(tree).__name__}({','.join(parts)})"


def _text(value: object) -> str:
    if isinstance(value, list):
        return f"[{','.join(_text(item) for item in value)}]"
    return normalised(value) if isinstance(value, ast.AST) else repr(value)


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
        if module in seen or OUTSIDE & {module, module.split(".")[0]}:
            continue
        seen.add(module)
        todo |= _imports(_tree(module))
        if module == "models.store":  # which names the reader in a card, not in its code
            todo |= {f"models.{path.stem}" for path in (PACKAGE / "models").glob("*.py") if path.stem != "__init__"}
    return seen


@cache
def _path(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


@cache
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

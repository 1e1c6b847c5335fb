"""Fingerprints of code: what a cell, an analysis notebook or a table that is kept on disk was computed by.

Taken from the syntax trees of a notebook or module and of everything in this package that it imports, without comments,
docstrings and formatting: a cosmetic edit changes nothing, and a changed trainer is always noticed. Parts that are
chosen by name (``core.registry``) are not imported where they are chosen; who asks for a fingerprint names them.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from sys import stdlib_module_names

from xlscale.core.files import NOTEBOOK, Phase, read_json

PACKAGE = Path(__file__).parents[1]
# What a phase notebook imports and what cannot change a prediction: how a cell is described, started, recorded and
# shown, whether files are as they were written, and the names of parts, which count themselves where they are named.
OUTSIDE = {
    *("xlscale.report", "xlscale.record", "xlscale.engine.runner", "xlscale.core.registry", __name__),
    *("xlscale.core.manifest", "xlscale.core.seals", "xlscale.engine.notebook", "xlscale.experiment.studies"),
    "xlscale.engine.processes",
}
DOCUMENTED = {ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef}  # what has a docstring
DISTRIBUTION = {"sklearn": "scikit-learn", "yaml": "pyyaml"}  # the rest is called as it is imported


def of_phase(phase: Phase, parts: Iterable[str] = ()) -> str:
    """Hex sha256 of the code of a cell: the notebook of its phase, what that imports, and ``parts``, the modules that
    the cell's parameters name."""
    path = NOTEBOOK[phase]
    return _digest([_notebook_code(path), *map(_code, modules_of_phase(phase, parts))])


def modules_of_phase(phase: Phase, parts: Iterable[str] = ()) -> list[str]:
    """The modules that ``of_phase`` covers, sorted."""
    return _covered(phase, tuple(parts))


@cache  # a record holds thousands of cells of a few kinds
def _covered(phase: Phase, parts: tuple[str, ...]) -> list[str]:
    return closure([*_notebook_imports(NOTEBOOK[phase]), *parts], OUTSIDE)


def of_notebook(path: Path) -> str:
    """Hex sha256 of a notebook's code cells and of everything in this package that they import."""
    return _digest([_notebook_code(path), *map(_code, closure(_notebook_imports(path)))])


def of_modules(modules: Iterable[str]) -> str:
    """Hex sha256 of these modules, of everything in this package that they import, and of the versions of the libraries
    that any of them imports."""
    covered = closure(modules)
    return _digest([*map(_code, covered), *map(_version, sorted({name for m in covered for name in _libraries(m)}))])


def closure(start: Iterable[str], outside: Iterable[str] = ()) -> list[str]:
    """Modules of this package that are reached from ``start`` through imports, sorted; not beyond rooms or modules that
    ``outside`` names."""
    stop = tuple(outside)
    seen: set[str] = set()
    todo = set(start)
    while todo:
        module = todo.pop()
        if module not in seen and not any(f"{module}.".startswith(f"{name}.") for name in stop):
            seen.add(module)
            todo |= imports(module)
    return sorted(seen)


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of this package that a module imports, wherever in it, except for type checkers alone. Packages that
    are imported on the way to a module are among them."""
    return frozenset(_inside(_tree(module)))


def normalised(tree: ast.AST) -> str:
    """The syntax tree as text without docstrings and positions, the same under every version of Python.

    ``ast.dump`` is not: later versions add fields to nodes, and leave out empty ones. Here empty fields never count.
    """
    kind, parts = type(tree), []
    for name in kind._fields:
        value = getattr(tree, name, None)
        if name == "body" and kind in DOCUMENTED and ast.get_docstring(tree, clean=False) is not None:
            value = value[1:]
        if value is not None and value != []:
            parts.append(f"{name}={_text(value)}")
    return f"{kind.__name__}({','.join(parts)})"


def _text(value: object) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return normalised(value) if isinstance(value, ast.AST) else repr(value)


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@cache
def _code(module: str) -> str:
    return _digest([module, normalised(_tree(module))])


@cache
def _notebook_trees(path: Path) -> list[ast.Module]:
    cells = [cell for cell in read_json(path)["cells"] if cell["cell_type"] == "code"]
    code = [cell for cell in cells if "parameters" not in cell["metadata"].get("tags", [])]
    return [ast.parse("".join(cell["source"])) for cell in code]


@cache
def _notebook_code(path: Path) -> str:
    return _digest(map(normalised, _notebook_trees(path)))


def _notebook_imports(path: Path) -> set[str]:
    return {name for tree in _notebook_trees(path) for name in _inside(tree)}


@cache
def _path(module: str) -> Path | None:
    name, *inner = module.split(".")
    if name != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*inner)
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _named(tree: ast.AST) -> Iterator[str]:
    """Names of all that a tree imports at run time, with what is imported from it: it may be a module, too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr):  # which holds no import
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _named(node)


def _inside(tree: ast.AST) -> set[str]:
    found = set()
    for name in _named(tree):
        parts = name.split(".")
        found |= {".".join(parts[:i]) for i in range(2, len(parts) + 1)} if parts[0] == PACKAGE.name else set()
    return {name for name in found if _path(name)}


@cache
def _libraries(module: str) -> frozenset[str]:
    """What a module imports from outside this package and the standard library, by its first name."""
    return frozenset({name.partition(".")[0] for name in _named(_tree(module))} - {PACKAGE.name, *stdlib_module_names})


@cache
def _version(name: str) -> str:
    try:
        return f"{name} {version(DISTRIBUTION.get(name, name))}"
    except PackageNotFoundError:
        distributions = sorted(packages_distributions().get(name, []))
        return " ".join([name, *(f"{one} {version(one)}" for one in distributions)])

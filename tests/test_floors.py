"""The floor plan: every module is in a room, and imports go down the floors only."""

from pathlib import Path

import pytest

from xlscale.core import fingerprint, registry

# From top to bottom; a room imports only from itself and from rooms below it.
FLOORS = [
    *("commands", "interchange", "report", "published", "engine", "planning", "training", "stats", "record", "tasks"),
    *("xtreme", "experiment", "acquire", "metrics", "data", "models", "cards", "core"),
]
# The command line, the door to the scorer, and what a rank of a cell runs.
ROOT = {"__init__.py", "__main__.py", "score.py", "rank.py"}
LONGEST = 350  # lines


def modules() -> list[str]:
    paths = [path.relative_to(fingerprint.PACKAGE.parent) for path in fingerprint.PACKAGE.rglob("*.py")]
    return sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths)


INSIDE = [module for module in modules() if module.count(".") and Path(module.split(".")[1] + ".py").name not in ROOT]


def room(module: str) -> str:
    return module.split(".")[1]


def test_the_root_of_the_package_holds_rooms_and_doors_only():
    assert {path.name for path in fingerprint.PACKAGE.glob("*.py")} == ROOT
    rooms = {path.parent.name for path in fingerprint.PACKAGE.glob("*/__init__.py")}
    assert rooms == set(FLOORS)


@pytest.mark.parametrize("name", FLOORS)
def test_imports_go_down_the_floors(name):
    above = set(FLOORS[: FLOORS.index(name)])
    wrong = [
        f"{module} imports {other}"
        for module in INSIDE
        if room(module) == name
        for other in fingerprint.imports(module)
        if other not in ("xlscale.__main__", "xlscale.score") and room(other) in above
    ]
    assert not wrong


def test_no_file_imports_itself_through_others():
    seen: dict[str, bool] = {}  # False while its imports are followed

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert seen.get(module, True), f"a circle: {' -> '.join([*path[path.index(module) :], module])}"
        if module in seen:
            return
        seen[module] = False
        for other in sorted(fingerprint.imports(module) - {module}):
            follow(other, (*path, module))
        seen[module] = True

    for module in INSIDE:
        follow(module, ())


def test_no_module_is_too_long():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in fingerprint.PACKAGE.rglob("*.py")}
    assert not {str(path): n for path, n in lengths.items() if n > LONGEST}


def test_every_part_is_there_and_in_its_room():
    rooms = {"task": "tasks", "reader": "models"} | dict.fromkeys(("objective", "method", "backend"), "training")
    for kind, parts in registry.PARTS.items():
        for name in parts:
            assert registry.get(kind, name)
            assert room(registry.module(kind, name)) == rooms[kind]

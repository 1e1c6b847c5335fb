"""Package role: what a Debian package is for the system, by its English description (debtags).

The role that its tags name, and for a program its interface. One package per source package. The same kind of text as
the target ``topic``, asked another question; no source package of a target task is used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from pathlib import Path

from data_manifest.builders import debian
from data_manifest.builders.intermediate import Item, split
from xlscale.cards.schema import DataCard
from xlscale.data.schema import Row, shuffled

SEED = "package_role 1"
# A package with exactly one of these tags ...
ROLES = {
    "role::app-data": "data",
    "role::devel-lib": "library",
    "role::documentation": "documentation",
    "role::plugin": "plugin",
    "role::program": "",
    "role::shared-lib": "library",
}
# ... and, if it is a program, with tags of exactly one of these kinds of interface.
INTERFACES = {
    "interface::commandline": "command line",
    "interface::daemon": "daemon",
    "interface::graphical": "graphical",
    "interface::x11": "graphical",
}
LIMIT = 250  # characters
SHORTEST = 60


def build(card: DataCard, files: Sequence[Path]) -> list[Row]:
    """Rows of the bundle from Debian's indexes; group = source package, item = source package/binary package."""
    path, translation = files
    index, english = debian.packages(path), debian.descriptions(translation, "en")
    kinds = {package: role(entry.tags) for package, entry in index.items() if (package, entry.description) in english}
    kinds = {package: kind for package, kind in kinds.items() if kind}
    common = Counter(kinds.values())
    sources = defaultdict(list)
    for package in kinds:
        sources[index[package].source].append(package)
    items = []
    for source, packages in sources.items():
        # The package with the rarest role speaks for its source, so that the roles are as even as they can be.
        package = min(shuffled(packages, SEED), key=lambda package: common[kinds[package]])
        synopsis, rest = debian.short_and_long(english[package, index[package].description])
        text = debian.cut(f"{synopsis}\n{rest}".strip(), LIMIT)
        if len(text) >= SHORTEST:
            items.append(Item(f"{source}/{package}", source, text, {"label": kinds[package]}))
    return split(card, items, SEED)


def role(tags: Set[str]) -> str:
    """The label of a package with these tags, or "" where they name none, or more than one."""
    roles = {tag for tag in tags if tag.startswith("role::")}
    if len(roles) != 1 or not roles <= ROLES.keys():
        return ""
    interfaces = {tag for tag in tags if tag.startswith("interface::")}
    kinds = {INTERFACES.get(tag, tag) for tag in interfaces}
    found = ROLES[roles.pop()]
    return found or (kinds.pop() if len(kinds) == 1 and interfaces <= INTERFACES.keys() else "")

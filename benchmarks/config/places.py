"""Where in which file a key of a config is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml


def place(files: Sequence[Path], path: str) -> str:
    """`file:line` of a key, given as a.b.c, in the last file that has it; else ""."""
    for file in reversed(files):
        for found, line in _keys(file):
            if found == path:
                return f"{file}:{line}"
    return ""


def _keys(file: Path) -> Iterator[tuple[str, int]]:
    """Paths, without suffixes such as ~OVERRIDE~, and lines of a file's keys."""
    try:
        root = yaml.compose(file.read_bytes().decode("utf-8-sig"), yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return
    yield from _below(root, "")


def _below(node: Any, path: str) -> Iterator[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = str(key.value).partition("~")[0]
        where = f"{path}.{name}" if path else name
        yield where, key.start_mark.line + 1
        yield from _below(value, where)

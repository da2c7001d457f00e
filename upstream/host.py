"""Insertions into files that PML has: from a file's text to the new one."""

from __future__ import annotations

import re

from . import KitError

MEMVIR = "MemVir"


def losses_init(text: str) -> str:
    """`losses/__init__.py` with MemVir in its alphabetical place."""
    lines = text.splitlines(keepends=True)
    line = f"from .memvir import {MEMVIR}\n"
    after = (i for i, other in enumerate(lines) if other > line)
    place = next(after, len(lines))
    return "".join([*lines[:place], line, *lines[place:]])


def contents(text: str, row: str) -> str:
    """`CONTENTS.md` with a row, by its alphabetical place among the wrappers.

    Raises:
        KitError: it has no table with CrossBatchMemory.
    """
    lines = text.splitlines(keepends=True)
    first = _row_of(lines, "CrossBatchMemory")
    place = first
    while place < len(lines) and lines[place].startswith("| "):
        name = re.match(r"\| \[?\*\*(\w+)", lines[place])
        # The table is in parts: base classes follow the wrappers.
        if name is None or name[1] > MEMVIR or name[1] < "CrossBatchMemory":
            break
        place += 1
    return "".join([*lines[:place], row + "\n", *lines[place:]])


def contents_row(reference: str, paper: str, paper_link: str) -> str:
    """A row for MemVir; links into the documentation are as `reference` has them."""
    link = re.search(r"\(([^()\s]*/losses/)#\w+\)", reference)
    page = link[1] if link else "docs/losses.md"
    return f"| [**{MEMVIR}**]({page}#{MEMVIR.lower()}) | [{paper}]({paper_link})"


def losses_page(text: str, section: str) -> str:
    """`docs/losses.md` with a section, before the first that follows by alphabet."""
    for match in re.finditer(r"^## (\w+)", text, flags=re.MULTILINE):
        if match[1].lower() > MEMVIR.lower():
            start = match.start()
            return f"{text[:start]}{section.rstrip()}\n\n\n{text[start:]}"
    return f"{text.rstrip()}\n\n\n{section.rstrip()}\n"


def _row_of(lines: list[str], name: str) -> int:
    for index, line in enumerate(lines):
        if line.startswith(f"| [**{name}**]"):
            return index
    raise KitError(f"CONTENTS.md has no row for {name}, beside which MemVir would go")

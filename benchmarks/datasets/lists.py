"""The list files of data sets: a row a line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PureWindowsPath

from .errors import DatasetError


def read_rows(
    path: Path,
    columns: int | None = None,
    integers: Collection[int] = (),
    files: Collection[int] = (),
    separator: str | None = None,
    header: int = 0,
) -> list[list[str]]:
    """The rows of a list file, each checked.

    Args:
        columns: how many each row must have; default: as many as the first.
        integers: columns (negative: from the right) that must be whole numbers.
        files: columns that must be relative paths without "..".
        separator: of columns; default: any white space.
        header: how many lines to skip.

    Raises:
        DatasetError: a row is damaged, with the line's number, or there is none.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if number <= header:
            continue
        try:
            row = [cell.strip() for cell in line.decode().strip().split(separator)]
            columns = columns or len(row)
            if len(row) != columns:
                raise ValueError(f"expected {columns} columns, found {len(row)}")
            if any(not row[i].isascii() or not row[i].isdecimal() for i in integers):
                named = " and ".join(str(i % columns + 1) for i in integers)
                raise ValueError(f"expected whole numbers in column {named}")
            if any(not is_inside(row[i]) for i in files):
                raise ValueError("expected a path inside the data set")
        except (ValueError, IndexError) as error:
            raise DatasetError(
                f"{path}, line {number}, is damaged: {error}: {line[:80]!r}",
                "Prepare the data set again",
            ) from error
        rows.append(row)
    if not rows:
        raise DatasetError(f"{path} lists nothing", "Prepare the data set again")
    return rows


def is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder, on any system."""
    path = PureWindowsPath(name)  # both slashes, drives
    return bool(path.parts) and not path.anchor and ".." not in path.parts

"""Runs from folders into a packed file, and back."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ReportError
from .contents import contents, name_of
from .experiments import Stored
from .pack import SUFFIX, read_pack, unpack_one, write_pack
from .runs import find


def pack(places: Iterable[Path], file: Path) -> list[str]:
    """Add the experiments among and below `places` to a file.

    One that the file has already is replaced by a place's, unless that lacks any of its
    trials, or ends one earlier: then nothing is written.

    Returns:
        the names of those that were added or replaced.

    Raises:
        ReportError: a place cannot be read or has less than the file, or two have one
            experiment.
    """
    if not file.name.endswith(SUFFIX):
        raise ReportError(f"expected a file named *{SUFFIX}, got {file}")
    new: dict[str, Stored] = {}
    for stored in find(places):
        contents(stored)
        other = new.setdefault(name_of(stored), stored)
        if other is not stored:
            raise ReportError(
                f"{other.place} and {stored.place} are one experiment; give one of them"
            )
    old = {name_of(s): s for s in read_pack(file)} if file.exists() else {}
    for name in old.keys() & new.keys():
        there = new[name].histories
        lost = [
            place
            for place, history in old[name].histories.items()
            if place not in there or _end(there[place]) < _end(history)
        ]
        if lost:
            raise ReportError(
                f"{file} has trials of {name} (seed, fold) that {new[name].place} has "
                f"not, or not as far: {sorted(lost, key=str)}; train them on there, or "
                "give another file"
            )
    write_pack({**old, **new}, file)
    return list(new)


def _end(history: Mapping[str, Any]) -> int:
    """The last epoch."""
    return max((entry["epoch"] for entry in history["epochs"]), default=-1)


def unpack(file: Path, output: Path, names: Sequence[str] = ()) -> Iterator[Path]:
    """Write experiments of a file as folders in `output`; default all.

    Args:
        names: with * and ?.

    Raises:
        ReportError: the file is damaged, has no such experiment, or a folder is there.
    """
    there = {name_of(stored): stored for stored in read_pack(file)}
    for pattern in names or ("*",):
        matches = fnmatch.filter(there, pattern)
        if not matches:
            known = ", ".join(there)
            raise ReportError(f"{file} has no {pattern!r}; there are {known}")
        for name in matches:
            contents(there[name])
            folder = output / name
            if not folder.resolve().is_relative_to(output.resolve()):
                raise ReportError(f"{file}: {name!r} is not within {output}")
            if folder.exists():
                raise ReportError(f"{folder} is there already; give another --output")
            unpack_one(there[name], folder)
            yield folder

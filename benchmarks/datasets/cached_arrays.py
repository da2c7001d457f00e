"""Arrays that are made once and kept in an .npz file, with a checksum."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing

LOGGER = logging.getLogger("benchmarks")
Arrays = dict[str, np.ndarray]


def load_or_make(
    path: Path, names: Sequence[str], key: str, make: Callable[[], Arrays]
) -> Arrays:
    """The arrays of `path`, made and saved first where there is no sound file.

    Args:
        path: of the .npz file.
        names: of the arrays, in the order of the checksum.
        key: what the arrays depend on, such as format and sources; part of the
            checksum, so a file of another key is made again.
        make: returns the arrays.
    """
    if path.exists():
        try:
            return load(path, names, key)
        except Exception as error:  # a damaged archive raises almost anything
            LOGGER.warning("%s is rendered again: %s", path, error)
    arrays = make()
    save(path, names, key, arrays)
    return arrays


def digest(names: Sequence[str], key: str, arrays: Arrays) -> str:
    """SHA-256 of the key and of names, types, shapes and contents."""
    total = hashlib.sha256(key.encode())
    for name in names:
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def load(path: Path, names: Sequence[str], key: str) -> Arrays:
    """Raises ValueError if the checksum does not match; else what NumPy raises."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in names}
        expected = str(file["digest"])
    if expected != digest(names, key, arrays):
        raise ValueError("its checksum does not match, or other sources made it")
    return arrays


def save(path: Path, names: Sequence[str], key: str, arrays: Arrays) -> None:
    """Under a temporary name first: a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Any] = {
        "digest": np.array(digest(names, key, arrays)),
        **arrays,
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **contents)

"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..config import ConfigError

FILE_NAME = ".lock"


@contextmanager
def locked(folder: Path, message: str | None = None) -> Iterator[None]:
    """Hold the folder's lock; the system frees it when the process ends.

    Args:
        message: raised where another process holds it; None: wait.

    Raises:
        ConfigError: another process holds it.
    """
    with (folder / FILE_NAME).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if message else 0))
        except BlockingIOError as error:
            raise ConfigError(f"{folder}: {message}") from error
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process holds the folder's lock now."""
    if not (folder / FILE_NAME).exists():
        return False
    try:
        with locked(folder, "held"):
            return False
    except ConfigError:
        return True

"""One process at a time in a folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..config import ConfigError

FILE_NAME = ".lock"
FOREVER = -1


@contextmanager
def locked(folder: Path, message: str | None = None) -> Iterator[None]:
    """Hold the folder's lock; the system frees it when the process ends.

    Where the file system has no locks, there is a warning and none is held.

    Args:
        message: raised where another process holds it; None: wait.

    Raises:
        ConfigError: another process holds it.
    """
    lock = FileLock(folder / FILE_NAME, timeout=0 if message else FOREVER)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigError(f"{folder}: {message}") from error
    except NotImplementedError:
        warnings.warn(
            f"{folder} is on a file system without locks: see to it that no other "
            "process works there",
            stacklevel=2,
        )
        yield
        return
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process holds the folder's lock now."""
    if not (folder / FILE_NAME).exists():
        return False
    try:
        with locked(folder, "held"):
            return False
    except ConfigError:
        return True

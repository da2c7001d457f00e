"""What a user can put right, as a message of a line or two."""

from __future__ import annotations

import errno
import functools
import sqlite3
from collections.abc import Callable
from typing import Any

import click

from ..errors import Mistake
from ..files import FULL

CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a user can put right is shown as a message, not as a traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, OSError, EOFError, sqlite3.Error) as error:
            said = in_one_line(error)
            if said is None:
                raise
            raise click.ClickException(said) from error

    return wrapped


def in_one_line(error: BaseException) -> str | None:
    """What to tell; None where it is no user's mistake."""
    if isinstance(error, Mistake):
        return str(error)
    if isinstance(error, EOFError):
        return f"a file ended too early, it is empty or damaged: {error}"
    if isinstance(error, sqlite3.Error):
        return f"a database cannot be read or written, is the disk full? ({error})"
    if isinstance(error, OSError):
        return _of_the_system(error)
    return None


def _of_the_system(error: OSError) -> str:
    said = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in FULL:
        return f"{where}{said}. Free some space and run it again, it goes on"
    if error.errno in CLOSED:
        return f"{where}{said}. Take a folder that you may read and write"
    return f"{where}{said}"

"""What can go wrong, and what of it a user can put right."""

from __future__ import annotations

import reprlib
from typing import Any


class Mistake(ValueError):
    """A user can put it right: the text says what is wrong, where, and the way out."""


class DatabaseError(Mistake):
    """A database cannot be written to, mostly as the disk is full."""


class ReportError(Mistake):
    """A report cannot be made; says of which file or option, and what to do."""


class StudyError(Mistake):
    """A study's file is wrong; says where, and what was expected."""


class NotPicked(Exception):
    """A setting of a study is picked by runs that are not finished."""


def explained(error: Any) -> str:
    """Of a pydantic.ValidationError: where, what was expected, and what came."""
    texts = []
    for one in error.errors():
        where = ".".join(map(str, one["loc"]))
        said = one["msg"].removeprefix("Value error, ")
        got = f", got {reprlib.repr(one['input'])}"
        text = said if one["type"] == "value_error" else f"{said}{got}"
        texts.append(f"{where}: {text}" if where else text)
    return "; ".join(texts)

"""What can be wrong with what is read."""

from __future__ import annotations

import reprlib

from pydantic import ValidationError


class ReportError(ValueError):
    """A report cannot be made; says of which file or option, and what to do."""


def explained(error: ValidationError) -> str:
    """Where each problem is, what was expected, and what came."""
    texts = []
    for one in error.errors():
        where = ".".join(map(str, one["loc"]))
        said = one["msg"].removeprefix("Value error, ")
        got = f", got {reprlib.repr(one['input'])}"
        text = said if one["type"] == "value_error" else f"{said}{got}"
        texts.append(f"{where}: {text}" if where else text)
    return "; ".join(texts)

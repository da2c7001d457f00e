"""Settings that a user can get wrong, said in words."""

from __future__ import annotations

import operator
from typing import Any

import torch


def integer(name: str, value: Any, least: int) -> int:
    """`value` as an integer; TypeError if it is none, ValueError if below `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {number}")
    return number


def flag(name: str, value: Any) -> bool:
    """`value`; TypeError unless it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value`; ValueError unless it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    return str(value)


def checked_dtype(value: Any) -> torch.dtype | None:
    """`value`; ValueError unless it is None or a dtype that the memory can have."""
    choices = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    if value is not None and value not in choices:
        raise ValueError(
            f"memory_dtype must be None or one of {choices}, got {value!r}"
        )
    return value  # type: ignore[no-any-return]

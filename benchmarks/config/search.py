"""Ranges to search, written as powerful-benchmarker's: `lr~LOG_BAYESIAN~: [a, b]`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError
from .overlay import SEARCH, SUFFIX


@dataclass(frozen=True)
class Range:
    """A value of a config to be found between two bounds, both included."""

    path: str  # a.b.c
    low: float
    high: float
    log: bool = False
    integer: bool = False

    @property
    def scale(self) -> str:
        return ", logarithmic" * self.log + ", integers" * self.integer


def ranges(values: Mapping[str, Any]) -> list[Range]:
    """All ranges in a config.

    Raises:
        ConfigError: bounds are no two numbers in order, or below 0 on a log scale.
    """
    return [_range(path, word, bounds) for path, word, bounds in _found(values, "")]


def with_values(values: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The config with each range replaced by the value chosen for its path."""
    return _replaced(copy.deepcopy(dict(values)), chosen, "")


def _found(values: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    if not isinstance(values, Mapping):
        return
    for key, value in values.items():
        name, word = search_key(key)
        where = f"{path}.{name}" if path else str(name)
        if word:
            yield where, word, value
        else:
            yield from _found(value, where)


def _replaced(values: Any, chosen: Mapping[str, Any], path: str) -> Any:
    if not isinstance(values, dict):
        return values
    result = {}
    for key, value in values.items():
        name, word = search_key(key)
        where = f"{path}.{name}" if path else str(name)
        result[name] = chosen[where] if word else _replaced(value, chosen, where)
    return result


def search_key(key: Any) -> tuple[Any, str | None]:
    """The name that a key stands for, and the word of its range, if it is one."""
    match = SUFFIX.fullmatch(key) if isinstance(key, str) else None
    if match is not None and match["word"] in SEARCH:
        return match["name"], match["word"]
    return key, None


def _range(path: str, word: str, bounds: Any) -> Range:
    numbers = (
        isinstance(bounds, list)
        and len(bounds) == 2
        and all(type(b) in (int, float) for b in bounds)
    )
    integer, log = word == "INT_BAYESIAN", word == "LOG_BAYESIAN"
    if (
        not numbers
        or not bounds[0] < bounds[1]
        or (log and bounds[0] <= 0)
        or (integer and any(int(b) != b for b in bounds))
    ):
        kind = "integers" if integer else "numbers > 0" if log else "numbers"
        raise ConfigError(f"{path}~{word}~: expected [low, high], {kind}, got {bounds}")
    low, high = map(int, bounds) if integer else bounds
    return Range(path, low, high, log, integer)

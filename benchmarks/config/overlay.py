"""Overlays of configs: merging, and the suffixes of powerful-benchmarker's YAML."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from .errors import ConfigError, suggest

SUFFIX = re.compile(r"(?P<name>[^~]+)~(?P<word>[A-Z_]+)~(?P<depth>\d*)")
WITH_DEPTH = ("SWAP", "APPLY")
# A range to search in place of a value: see `search`.
SEARCH = ("BAYESIAN", "LOG_BAYESIAN", "INT_BAYESIAN")
WORDS = ("OVERRIDE", "DELETE", *WITH_DEPTH, *SEARCH)


def overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`base` with `top` laid over it; neither is changed.

    Mappings are merged key by key, everything else replaces what was there (but no
    mapping takes a list's place by itself). A key of `top`, at any level, may end in a
    suffix:

        name~OVERRIDE~: x       x replaces what `name` was, mappings included
        name~DELETE~: any       `name` is removed
        name~SWAP~2: {a: b}     key a becomes key b, in all mappings 2 levels down
        name~SWAP~1: {b: null}  the same, where there is only one key
        name~APPLY~2: {k: v}    {k: v} is laid over all mappings 2 levels down

    The value of `name` itself is level 1. Order of keys is kept. A key with a range
    to search, `name~LOG_BAYESIAN~: [low, high]`, takes the place of `name`.

    Raises:
        ConfigError: a suffix is unknown, or does not fit what it is applied to.
    """
    return _overlay(base, top, "")


def _overlay(base: dict[str, Any], top: dict[str, Any], path: str) -> dict[str, Any]:
    result = copy.deepcopy(base)
    for key, value in top.items():
        where = f"{path}.{key}" if path else str(key)
        name, word, depth = _parse(key, where)
        if word not in ("DELETE", *WITH_DEPTH):
            for other in SEARCH:
                result.pop(f"{name}~{other}~", None)
        elif name not in result:
            raise ConfigError(
                f"{where}: there is no {name!r} to {word.lower()}"
                f"{suggest(name, result)}"
            )
        if word == "DELETE":
            del result[name]
        elif word in SEARCH:
            result.pop(name, None)
            result[key] = value
        elif word == "SWAP":
            _swap_all(result, name, depth, value, where)
        elif word == "APPLY":
            _apply_all(result, name, depth, value, where)
        elif word is None and isinstance(value, dict):
            result[name] = _merged(result.get(name), value, where)
        else:
            result[name] = _without_suffixes(value, where)
    return result


def _merged(before: Any, value: dict[str, Any], where: str) -> dict[str, Any]:
    """A mapping laid over what was there."""
    if isinstance(before, list):
        raise ConfigError(
            f"{where}: expected a list, as {before!r}, got a mapping; give the whole "
            "list, or the name with ~OVERRIDE~ to have a mapping there"
        )
    return _overlay(before if isinstance(before, dict) else {}, value, where)


def _parse(key: Any, where: str) -> tuple[Any, str | None, int]:
    if not isinstance(key, str) or "~" not in key:
        return key, None, 0
    match = SUFFIX.fullmatch(key)
    if match is None or match["word"] not in WORDS:
        raise ConfigError(
            f"{where}: the suffix is not one of "
            "~OVERRIDE~, ~DELETE~, ~SWAP~<depth>, ~APPLY~<depth>, ~BAYESIAN~, "
            "~LOG_BAYESIAN~, ~INT_BAYESIAN~"
        )
    if (match["word"] in WITH_DEPTH) != bool(match["depth"]) or match["depth"] == "0":
        raise ConfigError(
            f"{where}: ~SWAP~ and ~APPLY~ are followed by a depth of 1 or more, "
            "the other suffixes by nothing"
        )
    return match["name"], match["word"], int(match["depth"] or 0)


def _without_suffixes(value: Any, where: str) -> Any:
    """A value that is new: suffixes in it have nothing to act on but OVERRIDE."""
    return _overlay({}, value, where) if isinstance(value, dict) else value


def _levels(holder: dict[str, Any], key: str, depth: int) -> Iterator[tuple[Any, Any]]:
    """All (holder, key) whose value is a mapping, `depth` levels down from `key`."""
    value = holder[key]
    if not isinstance(value, dict):
        return
    if depth == 1:
        yield holder, key
    else:
        for inner in value:
            yield from _levels(value, inner, depth - 1)


def _swap_all(
    result: dict[str, Any], name: str, depth: int, swaps: Any, where: str
) -> None:
    if not isinstance(swaps, dict) or not swaps:
        raise ConfigError(f"{where}: expected {{old: new}}, got {swaps!r}")
    swapped = False
    for holder, key in list(_levels(result, name, depth)):
        before = holder[key]
        new_names = _new_names(before, swaps, where)
        for old, new in new_names.items():
            if old in before and new in before and new not in new_names:
                raise ConfigError(f"{where}: there is a {new!r} already")
        holder[key] = {new_names.get(k, k): v for k, v in before.items()}
        swapped = swapped or any(k in before for k in new_names)
    if not swapped:
        raise ConfigError(
            f"{where}: none of {', '.join(map(str, swaps))} is {depth} levels down"
        )


def _new_names(
    before: dict[str, Any], swaps: dict[str, Any], where: str
) -> dict[str, Any]:
    if all(isinstance(new, str) for new in swaps.values()):
        return swaps
    if len(swaps) > 1:
        raise ConfigError(f"{where}: expected {{old: new, ...}}, got {swaps}")
    if len(before) != 1:
        raise ConfigError(
            f"{where}: there are {len(before)} keys ({', '.join(before)}); "
            "say which one, as {old: new}"
        )
    return {next(iter(before)): next(iter(swaps))}


def _apply_all(
    result: dict[str, Any], name: str, depth: int, value: Any, where: str
) -> None:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a mapping to apply, got {value!r}")
    places = list(_levels(result, name, depth))
    if not places:
        raise ConfigError(f"{where}: there is no mapping {depth} levels down")
    for holder, key in places:
        holder[key] = _overlay(holder[key], value, where)

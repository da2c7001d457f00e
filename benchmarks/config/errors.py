"""The error of everything that is wrong with a config, and its hint."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable

from ..errors import Mistake

# What a class, or a training, raises where values do not fit.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class ConfigError(Mistake):
    """Something in a config that cannot be meant; says where, and the way out."""


def in_words(error: BaseException) -> str:
    """What an error says; where it says nothing, the line of code that raised it."""
    said = str(error).strip()
    if said:
        return said
    name = type(error).__name__
    lines = traceback.extract_tb(error.__traceback__)
    if not lines:
        return name
    last = lines[-1]
    return f"{name}, as this does not hold in {last.name}: {last.line}"


def suggest(word: str, known: Iterable[object]) -> str:
    """The end of a message: the nearest known words, or all if there are few."""
    words = sorted(map(str, known))
    near = difflib.get_close_matches(word, words, n=3, cutoff=0.6)
    if not near:  # a difference in case is one letter to a reader
        folded = {w.casefold(): w for w in words}
        found = difflib.get_close_matches(word.casefold(), folded, n=3, cutoff=0.6)
        near = [folded[f] for f in found]
    if near:
        return f". Did you mean {' or '.join(map(repr, near))}?"
    if 0 < len(words) <= 30:
        return f". Known: {', '.join(words)}"
    return ""

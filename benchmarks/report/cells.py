"""Numbers as text: percent with two decimals, "-" where there is none."""

from __future__ import annotations

from collections.abc import Iterable

from .statistics import Summary

NONE = "-"


class Strong(str):
    """A cell that a table shows bold."""


def percent(value: float | None, decimals: int = 2) -> str:
    return NONE if value is None else f"{100 * value:.{decimals}f}"


def signed(value: float | None, decimals: int = 2) -> str:
    if value is None:
        return NONE
    return f"{round(100 * value, decimals) + 0.0:+.{decimals}f}"  # never -0.00


def interval(of: Summary, with_sign: bool = False) -> str:
    if of.low is None or of.high is None:
        return NONE
    low, high = map(signed if with_sign else percent, (of.low, of.high))
    return f"[{low}, {high}]"


def difference(delta: Summary) -> str:
    """Its mean, and its interval if there is one."""
    ends = "" if delta.low is None else f" {interval(delta, True)}"
    return f"{signed(delta.mean)}{ends}"


def with_sd(number: tuple[float, float | None] | None, decimals: int = 2) -> str:
    if number is None:
        return NONE
    mean, sd = number
    deviation = "" if sd is None else f" ± {percent(sd, decimals)}"
    return f"{percent(mean, decimals)}{deviation}"


def span(numbers: Iterable[int]) -> str:
    """Of epochs and the like: "8", or "1-2" where they differ."""
    numbers = list(numbers)
    if not numbers:
        return NONE
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low}-{high}"

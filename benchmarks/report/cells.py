"""Numbers as text: percent with two decimals, "-" where there is none."""

from __future__ import annotations

from collections.abc import Iterable

from .statistics import Summary
from .structure import Value

NONE = "-"


def percent(value: float | None, decimals: int = 2) -> str:
    return NONE if value is None else f"{100 * value:.{decimals}f}"


def signed(value: float | None, decimals: int = 2) -> str:
    if value is None:
        return NONE
    return f"{round(100 * value, decimals) + 0.0:+.{decimals}f}"  # never -0.00


def interval(ends: tuple[float, float] | None, with_sign: bool = False) -> str:
    if ends is None:
        return NONE
    low, high = map(signed if with_sign else percent, ends)
    return f"[{low}, {high}]"


def difference(delta: Summary | None) -> str:
    """Its mean, and its interval if there is one."""
    if delta is None:
        return NONE
    ends = "" if delta.interval is None else f" {interval(delta.interval, True)}"
    return f"{signed(delta.mean)}{ends}"


def with_sd(mean: float, sd: float | None, decimals: int = 2) -> str:
    deviation = "" if sd is None else f" ± {percent(sd, decimals)}"
    return f"{percent(mean, decimals)}{deviation}"


def epochs(numbers: Iterable[int]) -> str:
    """One number, or from the first to the last of the folds' epochs."""
    numbers = list(numbers)
    if not numbers:
        return NONE
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low}-{high}"


def value_and_epoch(value: Value | None) -> str:
    if value is None:
        return NONE
    return f"{percent(value.value)} ({epochs(value.epochs)})"

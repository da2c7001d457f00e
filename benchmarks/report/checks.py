"""Whether history.json and concatenated.json hold what they should."""

from __future__ import annotations

import math
from typing import Any

from .errors import ReportError
from .pack import RESERVED

FORMAT = 1
# Metrics are ratios of sums in floating point, which may exceed 1 by rounding.
TOLERANCE = 1e-6
LARGEST = 2**53
TRIAL = {
    "num_epochs": (int,),
    "finished": (bool,),
    "stopped_early": (bool,),
    "primary_metric": (str,),
    "validation": (str, type(None)),
    "test": (str,),
    "epochs": (list,),
}


def check_history(data: Any, place: str, seed: int, fold: int | None) -> None:
    """
    Args:
        seed, fold: what its folder says.

    Raises:
        ReportError: the history is damaged, of another format, or of another trial.
    """
    _check_format(data, place)
    for name, number in (("seed", seed), ("fold", fold)):
        _expect(
            data.get(name) == number,
            place,
            f"{name} {number} by its folder",
            data.get(name),
        )
    for name, types in TRIAL.items():
        _field(data, name, types, place)
    before = -1, -1
    for entry in data["epochs"]:
        at = _whole(entry, "epoch", f"{place}, epochs"), _whole(entry, "step", place)
        in_order = at[0] > before[0] and at[1] >= before[1]
        _expect(
            in_order, place, f"epochs and steps to grow after epoch {before[0]}", at
        )
        before = at
        _check_entry(entry, f"{place}, epoch {at[0]}")
    last, num_epochs = max(before[0], 0), _whole(data, "num_epochs", place)
    _expect(last <= num_epochs, place, f"{num_epochs} epochs", last)
    if data["finished"] or data["stopped_early"]:
        _expect(last > 0, place, "epochs, as it is finished", "none")
    if data["finished"] and not data["stopped_early"]:
        expected = f"epoch {num_epochs} last, as it is finished"
        _expect(last == num_epochs, place, expected, last)


def check_concatenated(data: Any, place: str) -> dict[str, dict[str, float]]:
    """By selection, then by metric.

    Raises:
        ReportError: the file is damaged or of another format.
    """
    _check_format(data, place)
    names = ("last", "best_on_validation")
    found = {name: data[name] for name in names if data.get(name) is not None}
    for name, metrics in found.items():
        _check_metrics(metrics, f"{name} of {place}")
    return found


def _check_entry(entry: dict[str, Any], place: str) -> None:
    for split, metrics in _field(entry, "splits", (dict,), place).items():
        _expect(split not in RESERVED, place, "another name of a split", split)
        _check_metrics(metrics, f"{place}, split {split!r}")
    if entry.get("loss") is not None:
        _number(entry, "loss", place)
    if "memvir" in entry:
        for name in _field(entry, "memvir", (dict,), place):
            _number(entry["memvir"], name, place)


def _check_metrics(data: Any, place: str) -> None:
    _expect(isinstance(data, dict), place, "an object of metrics", data)
    for name in data:
        value = _number(data, name, place)
        lowest = -1 if name == "AMI" else 0
        # NaN is what a training that diverged may have come to.
        good = math.isnan(value) or lowest - TOLERANCE <= value <= 1 + TOLERANCE
        _expect(good, place, f"{name!r} to be a fraction, {lowest} to 1", value)


def _expect(good: bool, place: object, expected: str, got: object) -> None:
    if not good:
        raise ReportError(
            f"{place}: expected {expected}, got {got!r}; the file is damaged, or "
            "another program wrote it"
        )


def _check_format(data: dict[str, Any], place: str) -> None:
    found = data.get("format")
    _expect(found == FORMAT, place, f"format {FORMAT}", found)


def _field(data: Any, name: str, types: tuple[type, ...], place: object) -> Any:
    there = isinstance(data, dict) and name in data
    _expect(there, place, f"an object with {name!r}", data)
    value = data[name]
    # bool is a subclass of int.
    good = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    kinds = " or ".join(kind.__name__ for kind in types)
    _expect(good, place, f"{name!r} to be {kinds}", value)
    return value


def _whole(data: Any, name: str, place: object) -> int:
    value: int = _field(data, name, (int,), place)
    _expect(0 <= value < LARGEST, place, f"{name!r} to be 0 or more", value)
    return value


def _number(data: Any, name: str, place: object) -> float:
    value = _field(data, name, (int, float), place)
    small = isinstance(value, float) or abs(value) < LARGEST
    _expect(small, place, f"{name!r} to be a number", value)
    return float(value)

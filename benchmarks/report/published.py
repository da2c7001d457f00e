"""The numbers that the method's authors have published."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """One experiment in one source. Fractions, by metric.

    Attributes:
        source: a key of `sources()`.
        values: (mean, standard deviation or None).
        differences: to the plain loss in the same source; none for the plain loss.
    """

    source: str
    values: dict[str, tuple[float, float | None]]
    differences: dict[str, float]


def sources() -> dict[str, dict[str, Any]]:
    """By key: label, decimals, metrics, reference and what it is."""
    return _data()["sources"]


def published(experiment: str) -> list[Published]:
    """What is published of this experiment, an entry a source."""
    plain = experiment.removesuffix("_memvir")
    found = []
    for source in sources():
        values, base = _values(source, experiment), _values(source, plain)
        differences = {
            metric: values[metric][0] - base[metric][0]
            for metric in values
            if plain != experiment and metric in base
        }
        if values:
            found.append(Published(source, values, differences))
    return found


def _values(source: str, experiment: str) -> dict[str, tuple[float, float | None]]:
    rows = _data()[source].get(experiment, [])
    metrics = sources()[source]["metrics"] if rows else []
    return {
        metric: (row[0] / 100, row[1] / 100 if len(row) > 1 else None)
        for metric, row in zip(metrics, rows, strict=True)
    }


@cache
def _data() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))

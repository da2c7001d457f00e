"""The numbers that the method's authors have published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Source:
    """Where numbers are from, and what they are."""

    key: str
    label: str
    decimals: int
    metrics: tuple[str, ...]
    reference: str
    what: str


@dataclass(frozen=True)
class Published:
    """One experiment in one source. Fractions, by metric.

    Attributes:
        values: (mean, standard deviation or None).
        differences: to the plain loss in the same source; none for the plain loss.
    """

    source: Source
    values: Mapping[str, tuple[float, float | None]]
    differences: Mapping[str, float]


def published(experiment: str) -> tuple[Published, ...]:
    """What is published of this experiment, an entry a source."""
    plain = experiment.removesuffix("_memvir")
    found = []
    for source, table in _tables():
        if experiment not in table:
            continue
        values, base = table[experiment], table.get(plain, {})
        differences = {
            metric: values[metric][0] - base[metric][0]
            for metric in values
            if plain != experiment and metric in base
        }
        found.append(Published(source, values, differences))
    return tuple(found)


def sources() -> tuple[Source, ...]:
    return tuple(source for source, _ in _tables())


@cache
def _tables() -> (
    tuple[tuple[Source, dict[str, dict[str, tuple[float, float | None]]]], ...]
):
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    tables = []
    for key, about in data["sources"].items():
        source = Source(key, **about | {"metrics": tuple(about["metrics"])})
        tables.append(
            (
                source,
                {
                    experiment: {
                        metric: (row[0] / 100, row[1] / 100 if len(row) > 1 else None)
                        for metric, row in zip(source.metrics, rows, strict=True)
                    }
                    for experiment, rows in data[key].items()
                },
            )
        )
    return tuple(tables)

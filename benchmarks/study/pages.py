"""Pages of nothing but tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .stages import COMPARED


def markdown(title: str, sections: Mapping[str, str], *about: str) -> str:
    """Markdown; "" if there are no sections, which are tables by heading."""
    if not sections:
        return ""
    parts = [f"# {title}", *about]
    parts += [f"## {heading}\n\n{table}" for heading, table in sections.items()]
    return "\n\n".join(parts) + "\n"


def of_tuned(
    name: str, table: Callable[[str, Path], str], results: Path
) -> dict[str, str]:
    """The tables of the data sets whose tuning is over, by heading."""
    tables = {}
    for dataset in COMPARED:
        try:
            tables[f"{dataset}, {name}"] = table(dataset, results)
        except FileNotFoundError:
            continue
    return tables

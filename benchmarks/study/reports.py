"""The tables and figures of docs/results, made of the study's results by `report`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..report import run

METRICS = ("mean_average_precision_at_r", "precision_at_1", "r_precision")


@dataclass(frozen=True)
class Reported:
    """A `python -m benchmarks report`.

    Attributes:
        folders: of the study's results; those that are not there yet are left out.
        selections: default, the usual ones.
        until: as if training had ended with this epoch.
    """

    folders: tuple[str, ...]
    selections: tuple[str, ...] = ()
    until: int | None = None


REPORTS = {
    "main": Reported(("main",)),
    "tuning": Reported(("tuning",), ("held_out",)),
    "glyphs-5000-steps": Reported(("main/glyphs",), ("best_on_validation",), 5),
    "glyphs-10000-steps": Reported(("main/glyphs",), ("best_on_validation",), 10),
    "factors": Reported(
        (
            "factors",
            "main/glyphs/norm_softmax",
            "main/emoji/norm_softmax",
            "main/emoji/norm_softmax_memvir",
        ),
        ("last", "best_on_validation"),
    ),
}


def folders_there(reported: Reported, results: Path) -> list[Path]:
    """Those with results; none if the first, which it is about, has none."""
    folders = [results / folder for folder in reported.folders]
    there = [folder for folder in folders if any(folder.glob("**/history.json"))]
    return there if folders[0] in there else []


def write_reports(results: Path, output: Path, console: Console) -> None:
    """Each report of what there is of it into a folder of its name in `output`."""
    for name, reported in REPORTS.items():
        there = folders_there(reported, results)
        if not there:
            console.print(f"{name}: no results yet")
            continue
        run(
            there,
            output / name,
            Console(file=io.StringIO()),
            reported.selections,
            METRICS,
            until=reported.until,
        )
        console.print(f"{name}: {output / name}", soft_wrap=True)

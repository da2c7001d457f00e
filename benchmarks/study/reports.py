"""The tables and figures of docs, made of the study's results by `report`."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from ..report import ReportError, run
from ..report.files import write_text
from ..report.run import FIGURES
from .columns import METRICS
from .compared import comparison_tables, length_tables
from .controls import controls_tables, with_controls
from .factors import factors_tables
from .follow_up import follow_up_tables
from .picked import picked_tables
from .shares import shares_tables
from .stages import FACTOR_EPOCHS
from .summary import summary_tables

MARKED = re.compile(
    r"(?P<begin><!-- table: (?P<report>\S+) / (?P<heading>.+) -->)\n"
    r"(?:\|.*\n)*(?P<end><!-- end -->)"
)
# Further tables, in a file beside each report.
TABLES: dict[str, tuple[Callable[[Path], str], ...]] = {
    "main": (summary_tables, comparison_tables, length_tables),
    "tuning": (picked_tables, shares_tables),
    "controls": (controls_tables,),
    "factors": (factors_tables,),
    "follow_up": (follow_up_tables,),
}
TABLES_FILE = "tables.md"
EMOJI_NORM_SOFTMAX = ("main/emoji/norm_softmax", "main/emoji/norm_softmax_memvir")


@dataclass(frozen=True)
class Reported:
    """A `python -m benchmarks report`.

    Attributes:
        folders: of the study's results; those that are not there yet are left out.
        selections: default, the usual ones.
        baselines: of the results: by experiment, in place of its own.
        until: as if training had ended with this epoch.
        figures: those to draw; too many arms cannot be told apart in most.
    """

    folders: tuple[str, ...]
    selections: tuple[str, ...] = ()
    baselines: Callable[[Path], Mapping[str, str]] = lambda results: {}
    until: int | None = None
    figures: tuple[str, ...] = FIGURES


REPORTS = {
    "main": Reported(("main",)),
    "tuning": Reported(("tuning",), ("held_out",), figures=("actual_shares",)),
    "controls": Reported(
        ("controls/glyphs", "main/glyphs"),
        ("best_on_validation", "last"),
        partial(with_controls, "glyphs"),
        figures=("differences",),
    ),
    "controls_emoji": Reported(
        ("controls/emoji", *EMOJI_NORM_SOFTMAX),
        ("best_on_validation", "last"),
        partial(with_controls, "emoji"),
        figures=("differences",),
    ),
    "factors": Reported(
        ("factors/glyphs", "main/glyphs/norm_softmax"),
        ("best_on_validation", "last"),
        until=FACTOR_EPOCHS,
        figures=("differences", "actual_shares"),
    ),
    "follow_up": Reported(
        ("follow_up/glyphs", "main/glyphs"),
        ("best_on_validation", "last"),
        figures=("differences", "actual_shares"),
    ),
    "random_weights": Reported(
        ("factors/emoji", *EMOJI_NORM_SOFTMAX), ("last", "best_on_validation")
    ),
    "photographs": Reported(("photographs",)),
    "photographs_tuning": Reported(("photographs_tuning",), ("held_out",), figures=()),
}


def folders_there(reported: Reported, results: Path) -> list[Path]:
    """Those with results; none if the first, which it is about, has none."""
    folders = [results / folder for folder in reported.folders]
    there = [folder for folder in folders if any(folder.glob("**/history.json"))]
    return there if folders[0] in there else []


def write_reports(results: Path, output: Path, console: Console) -> None:
    """Each report of what there is of it into a folder of its name in `output`.

    Marked tables of the pages beside that folder, and of a README.md above it, are
    brought up to date.
    """
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
            baselines=reported.baselines(results),
            until=reported.until,
            figures=reported.figures,
        )
        console.print(f"{name}: {output / name}", soft_wrap=True)
    for name in TABLES:
        path = output / name / TABLES_FILE
        if text := tables(name, results):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        else:
            path.unlink(missing_ok=True)
    beside = output.parent
    paths = [*sorted(beside.glob("*.md")), *beside.parent.glob("README.md")]
    pages = {path: path.read_text() for path in paths}
    marked = {path: text for path, text in pages.items() if MARKED.search(text)}
    filled = {path: with_tables(text, output) for path, text in marked.items()}
    for path, text in filled.items():
        write_text(path, text)


def tables(name: str, results: Path) -> str:
    """The further ones of a report; "" where there are no results for them yet."""
    return "\n".join(filter(None, (make(results) for make in TABLES[name])))


def with_tables(page: str, output: Path) -> str:
    """The page with the first table of a file's section between each pair of marks.

    Raises:
        ReportError: a mark names a report or a section that is not there.
    """

    def filled(match: re.Match[str]) -> str:
        report, heading = match["report"], match["heading"]
        path = output / f"{report}.md"
        text = path.read_text() if path.exists() else ""
        section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        table = re.search(r"^(\|.*\n)+", section, re.MULTILINE)
        if table is None:
            raise ReportError(f"{path} has no table under {heading!r}")
        return f"{match['begin']}\n{table[0]}{match['end']}"

    return MARKED.sub(filled, page)

"""`python -m benchmarks report`: read, compute, write, print."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from ..errors import ReportError
from ..files import write_png, write_text
from .build import Report, build
from .csv_files import summary_csv, values_csv
from .figures import ALL_FIGURES, drawn
from .latex import as_latex
from .markdown import as_markdown
from .page import as_page
from .runs import Runs, read
from .tables import Section

OURS = re.compile(rf"({'|'.join(ALL_FIGURES)}|curves_.*)\.png")


def run(
    places: Sequence[Path],
    output: Path | None,
    console: Console,
    selections: Sequence[str] = (),
    metrics: Sequence[str] = (),
    baselines: Mapping[str, str] | None = None,
    until: int | None = None,
    only: Sequence[str] = (),
) -> Report:
    """Report all experiments among or below folders, or in files of packed runs.

    Args:
        output: default "report" in the folder that all `places` are, or are in.
        selections: of SELECTIONS; default all that there is something to select by.
        metrics: by name or label; default those of METRICS that were measured.
        baselines: by experiment name, in place of those in config.yaml.
        until: leave out what came after this epoch.
        only: names of experiments, with * and ?; default all.

    Raises:
        ReportError: there is nothing to report, a file is damaged, or an option names
            what is not there. Nothing is written.
    """
    runs = matching(read(places), only)
    runs = runs if until is None else runs.until(until)
    report = build(runs, selections, metrics, baselines)
    output = output or default_output(places)
    write(report, output)
    # As it is in the file, whatever the width of the terminal.
    console.print(as_markdown(report), markup=False, highlight=False, soft_wrap=True)
    console.print(f"Tables and figures are in {output}", markup=False, soft_wrap=True)
    return report


def write(
    report: Report,
    output: Path,
    wanted: Collection[str] = ALL_FIGURES,
    further: Sequence[Section] = (),
) -> list[Path]:
    """Write report.md, report.csv, summary.csv, report.tex, report.html and figures.

    Those are curves.png, with several data sets curves_<data set>.png, too;
    differences.png where arms have baselines, actual_shares.png and memvir.png where
    there is MemVir.

    Args:
        wanted: figures to draw, of ALL_FIGURES.
        further: sections that report.html begins with.

    Returns:
        the figures.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "report.csv", values_csv(report))
    write_text(output / "summary.csv", summary_csv(report))
    write_text(output / "report.tex", as_latex(report))
    for path in output.iterdir():  # of a report of other experiments
        if OURS.fullmatch(path.name):
            path.unlink()
    made = []
    for name, figure, dots in drawn(report, wanted):
        if figure is not None:
            made.append(output / f"{name}.png")
            write_png(made[-1], figure, dpi=dots)
    names = [path.name for path in made]
    write_text(output / "report.md", as_markdown(report, names))
    write_text(output / "report.html", as_page(report, made, further))
    return made


def matching(runs: Runs, patterns: Iterable[str]) -> Runs:
    """Experiments whose names match one of the patterns; all if there are none.

    Raises:
        ReportError: a pattern matches none.
    """
    names, found = list(runs.experiments.index), set()
    for pattern in patterns:
        matches = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise ReportError(
                f"no experiment is called {pattern!r}; there are {', '.join(names)}"
            )
        found.update(matches)
    return runs.only(name for name in names if name in found) if found else runs


def default_output(places: Iterable[Path]) -> Path:
    folders = (p.parent if p.is_file() else p for p in map(Path.resolve, places))
    common = Path(os.path.commonpath(list(folders)))
    if common == Path(common.anchor):
        raise ReportError(
            "the folders have nothing in common to write a report to; give --output"
        )
    return common / "report"


def parse_baselines(options: Iterable[str]) -> dict[str, str]:
    """By arm, of options ARM=OTHER, both experiment names.

    Raises:
        ReportError: an option is not of this form, or an arm has two.
    """
    baselines: dict[str, str] = {}
    for option in options:
        arm, equals, other = option.partition("=")
        if not (arm and equals and other):
            raise ReportError(f"baseline must be ARM=OTHER, got {option!r}")
        if baselines.setdefault(arm, other) != other:
            raise ReportError(f"baseline: {arm} has two, {baselines[arm]} and {other}")
    return baselines

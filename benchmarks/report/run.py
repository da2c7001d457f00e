"""`python -m benchmarks report`: read, compute, write, print."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from .actual_shares_figure import draw as draw_actual_shares
from .build import build
from .csv_files import summary_csv, values_csv
from .differences_figure import draw as draw_differences
from .errors import ReportError
from .experiments import load
from .figures import draw
from .files import write_text
from .insight_figure import draw as draw_insights
from .latex import as_latex
from .structure import Panels, Report
from .tables import as_markdown

FIGURES = ("differences", "curves", "actual_shares", "memvir")


def run(
    folders: Sequence[Path],
    output: Path | None,
    console: Console,
    selections: Sequence[str] = (),
    metrics: Sequence[str] = (),
    baselines: Mapping[str, str] | None = None,
    until: int | None = None,
    figures: Collection[str] = FIGURES,
) -> Report:
    """Report all experiments among or below `folders`.

    Writes report.md, report.csv, summary.csv, report.tex and curves.png; with several
    data sets curves_<data set>.png, too; differences.png where arms have baselines,
    actual_shares.png and memvir.png where there is MemVir.

    Args:
        output: default "report" in the folder that all `folders` are, or are in.
        selections: of SELECTIONS; default all that there is something to select by.
        metrics: by name or label; default those of METRICS that were measured.
        baselines: by experiment name, in place of those in config.yaml.
        until: leave out what came after this epoch.
        figures: those to draw, of FIGURES.

    Raises:
        ReportError: there is nothing to report, a file is damaged, or an option names
            what is not there. Nothing is written.
    """
    report = build(load(folders, until), selections, metrics, baselines)
    output = output or default_output(folders)
    output.mkdir(parents=True, exist_ok=True)
    for path in output.iterdir():  # of a report of other experiments
        if re.fullmatch(
            r"(curves(_.*)?|differences|memvir|actual_shares)\.png", path.name
        ):
            path.unlink()
    names = _draw_all(report, output, figures)
    write_text(output / "report.md", as_markdown(report, names))
    write_text(output / "report.csv", values_csv(report))
    write_text(output / "summary.csv", summary_csv(report))
    write_text(output / "report.tex", as_latex(report))
    # As it is in the file, whatever the width of the terminal.
    console.print(as_markdown(report), markup=False, highlight=False, soft_wrap=True)
    console.print(f"Tables and figures are in {output}", markup=False, soft_wrap=True)
    return report


def default_output(folders: Iterable[Path]) -> Path:
    common = Path(os.path.commonpath([folder.resolve() for folder in folders]))
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


def _draw_all(report: Report, output: Path, wanted: Collection[str]) -> list[str]:
    """The names of the figures, in the order of the report."""
    names = []
    compared = any(r.baseline for section in report.sections for r in section.results)
    if compared and "differences" in wanted:
        draw_differences(report.sections, report.metrics, output / "differences.png")
        names.append("differences.png")
    if "curves" in wanted:
        for name, rows in _curves(report).items():
            draw(rows, _caption(rows), output / name)
            names.append(name)
    if report.actual_shares and "actual_shares" in wanted:
        path = output / "actual_shares.png"
        draw_actual_shares(report.actual_shares, report.metrics[0], path)
        names.append(path.name)
    if report.insights and "memvir" in wanted:
        draw_insights(report.insights, output / "memvir.png")
        names.append("memvir.png")
    return names


def _curves(report: Report) -> dict[str, Sequence[Panels]]:
    """By file name."""
    figures: dict[str, Sequence[Panels]] = {"curves.png": report.panels}
    if len(report.panels) > 1:
        for panels in report.panels:
            name = re.sub(r"[^\w.-]", "_", panels.dataset) or "unnamed"
            figures[f"curves_{name}.png"] = [panels]
    return figures


def _caption(rows: Sequence[Panels]) -> str:
    """The protocol of each data set, and what lines and bands are."""
    abouts = (f"{panels.about} {panels.versions}" for panels in rows)
    key = "Lines: mean over finished seeds; bands: worst to best; dashed: plain losses."
    return "\n".join([*abouts, key])

"""study: the runs of benchmarks/results/study."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console

from . import options


@click.command()
@click.option(
    "--output",
    type=options.FOLDER,
    default=Path("benchmarks/results/study"),
    show_default=True,
    help="Results; finished runs in it are not run again.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Runs side by side.  [default: one a core]",
)
@click.option(
    "--core-hours",
    type=float,
    help="Start no run when so much is spent.  [default: the protocol's budget]",
)
@click.option(
    "--stage", "stages", multiple=True, help="Only this; can be given several times."
)
@click.option("--dry-run", is_flag=True, help="List the runs and how far they are.")
@click.option(
    "--report",
    type=options.FOLDER,
    help="Write tables and figures of what there is into this folder; run nothing.",
)
@options.plain_errors
def study(
    output: Path,
    processes: int | None,
    core_hours: float | None,
    stages: tuple[str, ...],
    dry_run: bool,
    report: Path | None,
) -> None:
    """Run what is left of the study in benchmarks/results/study/PROTOCOL.md."""
    from .. import study as study_
    from ..report import ReportError

    for stage in stages:
        if stage not in study_.STAGES:
            known = ", ".join(study_.STAGES)
            raise click.BadParameter(f"{stage!r}; expected one of {known}")
    chosen = stages or tuple(study_.STAGES)
    console = Console()
    if report is not None:
        try:
            study_.write_reports(output, report, console)
        except ReportError as error:
            raise click.ClickException(str(error)) from error
        return
    if dry_run:
        console.print(study_.overview(output, chosen))
        return
    processes = processes or os.cpu_count() or 1
    budget = study_.CORE_HOURS if core_hours is None else core_hours
    if study_.run(output, processes, budget, chosen, console):
        raise SystemExit(1)

"""study: many runs that a file describes."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..console import plain_console
from . import options

OURS = Path(__file__).parents[1] / "studies" / "memvir.yaml"


@click.command()
@click.argument(
    "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=OURS
)
@click.option(
    "--output",
    type=options.FOLDER,
    help="Results; finished runs in it are not run again.  [default: the file's]",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Runs side by side.  [default: one a core]",
)
@click.option(
    "--core-hours",
    type=float,
    help="Start no run when so much is spent.  [default: the file's]",
)
@click.option(
    "--stage", "stages", multiple=True, help="Only this; can be given several times."
)
@click.option(
    "--dry-run", is_flag=True, help="Tell how far stages are, and what is wrong."
)
@click.option(
    "--pack",
    is_flag=True,
    help="Put the runs that are there into packed files; run nothing.",
)
@click.option(
    "--report",
    type=options.FOLDER,
    help="Write tables and figures of what there is into this folder; run nothing.",
)
def study(
    file: Path,
    output: Path | None,
    processes: int | None,
    core_hours: float | None,
    stages: tuple[str, ...],
    dry_run: bool,
    pack: bool,
    report: Path | None,
) -> None:
    """Run what is left of the study in FILE, side by side; run again to resume.

    FILE is YAML, by default that of benchmarks/results/study/PROTOCOL.md.
    docs/studies.md tells how to write one.
    """
    from .. import study as study_

    console = plain_console()
    made = study_.Study(file, output)
    chosen = stages or tuple(made.stages)
    for stage in chosen:
        if stage not in made.stages:
            known = ", ".join(made.stages)
            raise click.BadParameter(f"{stage!r}; expected one of {known}")
    if pack:
        for folder in made.folders:
            names = made.results.pack(folder)
            console.print(f"{folder}: {len(names)} experiments packed")
    elif report is not None:
        study_.write_reports(made, report, console)
    elif dry_run:
        console.print(study_.overview(made, chosen))
        made.check(chosen)
    else:
        made.check(chosen)  # before hours of runs
        processes = processes or os.cpu_count() or 1
        budget = made.core_hours if core_hours is None else core_hours
        if study_.run(made, processes, budget, chosen, console):
            raise SystemExit(1)

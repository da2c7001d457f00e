"""report: tables and figures of runs."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from . import options


@click.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
@click.option(
    "--output",
    type=options.FOLDER,
    help='Where to write.  [default: "report" in the folder that all are in]',
)
@click.option(
    "--selection",
    "selections",
    multiple=True,
    type=click.Choice(["last", "best_on_validation", "best_on_test", "held_out"]),
    help="Which epoch counts; can be given several times. held_out: accuracies of the "
    "held-out classes, not of the test set.  [default: all there are but held_out]",
)
@click.option(
    "--metric", "metrics", multiple=True, help="Such as Recall@1; several times."
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="ARM=OTHER",
    help="Compare one experiment with another than its config says.",
)
@click.option(
    "--until",
    type=click.IntRange(1),
    metavar="EPOCH",
    help="As if training had ended there; where learning rates depend on the length of "
    "the schedule, that is not what a shorter training would have given.",
)
@options.plain_errors
def report(
    folders: tuple[Path, ...],
    output: Path | None,
    selections: tuple[str, ...],
    metrics: tuple[str, ...],
    baselines: tuple[str, ...],
    until: int | None,
) -> None:
    """Tables and learning curves of all runs in FOLDERS, beside the published ones."""
    from ..report import ReportError, parse_baselines, run

    try:
        given = parse_baselines(baselines)
        run(list(folders), output, Console(), selections, metrics, given, until)
    except ReportError as error:
        raise click.ClickException(str(error)) from error

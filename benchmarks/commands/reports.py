"""report, pack, unpack: tables and figures of runs, and their packed files."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import plain_console
from ..files import naming
from . import options

PLACE = click.Path(path_type=Path, exists=True)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("places", nargs=-1, required=True, type=PLACE)
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
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Only experiments of this name, such as 'glyphs/*'; several times.",
)
def report(
    places: tuple[Path, ...],
    output: Path | None,
    selections: tuple[str, ...],
    metrics: tuple[str, ...],
    baselines: tuple[str, ...],
    until: int | None,
    only: tuple[str, ...],
) -> None:
    """Tables and learning curves of all runs in PLACES, beside the published ones.

    PLACES are folders, and files of packed runs.
    """
    from ..report import parse_baselines, run

    options_ = selections, metrics, parse_baselines(baselines), until, only
    with naming(output or places[0] / "report"):
        run(list(places), output, plain_console(), *options_)


@click.command()
@click.argument("places", nargs=-1, required=True, type=PLACE)
@click.option("--into", type=FILE, required=True, help="The file, named *.csv.gz.")
def pack(places: tuple[Path, ...], into: Path) -> None:
    """Add all runs in PLACES to one compressed table, which `report` takes, too."""
    from ..report.packing import pack as pack_

    names = pack_(places, into)
    plain_console().print(f"{into}: {len(names)} experiments", soft_wrap=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.output
def unpack(file: Path, names: tuple[str, ...], output: Path) -> None:
    """Write runs of a packed FILE as folders again; NAME as in 'glyphs/*'."""
    from ..report.packing import unpack as unpack_

    for folder in unpack_(file, output, names):
        plain_console().print(str(folder), soft_wrap=True)

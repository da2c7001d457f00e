"""data prepare, data verify: the data sets on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..console import plain_console
from . import options

ROOT = click.option(
    "--root", type=options.FOLDER, help="Its folder.  [default: data/NAME]"
)
NAMES = ["cub200", "cars196", "sop", "inshop", "folders", "emoji", "glyphs"]
PROBLEMS_SHOWN = 5
NAME = click.argument("name", type=click.Choice(NAMES))


@click.group()
def data() -> None:
    """The data sets on disk."""


@data.command()
@NAME
@ROOT
@click.option(
    "--archive",
    "archives",
    multiple=True,
    type=options.existing(),
    help="A file that you have downloaded (for emoji, or a folder of them); can be "
    "given several times.",
)
@click.option(
    "--annotations",
    type=options.existing(folder=False),
    help="cars_annos.mat or list_eval_partition.txt, if no archive has it.",
)
@click.option("--download", is_flag=True, help="Download it, where that is possible.")
def prepare(
    name: str,
    root: Path | None,
    archives: tuple[Path, ...],
    annotations: Path | None,
    download: bool,
) -> None:
    """Unpack archives into the layout that the loaders read, and check the counts.

    Emoji fetches its packages with npm, or takes them as --archive; Glyphs needs none.
    NAME folders is for images of your own, the configs' ImageFolders.
    """
    from .. import datasets
    from ..datasets import emoji
    from ..datasets import prepare as preparing

    console, root = plain_console(), root or Path("data") / name
    if name == "emoji":
        emoji.prepare(root, list(archives) or None, console)
    elif name == "glyphs":
        datasets.Glyphs(root)
        console.print(f"{root} is ready")
    else:
        preparing.prepare(name, root, list(archives), annotations, download, console)


@data.command()
@NAME
@ROOT
@click.option("--no-decode", is_flag=True, help="Do not read the images, only count.")
def verify(name: str, root: Path | None, no_decode: bool) -> None:
    """Count classes and images against the published numbers, and read every image."""
    from .. import datasets
    from ..datasets import verify as verifying
    from ..datasets.prepare import DATASETS

    ours: dict[str, Any] = {"emoji": datasets.Emoji, "glyphs": datasets.Glyphs}
    console, root = plain_console(), root or Path("data") / name
    rows = verifying.verify(name, root, console, not no_decode, {**DATASETS, **ours})
    console.print(verifying.table(rows), highlight=False, soft_wrap=True)
    for row in rows:
        for problem in row.problems[:PROBLEMS_SHOWN]:
            console.print(f"- {row.split}: {problem}", soft_wrap=True)
        more = len(row.problems) - PROBLEMS_SHOWN
        if more > 0:
            console.print(f"- {row.split}: and {more:,} more")
    if any(row.problems for row in rows):
        raise SystemExit(1)

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
NAMES = ["cub200", "cars196", "sop", "inshop", "folders", "emoji", "glyphs", "kanji"]
PROBLEMS_SHOWN = 5
NAME = click.argument("name", type=click.Choice(NAMES))


def _rendered() -> dict[str, Any]:
    from .. import datasets

    all_of_them = (datasets.Emoji, datasets.Glyphs, datasets.Kanji)
    return {cls.__name__.lower(): cls for cls in all_of_them}


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
    help="A file that you have downloaded (for emoji and kanji, or a folder of them); "
    "can be given several times.",
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

    Emoji and Kanji fetch packages with npm, or take them as --archive; Glyphs needs
    none. NAME folders is for images of your own, the configs' ImageFolders.
    """
    from ..datasets import prepare as preparing

    console, root = plain_console(), root or Path("data") / name
    if name in (rendered := _rendered()):
        if annotations or download or (archives and name == "glyphs"):
            takes = "no options but --root" if name == "glyphs" else "--archive only"
            raise click.UsageError(f"{name} takes {takes}")
        given: dict[str, Any] = {"archives": archives} if archives else {}
        made = rendered[name](root, "train+test", **given)
        classes = len(made.class_names)
        found = f"{root}: {len(made):,} images of {classes:,} classes"
        console.print(found, soft_wrap=True)
    else:
        preparing.prepare(name, root, list(archives), annotations, download, console)


@data.command()
@NAME
@ROOT
@click.option("--no-decode", is_flag=True, help="Do not read the images, only count.")
def verify(name: str, root: Path | None, no_decode: bool) -> None:
    """Count classes and images against the published numbers, and read every image."""
    from ..datasets import verify as verifying
    from ..datasets.prepare import DATASETS

    console, root = plain_console(), root or Path("data") / name
    known = {**DATASETS, **_rendered()}
    rows = verifying.verify(name, root, console, not no_decode, known)
    console.print(verifying.table(rows), highlight=False, soft_wrap=True)
    for row in rows:
        for problem in row.problems[:PROBLEMS_SHOWN]:
            console.print(f"- {row.split}: {problem}", soft_wrap=True)
        more = len(row.problems) - PROBLEMS_SHOWN
        if more > 0:
            console.print(f"- {row.split}: and {more:,} more")
    if any(row.problems for row in rows):
        raise SystemExit(1)

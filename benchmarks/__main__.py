"""The command line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/glyphs"),
    show_default=True,
    help="Folder of the rendered images.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Benchmarks of pml_memvir."""


@main.command()
@DATA
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder for figures and records.  [default: output/demo/<time>]",
)
@click.option(
    "--epochs",
    type=click.IntRange(3),
    default=8,
    show_default=True,
    help="Two of them are MemVir's warm-up, in which it is the plain loss.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
def demo(data: Path, output: Path | None, epochs: int, seed: int) -> None:
    """Train a small network on Glyphs, without and with MemVir, and compare."""
    from . import demo as demo_

    if output is None:
        output = Path("output/demo") / datetime.now().strftime("%Y%m%d-%H%M%S")
    if output.exists() and any(output.iterdir()):
        raise click.BadParameter(f"{output} is not empty", param_hint="--output")
    output.mkdir(parents=True, exist_ok=True)
    settings = demo_.Settings(num_epochs=epochs, seed=seed)
    demo_.run(data, output, settings, Console())


@main.command()
@DATA
@click.option("--split", type=click.Choice(["train", "test"]), default="train")
@click.option("--classes", type=click.IntRange(1), default=40, show_default=True)
@click.argument("png", type=click.Path(path_type=Path, dir_okay=False))
def glyphs(data: Path, split: str, classes: int, png: Path) -> None:
    """Write a contact sheet of the Glyphs images to PNG: a row a class."""
    from .datasets.glyphs import Glyphs, contact_sheet

    if png.suffix.lower() != ".png":
        raise click.BadParameter(f"{png} does not end in .png", param_hint="PNG")
    dataset = Glyphs(data, split)
    png.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(dataset, classes).save(png)
    click.echo(f"{len(dataset)} images of {len(set(dataset.labels))} classes: {png}")


@main.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("output/speed"),
    show_default=True,
    help="Folder for speed.json, speed.md and growth.png.",
)
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda")
@click.option("--quick", is_flag=True, help="Tiny sizes, to see that it runs.")
def speed(output: Path, repeats: int, device: str, quick: bool) -> None:
    """Time MemVir against its inner loss, the naive way and the least possible."""
    from .speed.run import run

    run(output, repeats, device, quick, Console())


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")

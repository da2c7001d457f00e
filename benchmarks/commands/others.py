"""Commands not about experiments: demo, glyphs, speed, share, precision, gpu."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from ..console import plain_console
from . import options

DATA = click.option(
    "--data",
    type=options.FOLDER,
    default=Path("data/glyphs"),
    help="Folder of the rendered images.",
)


@click.command()
@DATA
@click.option(
    "--output",
    type=options.FOLDER,
    help="A new folder for figures and records.  [default: output/demo/<time>]",
)
@click.option(
    "--epochs",
    type=click.IntRange(5),
    default=8,
    help="Four of them are MemVir's warm-up, in which it is the plain loss.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0)
def demo(data: Path, output: Path | None, epochs: int, seed: int) -> None:
    """Train a small network on Glyphs, without and with MemVir, and compare."""
    from .. import demo as demo_

    if output is None:
        output = Path("output/demo") / datetime.now().strftime("%Y%m%d-%H%M%S")
    if output.exists() and any(output.iterdir()):
        raise click.BadParameter(f"{output} is not empty", param_hint="--output")
    output.mkdir(parents=True, exist_ok=True)
    settings = demo_.Settings(num_epochs=epochs, seed=seed)
    demo_.run(data, output, settings, plain_console())


@click.command()
@DATA
@click.option("--split", type=click.Choice(["train", "test"]), default="train")
@click.option("--classes", type=click.IntRange(1), default=40)
@click.argument("png", type=options.UserPath(path_type=Path, dir_okay=False))
def glyphs(data: Path, split: str, classes: int, png: Path) -> None:
    """Write a contact sheet of the Glyphs images to PNG: a row a class."""
    from ..datasets.glyphs import Glyphs, contact_sheet

    if png.suffix.lower() != ".png":
        raise click.BadParameter(f"{png} does not end in .png", param_hint="PNG")
    dataset = Glyphs(data, split)
    png.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(dataset, classes).save(png)
    click.echo(f"{len(dataset)} images of {len(set(dataset.labels))} classes: {png}")


@click.command()
@click.option(
    "--output",
    type=options.FOLDER,
    default=Path("output/speed"),
    help="Folder for speed.json, speed.md and growth.png, or operations.csv.",
)
@click.option("--repeats", type=click.IntRange(1), default=9)
@click.option("--device", default="cpu", help="cpu or cuda")
@click.option("--quick", is_flag=True, help="Tiny sizes, to see that it runs.")
@click.option(
    "--operations",
    is_flag=True,
    help="Count what a step asks of a GPU instead. None is needed.",
)
def speed(
    output: Path, repeats: int, device: str, quick: bool, operations: bool
) -> None:
    """Time MemVir against its inner loss, the naive way and the least possible."""
    from ..speed import operations as operations_
    from ..speed.run import run

    options.torch_device(device)
    if operations:
        made = operations_.run(output).drop(columns=["algorithm", "torch"])
        plain_console().print(made.to_string(index=False))
        return
    run(output, repeats, device, quick, plain_console())


@click.command()
@click.option(
    "--classes",
    type=click.Choice(["98", "11318"]),
    multiple=True,
    default=["98"],
    help="98 as in CARS196; 11318 as in SOP, with a bfloat16 memory of 5.8 GB.",
)
@click.option("--repeats", type=click.IntRange(1), default=5)
@click.option("--device", default="cpu", help="cpu or cuda")
def share(classes: tuple[str, ...], repeats: int, device: str) -> None:
    """How much of a ResNet-50's training step MemVir takes, at 128 images of 224."""
    import torch

    from ..speed import measure
    from ..speed import share as share_

    options.torch_device(device)
    shares = []
    for name in classes:
        setting = share_.SOP if name == "11318" else share_.CARS196
        dtype = torch.bfloat16 if name == "11318" else None
        network = share_.resnet50(setting.D)
        shares.append(
            share_.measure_share(setting, network, 224, repeats, device, dtype)
        )
    about = ", ".join(f"{k}: {v}" for k, v in measure.machine().items())
    plain_console().print(share_.table(shares, about))


@click.command()
def precision() -> None:
    """What a memory of lower precision changes in losses and gradients."""
    from ..precision import run

    plain_console().print(run())


@click.command()
@click.option(
    "--output",
    type=options.FOLDER,
    default=Path("output/gpu"),
    help="Folder for index.md and what each part writes.",
)
@click.pass_context
def gpu(context: click.Context, output: Path) -> None:
    """All that wants a GPU: tests, times, a short training. Some of it without one."""
    from ..gpu import run

    context.exit(0 if run(output, plain_console()) else 1)

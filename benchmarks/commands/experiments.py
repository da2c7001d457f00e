"""run, eval, tune, check, list: experiments from configs."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..console import plain_console
from . import options


@click.command(cls=options.Command)
@options.names_and_overrides
@options.with_files
@options.output
@options.device
@click.option(
    "--from-best",
    is_flag=True,
    help="Go back to the best checkpoints of trials, and on from there.",
)
def run(
    what: tuple[str, ...],
    extra: tuple[str, ...],
    output: Path,
    device: str | None,
    from_best: bool,
) -> None:
    """Train and evaluate configs over their seeds; run again to resume.

    NAME is a preset (cars196/norm_softmax_memvir, "glyphs/*") or a YAML file; a.b=VALUE
    changes the config, as in seeds=[0,1] or trainer~APPLY~2.batch_size=64.
    """
    options.quiet_bars()
    from ..protocol import experiment

    console = plain_console()
    configs = options.load_all(what, extra)
    if any(config.deterministic for config in configs):
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    chosen = options.torch_device(device)
    for config in configs:  # before the first of them trains for hours
        experiment.rehearse_if_new(config, output, chosen, console, from_best)
    for config in configs:
        folder = experiment.run(
            config, output, chosen, console, from_best, is_rehearsed=True
        )
        console.print(f"{config.experiment_name}: finished; {folder}", soft_wrap=True)
    console.print(f"python -m benchmarks report {output}", highlight=False)


@click.command("eval")
@click.argument("folder", type=options.existing(folder=True))
@click.argument("overrides", nargs=-1, metavar="[a.b=VALUE]...")
@click.option(
    "--selection",
    type=click.Choice(["last", "best_on_validation", "best_on_test"]),
    default="last",
    help="Which of the saved models.",
)
@click.option(
    "--images",
    type=options.existing(folder=True),
    help="Evaluate on these, FOLDER/<class>/*, in place of the run's data set.",
)
@options.device
def evaluate(
    folder: Path,
    overrides: tuple[str, ...],
    selection: str,
    images: Path | None,
    device: str | None,
) -> None:
    """Evaluate the trained models of a run; a.b=VALUE changes its config for this."""
    options.quiet_bars()
    from ..protocol.evaluation import evaluate as evaluate_folder

    console = plain_console()
    chosen = options.torch_device(device)
    console.print(evaluate_folder(folder, selection, overrides, chosen, images))


@click.command(cls=options.Command)
@options.names_and_overrides
@options.with_files
@options.output
@options.device
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=20,
    help="Trials to reach, earlier and failed ones included.",
)
@click.option("--sampler-seed", type=click.IntRange(0), default=0)
def tune(
    what: tuple[str, ...],
    extra: tuple[str, ...],
    output: Path,
    device: str | None,
    trials: int,
    sampler_seed: int,
) -> None:
    """Search hyper-parameters with Optuna, on held-out classes; run again to resume.

    Ranges are values of the config: a.b~LOG_BAYESIAN~=[1e-3,1e-1], a.c~BAYESIAN~=[0,1],
    a.d~INT_BAYESIAN~=[1,9]. The best values are written as best.yaml, for --with.
    """
    options.quiet_bars()
    from ..config import load_values
    from ..protocol.tune import tune as search

    names, overrides = options.split_names(what)
    if len(names) != 1:
        raise click.UsageError(f"tune takes one config, got {len(names)}")
    values = load_values(names[0], extra, overrides, options.note)
    chosen = options.torch_device(device)
    search(values, output, trials, sampler_seed, chosen, plain_console())


@click.command(cls=options.Command)
@options.names_and_overrides
@options.with_files
@options.device
@click.option(
    "--build-only",
    is_flag=True,
    help="Succeed where data or weights are not there, if all else is well.",
)
def check(
    what: tuple[str, ...], extra: tuple[str, ...], device: str | None, build_only: bool
) -> None:
    """Rehearse configs, in seconds each; without NAME, all presets.

    A few images are evaluated and trained with, and a checkpoint is written, which all
    is forgotten again. Where data or weights are not there, this is done with noise and
    random weights. (Emoji, Glyphs and Kanji are rendered, if they are not there.)
    """
    from rich.progress import track
    from rich.table import Table
    from rich.text import Text

    options.quiet_bars()
    from ..protocol.check import Checker
    from ..protocol.progress import random_weights

    console = plain_console()
    checker = Checker(options.torch_device(device))
    configs = options.load_all(what, extra, every_preset=True)
    found = [checker.check(c) for c in track(configs, "checking", console=console)]
    table = Table("config", "builds", "data", "weights")
    for row in found:
        marks = [c if c == "ok" else Text("no", style="red") for c in row.cells]
        table.add_row(row.name, *marks)
    console.print(table)
    problems = [cell for row in found for cell in row.cells if cell != "ok"]
    for problem in dict.fromkeys(problems):
        console.print(f"- {problem}", highlight=False, soft_wrap=True)
    for config, row in zip(configs, found):
        for said in filter(None, (random_weights(config), row.idle)):
            console.print(f"{row.name}: {said}", highlight=False, soft_wrap=True)
    good = [row.builds == "ok" if build_only else row.ready for row in found]
    console.print(f"{sum(good)} of {len(good)} configs are ready")
    if not all(good):
        raise SystemExit(1)


@click.command("list")
@click.argument("kind", required=False)
def list_names(kind: str | None) -> None:
    """All presets; or all names of a KIND, such as loss, trunk or dataset."""
    from rich.table import Column, Table

    from ..config import load, preset_names, registry
    from ..config.building import split_spec
    from ..config.errors import suggest

    console = plain_console()
    if kind is not None:
        if kind not in registry.MODULES:
            raise click.BadParameter(
                f"unknown kind {kind!r}" + suggest(kind, registry.MODULES)
            )
        console.print("\n".join(registry.names(kind)), highlight=False)
        return
    table = Table(Column("preset", no_wrap=True), "loss", "N, M", "epochs", "settings")
    for name in preset_names():
        config = load(name)
        loss, arguments = split_spec(config.loss_funcs["metric_loss"], "metric_loss")
        memvir = ""
        if loss == "MemVir":
            memvir = f"{arguments['num_steps']}, {arguments['step_gap']}"
            loss, _ = split_spec(arguments["loss"], "loss")
        table.add_row(name, loss, memvir, str(config.num_epochs_train), config.source)
    console.print(table)
    console.print("N, M: num_steps and step_gap of MemVir")
    console.print(f"kinds of names: {', '.join(registry.MODULES)}", highlight=False)

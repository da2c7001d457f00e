"""What a run tells on the console."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from pml_memvir import MemVir

from ..config import Config
from ..config.building import WEIGHTS, split_spec
from ..report.names import metric_label
from .blocks import InBlocks
from .models import embedding_size
from .trial import Trial

R1 = "precision_at_1"
RANDOM = "the trunk begins with random weights: no weights or checkpoint are named"
FROZEN = "freeze_trunk_batchnorm leaves its batch norms without statistics of images"


def has_random_weights(config: Config) -> bool:
    """Whether nothing says where the trunk's weights come from."""
    _, arguments = split_spec(config.models.get("trunk"), "models.trunk")
    return not any(arguments.get(word) for word in WEIGHTS)


def random_weights(config: Config) -> str:
    """What is to be said of them; "" where the trunk has weights."""
    if not has_random_weights(config):
        return ""
    _, trainer = split_spec(config.trainer, "trainer")
    return (
        f"{RANDOM}, and {FROZEN}" if trainer.get("freeze_trunk_batchnorm") else RANDOM
    )


def idle(trial: Trial) -> str:
    """That MemVir has no virtual classes in a whole run; "" where it has."""
    loss = trial.loss_funcs.get("metric_loss")
    total = trial.steps_per_epoch * trial.config.num_epochs_train
    if not isinstance(loss, MemVir) or loss.warmup_steps + loss.step_gap + 1 < total:
        return ""
    return (
        "MemVir does nothing in this run: its first virtual classes come "
        f"{loss.step_gap + 1} steps after the warm-up of {loss.warmup_steps}, and the "
        f"run has {total} steps"
    )


def describe(trial: Trial, console: Console) -> None:
    """A line on the data and the schedule that a trial has."""
    splits, loss = trial.splits, trial.loss_funcs.get("metric_loss")
    sets = ", ".join(f"{name} {len(data)}" for name, data in splits.evaluation.items())
    console.print(
        f"training images {len(splits.train)} of {splits.num_classes} classes; {sets}; "
        f"{trial.steps_per_epoch} steps an epoch, {trial.config.num_epochs_train} "
        f"epochs; {trial.device.type}",
        highlight=False,
        soft_wrap=True,
    )
    if needed := evaluation_nbytes(trial):
        console.print(
            f"an evaluation needs about {needed / 1e6:,.1f} MB", highlight=False
        )
    if said := random_weights(trial.config):
        console.print(said, highlight=False, soft_wrap=True)
    if isinstance(loss, MemVir):
        console.print(
            f"MemVir: num_steps {loss.num_steps}, step_gap {loss.step_gap}, "
            f"warm-up {loss.warmup_steps} steps",
            highlight=False,
        )
    if said := idle(trial):
        console.print(said, style="bold", highlight=False, soft_wrap=True)


def evaluation_nbytes(trial: Trial) -> int | None:
    """About what evaluating needs at most; None if that is not known."""
    calculator, splits = trial.tester.accuracy_calculator, trial.splits
    if not isinstance(calculator, InBlocks):
        return None
    size = embedding_size(trial.models, trial.device)
    labels = {name: data.labels for name, data in splits.evaluation.items()}
    return max(
        calculator.nbytes(
            labels[query],
            [label for name in references for label in labels[name]],
            size,
            query in references,
        )
        for query, references in splits.to_evaluate
    )


def describe_epoch(entry: dict[str, Any], num_epochs: int, console: Console) -> None:
    """A line of the accuracies in percent, and the mean training loss."""
    splits = "; ".join(
        f"{split} "
        + ", ".join(
            f"{metric_label(metric)} {100 * value:.2f}"
            for metric, value in sorted(values.items(), key=lambda item: item[0] != R1)
        )
        for split, values in entry["splits"].items()
    )
    loss = "" if entry["loss"] is None else f", loss {entry['loss']:.4f}"
    console.print(
        f"epoch {entry['epoch']}/{num_epochs}{loss}: {splits}",
        highlight=False,
        soft_wrap=True,
    )

"""The demo: one small network on Glyphs, trained without and with MemVir."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from pytorch_metric_learning.trainers import MetricLossOnly
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import logging_presets
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from rich.console import Console

from pml_memvir import MemVir, epochs_to_steps
from pml_memvir.hook_container import SafeHookContainer
from pml_memvir.losses import NormSoftmax

from . import plots
from .datasets import Glyphs
from .networks import SmallConvNet, UnitEmbedder
from .report.markdown import as_table
from .report.names import METRICS as LABELS

METRICS = {label: metric for metric, label in LABELS.items()}
CLASSES_IN_FIGURE = 8


# What the study found for these settings (docs/results/follow_up/tables.md, "100
# training classes", as of 2,000 steps), but for a quarter of the classes, held out.
STUDY = "+2.64 [+2.35, +2.93] in MAP@R over five seeds"


@dataclass(frozen=True)
class Settings:
    """The same for both arms, but for those of MemVir. They are the study's."""

    num_train_classes: int = 100
    num_epochs: int = 8
    steps_per_epoch: int = 250
    batch_size: int = 32
    width: int = 64
    embedding_size: int = 64
    seed: int = 0
    network_lr: float = 4e-3
    weight_lr: float = 1e-1
    num_steps: int = 5
    step_gap: int = 100
    warmup_epochs: int = 4


@dataclass
class Arm:
    """One of the two runs, and what came of it."""

    name: str
    with_memvir: bool
    history: dict[str, list[float]] = field(default_factory=dict)
    step_times: list[float] = field(default_factory=list)

    @property
    def milliseconds_a_step(self) -> float:
        """The median over the second half, where the memory is full."""
        return 1000 * statistics.median(self.step_times[len(self.step_times) // 2 :])


def run(data: Path, output: Path, settings: Settings, console: Console) -> list[Arm]:
    """Train and evaluate both arms, print the table and write the figures."""
    datasets = {}
    for split in ("train", "test"):
        num_classes = settings.num_train_classes
        dataset = Glyphs(data, split, to_tensor, num_train_classes=num_classes)
        datasets[split] = dataset
        classes = len(set(dataset.labels))
        console.print(f"Glyphs, {split}: {len(dataset)} images of {classes} classes")
    # PML's trainers show the loss by formatting it, of which PyTorch warns.
    warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
    arms = [Arm("Norm-softmax", False), Arm("Norm-softmax + MemVir", True)]
    for arm in arms:
        console.rule(arm.name)
        train(arm, datasets, output, settings)
    console.rule("Result")
    console.print(
        f"Test classes are unseen scripts; epoch {settings.num_epochs}, the last; "
        f"seed {settings.seed}; milliseconds: median of the second half of the steps."
    )
    console.print(table(arms))
    plain, memvir = (100 * arm.history["MAP@R"][-1] for arm in arms)
    console.print(f"MemVir minus plain: {memvir - plain:+.2f}. The study: {STUDY}.")
    plots.curves({arm.name: arm.history for arm in arms}, output / "curves.png")
    console.print(f"Figures and records are in {output}", soft_wrap=True)
    return arms


def train(arm: Arm, datasets: dict[str, Glyphs], output: Path, s: Settings) -> None:
    """One arm: PML's trainer, tester, hooks and record-keeper."""
    torch.manual_seed(s.seed)
    device = c_f.use_cuda_if_available()
    trunk = SmallConvNet(s.width).to(device)
    embedder = UnitEmbedder(s.width, s.embedding_size).to(device)
    loss = NormSoftmax(s.num_train_classes, s.embedding_size).to(device)
    metric_loss = MemVir(loss, s.num_steps, s.step_gap) if arm.with_memvir else loss

    folder = output / ("memvir" if arm.with_memvir else "plain")
    tester, hooks = tester_and_hooks(folder)
    trainer = MetricLossOnly(
        models={"trunk": trunk, "embedder": embedder},
        optimizers={
            "trunk_optimizer": torch.optim.Adam(trunk.parameters(), s.network_lr),
            "embedder_optimizer": torch.optim.Adam(embedder.parameters(), s.network_lr),
            "metric_loss_optimizer": torch.optim.Adam(
                metric_loss.parameters(), s.weight_lr
            ),
        },
        batch_size=s.batch_size,
        loss_funcs={"metric_loss": metric_loss},
        dataset=datasets["train"],
        set_min_label_to_zero=True,  # so that labels of few classes have no gaps
        dataset_labels=datasets["train"].labels,
        iterations_per_epoch=s.steps_per_epoch,
        dataloader_num_workers=0,
        end_of_iteration_hook=StepClock(arm.step_times, hooks.end_of_iteration_hook),
        end_of_epoch_hook=hooks.end_of_epoch_hook(
            tester, {"test": datasets["test"]}, str(folder / "models")
        ),
    )
    if arm.with_memvir:
        metric_loss.warmup_steps = epochs_to_steps(s.warmup_epochs, trainer)
    trainer.train(num_epochs=s.num_epochs)

    recorded = hooks.get_accuracy_history(
        tester, "test", metrics=list(METRICS.values())
    )
    arm.history = {"epoch": recorded["epoch"]}
    arm.history |= {name: recorded[f"{m}_level0"] for name, m in METRICS.items()}
    if arm.with_memvir:
        draw_snapshots(metric_loss, trunk, embedder, datasets["train"], tester, output)


def tester_and_hooks(
    folder: Path,
) -> tuple[GlobalEmbeddingSpaceTester, SafeHookContainer]:
    """Evaluation after each epoch, recorded as CSV, sqlite and for TensorBoard."""
    record_keeper, _, _ = logging_presets.get_record_keeper(
        str(folder / "records"), str(folder / "tensorboard")
    )
    hooks = SafeHookContainer(record_keeper, validation_split_name="test")
    tester = GlobalEmbeddingSpaceTester(
        end_of_testing_hook=hooks.end_of_testing_hook,
        batch_size=256,
        dataloader_num_workers=0,
        accuracy_calculator=AccuracyCalculator(
            include=tuple(METRICS.values()), k="max_bin_count"
        ),
    )
    return tester, hooks


class StepClock:
    """Times iterations of a trainer, then calls another hook, which it leaves out."""

    def __init__(self, times: list[float], hook: Any) -> None:
        self.times = times
        self.hook = hook
        self.last: float | None = None

    def __call__(self, trainer: MetricLossOnly) -> None:
        now = time.perf_counter()
        if self.last is not None and trainer.iteration > 0:
            self.times.append(now - self.last)
        self.hook(trainer)
        self.last = time.perf_counter()


def draw_snapshots(
    memvir: MemVir,
    trunk: torch.nn.Module,
    embedder: torch.nn.Module,
    dataset: Glyphs,
    tester: GlobalEmbeddingSpaceTester,
    output: Path,
) -> None:
    """The t-SNE figure of the classes that the snapshots show most often."""
    virtual = memvir.virtual_classes()
    if virtual is None:
        return
    remembered = virtual.flat(0)[1].tolist()
    shown = [label for label, _ in Counter(remembered).most_common(CLASSES_IN_FIGURE)]
    _, all_labels = np.unique(dataset.labels, return_inverse=True)
    indices = np.flatnonzero(np.isin(all_labels, shown))
    subset = torch.utils.data.Subset(dataset, indices.tolist())
    embeddings, _ = tester.get_all_embeddings(subset, trunk, embedder)
    plots.snapshots_by_tsne(
        embeddings,
        torch.from_numpy(all_labels[indices]),
        memvir.W.detach().t(),
        virtual,
        output / "tsne.png",
    )


def table(arms: list[Arm]) -> str:
    """Both arms at their last epoch, in Markdown."""
    rows = [
        {
            "loss": arm.name,
            **{name: f"{100 * arm.history[name][-1]:.2f}" for name in METRICS},
            "ms a step": f"{arm.milliseconds_a_step:.1f}",
        }
        for arm in arms
    ]
    return as_table(pd.DataFrame(rows))


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Grey levels as (1, H, W), ink 1 and paper 0."""
    return 1 - torch.from_numpy(np.array(image, dtype=np.float32))[None] / 255

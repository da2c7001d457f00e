"""Warm-up in epochs, as papers give it, to steps, as MemVir counts it."""

from __future__ import annotations

from typing import Any

from pytorch_metric_learning.trainers import BaseTrainer
from pytorch_metric_learning.utils import common_functions as c_f

from ..core.values import integer


def epochs_to_steps(
    num_epochs: int,
    source: Any,
    *,
    accumulation_steps: int = 1,
    ends_with_epoch: bool = False,
) -> int:
    """Training steps in `num_epochs` epochs.

    The naive equivalent is `num_epochs * len(dataloader) // accumulation_steps`. PML's
    trainers build their loader themselves and drop the last partial batch: give the
    trainer, and its own count is used. MemVir has to exist before the trainer, so set
    it afterwards:

        loss = MemVir(inner_loss, num_steps=20, step_gap=25)
        trainer = MetricLossOnly(..., loss_funcs={"metric_loss": loss}, ...)
        loss.warmup_steps = epochs_to_steps(40, trainer)

    Args:
        num_epochs: number of epochs, >= 0.
        source: a PML trainer, or anything whose `len` is its batches an epoch.
        accumulation_steps: batches that make a step, as for MemVir.
        ends_with_epoch: whether the last batches of an epoch make a step even if they
            are fewer: by `MemVir.end_step`, with Lightning and with Accelerate.

    Raises:
        TypeError: `source` is neither, or `num_epochs` is no integer.
        ValueError: `num_epochs` is negative, or `accumulation_steps` not positive.
    """
    num_epochs = integer("num_epochs", num_epochs, least=0)
    a_step = integer("accumulation_steps", accumulation_steps, least=1)
    if isinstance(source, BaseTrainer):
        # Its own setting or, as long as it has none, its loader's length.
        batches = source.iterations_per_epoch or len(
            c_f.get_train_dataloader(
                source.dataset, source.batch_size, source.sampler, 0, source.collate_fn
            )
        )
    else:
        try:
            batches = len(source)
        except TypeError as error:
            raise TypeError(
                "source must be a PML trainer or a data loader with a length, "
                f"got {type(source).__name__}: {error}"
            ) from error
    if ends_with_epoch:
        return num_epochs * -(-batches // a_step)
    return num_epochs * batches // a_step

"""Losses whose arguments a config gives in another way than their class takes them."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import losses as pml_losses

from pml_memvir import MemVir as _MemVir

# Of a classifier, in PML's TrainWithClassifier and CascadedEmbeddings.
CrossEntropyLoss = torch.nn.CrossEntropyLoss

__all__ = ["CrossEntropyLoss", "MemVir", "MultipleLosses"]


def MemVir(
    loss: torch.nn.Module,
    num_steps: int,
    step_gap: int,
    warmup_steps: int | None = None,
    warmup_epochs: int | None = None,
    *,
    steps_per_epoch: int,
    **kwargs: Any,
) -> _MemVir:
    """`pml_memvir.MemVir` with a warm-up of `warmup_steps` or `warmup_epochs`.

    Raises:
        ValueError: both are given, or a setting is for other trainings than these, of
            one process, in which each call is a step.
    """
    if kwargs.get("gather") or kwargs.get("accumulation_steps", 1) != 1:
        raise ValueError(
            "gather and accumulation_steps are of no use here: the suite trains in one "
            "process, and its optimizers step with every batch"
        )
    if warmup_steps is not None and warmup_epochs is not None:
        raise ValueError(
            "give warmup_steps or warmup_epochs, not both; to take one away, write "
            "warmup_epochs~DELETE~: null, or set it to null"
        )
    if warmup_epochs is not None:
        if type(warmup_epochs) is not int or warmup_epochs < 0:
            raise ValueError(
                f"warmup_epochs must be an integer >= 0, got {warmup_epochs!r}"
            )
        warmup_steps = warmup_epochs * steps_per_epoch
    return _MemVir(loss, num_steps, step_gap, warmup_steps or 0, **kwargs)


MemVir.__wrapped__ = _MemVir  # type: ignore[attr-defined]


def MultipleLosses(losses: Any, miners: Any = None, weights: Any = None) -> Any:
    """PML's MultipleLosses; lists become dicts of loss_0, loss_1, ..., nulls go.

    record-keeper makes tables named after the keys, and sqlite takes no digit there.
    """

    def named(values: Any) -> Any:
        if not isinstance(values, list):
            return values
        return {f"loss_{i}": value for i, value in enumerate(values)}

    with_miner = {k: v for k, v in (named(miners) or {}).items() if v is not None}
    return pml_losses.MultipleLosses(named(losses), with_miner or None, named(weights))

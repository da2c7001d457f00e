"""PML's trainer with what the official code has beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_metric_learning import trainers
from torch.utils.data import DataLoader

__all__ = ["CascadedEmbeddings", "MetricLossOnly", "TrainWithClassifier"]

PRECISIONS = {None: None, "float16": torch.float16, "bfloat16": torch.bfloat16}


class _Trainer(trainers.BaseTrainer):
    """Any of PML's trainers, with a faithful loader and automatic mixed precision.

    Args:
        drop_last: leave the last, smaller batch of an epoch out, as PML does. Official
            MemVir code keeps it: 63 steps an epoch on CARS196 at 128, against 62.
        freeze_these: names of models and losses; None: nothing.
        mixed_precision: None, "float16" (with a gradient scaler) or "bfloat16".
        **kwargs: see PML's trainer.

    """

    iterations_per_epoch: int | None

    def __init__(
        self,
        *,
        drop_last: bool = True,
        freeze_these: Sequence[str] | None = (),
        mixed_precision: str | None = None,
        **kwargs: Any,
    ) -> None:
        if mixed_precision not in PRECISIONS:
            raise ValueError(
                f"mixed_precision must be float16, bfloat16 or null, "
                f"got {mixed_precision!r}"
            )
        if mixed_precision == "float16" and not hasattr(torch.amp, "GradScaler"):
            if not torch.cuda.is_available():
                raise ValueError("float16 on a CPU needs PyTorch 2.3; use bfloat16")
        self.drop_last = drop_last
        self.mixed_precision = mixed_precision
        super().__init__(freeze_these=freeze_these or (), **kwargs)
        scaled = mixed_precision == "float16"
        self.scaler = grad_scaler(self.device_type, scaled)
        # Saved with the models, under this name.
        self.scalers = {"scaler": self.scaler} if scaled else {}

    @property
    def device_type(self) -> str:
        return torch.device(self.data_device).type

    def initialize_dataloader(self) -> None:
        if self.drop_last or isinstance(self.sampler, torch.utils.data.BatchSampler):
            super().initialize_dataloader()
            return
        self.dataloader = DataLoader(
            self.dataset,
            batch_size=int(self.batch_size),
            sampler=self.sampler,
            num_workers=self.dataloader_num_workers,
            collate_fn=self.collate_fn,
            shuffle=self.sampler is None,
        )
        if not self.iterations_per_epoch:
            self.iterations_per_epoch = len(self.dataloader)
        self.dataloader_iter = iter(self.dataloader)

    def calculate_loss(self, curr_batch: Any) -> None:
        dtype = PRECISIONS[self.mixed_precision]
        with torch.autocast(self.device_type, dtype, enabled=dtype is not None):
            super().calculate_loss(curr_batch)

    def backward(self) -> None:
        self.scaler.scale(self.losses["total_loss"]).backward()

    def clip_gradients(self) -> None:
        if self.gradient_clippers:
            for optimizer in self.optimizers.values():
                self.scaler.unscale_(optimizer)
        super().clip_gradients()

    def step_optimizers(self) -> None:
        for name, optimizer in self.optimizers.items():
            if name.removesuffix("_optimizer") not in self.freeze_these:
                self.scaler.step(optimizer)
        self.scaler.update()


class MetricLossOnly(_Trainer, trainers.MetricLossOnly):
    """One loss on the embeddings."""


class TrainWithClassifier(_Trainer, trainers.TrainWithClassifier):
    """And one on the logits that `models.classifier` makes of them."""


class CascadedEmbeddings(_Trainer, trainers.CascadedEmbeddings):
    """A loss on each part of the embedding, as `embedding_sizes` cuts it."""


def grad_scaler(device_type: str, enabled: bool) -> Any:
    """PyTorch's gradient scaler; before 2.3 there is the one for CUDA only."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device_type, enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)


def steps_per_epoch(
    dataset: Any, batch_size: int, sampler: Any, drop_last: bool
) -> int:
    """Batches that a loader of a trainer's has, of all images or of its sampler's."""
    if isinstance(sampler, torch.utils.data.BatchSampler):
        return len(sampler)
    size = len(dataset if sampler is None else sampler)
    return size // batch_size if drop_last else -(-size // batch_size)

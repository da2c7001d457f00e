"""What PML says where it meets MemVir."""

from __future__ import annotations

import functools
from typing import Any

import torch
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper


def explain_refusal_of(memvir: type[torch.nn.Module]) -> None:
    """Let DistributedLossWrapper say what to do where it refuses this class.

    It takes no loss wrappers, and says only which classes it takes.
    """
    original = DistributedLossWrapper.__init__

    @functools.wraps(original)
    def init(self: Any, loss: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(loss, memvir):
            raise TypeError(
                "DistributedLossWrapper does not take MemVir: use "
                "torch.nn.parallel.DistributedDataParallel(MemVir(loss, ...)), with "
                "gather=True where the loss, reducer or miner needs the whole batch"
            )
        original(self, loss, *args, **kwargs)

    DistributedLossWrapper.__init__ = init

"""Several processes: what a rank is, and one batch out of the batches of all ranks."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch.autograd.function import once_differentiable


def rank_and_world_size() -> tuple[int, int]:
    """(0, 1) where there is no process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_batch(
    embeddings: torch.Tensor, labels: torch.Tensor, indices_tuple: Any
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The batches of all ranks, one after another, in the order of ranks.

    Batches may differ in size. The host waits for their sizes. In backward, gradients
    of all ranks are summed, so that DistributedDataParallel's mean over ranks gives
    those of one process on the whole batch.

    Args:
        embeddings: (B_r, D), this rank's.
        labels: (B_r,), int64.
        indices_tuple: of PML's DistributedMinerWrapper, which has the rank's own batch
            first; the same on all ranks but for that. Or None.

    Returns:
        embeddings (B, D), labels (B,) and indices_tuple of the whole batch.
    """
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        return embeddings, labels, indices_tuple
    mine = torch.tensor([len(labels)], device=embeddings.device)
    sizes = [int(size) for size in _all_gather(mine, [1] * world_size)]
    start, size, total = sum(sizes[:rank]), sizes[rank], sum(sizes)
    if indices_tuple is not None:
        everyone = torch.arange(total, device=embeddings.device)
        others = (everyone[:start], everyone[start + size :])
        order = torch.cat([everyone[start : start + size], *others])
        indices_tuple = tuple(order[i.to(order.device)] for i in indices_tuple)
    gathered: torch.Tensor = _GatherRows.apply(embeddings, sizes, rank)
    return gathered, _all_gather(labels, sizes), indices_tuple


class _GatherRows(torch.autograd.Function):
    """Rows of all ranks; the gradient of a row is the sum of all ranks' gradients."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, sizes: list[int], rank: int
    ) -> torch.Tensor:
        start = sum(sizes[:rank])
        ctx.mine = slice(start, start + sizes[rank])
        return _all_gather(rows, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.mine], None, None


def _all_gather(tensor: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Tensors of all ranks along dimension 0, where rank r has sizes[r] rows."""
    padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes)])


def refuse_sharing(module: torch.nn.Module) -> None:
    """Raise RuntimeError where a wrapper has split the module or its weights.

    A memory must see all steps of its own process, and whole class weights.
    """
    wrapper = ""
    if getattr(module, "_is_replica", False):
        wrapper = "DataParallel"
    elif getattr(module, "_is_fsdp_managed_module", False):
        wrapper = "FullyShardedDataParallel"
    if wrapper:
        raise RuntimeError(
            f"MemVir does not work within {wrapper}: leave the loss out of it, or use "
            "torch.nn.parallel.DistributedDataParallel for the loss"
        )


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

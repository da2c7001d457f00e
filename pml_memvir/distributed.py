"""Several processes: what a rank is, and one batch out of the batches of all ranks."""

from __future__ import annotations

import functools
from dataclasses import dataclass
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


@dataclass
class Batch:
    """One rank's batch, or the error for which it must not be used.

    Attributes:
        embeddings: (B_r, D).
        labels: (B_r,), integers.
        indices_tuple: of PML's DistributedMinerWrapper, which has the rank's own batch
            first; the same on all ranks but for that. Or None.
        error: what is wrong with these.
    """

    embeddings: torch.Tensor
    labels: torch.Tensor
    indices_tuple: Any
    error: Exception | None = None


def gather(
    batch: Batch, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The batches of all ranks, one after another, in the order of ranks.

    They may differ in size. The host waits for their sizes. In backward, gradients of
    all ranks are summed, so that DistributedDataParallel's mean over ranks gives those
    of one process on the whole batch.

    Args:
        batch: this rank's.
        device: where ranks talk to each other.

    Returns:
        embeddings (B, D), labels (B,) and indices_tuple of the whole batch.

    Raises:
        RuntimeError: another rank has an error. (A rank that raised alone would leave
            the others waiting, or be a step behind them.)
        ValueError: not all ranks have an indices_tuple, or it has too large an index.
    """
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        if batch.error is not None:
            raise batch.error
        return batch.embeddings, batch.labels, batch.indices_tuple
    sizes, needs_gradient = _agree(batch, device, world_size)
    embeddings, labels = batch.embeddings, batch.labels.to(device, torch.long)
    if needs_gradient and not embeddings.requires_grad:
        # All ranks must take part in backward; an empty batch may not seem to.
        embeddings = embeddings.detach().requires_grad_()
    indices_tuple = batch.indices_tuple
    if indices_tuple is not None:
        everyone = torch.arange(sum(sizes), device=device)
        start, end = sum(sizes[:rank]), sum(sizes[: rank + 1])
        order = torch.cat([everyone[start:end], everyone[:start], everyone[end:]])
        indices_tuple = tuple(order[i.to(device)] for i in indices_tuple)
    # Not every backend knows bfloat16; float32 holds it exactly.
    dtype = embeddings.dtype
    wire = torch.float32 if dtype == torch.bfloat16 else dtype
    gathered: torch.Tensor = _GatherRows.apply(embeddings.to(wire), sizes, rank)
    return gathered.to(dtype), _all_gather(labels, sizes), indices_tuple


def _agree(
    batch: Batch, device: torch.device, world_size: int
) -> tuple[list[int], bool]:
    """Sizes of all batches, and whether any wants a gradient; or an error on all."""
    mine = [1, 0, 0, 0, -1, -1]
    if batch.error is None:
        wants_gradient = int(batch.embeddings.requires_grad)
        mined = int(batch.indices_tuple is not None)
        highest = _highest(batch.indices_tuple)
        kind = _DTYPES.index(batch.embeddings.dtype)
        mine = [0, len(batch.labels), wants_gradient, mined, highest, kind]
    facts = _all_gather(torch.tensor([mine], device=device), [1] * world_size)
    errors, sizes, want_gradient, are_mined, highest_of, kinds = facts.t().tolist()
    if batch.error is not None:
        raise batch.error
    if any(errors):
        raise RuntimeError(
            f"rank {errors.index(1)} refused its batch: all ranks leave out this step"
        )
    if len(set(kinds)) > 1:
        found = ", ".join(str(_DTYPES[kind]) for kind in kinds)
        raise ValueError(f"embeddings must be of one dtype on all ranks, got {found}")
    if len(set(are_mined)) > 1:
        raise ValueError(
            "indices_tuple must be given on all ranks or on none, rank "
            f"{are_mined.index(0)} has none"
        )
    if max(highest_of) >= sum(sizes):
        raise ValueError(
            f"indices_tuple must be of the {sum(sizes)} rows of all ranks, rank "
            f"{highest_of.index(max(highest_of))} has an index of {max(highest_of)}"
        )
    return sizes, any(want_gradient)


# Those that losses compute in.
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def _highest(indices_tuple: Any) -> int:
    """The highest index; -1 if there is none."""
    some = [i.max() for i in indices_tuple or () if i.numel()]
    return int(torch.stack([x.cpu() for x in some]).max()) if some else -1


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

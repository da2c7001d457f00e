"""Several processes: what a rank is, and one batch out of the batches of all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

from ..core.ranks import rank_and_world_size


def are_several() -> bool:
    return rank_and_world_size()[1] > 1


@dataclass
class Part:
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


def gather(part: Part, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The batches of all ranks, one after another, in the order of ranks.

    They may differ in size. The host waits for their sizes. In backward, gradients of
    all ranks are summed, so that DistributedDataParallel's mean over ranks gives those
    of one process on the whole batch.

    Args:
        part: this rank's.
        device: where ranks talk to each other.

    Returns:
        embeddings (B, D), labels (B,) and indices_tuple of the whole batch.

    Raises:
        RuntimeError: another rank has an error. (A rank that raised alone would leave
            the others waiting, or be a step behind them.)
        ValueError: not all ranks have an indices_tuple, or it has too large an index.
    """
    rank, world_size = rank_and_world_size()
    sizes, needs_gradient = _agree(part, device, world_size)
    embeddings, labels = part.embeddings, part.labels.to(device, torch.long)
    if needs_gradient and not embeddings.requires_grad:
        # All ranks must take part in backward; an empty batch may not seem to.
        embeddings = embeddings.detach().requires_grad_()
    indices_tuple = part.indices_tuple
    if indices_tuple is not None:
        everyone = torch.arange(sum(sizes), device=device)
        start, end = sum(sizes[:rank]), sum(sizes[: rank + 1])
        order = torch.cat([everyone[start:end], everyone[:start], everyone[end:]])
        indices_tuple = tuple(order[i.to(device)] for i in indices_tuple)
    # Not every backend knows bfloat16; float32 holds it exactly.
    dtype = embeddings.dtype
    wire = torch.float32 if dtype == torch.bfloat16 else dtype
    gathered: torch.Tensor = _GatherParts.apply(embeddings.to(wire), sizes, rank)
    return gathered.to(dtype), _all_gather(labels, sizes), indices_tuple


def _agree(part: Part, device: torch.device, world_size: int) -> tuple[list[int], bool]:
    """Sizes of all batches, and whether any wants a gradient; or an error on all."""
    mine = [1, 0, 0, 0, -1, -1]
    if part.error is None:
        wants_gradient = int(part.embeddings.requires_grad)
        mined = int(part.indices_tuple is not None)
        highest = _highest(part.indices_tuple)
        kind = _DTYPES.index(part.embeddings.dtype)
        mine = [0, len(part.labels), wants_gradient, mined, highest, kind]
    facts = _all_gather(torch.tensor([mine], device=device), [1] * world_size)
    errors, sizes, want_gradient, are_mined, highest_of, kinds = facts.t().tolist()
    if part.error is not None:
        raise part.error
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


class _GatherParts(torch.autograd.Function):
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

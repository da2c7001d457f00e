"""Several processes: what a rank is, and one batch out of the batches of all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

from ..core.ranks import rank_and_world_size


def gather(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    indices_tuple: Any,
    error: Exception | None,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The batches of all ranks, one after another, in the order of ranks.

    They may differ in size. The host waits for their sizes. In backward, gradients of
    all ranks are summed, so that DistributedDataParallel's mean over ranks gives those
    of one process on the whole batch.

    Args:
        embeddings: (B_r, D), of this rank.
        labels: (B_r,), integers.
        indices_tuple: of PML's DistributedMinerWrapper, which has the rank's own batch
            first; the same on all ranks but for that. Or None.
        error: what is wrong with these, for which they must not be used.
        device: where ranks talk to each other.

    Returns:
        embeddings (B, D), labels (B,) and indices_tuple of the whole batch.

    Raises:
        RuntimeError: another rank has an error. (A rank that raised alone would leave
            the others waiting, or be a step behind them.)
        ValueError: not all ranks have an indices_tuple, or it has too large an index.
    """
    rank, world_size = rank_and_world_size()
    mine = [1, 0, 0, 0, -1, -1]
    if error is None:
        wants_gradient, mined = embeddings.requires_grad, indices_tuple is not None
        kind, highest = _DTYPES.index(embeddings.dtype), _highest(indices_tuple)
        mine = [0, len(labels), int(wants_gradient), int(mined), highest, kind]
    facts = _all_gather(torch.tensor([mine], device=device), [1] * world_size)
    if error is not None:
        raise error
    sizes, needs_gradient = _agreed(*facts.t().tolist())
    labels = labels.to(device, torch.long)
    if needs_gradient and not embeddings.requires_grad:
        # All ranks must take part in backward; an empty batch may not seem to.
        embeddings = embeddings.detach().requires_grad_()
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


def _agreed(
    errors: list[int],
    sizes: list[int],
    want_gradient: list[int],
    are_mined: list[int],
    highest_of: list[int],
    kinds: list[int],
) -> tuple[list[int], bool]:
    """Sizes of all batches, and whether any wants a gradient; or an error on all."""
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

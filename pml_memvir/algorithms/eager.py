"""What the fast algorithms share: gradients made in the forward call, and chunks."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from ..snapshots import Row

CHUNK_BYTES = 256 * 2**20


class Step(Protocol):
    """A step's computation on detached tensors."""

    def solve(self, with_gradients: bool) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """The value and, if wanted, its gradient by each tensor."""


class Eager(torch.autograd.Function):
    """`Eager.apply(step, *tensors)`: the step's value. Backward only scales gradients.

    So no pending backward needs the memory, which may be written to at once. There are
    no second derivatives: asked for them, it raises RuntimeError.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        step: Step = arguments[0]
        value, gradients = step.solve(any(ctx.needs_input_grad))
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # once_differentiable would let it pass where the upstream gradient is constant.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "MemVir's fast algorithms have first derivatives only, and backward "
                "was called with create_graph=True: use MemVir(..., "
                "algorithm='concatenation')"
            )
        return (None, *(upstream * gradient for gradient in ctx.saved_tensors))


def chunk_steps(
    wanted: int | None,
    row: Row,
    X: torch.Tensor,
    W: torch.Tensor,
    numbers_per_product: int = 2,
) -> int:
    """Snapshots at a time: as wanted, or what stays below CHUNK_BYTES, at least one.

    Args:
        X: (B, D), row vectors.
        W: (C K, D), class vectors.
        numbers_per_product: what is alive at a time for each product of the two.
    """
    if wanted is not None:
        return wanted
    size = max(len(X), row.labels.shape[1])
    numbers = numbers_per_product * size * len(W) + row.class_weights[0].numel()
    exact = torch.promote_types(X.dtype, torch.float32)
    fitting = CHUNK_BYTES // (numbers * exact.itemsize)
    return max(1, fitting - 1)  # actual rows against actual classes are a block, too

"""Gradients made in the forward call, so that no pending backward needs the memory."""

from __future__ import annotations

from typing import Any, Protocol

import torch


class Solvable(Protocol):
    """A computation on detached tensors."""

    def solve(self, with_gradients: bool) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """The value and, if wanted, its gradient by each tensor."""


class Eager(torch.autograd.Function):
    """`Eager.apply(step, *tensors)`: the step's value. Backward only scales gradients.

    So the memory may be written to at once. There are no second derivatives: asked for
    them, it raises RuntimeError.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        step: Solvable = arguments[0]
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

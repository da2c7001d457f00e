"""The loss over actual and virtual classes: exact, at O(N).

Write lse(a, b) for the log-sum-exp of the logits of step a's anchors over step b's
candidates (see kernel.py), one number an anchor. At step t, v being the snapshots of
its track:

    actual anchors:  logsumexp( lse(t, t), lse(t, v) for all v )
    virtual anchors: logsumexp( lse(v, t), lse(v, v') for all v' )

Virtual anchors over virtual candidates, lse(v, v'), are most of the work, and
constants: the later of the two steps has computed them already, as its lse(t, v) or
lse(v, t). They are kept beside the snapshots, with the terms. What is left are 2N + 1
blocks of logits, (2N + 1) B C K D, or 2 B C K D (4N + 3) floating-point operations with
both gradients. (Where snapshots share the class weights of an earlier one, nobody has
computed the blocks that these are in: see notes.py.)
"""

from __future__ import annotations

from typing import Any

import torch

from .kernel import Kernel
from .reduce import Reduce
from .snapshots import Past
from .step import Step


def exact(
    embeddings: torch.Tensor,
    class_weights: torch.Tensor,
    labels: torch.Tensor,
    kernel: Kernel,
    past: Past,
    reduce: Reduce,
    penalty: torch.Tensor | None = None,
    chunk_steps: int | None = None,
) -> tuple[torch.Tensor, Step]:
    """The reduced loss over actual and virtual anchors and candidates.

    Naive equivalent, all log-sum-exps from scratch:

        x, w = cat([embeddings, *virtual ones]), cat([class_weights, *virtual ones])
        anchors, candidates = (x, w) or, for Proxy-Anchor, (w, x)
        logits = kernel.scale * anchors @ candidates.t() + kernel.shift
        logits[each anchor, what is its own] = its term (or, for Proxy-Anchor, nothing)
        reduce(logits.logsumexp(1), terms)

    Args:
        embeddings: (B, D), of unit length where the kernel says so.
        class_weights: (C K, D), likewise.
        labels: (B,), 0 to C-1.
        penalty: (B,), of embeddings, where these are the candidates: see Step.

    Returns:
        the loss, with gradients to embeddings and class weights, and the step, which
        knows what is to be kept of it. No pending backward needs anything of the
        memory, which may be written to at once.
    """
    tensors = kernel.ordered(embeddings, class_weights)
    step = Step(kernel, *tensors, labels, past, reduce, penalty, chunk_steps)
    value: torch.Tensor = Eager.apply(step, *tensors)
    return value, step


class Eager(torch.autograd.Function):
    """`Eager.apply(step, *tensors)`: the step's value. Backward only scales gradients.

    So the memory may be written to at once. There are no second derivatives: asked for
    them, it raises RuntimeError.
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

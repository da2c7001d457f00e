"""MemVir for Proxy-Anchor: exact, at O(N). It is `row_softmax` turned by 90 degrees.

Proxy-Anchor sums over embeddings, for each proxy. Write lse(a, b) for the log-sum-exp
of alpha (cosine + margin) over step b's embeddings, one number for each of step a's
proxies; lse(a, a) leaves out the proxy's own class and includes the 1 of
log(1 + ...). At step t, v being the snapshots of its row, the negative terms are

    actual proxies:  logsumexp( lse(t, t), lse(t, v) for all v )
    virtual proxies: logsumexp( lse(v, t), lse(v, v') for all v' )

where the lse(v, v') were computed by the later of the two steps: lse(t, v) has its
gradient to the proxies, lse(v, t) to the embeddings. The positive terms of virtual
proxies are constants: as labels are shifted, only their own snapshot has any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..insight import Insight
from ..snapshots import Notes, Row
from .eager import Eager, chunk_steps

# From positive and negative terms of all proxies, actual ones first, and the number of
# proxies with positives, to the reduced loss.
Reduce = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Problem:
    """All that `proxy_anchor` needs besides what it has gradients for.

    Attributes:
        labels: (B,), 0 to C-1.
        row: the snapshots, their positive terms (`own`) and lse(v, v') (`against`).
        alpha, margin: those of the loss.
        penalty: (B,), a miner's weights less 1, added to the actual exponents.
        reduce: from all terms to a number.
        is_linear: whether `reduce` is linear in the terms.
        chunk_steps: snapshots to compute at a time; None bounds their memory.
    """

    labels: torch.Tensor
    row: Row
    alpha: float
    margin: float
    penalty: torch.Tensor
    reduce: Reduce
    is_linear: bool
    chunk_steps: int | None = None


def proxy_anchor(
    rows: torch.Tensor, proxies: torch.Tensor, problem: Problem
) -> tuple[torch.Tensor, Callable[[int], Notes], Insight]:
    """The reduced loss over actual and virtual proxies and embeddings.

    Args:
        rows: (B, D), embeddings as the loss multiplies them: normalised.
        proxies: (C, D), normalised likewise.
        problem: the rest.

    Returns:
        the reduced loss, with gradients to both, what makes the step's notes, and what
        is to be seen in it. No pending backward needs anything of the memory, which may
        be written to at once.
    """
    step = _Step(rows.detach(), proxies.detach(), problem)
    value: torch.Tensor = Eager.apply(step, rows, proxies)
    return value, step.notes, step.insight


class _Step:
    """One step's computation."""

    def __init__(
        self, rows: torch.Tensor, proxies: torch.Tensor, problem: Problem
    ) -> None:
        self.X, self.W, self.p = rows, proxies, problem
        self.exact = torch.promote_types(rows.dtype, torch.float32)
        classes = torch.arange(len(proxies), device=rows.device)
        self.same = problem.labels.unsqueeze(1) == classes
        self.penalty = problem.penalty.to(self.exact).unsqueeze(1)
        row = problem.row
        self.filled = torch.tensor(row.filled, dtype=torch.long, device=rows.device)
        sizes = torch.tensor(row.batch_sizes, device=rows.device).unsqueeze(1)
        each = torch.arange(row.labels.shape[1], device=rows.device)
        self.padding = each >= sizes  # (N, B')
        self.is_ragged = any(size < len(each) for size in row.batch_sizes if size)

    def solve(self, with_gradients: bool) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """The value and, if wanted, its gradients by embeddings and proxies."""
        weights = None
        if with_gradients and self.p.is_linear:
            size = len(self.W) * (1 + len(self.filled))
            zeros = self.X.new_zeros(size, dtype=self.exact)
            weights = self._gradient_of_reduce(zeros, zeros)
        positive, negative, gradients = self.terms(weights)
        if with_gradients and weights is None:
            weights = self._gradient_of_reduce(positive, negative)
            gradients = self.terms(weights)[2]
        return self._reduce(positive, negative).detach(), gradients

    def terms(
        self, weights: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[Any, ...]]:
        """Positive and negative terms of all proxies ((n+1) C,) and the gradients of
        their sum, with these weights."""
        X, W, row, alpha = self.X, self.W, self.p.row, self.p.alpha
        N, C = len(row.batch_sizes), len(W)
        cosine = (X @ W.t()).to(self.exact)
        to_positive = alpha * (self.p.margin - cosine) + self.penalty
        to_negative = alpha * (self.p.margin + cosine) + self.penalty
        self.positive = _log_one_plus(to_positive, ~self.same)
        self.unmined = _log_one_plus(to_positive - self.penalty, ~self.same)
        self.own = _log_one_plus(to_negative - self.penalty, self.same)
        self.total = _log_one_plus(to_negative, self.same)

        new = self.own.new_zeros
        self.of_actual, self.of_virtual = new(C, N), new(N, C)
        negative = new(N, C)  # of virtual proxies
        if weights is not None:
            self.dX = torch.zeros_like(X, dtype=self.exact)
            self.dW = torch.zeros_like(W, dtype=self.exact)
            self.virtual_weights = new(N, C)
            self.virtual_weights[self.filled] = weights[1][C:].view(-1, C)
        for chunk in row.chunks(chunk_steps(self.p.chunk_steps, row, X, W, 3)):
            self.actual_proxies(chunk, weights is not None)
            self.virtual_proxies(chunk, negative, weights is not None)
        positive = torch.cat([self.positive, row.own[self.filled].flatten()])
        negative = torch.cat([self.total, negative[self.filled].flatten()])
        both = positive + negative
        self.insight = Insight(both[:C], both[C:])
        if weights is None:
            return positive, negative, ()

        of_positive, of_negative = (w[:C].to(self.exact) for w in weights)
        share = (to_negative - self.total).exp_().masked_fill_(self.same, 0)
        P = share * of_negative
        share = (to_positive - self.positive).exp_().masked_fill_(~self.same, 0)
        P = (P - share * of_positive).to(X.dtype)
        dX = self.dX.to(X.dtype).addmm_(P, W)
        dW = (self.dW * of_negative.unsqueeze(1)).to(W.dtype).addmm_(P.t(), X)
        return positive, negative, (alpha * dX, alpha * dW)

    def actual_proxies(self, chunk: slice, with_gradient: bool) -> None:
        """lse(t, v) for a chunk of v; their softmax-weighted embeddings go to dW."""
        row = self.p.row
        V = row.embeddings[chunk].flatten(0, 1).to(self.X.dtype)
        Z = self._exponents(self.W, V).view(len(self.W), chunk.stop - chunk.start, -1)
        if self.is_ragged:
            Z.masked_fill_(self.padding[chunk], -torch.inf)
        block = Z.logsumexp(dim=2)
        self.of_actual[:, chunk] = block
        total = torch.logaddexp(self.total, block.logsumexp(dim=1))
        if with_gradient:
            P = Z.sub_(total.view(-1, 1, 1)).exp_().flatten(1).to(V.dtype)
            self.dW.mul_((self.total - total).exp_().unsqueeze(1)).add_(P @ V)
        self.total = total

    def virtual_proxies(
        self, chunk: slice, negative: torch.Tensor, with_gradient: bool
    ) -> None:
        """lse(v, t) for a chunk of v, and the negative terms of their proxies; dX."""
        row = self.p.row
        V = row.class_weights[chunk].flatten(0, 1).to(self.X.dtype)
        Z = self._exponents(self.X, V)
        self.of_virtual[chunk] = Z.logsumexp(dim=0).view(negative[chunk].shape)
        Z.add_(self.penalty)
        constants = row.against[chunk][:, :, self.filled].logsumexp(dim=2)
        block = Z.logsumexp(dim=0).view_as(constants)
        total = negative[chunk] = torch.logaddexp(block, constants)
        if with_gradient:
            P = (
                Z.sub_(total.flatten())
                .exp_()
                .mul_(self.virtual_weights[chunk].flatten())
            )
            self.dX.add_(P.to(V.dtype) @ V)

    def notes(self, key: int) -> Notes:
        """What is to be kept beside the snapshot of this step; miners left out."""
        against = self.of_actual.clone()
        against[:, self.p.row.column] = self.own
        return Notes(self.unmined, against, self.of_virtual, key)

    def _exponents(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        products = (a @ b.t()).to(self.exact)
        return products.mul_(self.p.alpha).add_(self.p.alpha * self.p.margin)

    def _reduce(self, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        return self.p.reduce(positive, negative, self.with_positives())

    def with_positives(self) -> torch.Tensor:
        """How many proxies have positives. A tensor: a device is not waited for."""
        row, C = self.p.row, len(self.W)
        columns = torch.arange(len(row.batch_sizes), device=row.labels.device)
        classes = (row.labels + C * columns.unsqueeze(1)).flatten()[row.real]
        virtual = classes.new_zeros(len(columns) * C).index_fill_(0, classes.long(), 1)
        return self.same.any(dim=0).sum() + virtual.sum()

    def _gradient_of_reduce(
        self, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            terms = [x.detach().requires_grad_() for x in (positive, negative)]
            value = self._reduce(*terms)
            if not value.requires_grad:
                return torch.zeros_like(positive), torch.zeros_like(negative)
            grads = torch.autograd.grad(value, terms, allow_unused=True)
        first, second = (
            torch.zeros_like(x) if g is None else g for x, g in zip(terms, grads)
        )
        return first, second


def _log_one_plus(exponents: torch.Tensor, leave_out: torch.Tensor) -> torch.Tensor:
    """log(1 + sum of exp) over rows, for each column, without those left out."""
    total = exponents.masked_fill(leave_out, -torch.inf).logsumexp(dim=0)
    return torch.logaddexp(total, torch.zeros_like(total))

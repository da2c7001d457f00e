"""MemVir for losses that are a softmax over classes, row by row: exact, at O(N).

Write lse(a, b) for the log-sum-exp of the logits of step a's embeddings over step b's
class weights, one number a row of a. At step t, v being the snapshots of its row:

    actual rows:  logsumexp( lse(t, t), lse(t, v) for all v )       - target logit
    virtual rows: logsumexp( lse(v, t), lse(v, v') for all v' )     - target logit

Virtual rows against virtual classes, lse(v, v'), are most of the work, and constants:
the later of the two steps has computed them already, as its lse(t, v) or lse(v, t).
They are kept beside the snapshots, with the target logits. (Where snapshots share the
class weights of an earlier one, nobody has computed lse(t, w) and lse(v, w), w being
those of t: see `notes_of` in row_softmax_step.py.) What is left costs
(2N + 1) B C K D, or 2 B C K D (4N + 3) floating-point operations with both gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..insight import Insight, Shares
from ..snapshots import Notes, Row
from .centers import OneCenter
from .eager import Eager, chunk_steps
from .reduction import Reduction


@dataclass(frozen=True)
class Problem:
    """All that `row_softmax` needs besides what it has gradients for.

    Attributes:
        labels: (B,), 0 to C-1.
        row: the snapshots, their target logits (`own`) and lse(v, v') (`against`).
        centers: how K products a class become a logit.
        scale: the factor that is in `rows`, and not in the memory.
        reduction: from the losses of all rows to a number.
        chunk_steps: snapshots to compute at a time; None bounds their memory.
    """

    labels: torch.Tensor
    row: Row
    centers: OneCenter
    scale: float
    reduction: Reduction
    chunk_steps: int | None = None


@dataclass
class Blocks:
    """The blocks of log-sum-exps of a step; its notes, once they are complete.

    Attributes:
        own: (B,), lse(t, t).
        of_actual: (B, N), lse(t, v).
        of_virtual: (N, B'), lse(v, t).
    """

    own: torch.Tensor
    of_actual: torch.Tensor
    of_virtual: torch.Tensor

    def notes(self, target: torch.Tensor, column: int, key: int) -> Notes:
        """What is to be kept beside the snapshot of this step, in its column."""
        against = self.of_actual.clone()
        against[:, column] = self.own
        return Notes(target.detach(), against, self.of_virtual, key)


def row_softmax(
    rows: torch.Tensor, classes: torch.Tensor, target: torch.Tensor, problem: Problem
) -> tuple[torch.Tensor, Blocks, Insight]:
    """The reduced loss over actual and virtual rows and classes.

    Naive equivalent, all log-sum-exps from scratch:

        logits = cat([rows, *virtual rows]) @ cat([classes, *virtual classes]).t()
        logits[each row, its label] = its target logit
        reduction(logits.logsumexp(1) - target logits)

    Args:
        rows: (B, D), row vectors, scale included.
        classes: (C K, D), class vectors.
        target: (B,), target logits, margin included.
        problem: the rest.

    Returns:
        the reduced loss, with gradients to all three, the step's blocks, and what is
        to be seen in them. No pending backward needs anything of the memory, which may
        be written to at once.
    """
    step = _Step(rows.detach(), classes.detach(), target.detach(), problem)
    value: torch.Tensor = Eager.apply(step, rows, classes, target)
    return value, step.blocks, step.insight()


class _Step:
    """One step's computation. Capital letters are matrices, as in the module's text."""

    def __init__(
        self,
        rows: torch.Tensor,
        classes: torch.Tensor,
        target: torch.Tensor,
        problem: Problem,
    ) -> None:
        self.X, self.W, self.target = rows, classes, target
        self.p = problem
        self.each = torch.arange(len(rows), device=rows.device)
        # Log-sum-exps and what is summed have float32 at least.
        self.exact = torch.promote_types(rows.dtype, torch.float32)

    def solve(self, with_gradients: bool) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """The value and, if wanted, its gradients by rows, classes and target."""
        reduction = self.p.reduction
        known = with_gradients and reduction.is_linear
        if known:
            weights = reduction.gradient(self.X.new_zeros(len(reduction.labels)))
            losses, gradients = self.losses(weights)
        else:
            losses, gradients = self.losses(None)
            if with_gradients:
                _, gradients = self.losses(reduction.gradient(losses))
        return reduction(losses).detach(), gradients

    def losses(
        self, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """Losses of all rows (R,); with weights (R,), the gradients of their sum."""
        X, W, row = self.X, self.W, self.p.row
        self._prepare_virtual(weights)
        if weights is not None:
            weights = weights.to(self.exact)
            self.dX = torch.zeros_like(X, dtype=self.exact)
            self.dW = torch.zeros_like(W, dtype=self.exact)
        Z, kept = self.p.centers.logits(X @ W.t())
        Z = Z.to(self.exact)
        Z[self.each, self.p.labels] = self.target.to(self.exact)
        own = Z.logsumexp(dim=1)
        self.total = own.clone()  # of actual rows; grows by each chunk
        new, shape = own.new_zeros, row.labels.shape
        self.blocks = Blocks(own, new(len(X), shape[0]), new(shape))
        self.own_copies = torch.full_like(self.blocks.of_actual, -torch.inf)
        virtual = new(shape)  # losses of virtual rows
        most = self.p.centers.numbers_per_product
        for chunk in row.chunks(chunk_steps(self.p.chunk_steps, row, X, W, most)):
            self.actual_rows(row, chunk, weights is not None)
            self.virtual_rows(row, chunk, virtual)
        losses = torch.cat([self.total - self.target, virtual.flatten()[row.real]])
        self.all_losses = losses
        if weights is None:
            return losses, ()

        actual = weights[: len(X)].unsqueeze(1)
        P = Z.sub_(self.total.unsqueeze(1)).exp_().mul_(actual)
        dtarget = P[self.each, self.p.labels] - actual.squeeze(1)
        P[self.each, self.p.labels] = 0  # the target logit has its own gradient
        P = self.p.centers.grad(P, kept).to(X.dtype)
        dX = (self.dX * actual).to(X.dtype).addmm_(P, W)
        dW = (self.dW * self.p.scale).to(W.dtype).addmm_(P.t(), X)
        return losses, (dX, dW, dtarget.to(self.target.dtype))

    def insight(self) -> Insight:
        """What is to be seen in the step, from what is there."""
        shares = Shares(self.total, self.blocks.own, self.own_copies)
        size = len(self.X)
        return Insight(self.all_losses[:size], self.all_losses[size:], shares)

    def actual_rows(self, row: Row, chunk: slice, with_gradient: bool) -> None:
        """lse(t, v) for a chunk of v; its softmax-weighted class vectors go to dX."""
        V = row.class_weights[chunk].flatten(0, 1).to(self.X.dtype)
        Z, kept = self.p.centers.logits(self.X @ V.t())
        Z = Z.to(self.exact).view(len(self.X), chunk.stop - chunk.start, -1)
        self.own_copies[:, chunk] = Z[self.each, :, self.p.labels]
        E, highest = _exp(Z)
        block = E.sum(dim=2).log_() + highest.squeeze(2)
        self.blocks.of_actual[:, chunk] = block
        total = torch.logaddexp(self.total, block.logsumexp(dim=1))
        if with_gradient:
            E.mul_((highest.squeeze(2) - total.unsqueeze(1)).exp_().unsqueeze(2))
            P = self.p.centers.grad(E.flatten(1), kept).to(self.X.dtype)
            self.dX.mul_((self.total - total).exp_().unsqueeze(1))
            _add_product(self.dX, P, V)
        self.total = total

    def virtual_rows(self, row: Row, chunk: slice, losses: torch.Tensor) -> None:
        """lse(v, t) for a chunk of v, and the losses of their rows; dW."""
        V = row.embeddings[chunk].flatten(0, 1).to(self.X.dtype)
        Z, kept = self.p.centers.logits(V @ self.scaled_W.t())
        E, highest = _exp(Z.to(self.exact))
        block = (E.sum(dim=1).log_() + highest.squeeze(1)).view(losses[chunk].shape)
        self.blocks.of_virtual[chunk] = block
        total = torch.logaddexp(block, self._constants(row, chunk))
        losses[chunk] = total - row.own[chunk, : block.shape[1]]
        if self.virtual_weights is not None:
            share = (highest.view_as(total) - total).exp_()
            E.mul_(share.mul_(self.virtual_weights[chunk]).view(-1, 1))
            P = self.p.centers.grad(E, kept).to(self.X.dtype)
            _add_product(self.dW, P.t(), V)

    def _constants(self, row: Row, chunk: slice) -> torch.Tensor:
        """logsumexp of lse(v, v') over all v', for a chunk of v."""
        against = row.against[chunk]
        if len(row.filled) < len(row.batch_sizes):
            against = against[:, :, row.filled]
        return against.logsumexp(dim=2)

    def _prepare_virtual(self, weights: torch.Tensor | None) -> None:
        row = self.p.row
        self.scaled_W = self.p.scale * self.W
        self.virtual_weights: torch.Tensor | None = None
        if weights is not None:
            self.virtual_weights = weights.new_zeros(row.labels.shape, dtype=self.exact)
            self.virtual_weights.view(-1)[row.real] = weights[len(self.X) :].to(
                self.exact
            )


def _exp(Z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(Z - highest), in place, and the highest of the last dimension."""
    highest = Z.amax(dim=-1, keepdim=True)
    return Z.sub_(highest).exp_(), highest


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """total += a @ b, whose dtype may be the lower."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)

"""The blocks of logits of one step, and the gradients that are made with them.

Capital letters are matrices: A and C of the step's anchors and candidates, V of those
it meets, Z of logits, E of their exp, P of shares of a softmax.
"""

from __future__ import annotations

from typing import Any

import torch

from .kernel import Kernel
from .notes import exp, fitting, logits, of_shared_class_weights, product
from .progress import Insight
from .reduce import Reduce
from .snapshots import Notes, Past, real_indices


class Step:
    """One step's computation, on detached tensors.

    Args:
        kernel: what the loss makes of anchors and candidates.
        anchors: (A, D), candidates: (C, D), as unit vectors where the kernel says so.
        labels: (B,), 0 to C-1.
        past: the snapshots.
        reduce: to the loss.
        penalty: (C,), added to the logits of the step's own candidates, and taken from
            those that make terms, but not in what the memory keeps; None: nothing.
        chunk_steps: snapshots to compute at a time; None: as many as fit.
    """

    def __init__(
        self,
        kernel: Kernel,
        anchors: torch.Tensor,
        candidates: torch.Tensor,
        labels: torch.Tensor,
        past: Past,
        reduce: Reduce,
        penalty: torch.Tensor | None = None,
        chunk_steps: int | None = None,
    ) -> None:
        self.kernel, self.labels, self.past, self.reduce = kernel, labels, past, reduce
        self.A, self.C, self.penalty = anchors.detach(), candidates.detach(), penalty
        # Log-sum-exps and what is summed have float32 at least.
        self.exact = torch.promote_types(anchors.dtype, torch.float32)
        self.met_anchors, self.met_candidates = kernel.ordered(
            past.embeddings, past.class_weights
        )
        self.padding, sizes = None, past.batch_sizes
        if kernel.is_turned:
            self.padding = past.padding
            sizes = tuple(len(anchors) if size else 0 for size in sizes)
        self.real = real_indices(sizes, self.met_anchors)
        met = self.met_anchors, self.met_candidates
        fit = chunk_steps or fitting(kernel, (self.A, self.C), met)
        self.chunks = list(past.chunks(fit))
        # Of gradients: a unit of all of them, and weights of anchors; None: all are 1.
        self.unit = 1.0
        self.of_actual: torch.Tensor | None = None
        self.of_virtual: torch.Tensor | None = None

    def solve(self, with_gradients: bool) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """The loss and, if wanted, its gradients by anchors and candidates."""
        is_known = with_gradients and self.reduce.is_linear
        gradients = self._blocks(is_known)
        if with_gradients and not is_known:
            gradients = self._blocks(True, self.all_lse)
        return self.reduce(self.all_lse, self.all_terms).detach(), gradients

    def insight(self) -> Insight:
        """What is to be seen in the step, from what is there."""
        sign = 1 if self.kernel.is_turned else -1
        return Insight(
            self.all_lse, self.all_terms, sign, self.lse_of_self, self.copies
        )

    def notes(
        self, embeddings: torch.Tensor, class_weights: torch.Tensor, settings: int
    ) -> Notes:
        """What is to be kept beside the snapshot of this step, without penalty."""
        past, lse = self.past, self.lse[1:]
        if len(past.filled) < len(lse):
            filled = past.filled_index
            lse = torch.zeros_like(lse).index_copy_(0, filled, lse[filled])
        lse[past.cell] = self.lse_of_self
        made = Notes(self.terms, lse.t(), self.lse_of_met, settings)
        if past.shared_class_weights is None:
            return made
        return of_shared_class_weights(self.kernel, embeddings, self.labels, past, made)

    def _blocks(
        self, with_gradients: bool, lse: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Log-sum-exps of all anchors, and gradients as `solve` returns them.

        Args:
            lse: log-sum-exps, if the reducer's gradient depends on them.
        """
        A, C, kernel, labels = self.A, self.C, self.kernel, self.labels
        Z, kept = logits(kernel, A, C)
        if self.penalty is not None:
            penalised = kernel.mark(Z - self.penalty, labels, (A, C))
        marked = kernel.mark(Z, labels, (A, C))
        (N, a), b = self.met_anchors.shape[:2], len(A)
        # Over the step's own candidates, and over those of each cell.
        self.lse = A.new_empty(1 + N, b, dtype=self.exact)
        if len(self.past.filled) < N:
            self.lse.fill_(-torch.inf)
        self.total = kernel.logsumexp(Z, out=self.lse[0])
        self.terms, self.lse_of_self = marked[0], self.total
        if self.penalty is not None:
            self.lse_of_self, marked = self.total.clone(), penalised
            kernel.logsumexp(Z.add_(self.penalty), out=self.total)
        if with_gradients:
            of_terms = self._weigh(lse)
        self.dA: torch.Tensor | None = None
        actual = [self._actual_anchors(c, with_gradients) for c in self.chunks]
        if with_gradients:
            P = Z.sub_(self.total.unsqueeze(1)).exp_()
            if self.of_actual is not None:
                P.mul_(self.of_actual.unsqueeze(1))
            along_anchors, along_own = kernel.unmark(P, labels, marked, of_terms)
            P = kernel.centers.grad(P, kept).to(A.dtype)
            dA = self._plus(self.dA, P, C, like=A)
            self.dC = self._plus(None, P.t(), A, like=C)
            if along_anchors is not None:
                dA.add_(along_anchors, alpha=self.unit)
            if along_own is not None:
                self.dC.index_add_(0, labels, along_own, alpha=self.unit)
        self.copies = [part for part in actual if part is not None]
        of_met = A.new_empty(2, N, a, dtype=self.exact)
        if len(self.past.filled) < N:
            of_met.zero_()
        self.lse_of_met, totals = of_met.unbind()
        for chunk in self.chunks:
            self._virtual_anchors(chunk, with_gradients, totals[chunk])
        met = self._real(totals), self._real(self.past.terms)
        both = torch.cat([self.total, met[0], marked[0], met[1]]).view(2, -1)
        self.all_lse, self.all_terms = both.unbind()
        if not with_gradients:
            return ()
        return dA.to(A.dtype), self.dC.to(A.dtype)

    def _weigh(self, lse: torch.Tensor | None) -> torch.Tensor | float:
        """The gradient of the reducer, in units that all of it has.

        Returns:
            that by the step's own terms.
        """
        size, (N, a) = len(self.A), self.met_anchors.shape[:2]
        if lse is None:  # where it is linear, any will do
            num_met = N * a if self.real is None else len(self.real)
            lse = self.all_terms = self.A.new_empty(size + num_met, dtype=self.exact)
        of_lse, of_terms = self.reduce.gradient(lse, self.all_terms)
        if isinstance(of_lse, float):
            self.unit, of_terms = of_lse, of_terms / of_lse
            of_met = None if self.real is None else lse.new_ones(len(self.real))
        else:
            of_lse = of_lse.to(self.exact)
            self.of_actual, of_met = of_lse[:size], of_lse[size:]
        if of_met is not None and self.real is not None:
            of_met = lse.new_zeros(N * a).index_copy_(0, self.real, of_met)
        self.of_virtual = None if of_met is None else of_met.view(N, a)
        return of_terms if isinstance(of_terms, float) else of_terms[:size]

    def _actual_anchors(self, chunk: slice, with_gradient: bool) -> torch.Tensor | None:
        """lse(t, v) for a chunk of v; their softmax-weighted candidates go to dA.

        Returns:
            the logits of old copies of each one's own class.
        """
        V = self.met_candidates[chunk].flatten(0, 1).to(self.A.dtype)
        Z, kept = logits(self.kernel, self.A, V)
        Z = Z.view(len(Z), chunk.stop - chunk.start, -1)
        if self.padding is not None:
            Z.masked_fill_(self.padding[chunk], -torch.inf)
        copies = self.kernel.copies(Z, self.labels)
        E, highest = exp(Z)
        block = self.lse[1:][chunk].t()
        torch.add(E.sum(dim=2).log_(), highest, out=block)
        total = self.lse[: chunk.stop + 1].logsumexp(dim=0)
        if with_gradient:
            share = (highest - total.unsqueeze(1)).exp_()
            if self.of_actual is not None:
                share.mul_(self.of_actual.unsqueeze(1))
            P = self.kernel.centers.grad(E.mul_(share.unsqueeze(2)).flatten(1), kept)
            if self.dA is not None:  # it was relative to what the total was
                self.dA.mul_((self.total - total).exp_().unsqueeze(1))
            self.dA = self._plus(self.dA, P.to(V.dtype), V, like=self.A)
        self.total = total
        return copies

    def _virtual_anchors(
        self, chunk: slice, with_gradient: bool, total: torch.Tensor
    ) -> None:
        """lse(v, t) for a chunk of v, and whole log-sum-exps of their anchors; dC."""
        V = self.met_anchors[chunk].flatten(0, 1).to(self.A.dtype)
        Z, kept = logits(self.kernel, V, self.C)
        E, highest = exp(Z)
        constants, shape = self.past.lse[chunk], total.shape
        block = self.lse_of_met[chunk]
        torch.add(E.sum(dim=1).log_(), highest, out=block.view(-1))
        if self.penalty is not None:
            E.mul_(self.penalty.exp())
            block = (E.sum(dim=1).log_() + highest).view(shape)
        if len(self.past.filled) < constants.shape[2]:
            constants = constants.index_select(2, self.past.filled_index)
        torch.logaddexp(block, constants.logsumexp(dim=2), out=total)
        if with_gradient:
            share = (highest.view(shape) - total).exp_()
            if self.of_virtual is not None:
                share.mul_(self.of_virtual[chunk])
            P = self.kernel.centers.grad(E.mul_(share.view(-1, 1)), kept).to(V.dtype)
            self.dC = self._plus(self.dC, P.t(), V, like=self.C)

    def _real(self, of_met: torch.Tensor) -> torch.Tensor:
        """Of (N, A) what is of virtual anchors, flattened."""
        return of_met.flatten() if self.real is None else of_met.flatten()[self.real]

    def _plus(
        self,
        total: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        like: torch.Tensor,
    ) -> torch.Tensor:
        """total + scale a @ b, in float32 at least, in the layout of `like`."""
        add = total is not None
        if total is None:  # a gradient is best laid out as its parameter
            total = torch.empty_like(like, dtype=self.exact)
        return product(total, a, b, self.unit * self.kernel.scale, add)

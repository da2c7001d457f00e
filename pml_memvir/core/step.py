"""The blocks of logits of one step, and the gradients that are made with them.

Capital letters are matrices: A and C of the step's anchors and candidates, V of those
it meets, Z of logits, E of their exp, P of shares of a softmax.
"""

from __future__ import annotations

from typing import Any

import torch

from .insight import Insight, Shares
from .kernel import Kernel
from .notes import logits, of_shared_class_weights
from .reduce import Reduce, Weights
from .snapshots import Notes, Past, real_indices

CHUNK_BYTES = 256 * 2**20


class Step:
    """One step's computation, on detached tensors.

    Args:
        kernel: what the loss makes of anchors and candidates.
        anchors: (A, D), candidates: (C, D), as unit vectors where the kernel says so.
        terms: (A,), of the actual anchors.
        labels: (B,), 0 to C-1.
        past: the snapshots.
        reduce: to the loss.
        penalty: (C,), added to the logits of the step's own candidates, but not in
            what the memory keeps; None: nothing.
        chunk_steps: snapshots to compute at a time; None: CHUNK_BYTES bounds them.
    """

    def __init__(
        self,
        kernel: Kernel,
        anchors: torch.Tensor,
        candidates: torch.Tensor,
        terms: torch.Tensor,
        labels: torch.Tensor,
        past: Past,
        reduce: Reduce,
        penalty: torch.Tensor | None = None,
        chunk_steps: int | None = None,
    ) -> None:
        self.kernel, self.labels, self.past, self.reduce = kernel, labels, past, reduce
        self.A, self.C = anchors.detach(), candidates.detach()
        # Log-sum-exps and what is summed have float32 at least.
        self.exact = torch.promote_types(anchors.dtype, torch.float32)
        self.terms = terms.detach().to(self.exact)
        self.penalty = penalty
        self.scaled_A, self.scaled_C = self.A, self.C
        if kernel.scale != 1:
            self.scaled_A, self.scaled_C = kernel.scale * self.A, kernel.scale * self.C
        self.met_anchors, self.met_candidates = kernel.ordered(
            past.embeddings, past.class_weights
        )
        is_of_batch = kernel.candidates == "embeddings"
        self.padding = past.padding if is_of_batch else None
        sizes = past.batch_sizes
        if is_of_batch:
            sizes = tuple(len(anchors) if size else 0 for size in sizes)
        self.real = real_indices(sizes, self.met_anchors)
        if chunk_steps is None:
            chunk_steps = self._fitting()
        self.chunks = list(past.chunks(chunk_steps))

    def solve(self, with_gradients: bool) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """The loss and, if wanted, its gradients by anchors, candidates and terms."""
        of_virtual = self._real(self.past.terms)
        terms = self.all_terms = torch.cat([self.terms, of_virtual.to(self.terms)])
        is_known = with_gradients and self.reduce.is_linear
        weights = self.reduce.gradient(terms, terms) if is_known else None
        self.all_lse, gradients = self._blocks(weights)
        if with_gradients and weights is None:
            _, gradients = self._blocks(self.reduce.gradient(self.all_lse, terms))
        return self.reduce(self.all_lse, terms).detach(), gradients

    def insight(self) -> Insight:
        """What is to be seen in the step, from what is there."""
        shares = None
        if self.copies is not None:
            shares = Shares(self.total, self.lse_of_self, self.copies)
        sign, size = self.kernel.sign_of_terms, len(self.A)
        return Insight(self.all_lse, self.all_terms, sign, size, shares)

    def notes(
        self, embeddings: torch.Tensor, class_weights: torch.Tensor, settings: int
    ) -> Notes:
        """What is to be kept beside the snapshot of this step, without penalty."""
        kernel, past, terms = self.kernel, self.past, self.terms
        if self.penalty is not None:
            terms = kernel.terms(embeddings, class_weights, self.labels)
        self.lse[:, past.cell] = self.lse_of_self
        made = Notes(terms, self.lse, self.lse_of_met, settings)
        if past.shared_class_weights is None:
            return made
        return of_shared_class_weights(kernel, embeddings, self.labels, past, made)

    def _blocks(self, weights: Weights | None) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """Log-sum-exps of all anchors (R,); with weights of these and of all terms,
        the gradients of their weighted sum."""
        A, C, kernel = self.A, self.C, self.kernel
        Z, kept = logits(kernel, self.scaled_A, C, self.exact)
        kernel.mark(Z, self.labels, self.terms)
        self.lse_of_self = self.total = kernel.logsumexp(Z)
        if self.penalty is not None:
            self.total = kernel.logsumexp(Z.add_(self.penalty))
        self.dA: torch.Tensor | None = None
        self.dC: torch.Tensor | None = None
        of_virtual = None if weights is None else self._of_virtual(weights[0])
        actual = [self._actual_anchors(c, weights is not None) for c in self.chunks]
        virtual = [self._virtual_anchors(c, of_virtual) for c in self.chunks]
        (N, a), b = self.met_anchors.shape[:2], len(A)
        self.lse = self._whole([part[0] for part in actual], (b, N), 1)
        self.lse_of_met = self._whole([part[0] for part in virtual], (N, a), 0)
        copies = [part[1] for part in actual if part[1] is not None]
        self.copies = self._whole(copies, (b, N), 1, -torch.inf) if copies else None
        totals = self._whole([part[1] for part in virtual], (N, a), 0)
        lse = torch.cat([self.total, self._real(totals)])
        if weights is None:
            return lse, ()
        of_lse, of_terms = (w if isinstance(w, float) else w[:b] for w in weights)
        if not isinstance(of_lse, float):
            of_lse = of_lse.to(self.exact).unsqueeze(1)
        P = Z.sub_(self.total.unsqueeze(1)).exp_().mul_(of_lse)
        d_terms = of_terms + kernel.unmark(P, self.labels)
        P = kernel.centers.grad(P, kept).to(A.dtype)
        if self.dA is None or self.dC is None:
            return lse, (P @ self.scaled_C, P.t() @ self.scaled_A, d_terms)
        dA = (self.dA * (of_lse * kernel.scale)).to(A.dtype).addmm_(P, self.scaled_C)
        dC = self.dC.to(A.dtype).addmm_(P.t(), self.scaled_A)
        return lse, (dA, dC, d_terms)

    def _actual_anchors(
        self, chunk: slice, with_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """lse(t, v) for a chunk of v; their softmax-weighted candidates go to dA.

        Also the logits of old copies of each one's own class.
        """
        V = self.met_candidates[chunk].flatten(0, 1).to(self.A.dtype)
        Z, kept = logits(self.kernel, self.scaled_A, V, self.exact)
        Z = Z.view(len(Z), chunk.stop - chunk.start, -1)
        if self.padding is not None:
            Z.masked_fill_(self.padding[chunk], -torch.inf)
        copies = self.kernel.copies(Z, self.labels)
        E, highest = _exp(Z)
        block = E.sum(dim=2).log_() + highest
        total = torch.logaddexp(self.total, block.logsumexp(dim=1))
        if with_gradient:
            E.mul_((highest - total.unsqueeze(1)).exp_().unsqueeze(2))
            P = self.kernel.centers.grad(E.flatten(1), kept).to(V.dtype)
            if self.dA is not None:  # it was relative to what the total was
                self.dA.mul_((self.total - total).exp_().unsqueeze(1))
            self.dA = self._plus(self.dA, P, V)
        self.total = total
        return block, copies

    def _virtual_anchors(
        self, chunk: slice, weights: torch.Tensor | float | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """lse(v, t) for a chunk of v, and whole log-sum-exps of their anchors; dC."""
        V = self.met_anchors[chunk].flatten(0, 1).to(self.A.dtype)
        Z, kept = logits(self.kernel, V, self.scaled_C, self.exact)
        E, highest = _exp(Z)
        shape = self.past.lse[chunk].shape[:2]
        block = own = (E.sum(dim=1).log_() + highest).view(shape)
        if self.penalty is not None:
            E.mul_(self.penalty.exp())
            block = (E.sum(dim=1).log_() + highest).view(shape)
        constants = self.past.lse[chunk]
        if len(self.past.filled) < constants.shape[2]:
            constants = constants.index_select(2, self.past.filled_index)
        total = torch.logaddexp(block, constants.logsumexp(dim=2))
        if weights is not None:
            share = (highest.view(shape) - total).exp_()
            share.mul_(weights if isinstance(weights, float) else weights[chunk])
            P = self.kernel.centers.grad(E.mul_(share.view(-1, 1)), kept).to(V.dtype)
            self.dC = self._plus(self.dC, P.t(), V)
        return own, total

    def _of_virtual(self, weights: torch.Tensor | float) -> torch.Tensor | float:
        """Weights of virtual anchors (N, A), times the scale; 0 for what is none."""
        weights = weights * self.kernel.scale
        if isinstance(weights, float) and self.real is None:
            return weights
        whole = self.A.new_zeros(self.met_anchors.shape[:2], dtype=self.exact)
        if not isinstance(weights, float):
            weights = weights[len(self.A) :].to(self.exact)
        if self.real is None:
            return torch.as_tensor(weights).view_as(whole)
        whole.view(-1)[self.real] = weights
        return whole

    def _real(self, of_anchors: torch.Tensor) -> torch.Tensor:
        """Of (N, A) what is of virtual anchors, flattened."""
        flat = of_anchors.flatten()
        return flat if self.real is None else flat[self.real]

    def _whole(
        self,
        parts: list[torch.Tensor],
        shape: tuple[int, int],
        dim: int,
        empty: float = 0.0,
    ) -> torch.Tensor:
        """What chunks have, as one tensor with all cells in dimension `dim`."""
        if len(parts) == 1 and parts[0].shape == shape:
            return parts[0]
        whole = self.A.new_full(shape, empty, dtype=self.exact)
        for chunk, part in zip(self.chunks, parts):
            whole.transpose(0, dim)[chunk] = part.transpose(0, dim)
        return whole

    def _plus(
        self, total: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor
    ) -> torch.Tensor:
        """total + a @ b, in float32 at least."""
        if total is None:
            return (a @ b).to(self.exact)
        if total.dtype == a.dtype:
            return total.addmm_(a, b)
        return total.add_(a @ b)

    def _fitting(self) -> int:
        """Snapshots at a time that stay below CHUNK_BYTES, at least one."""
        products = max(
            len(self.A) * self.met_candidates.shape[1],
            len(self.C) * self.met_anchors.shape[1],
            len(self.A) * len(self.C),
        )
        numbers = self.kernel.centers.numbers_per_product * products
        numbers += max(len(self.A), len(self.C)) * self.A.shape[1]
        fitting = CHUNK_BYTES // (numbers * self.exact.itemsize)
        return max(1, fitting - 1)  # a step's own anchors and candidates are one, too


def _exp(Z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(Z - highest), in place, and the highest of the last dimension."""
    highest = Z.amax(dim=-1)
    return Z.sub_(highest.unsqueeze(-1)).exp_(), highest

"""Blocks of logits alone, and what is kept of them beside a snapshot."""

from __future__ import annotations

from typing import Any

import torch

from .kernel import Kernel, Pair
from .snapshots import Notes, Past

CHUNK_BYTES = 256 * 2**20


def product(
    out: torch.Tensor, a: torch.Tensor, b: torch.Tensor, alpha: float, add: bool
) -> torch.Tensor:
    """alpha a @ b, put or added to `out`, which may be more precise than both."""
    if out.dtype == a.dtype:
        return out.addmm_(a, b, alpha=alpha, beta=int(add))
    return out.add_(a @ b, alpha=alpha) if add else out.copy_(a @ b).mul_(alpha)


def logits(
    kernel: Kernel, anchors: torch.Tensor, candidates: torch.Tensor
) -> tuple[torch.Tensor, Any]:
    """A block (A, C), float32 at least, and what `kernel.centers.grad` needs."""
    exact = torch.promote_types(anchors.dtype, torch.float32)
    Z = anchors.new_empty(len(anchors), len(candidates), dtype=exact)
    product(Z, anchors, candidates.t(), kernel.scale, add=False)
    Z, kept = kernel.centers.logits(Z)
    return (Z.add_(kernel.shift) if kernel.shift else Z), kept


def exp(Z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(Z - highest), in place, and the highest of the last dimension."""
    highest = Z.amax(dim=-1)
    return Z.sub_(highest.unsqueeze(-1)).exp_(), highest


def fitting(kernel: Kernel, own: Pair, met: Pair) -> int:
    """Snapshots whose blocks need no more than CHUNK_BYTES; at least one.

    Args:
        own: anchors (A, D) and candidates (C, D) of a step.
        met: those of N snapshots, (N, a, D) and (N, c, D).
    """
    (A, D), C = own[0].shape, len(own[1])
    products = max(A * met[1].shape[1], C * met[0].shape[1], A * C)
    numbers = kernel.centers.numbers_per_product * products + max(A, C) * D
    exact = torch.promote_types(own[0].dtype, torch.float32)
    fits = CHUNK_BYTES // (numbers * exact.itemsize)
    return max(1, fits - 1)  # a step's own anchors and candidates are one, too


@torch.no_grad()
def lse(
    kernel: Kernel, anchors: torch.Tensor, candidates: torch.Tensor
) -> torch.Tensor:
    """lse(a, b) (A,) of the anchors and candidates of two steps."""
    return logits(kernel, anchors, candidates)[0].logsumexp(1)


@torch.no_grad()
def lse_of_self(
    kernel: Kernel,
    embeddings: torch.Tensor,
    class_weights: torch.Tensor,
    labels: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Terms (A,) and lse(a, a) (A,) of one snapshot."""
    both = kernel.ordered(embeddings, class_weights)
    Z, _ = logits(kernel, *both)
    terms, _ = kernel.mark(Z, labels, both)
    return terms, kernel.logsumexp(Z)


@torch.no_grad()
def of_shared_class_weights(
    kernel: Kernel,
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    past: Past,
    of_step: Notes,
) -> Notes:
    """Notes of a snapshot whose class weights are an earlier one's.

    It costs N + 1 blocks that no step computes else: the class weights with its own
    embeddings, and with those of the snapshots it met.

    Args:
        of_step: those that it would have with its own class weights.
    """
    weights = past.shared_class_weights
    assert weights is not None
    weights = weights.to(embeddings.dtype)
    terms, of_self = lse_of_self(kernel, embeddings, weights, labels)
    over_met, of_met = of_step.lse.clone(), of_step.lse_of_met.clone()
    over_met[:, past.cell] = of_self
    for cell in past.filled:
        met = past.embeddings[cell, : past.batch_sizes[cell]].to(weights.dtype)
        if kernel.is_turned:
            over_met[:, cell] = lse(kernel, weights, met)
        else:
            of_met[cell, : len(met)] = lse(kernel, met, weights)
    return Notes(terms, over_met, of_met, of_step.settings)


def renew(kernel: Kernel, past: Past, dtype: torch.dtype) -> None:
    """All notes of a track from scratch, in place.

    Args:
        dtype: to compute in.
    """
    real = {
        cell: past.embeddings[cell, : past.batch_sizes[cell]].to(dtype)
        for cell in past.filled
    }
    for a in past.filled:
        embeddings, labels = real[a], past.labels[a, : len(real[a])]
        weights = past.class_weights[a].to(dtype)
        terms, of_self = lse_of_self(kernel, embeddings, weights, labels)
        past.terms[a, : len(terms)] = terms
        past.lse[a, : len(terms), a] = of_self
        for b in past.filled:
            if a != b:
                anchors = kernel.ordered(embeddings, weights)[0]
                candidates = kernel.ordered(real[b], past.class_weights[b].to(dtype))[1]
                past.lse[a, : len(anchors), b] = lse(kernel, anchors, candidates)

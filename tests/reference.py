"""The naive MemVir, from lists, loops and the paper's words: the tests' oracle.

Nothing of `pml_memvir` is imported here. A loss over virtual classes is, for the
oracle, the same loss built anew with that many more classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

# (embeddings, labels, class weights as (classes x centres, D)) ->
# (loss, gradient of the class weights, class weights as the forward call left them)
Inner = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor],
    tuple[torch.Tensor, torch.Tensor, torch.Tensor],
]


@dataclass
class Snapshot:
    embeddings: torch.Tensor
    labels: torch.Tensor
    class_weights: torch.Tensor


@dataclass
class Result:
    loss: torch.Tensor
    embedding_grad: torch.Tensor
    weight_grad: torch.Tensor
    class_weights: torch.Tensor  # those that the step used
    num_virtual_steps: int


class NaiveMemVir:
    """All snapshots ever taken, by step; the paper's rule picks some of them."""

    def __init__(
        self,
        inner: Inner,
        num_classes: int,
        num_steps: int,
        step_gap: int,
        warmup_steps: int = 0,
        snapshot_every: int = 1,
        class_weights_every: int | None = None,
    ) -> None:
        self.inner = inner
        self.num_classes = num_classes
        self.num_steps = num_steps
        self.step_gap = step_gap
        self.warmup_steps = warmup_steps
        self.snapshot_every = snapshot_every
        self.class_weights_every = class_weights_every
        self.snapshots: dict[int, Snapshot] = {}
        self.shared: dict[int, torch.Tensor] = {}  # class weights by stretch of steps
        self.step = 0

    def __call__(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        class_weights: torch.Tensor,
    ) -> Result:
        past = []
        block = self.step - self.step % self.snapshot_every
        for k in range(1, self.num_steps + 1):
            step = block - k * (self.step_gap + 1)
            if step in self.snapshots:
                past.append(self.snapshots[step])

        actual = embeddings.detach().clone().requires_grad_()
        all_embeddings, all_labels = [actual], [labels]
        all_weights = [class_weights.detach()]
        for k, snapshot in enumerate(past, start=1):
            all_embeddings.append(snapshot.embeddings)
            all_labels.append(snapshot.labels + k * self.num_classes)
            all_weights.append(snapshot.class_weights)

        loss, weight_grad, used = self.inner(
            torch.cat(all_embeddings), torch.cat(all_labels), torch.cat(all_weights)
        )
        rows = len(class_weights)
        if self.step >= self.warmup_steps and self.step == block:
            kept = used[:rows].clone()
            if self.class_weights_every is not None:
                stretch = self.step // self.class_weights_every
                kept = self.shared.setdefault(stretch, kept)
            if all(x.isfinite().all() for x in (embeddings, used[:rows], kept)):
                self.snapshots[self.step] = Snapshot(
                    embeddings.detach().clone(), labels.clone(), kept
                )
        self.step += 1
        assert actual.grad is not None
        return Result(
            loss.detach(), actual.grad, weight_grad[:rows], used[:rows], len(past)
        )

    def reset_memory(self) -> None:
        self.snapshots.clear()
        self.shared.clear()


def pml_inner(
    make: Callable[[int], torch.nn.Module],
    parameter: str,
    class_dim: int,
    num_centers: int = 1,
) -> Inner:
    """A loss of PML, built with as many classes as there are weights."""

    def inner(embeddings, labels, class_weights):
        loss = make(len(class_weights) // num_centers)
        weights = class_weights if class_dim == 0 else class_weights.t()
        setattr(loss, parameter, torch.nn.Parameter(weights))
        value = loss(embeddings, labels)
        value.backward()
        weight = getattr(loss, parameter)
        if class_dim == 0:
            return value, weight.grad, weight.detach()
        return value, weight.grad.t(), weight.detach().t()

    return inner


def softmax_inner(
    logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Inner:
    """Mean over rows of -log softmax at the label, of logits (rows, classes)."""

    def inner(embeddings, labels, class_weights):
        weights = class_weights.clone().requires_grad_()
        all_logits = logits(embeddings, weights)
        targets = all_logits[range(len(labels)), labels]
        value = (torch.logsumexp(all_logits, dim=1) - targets).mean()
        value.backward()
        return value, weights.grad, weights.detach()

    return inner


def softmax(embeddings: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return embeddings @ weights.t()


def norm_softmax(
    scale: float,
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def logits(embeddings, weights):
        return scale * embeddings @ (weights / weights.norm(dim=1, keepdim=True)).t()

    return logits


def proxy_nca(scale: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def logits(embeddings, weights):
        proxies = weights / weights.norm(dim=1, keepdim=True)
        lengths = embeddings.square().sum(1, keepdim=True) + proxies.square().sum(1)
        return -scale * (lengths - 2 * embeddings @ proxies.t())

    return logits


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """||a - b|| / ||b||, the measure of all comparisons."""
    difference = float((a - b).norm())
    return difference / float(b.norm()) if difference else 0.0

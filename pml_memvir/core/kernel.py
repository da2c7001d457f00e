"""What a loss makes of inner products: the two kinds that can be had at O(N)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch.nn.functional import normalize

from .centers import OneCenter

# Target logits (B,) from plain ones, embeddings (B, D) and their class weights
# (B, K, D).
Margin = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def unit(vectors: torch.Tensor, p: float | None) -> torch.Tensor:
    """Vectors (..., D) at unit length by the p-norm; with None as they are."""
    return vectors if p is None else normalize(vectors, p=p, dim=-1)


@dataclass(frozen=True)
class Kernel(ABC):
    """Logits of *anchors* and *candidates*: scale times inner product, plus shift.

    An anchor is what has a log-sum-exp, candidates are what it is summed over. Beside
    it, an anchor has a *term* that depends on what is its own only.

    Attributes:
        scale: factor of the inner products, > 0.
        shift: what is added then.
        centers: what becomes of K centres a class.
        embedding_norm, class_norm: p of the norm by which vectors have unit length;
            None: as they are.
        numbers: other settings that terms depend on.
    """

    name: ClassVar[str]
    anchors: ClassVar[str]
    candidates: ClassVar[str]
    sign_of_terms: ClassVar[int]

    scale: float = 1.0
    shift: float = 0.0
    centers: OneCenter = OneCenter()
    embedding_norm: float | None = None
    class_norm: float | None = None
    numbers: tuple[float, ...] = ()

    def ordered(
        self, embeddings: torch.Tensor, class_weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Anchors and candidates."""
        if self.anchors == "embeddings":
            return embeddings, class_weights
        return class_weights, embeddings

    @abstractmethod
    def terms(
        self,
        embeddings: torch.Tensor,
        class_weights: torch.Tensor,
        labels: torch.Tensor,
        penalty: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Terms (A,), with gradients to both.

        Args:
            penalty: (B,), what a miner adds to the exponents of embeddings.
        """

    @abstractmethod
    def mark(
        self, logits: torch.Tensor, labels: torch.Tensor, terms: torch.Tensor
    ) -> None:
        """Change logits (A, C) of a batch over itself where anchors meet their own."""

    @abstractmethod
    def unmark(self, grad: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | float:
        """The gradient of the terms from that of marked logits, which becomes 0."""

    def logsumexp(self, marked: torch.Tensor) -> torch.Tensor:
        """(A,) of marked logits (A, C)."""
        return marked.logsumexp(dim=1)

    def copies(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        """Of logits (B, n, C) those (B, n) of old copies of each one's own class."""
        return None


@dataclass(frozen=True)
class RowSoftmax(Kernel):
    """A softmax over classes for each embedding, one row of logits each.

    Embeddings are the anchors; a term is a target logit, which stands in the sum, too.

    Attributes:
        margin: changes target logits; None: there is none.
    """

    name: ClassVar[str] = "row_softmax"
    anchors: ClassVar[str] = "embeddings"
    candidates: ClassVar[str] = "class_weights"
    sign_of_terms: ClassVar[int] = -1

    margin: Margin | None = field(default=None, compare=False)

    def terms(
        self,
        embeddings: torch.Tensor,
        class_weights: torch.Tensor,
        labels: torch.Tensor,
        penalty: torch.Tensor | None = None,
    ) -> torch.Tensor:
        num_centers = getattr(self.centers, "num_centers", 1)
        grouped = class_weights.reshape(-1, num_centers, class_weights.shape[1])
        targets = grouped.index_select(0, labels)
        products = self.scale * (targets * embeddings.unsqueeze(1)).sum(dim=2)
        logits = self.centers.logits(products)[0].view(len(labels))
        return self.margin(logits, embeddings, targets) if self.margin else logits

    def mark(
        self, logits: torch.Tensor, labels: torch.Tensor, terms: torch.Tensor
    ) -> None:
        logits.scatter_(1, labels.unsqueeze(1), terms.to(logits).unsqueeze(1))

    def unmark(self, grad: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        index = labels.unsqueeze(1)
        of_terms = grad.gather(1, index).squeeze(1)
        grad.scatter_(1, index, 0)
        return of_terms

    def copies(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        index = labels.view(-1, 1, 1).expand(-1, logits.shape[1], 1)
        return logits.gather(2, index).squeeze(2)


@dataclass(frozen=True)
class ProxyAnchor(Kernel):
    """Proxy-Anchor: for each proxy, sums over embeddings, of its class and of others.

    Proxies are the anchors, so all is turned by 90 degrees. A term is the positive one,
    of the class's own embeddings, which the log-sum-exp leaves out:

        term = log(1 + sum over own of exp(scale (margin - cosine)))
        log-sum-exp = log(1 + sum over others of exp(scale (margin + cosine)))

    Positive terms of virtual proxies are constants: as labels are shifted, only their
    own snapshot has any.
    """

    name: ClassVar[str] = "proxy_anchor"
    anchors: ClassVar[str] = "class_weights"
    candidates: ClassVar[str] = "embeddings"
    sign_of_terms: ClassVar[int] = 1

    def terms(
        self,
        embeddings: torch.Tensor,
        class_weights: torch.Tensor,
        labels: torch.Tensor,
        penalty: torch.Tensor | None = None,
    ) -> torch.Tensor:
        cosine = (class_weights.index_select(0, labels) * embeddings).sum(dim=1)
        exponents = self.shift - self.scale * cosine
        exponents = exponents.to(torch.promote_types(exponents.dtype, torch.float32))
        if penalty is not None:
            exponents = exponents + penalty
        # A column of zeros is the 1 in the logarithm.
        shape = len(class_weights), len(labels) + 1
        positive = exponents.new_full(shape, -torch.inf)
        positive[:, -1] = 0
        index = labels.unsqueeze(0)
        return positive.scatter(0, index, exponents.unsqueeze(0)).logsumexp(dim=1)

    def mark(
        self, logits: torch.Tensor, labels: torch.Tensor, terms: torch.Tensor
    ) -> None:
        logits.scatter_(0, labels.unsqueeze(0), -torch.inf)

    def unmark(self, grad: torch.Tensor, labels: torch.Tensor) -> float:
        return 0.0  # they do not depend on these logits, whose exp is 0

    def logsumexp(self, marked: torch.Tensor) -> torch.Tensor:
        total = marked.logsumexp(dim=1)
        return torch.logaddexp(total, torch.zeros_like(total))

"""What a loss makes of inner products: the two kinds that can be had at O(N)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Union

import torch

from .centers import OneCenter
from .margin import Margin, Radial, Targets

Pair = tuple[torch.Tensor, torch.Tensor]  # of anchors and candidates, or the other way
Marked = tuple[torch.Tensor, Any]  # terms (A,), and what else `unmark` needs
Weight = Union[torch.Tensor, float]  # a float is that of each


@dataclass(frozen=True)
class Kernel(ABC):
    """Logits of *anchors* and *candidates*: scale times inner product, plus shift.

    An anchor is what has a log-sum-exp, candidates are what it is summed over. Beside
    it, an anchor has a *term* that depends on what is its own only.

    Attributes:
        is_turned: whether anchors are class weights, and candidates embeddings.
        scale: factor of the inner products, > 0.
        shift: what is added then.
        centers: what becomes of K centres a class.
        embedding_norm, class_norm: p of the norm by which vectors have unit length;
            None: as they are.
    """

    name: ClassVar[str]
    is_turned: ClassVar[bool] = False

    scale: float = 1.0
    shift: float = 0.0
    centers: OneCenter = OneCenter()
    embedding_norm: float | None = None
    class_norm: float | None = None

    def ordered(self, embeddings: torch.Tensor, class_weights: torch.Tensor) -> Pair:
        """Anchors and candidates."""
        if self.is_turned:
            return class_weights, embeddings
        return embeddings, class_weights

    @abstractmethod
    def mark(self, logits: torch.Tensor, labels: torch.Tensor, both: Pair) -> Marked:
        """Change logits (A, C) of a batch over itself where anchors meet their own."""

    @abstractmethod
    def unmark(
        self, grad: torch.Tensor, labels: torch.Tensor, marked: Marked, of_terms: Weight
    ) -> Radial:
        """From the gradient of marked logits that of logits, in place.

        Args:
            marked: what `mark` has returned.
            of_terms: (A,), the gradient of terms; a float is that of each.

        Returns:
            what else the gradients of anchors and of their own candidates have in
            them, or None.
        """

    def logsumexp(
        self, marked: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(A,) of marked logits (A, C)."""
        return torch.logsumexp(marked, dim=1, out=out)

    def copies(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        """Of logits (B, n, C) those (B, n) of old copies of each one's own class."""
        return None


@dataclass(frozen=True)
class RowSoftmax(Kernel):
    """A softmax over classes for each embedding, one row of logits each.

    Embeddings are the anchors; a term is a target logit, which stands in the sum, too.

    Attributes:
        offset: what is added to target logits.
        margin: changes them otherwise; None: there is none.
    """

    name: ClassVar[str] = "row_softmax"

    offset: float = 0.0
    margin: Margin | None = None

    def mark(self, logits: torch.Tensor, labels: torch.Tensor, both: Pair) -> Marked:
        index = labels.unsqueeze(1)
        terms, targets = logits.gather(1, index).squeeze(1), None
        if self.margin is not None:
            x = None if self.embedding_norm else both[0]
            w = None if self.class_norm else both[1].index_select(0, labels)
            targets = Targets.of(self.margin, self.scale, terms, x, w)
            terms = targets.logits
        elif self.offset:
            terms.add_(self.offset)
        else:
            return terms, None
        logits.scatter_(1, index, terms.unsqueeze(1))
        return terms, targets

    def unmark(
        self, grad: torch.Tensor, labels: torch.Tensor, marked: Marked, of_terms: Weight
    ) -> Radial:
        index, targets = labels.unsqueeze(1), marked[1]
        if targets is None and isinstance(of_terms, float):
            grad.scatter_(1, index, of_terms, reduce="add")
            return None, None
        whole = grad.gather(1, index).squeeze(1) + of_terms
        of_products = whole if targets is None else whole * targets.slope
        grad.scatter_(1, index, of_products.unsqueeze(1))
        return (None, None) if targets is None else targets.radial(whole)

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
    is_turned: ClassVar[bool] = True

    def mark(self, logits: torch.Tensor, labels: torch.Tensor, both: Pair) -> Marked:
        index = labels.unsqueeze(0)
        exponents = 2 * self.shift - logits.gather(0, index)
        logits.scatter_(0, index, -torch.inf)
        # A column of zeros is the 1 in the logarithm.
        positive = logits.new_full((len(logits), len(labels) + 1), -torch.inf)
        positive[:, -1] = 0
        positive.scatter_(0, index, exponents)
        return positive.logsumexp(dim=1), exponents.squeeze(0)

    def unmark(
        self, grad: torch.Tensor, labels: torch.Tensor, marked: Marked, of_terms: Weight
    ) -> Radial:
        terms, exponents = marked
        shares = (exponents - terms.index_select(0, labels)).exp_().neg_()
        if isinstance(of_terms, torch.Tensor):
            of_terms = of_terms.index_select(0, labels)
        grad.scatter_(0, labels.unsqueeze(0), shares.mul_(of_terms).unsqueeze(0))
        return None, None

    def logsumexp(
        self, marked: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        total = marked.logsumexp(dim=1)
        return torch.logaddexp(total, total.new_zeros(()), out=out)

"""How inner products with the K centres of each class become the class's logit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch


@dataclass(frozen=True)
class OneCenter:
    """K = 1: the product is the logit.

    Attributes:
        numbers_per_product: what a chunk needs at the most for each inner product.
    """

    numbers_per_product: ClassVar[int] = 2

    def logits(self, products: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Logits (R, C) of products (R, C K), and what `grad` needs.

        They may be the same tensor, or share memory: products are not used again.
        """
        return products, None

    def grad(self, grad: torch.Tensor, kept: Any) -> torch.Tensor:
        """Gradient of the products (R, C K) from that of the logits (R, C)."""
        return grad


@dataclass(frozen=True)
class MaxOfCenters(OneCenter):
    """The nearest centre's product (SubCenterArcFace)."""

    numbers_per_product: ClassVar[int] = 3
    num_centers: int

    def logits(self, products: torch.Tensor) -> tuple[torch.Tensor, Any]:
        nearest = products.view(len(products), -1, self.num_centers).max(dim=2)
        return nearest.values, nearest.indices

    def grad(self, grad: torch.Tensor, kept: Any) -> torch.Tensor:
        whole = grad.new_zeros((*grad.shape, self.num_centers))
        return whole.scatter_(2, kept.unsqueeze(2), grad.unsqueeze(2)).flatten(1)


@dataclass(frozen=True)
class SoftmaxOfCenters(OneCenter):
    """Products averaged by their own softmax (SoftTriple).

    The slope of the average is share (1 + product - average).

    Attributes:
        num_centers: K.
        factor: of the average.
    """

    numbers_per_product: ClassVar[int] = 5
    num_centers: int
    factor: float

    def logits(self, products: torch.Tensor) -> tuple[torch.Tensor, Any]:
        # Centers first: over a last dimension of a few a softmax is slow on a CPU.
        by_center = products.view(-1, self.num_centers).t().contiguous()
        shares = by_center.softmax(dim=0)
        average = (shares * by_center).sum(dim=0)
        slope = shares.addcmul_(shares, by_center.sub_(average)).mul_(self.factor)
        return average.mul_(self.factor).view(len(products), -1), slope

    def grad(self, grad: torch.Tensor, kept: Any) -> torch.Tensor:
        slope: torch.Tensor = kept
        return (slope * grad.reshape(-1)).t().reshape(len(grad), -1)

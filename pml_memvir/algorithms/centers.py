"""How inner products with the K centres of each class become the class's logit."""

from __future__ import annotations

from typing import Any

import torch


class OneCenter:
    """K = 1: the product is the logit.

    Attributes:
        numbers_per_product: what a chunk needs at the most for each inner product.
    """

    numbers_per_product = 2

    def logits(self, products: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Logits (R, C) of products (R, C K), and what `grad` needs.

        With K = 1 they may be the same tensor.
        """
        return products, None

    def grad(self, grad: torch.Tensor, kept: Any) -> torch.Tensor:
        """Gradient of the products (R, C K) from that of the logits (R, C)."""
        return grad


class MaxOfCenters(OneCenter):
    """The nearest centre's product (SubCenterArcFace)."""

    numbers_per_product = 3

    def __init__(self, num_centers: int) -> None:
        self.num_centers = num_centers

    def logits(self, products: torch.Tensor) -> tuple[torch.Tensor, Any]:
        nearest = products.view(len(products), -1, self.num_centers).max(dim=2)
        return nearest.values, nearest.indices

    def grad(self, grad: torch.Tensor, kept: Any) -> torch.Tensor:
        shape = (*grad.shape, self.num_centers)
        return (
            grad.new_zeros(shape)
            .scatter_(2, kept.unsqueeze(2), grad.unsqueeze(2))
            .flatten(1)
        )


class SoftmaxOfCenters(OneCenter):
    """Products averaged by their own softmax, then scaled (SoftTriple).

    The slope of the average is share (1 + gamma (product - average)).

    Args:
        num_centers: K.
        gamma: scale within the inner softmax.
        scale: scale of the average.
    """

    numbers_per_product = 6

    def __init__(self, num_centers: int, gamma: float, scale: float) -> None:
        self.num_centers = num_centers
        self.gamma = gamma
        self.scale = scale

    def logits(self, products: torch.Tensor) -> tuple[torch.Tensor, Any]:
        products = products.view(len(products), -1, self.num_centers)
        shares = (self.gamma * products).softmax(dim=2)
        average = (shares * products).sum(dim=2)
        with torch.no_grad():
            slope = products - average.unsqueeze(2)
            slope.mul_(self.gamma).add_(1).mul_(shares).mul_(self.scale)
        return self.scale * average, slope

    def grad(self, grad: torch.Tensor, kept: Any) -> torch.Tensor:
        slope: torch.Tensor = kept
        return (slope * grad.unsqueeze(2)).flatten(1)

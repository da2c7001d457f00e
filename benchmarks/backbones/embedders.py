"""From a backbone's output to an embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..networks import UnitEmbedder

Linear = nn.Linear
Identity = nn.Identity

__all__ = ["MLP", "Identity", "Linear", "UnitEmbedder"]


class MLP(nn.Module):
    """Linear layers with ReLUs between: (B, in_features) to (B, layer_sizes[-1]).

    Args:
        layer_sizes: output sizes of the layers, the embedding's last. (In the
            powerful-benchmarker's MLP the input's size comes first.)
        final_relu: whether a ReLU comes last, too.
        normalize: whether outputs get unit length.

    Raises:
        ValueError: there is no layer.
    """

    def __init__(
        self,
        in_features: int,
        layer_sizes: Sequence[int],
        final_relu: bool = False,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        if not layer_sizes:
            raise ValueError("layer_sizes must have at least one size, got none")
        self.in_features = in_features
        self.out_features = layer_sizes[-1]
        self.normalize = normalize
        layers: list[nn.Module] = []
        for inputs, outputs in zip([in_features, *layer_sizes], layer_sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        self.net = nn.Sequential(*(layers if final_relu else layers[:-1]))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        output = self.net(features)
        return nn.functional.normalize(output) if self.normalize else output

"""Layers of networks: pooling, embedders, and a backbone for letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .. import networks
from ..networks import UnitEmbedder
from .preprocessing import GLYPHS
from .weights import load_checkpoint

Linear = nn.Linear
Identity = nn.Identity

__all__ = ["MLP", "GlobalPooling", "Identity", "Linear", "SmallConvNet", "UnitEmbedder"]


class GlobalPooling(nn.Module):
    """Pooling over all positions, (B, C, H, W) to (B, C).

    Args:
        kind: "avg", "max", or "avg+max" for their sum, which the published code of
            Proxy-Anchor and of MemVir uses.

    Raises:
        ValueError: the kind is unknown.
    """

    KINDS = ("avg", "max", "avg+max")

    def __init__(self, kind: str = "avg") -> None:
        super().__init__()
        if kind not in self.KINDS:
            raise ValueError(f"pooling must be one of {self.KINDS}, got {kind!r}")
        self.kind = kind

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        # Unlike the adaptive layers, both reductions are deterministic on a GPU too.
        if self.kind == "avg":
            return features.mean((2, 3))
        if self.kind == "max":
            return features.amax((2, 3))
        return features.mean((2, 3)) + features.amax((2, 3))

    def extra_repr(self) -> str:
        return repr(self.kind)


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


def SmallConvNet(width: int = 128, checkpoint: str | None = None) -> nn.Module:
    """Three convolutions, for Glyphs: (B, 1, H, W) to (B, width).

    Args:
        width: number of features, at least 4.
        checkpoint: a file of weights; default random weights.

    Raises:
        ValueError: the width is too small, or the checkpoint does not fit.
    """
    if width < 4:
        raise ValueError(f"width must be at least 4, got {width}")
    model: Any = networks.SmallConvNet(width)
    model.output_size = width
    model.preprocessing = GLYPHS
    load_checkpoint(model, checkpoint)
    return model

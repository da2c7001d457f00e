"""From a feature map to a vector."""

from __future__ import annotations

import torch
from torch import nn

KINDS = ("avg", "max", "avg+max")


class GlobalPooling(nn.Module):
    """Pooling over all positions, (B, C, H, W) to (B, C).

    Args:
        kind: "avg", "max", or "avg+max" for their sum, which the published code of
            Proxy-Anchor and of MemVir uses.

    Raises:
        ValueError: the kind is unknown.
    """

    def __init__(self, kind: str = "avg") -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"pooling must be one of {KINDS}, got {kind!r}")
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

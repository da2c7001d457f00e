"""Networks small enough to be trained from scratch on a CPU."""

from __future__ import annotations

import torch
from torch import nn


class SmallConvNet(nn.Sequential):
    """Three convolutions and global average pooling: (B, 1, H, W) to (B, width)."""

    def __init__(self, width: int = 128) -> None:
        super().__init__(
            *self._block(1, width // 4, stride=2),
            *self._block(width // 4, width // 2, stride=2),
            *self._block(width // 2, width, stride=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    @staticmethod
    def _block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]


class UnitEmbedder(nn.Linear):
    """A linear layer whose output has unit length."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(super().forward(input))

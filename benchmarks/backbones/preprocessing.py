"""What an image becomes before a backbone sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Preprocessing:
    """From a PIL image to the float32 tensor (channels, H, W) that a backbone expects.

    Grey levels are brought to 0..1, multiplied by `scale`, `mean` is subtracted, and
    the result is divided by `std`. Called, it does this to one image; it can be
    pickled, so workers of a loader may be spawned.

    Args:
        mean: one number a channel, in the order and on the scale of the output.
        std: likewise.
        scale: 1 for grey levels of 0 to 1, 255 for those of 0 to 255.
        bgr: whether blue comes first.
        channels: 3, or 1 for grey; images of other modes are converted.

    Raises:
        ValueError: the numbers do not fit together.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1.0
    bgr: bool = False
    channels: int = 3

    def __post_init__(self) -> None:
        if self.channels not in MODES:
            raise ValueError(f"channels must be 1 or 3, got {self.channels}")
        for name in ("mean", "std"):
            numbers = tuple(float(number) for number in getattr(self, name))
            if len(numbers) != self.channels:
                raise ValueError(
                    f"{name} must have {self.channels} numbers, one a channel, "
                    f"got {len(numbers)}"
                )
            object.__setattr__(self, name, numbers)  # a list of a config, say
        if 0 in self.std or self.scale == 0:
            raise ValueError(
                f"std and scale must not be 0, got std={self.std}, scale={self.scale}"
            )
        if self.bgr and self.channels != 3:
            raise ValueError("bgr=True needs channels=3, got channels=1")

    def transforms(self) -> list[Callable[[Image.Image], torch.Tensor]]:
        """What to put behind transforms from PIL images to PIL images."""
        return [self]

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """The image as a tensor (channels, H, W).

        Raises:
            TypeError: it is not a PIL image.
        """
        if not isinstance(image, Image.Image):
            kind = f"{type(image).__module__}.{type(image).__qualname__}"
            raise TypeError(
                f"Preprocessing expects a PIL image, got {kind}: leave out the "
                "transforms that make tensors"
            )
        levels = np.array(image.convert(MODES[self.channels]), dtype=np.float32)
        tensor = torch.from_numpy(levels).reshape(*levels.shape[:2], self.channels)
        tensor = tensor.permute(2, 0, 1).contiguous()
        if self.bgr:
            tensor = tensor.flip(0)
        # Divided, not multiplied by the inverse: the same bits as torchvision's.
        tensor.div_(255 / self.scale)
        mean, std = (torch.tensor(of).view(-1, 1, 1) for of in (self.mean, self.std))
        return tensor.sub_(mean).div_(std)


IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Torchvision's weights."""

CAFFE = Preprocessing(mean=(104, 117, 128), std=(1, 1, 1), scale=255, bgr=True)
"""Weights that were ported from Caffe."""

GLYPHS = Preprocessing(mean=(1,), std=(-1,), channels=1)
"""Ink 1 and paper 0."""

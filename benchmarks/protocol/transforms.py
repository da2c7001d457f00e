"""Transforms of a config, and after them what the trunk expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..config.building import build


class Compose:
    """Transforms in a row; torchvision's own is not needed for this."""

    def __init__(self, transforms: list[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


def compose(spec: dict[str, Any], preprocessing: Any, key: str) -> Compose:
    """`{Resize: {size: 256}, ...}` in its order, then to the trunk's kind of tensor."""
    listed = [
        build("transform", {name: arguments}, f"transforms.{key}")
        for name, arguments in spec.items()
    ]
    return Compose([*listed, *preprocessing.transforms()])

"""Any images, in a folder a class."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import DatasetError
from .images import ImageFiles, some

DEPTH = 3  # archives wrap a data set in so many folders at most


class ImageFolders(ImageFiles):
    """Your own data set: root/train/<class>/* and root/test/<class>/*.

    Classes are told apart by the names of their folders. Files that are no images by
    their names, and hidden ones, are left out. `class_names` are the folders' names, by
    label.

    Args:
        allow_shared_classes: accept classes that are in both splits. Retrieval is
            otherwise evaluated on classes that were not seen in training.

    The other arguments, and items: see ImageFiles.
    """

    NAME = "folders"
    SPLITS = ("train", "test")

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        transform: Callable[[Image.Image], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        *,
        allow_shared_classes: bool = False,
        **checks: bool,
    ) -> None:
        self.allow_shared_classes = allow_shared_classes
        super().__init__(root, split, transform, target_transform, **checks)

    def generate_split(self) -> None:
        names = {part: class_folders(self.root / part) for part in self.SPLITS}
        shared = [name for name in names["test"] if name in set(names["train"])]
        if shared and not self.allow_shared_classes:
            raise DatasetError(
                f"{self.root}: {len(shared):,} classes are in both train and test, "
                f"which should have different ones: {some(shared)}",
                "Rename or move their folders, or: allow_shared_classes=True",
            )
        self.class_names = list(dict.fromkeys(names["train"] + names["test"]))
        label = {name: index for index, name in enumerate(self.class_names)}
        self.paths, self.labels = [], []
        for name in names[self.split]:
            images = images_in(self.root / self.split / name)
            self.paths += images
            self.labels += [label[name]] * len(images)

    def remedy(self) -> str:
        return (
            f"Expected images as {self.root}/train/<class>/* and "
            f"{self.root}/test/<class>/*"
        )

    @classmethod
    def find(cls, folder: Path, annotations: Path | None) -> Path:
        return folder_with(folder, "train", "test")


def class_folders(folder: Path) -> list[str]:
    """The names of a folder's folders, sorted, but for hidden ones.

    Raises:
        DatasetError: there are none.
    """
    names = []
    if folder.is_dir():
        names = [path.name for path in folder.iterdir() if path.is_dir()]
        names = sorted(name for name in names if not name.startswith("."))
    if not names:
        raise DatasetError(
            f"{folder} has no folders of classes",
            f"Expected images as {folder}/<class>/*",
        )
    return names


def images_in(folder: Path) -> list[str]:
    """The paths of a folder's images, by their names, sorted.

    Raises:
        DatasetError: there are none.
    """
    suffixes = Image.registered_extensions()
    names = [
        name
        for name in sorted(os.listdir(folder))
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
    ]
    if not names:
        raise DatasetError(f"{folder} has no images", "Add some, or delete the folder")
    return [os.path.join(folder, name) for name in names]


def folder_with(folder: Path, *names: str) -> Path:
    """The outermost folder in `folder`, or itself, that has all of these.

    Raises:
        DatasetError: there is none, not deeper than DEPTH.
    """
    for depth in range(DEPTH + 1):
        for path in sorted(folder.glob("/".join("*" * depth))) if depth else [folder]:
            if path.is_dir() and all((path / name).exists() for name in names):
                return path
    raise DatasetError(f"no folder has {' and '.join(names)}")

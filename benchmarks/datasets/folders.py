"""Any images, in a folder a class."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .decoding import suffixes
from .errors import DatasetError
from .images import ImageFiles, some

DEPTH = 3  # archives wrap a data set in so many folders at most


class ImageFolders(ImageFiles):
    """Your own data set: root/train/<class>/* and root/test/<class>/*.

    Or, with `halves`, root/<class>/*: the first half of the classes, by name, is for
    training and the second for testing, as is usual for CUB200 and CARS196.

    Classes are told apart by the names of their folders, in whichever Unicode form;
    images in folders within them are theirs, too. Hidden files are left out, and so are
    files that are no images by their names, with a warning that names them.
    `class_names` are the folders' names, by label.

    Args:
        allow_shared_classes: accept classes that are in both splits. Retrieval is
            otherwise evaluated on classes that were not seen in training.

    The other arguments, and items: see ImageFiles.
    """

    NAME = "folders"
    SPLITS: tuple[str, ...] = ("train", "test")

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        transform: Callable[[Image.Image], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        *,
        allow_shared_classes: bool = False,
        halves: bool = False,
        **checks: bool,
    ) -> None:
        self.allow_shared_classes, self.halves = allow_shared_classes, halves
        super().__init__(root, split, transform, target_transform, **checks)

    def generate_split(self) -> None:
        parts = self._halves() if self.halves else self._parts()
        names = {part: list(dict.fromkeys(map(nfc, parts[part]))) for part in parts}
        trained = set(names["train"])
        shared = [name for name in names["test"] if name in trained]
        if shared and not self.allow_shared_classes:
            raise DatasetError(
                f"{self.root}: {len(shared):,} classes are in both train and test, "
                f"which should have different ones: {some(shared)}",
                "Rename or move their folders, or: allow_shared_classes=True",
            )
        self.class_names = list(dict.fromkeys(names["train"] + names["test"]))
        root = self.root if self.halves else self.root / self.split
        self._take(root, parts[self.split])

    def _parts(self) -> dict[str, list[str]]:
        """Folders of classes, by split."""
        try:
            return {part: class_folders(self.root / part) for part in self.SPLITS}
        except DatasetError as error:
            raise DatasetError(error.problem, self.remedy()) from error

    def _halves(self) -> dict[str, list[str]]:
        folders = class_folders(self.root)
        names = list(dict.fromkeys(map(nfc, folders)))
        if len(names) < 2:
            raise DatasetError(
                f"{self.root} has one class, {names[0]}, and halves need two",
                "Add another",
            )
        first = set(names[: len(names) // 2])
        parts: dict[str, list[str]] = {"train": [], "test": []}
        for folder in folders:
            parts["train" if nfc(folder) in first else "test"].append(folder)
        return parts

    def _take(self, root: Path, folders: Sequence[str]) -> None:
        """The images of these folders, and labels by `class_names`."""
        label = {name: index for index, name in enumerate(self.class_names)}
        self.paths, self.labels = [], []
        left_out: list[str] = []
        for name in folders:
            images, others = images_in(root / name)
            self.paths += images
            self.labels += [label[nfc(name)]] * len(images)
            left_out += others
        if left_out:
            warnings.warn(
                f"{root}: {len(left_out):,} files are left out, as they are no images "
                f"by their names: {some(left_out)}",
                stacklevel=2,
            )

    def remedy(self) -> str:
        return (
            f"Expected images as {self.root}/train/<class>/* and "
            f"{self.root}/test/<class>/*, of different classes; or as "
            f"{self.root}/<class>/* and halves=True"
        )

    @classmethod
    def find(cls, folder: Path, annotations: Path | None) -> Path:
        return folder_with(folder, "train", "test")


class ImageFolder(ImageFolders):
    """One set of images, root/<class>/*, to evaluate on."""

    SPLITS: tuple[str, ...] = ("test",)

    def generate_split(self) -> None:
        folders = class_folders(self.root)
        if {*folders} <= {"train", "val", "test"}:
            raise DatasetError(
                f"{self.root} has {' and '.join(folders)}, and no folders of classes",
                f"Name one of them, such as {self.root / folders[-1]}",
            )
        self.class_names = list(dict.fromkeys(map(nfc, folders)))
        self._take(self.root, folders)

    def remedy(self) -> str:
        return f"Expected images as {self.root}/<class>/*"


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


def nfc(name: str) -> str:
    """A name in one form: é as a letter, not as e and an accent."""
    return unicodedata.normalize("NFC", name)


def images_in(folder: Path) -> tuple[list[str], list[str]]:
    """Paths of all images in and below a folder, by their names, and of other files.

    Hidden ones are in neither. Both are sorted, those of the folder itself first.

    Raises:
        DatasetError: there are no images.
    """
    known = suffixes()
    images: list[str] = []
    others: list[str] = []
    for path, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            is_image = os.path.splitext(name)[1].lower() in known
            (images if is_image else others).append(os.path.join(path, name))
    if not images:
        raise DatasetError(
            f"{folder} has no images"
            + (f", by their names, but {some(others)}" if others else ""),
            "Add some, or delete the folder",
        )
    return images, others


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

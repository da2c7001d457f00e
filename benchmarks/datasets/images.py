"""What the data sets of image files share: checks, RGB, clear errors."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pytorch_metric_learning.datasets.base_dataset import BaseDataset

from .decoding import read_image
from .errors import DatasetError

KEPT_BYTES = 4 << 30
NAMED = 3  # of many files that are wrong, so many are named


class ImageFiles(BaseDataset):
    """PML's data set of files, checked when it is constructed, with RGB images.

    A subclass sets NAME, SPLITS and PUBLISHED, and defines `generate_split`, which sets
    `paths` and `labels`; it may come from one of PML's data sets.

    Args:
        root: folder of the prepared data set.
        split: one of SPLITS.
        transform: from a PIL image, RGB; default none.
        target_transform: from a label; default none.
        check_counts: refuse other numbers of classes and images than the published.
        check_files: refuse lists that name a file that does not exist.
        in_memory: decode an image once a process, and keep it: for images that are
            small, or few. All data sets with this share what they keep, KEPT_BYTES at
            most; images that do not fit are decoded each time.

    Items are (image, label). Training labels are 0 to C-1, test labels go on from C.

    Raises:
        ValueError: the split is unknown.
        DatasetError: the root or a list is missing or damaged, or a check fails; or,
            from an item, its image cannot be decoded.
    """

    NAME = ""  # on the command line
    SPLITS: tuple[str, ...] = ("train", "test", "train+test")
    PUBLISHED: dict[str, tuple[int, int]] = {}  # split -> classes, images
    NEEDS = "--archive FILE"  # what `data prepare` is told

    paths: list[str]
    labels: list[int]

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        transform: Callable[[Image.Image], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        *,
        check_counts: bool = True,
        check_files: bool = True,
        in_memory: bool = False,
    ) -> None:
        if split not in self.SPLITS:
            raise ValueError(f"split must be one of {self.SPLITS}, got {split!r}")
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise DatasetError(f"{self.root} is not a folder", self.remedy())
        self.in_memory = in_memory
        super().__init__(self.root, split, transform, target_transform)
        if check_counts:
            self._check_counts()
        if check_files:
            self._check_files()

    def get_available_splits(self) -> list[str]:
        return list(self.SPLITS)

    def download_and_remove(self) -> None:
        """PML's way extracts without checks, into its place: `data prepare` is ours."""
        raise NotImplementedError(self.remedy())

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, label = self.paths[index], self.labels[index]
        # A copy, as a transform may draw on what it gets.
        image = _KEPT.read(path).copy() if self.in_memory else read_image(path)[0]
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    @classmethod
    def published(cls, split: str) -> tuple[int, int] | None:
        """Classes and images of a split; those of "a+b" are of both together."""
        parts = [cls.PUBLISHED.get(part) for part in split.split("+")]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return sum(classes for classes, _ in known), sum(images for _, images in known)

    @classmethod
    def find(cls, folder: Path, annotations: Path | None) -> Path:
        """Where in `folder`, just extracted, the root is; it may be rearranged first.

        Raises:
            DatasetError: it is nowhere.
        """
        raise NotImplementedError

    def remedy(self) -> str:
        return (
            "To prepare the data set from its archives: python -m benchmarks data "
            f"prepare {self.NAME} --root {self.root} {self.NEEDS}"
        )

    def list_file(self, *names: str) -> Path:
        """The first of these files, of `root`, that exists."""
        for name in names:
            if (self.root / name).is_file():
                return self.root / name
        raise DatasetError(
            f"{self.root} has no {' or '.join(names)}: it is not a prepared "
            f"{type(self).__name__}",
            self.remedy(),
        )

    def missing_files(self) -> list[str]:
        """Of `paths`, those that do not exist. A folder is listed once: fast."""
        names: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            names[os.path.dirname(path)].append(path)
        missing = []
        for folder, paths in names.items():
            there = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            missing += [path for path in paths if os.path.basename(path) not in there]
        return missing

    def _check_files(self) -> None:
        if missing := self.missing_files():
            raise DatasetError(
                f"{type(self).__name__}, {self.split}: {len(missing):,} of "
                f"{len(self):,} images do not exist: {some(missing)}",
                self.remedy(),
            )

    def _check_counts(self) -> None:
        expected, found = self.published(self.split), (len(set(self.labels)), len(self))
        if expected is not None and found != expected:
            raise DatasetError(
                f"{type(self).__name__}, {self.split}: expected {counts(*expected)}, "
                f"found {counts(*found)} in {self.root}: the data set is incomplete or "
                "another one",
                f"{self.remedy()}\nTo use it as it is: check_counts=False",
            )


def counts(classes: int, images: int) -> str:
    return f"{images:,} images of {classes:,} classes"


def some(names: Sequence[Any]) -> str:
    more = len(names) - NAMED
    return ", ".join(map(str, names[:NAMED])) + (f", and {more:,} more" * (more > 0))


class _Kept:
    """Images as `read_image` has them, read once a process, as far as they fit."""

    def __init__(self) -> None:
        self.images: dict[str, Image.Image] = {}
        self.nbytes = 0

    def read(self, path: str) -> Image.Image:
        image = self.images.get(path)
        if image is None:
            image = read_image(path)[0]
            size = 4 * image.width * image.height  # as Pillow keeps RGB
            if self.nbytes + size <= KEPT_BYTES:
                self.images[path] = image
                self.nbytes += size
        return image


_KEPT = _Kept()

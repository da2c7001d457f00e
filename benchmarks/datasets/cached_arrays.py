"""Arrays that are made once and kept in an .npz file, with a checksum."""

from __future__ import annotations

import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from ..files import replacing
from .errors import DatasetError

LOGGER = logging.getLogger("benchmarks")
Arrays = dict[str, np.ndarray]


def load_or_make(
    path: Path, names: Sequence[str], key: str, make: Callable[[], Arrays]
) -> Arrays:
    """The arrays of `path`, made and saved first where there is no sound file.

    Args:
        path: of the .npz file.
        names: of the arrays, in the order of the checksum.
        key: what the arrays depend on, such as format and sources; part of the
            checksum, so a file of another key is made again.
        make: returns the arrays.
    """
    if path.exists():
        try:
            return load(path, names, key)
        except Exception as error:  # a damaged archive raises almost anything
            LOGGER.warning("%s is rendered again: %s", path, error)
    arrays = make()
    save(path, names, key, arrays)
    return arrays


def digest(names: Sequence[str], key: str, arrays: Arrays) -> str:
    """SHA-256 of the key and of names, types, shapes and contents."""
    total = hashlib.sha256(key.encode())
    for name in names:
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def load(path: Path, names: Sequence[str], key: str) -> Arrays:
    """Raises ValueError if the checksum does not match; else what NumPy raises."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in names}
        expected = str(file["digest"])
    if expected != digest(names, key, arrays):
        raise ValueError("its checksum does not match, or other sources made it")
    return arrays


def save(path: Path, names: Sequence[str], key: str, arrays: Arrays) -> None:
    """Under a temporary name first: a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Any] = {
        "digest": np.array(digest(names, key, arrays)),
        **arrays,
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **contents)


class Rendered(Dataset, ABC):
    """Images of a file of such arrays, training classes first: Emoji, Glyphs, Kanji.

    Args:
        root: folder for the rendered file.
        split: "train", "test" or "train+test".
        transform: from a PIL image; default none.
        target_transform: from a label; default none.
        num_train_classes: use so many training classes; default all. Test classes stay
            the same.

    Items are (image, label). Of all C training classes labels are 0 to C-1, test labels
    go on from C; those of a selection keep theirs. `class_names` has a str for each
    label.

    Raises:
        DatasetError: the split is unknown, or there are not so many training classes.
    """

    SPLITS = ("train", "test", "train+test")
    PUBLISHED: dict[str, tuple[int, int]] = {}  # classes and images of a split
    ROOT, SPLIT = "", ""  # by default

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str | None = None,
        transform: Callable[[Image.Image], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        *,
        num_train_classes: int | None = None,
    ) -> None:
        self.root, self.split = Path(root or self.ROOT), split or self.SPLIT
        if self.split not in self.SPLITS:
            raise DatasetError(f"split must be one of {self.SPLITS}, got {split!r}")
        self.transform, self.target_transform = transform, target_transform
        arrays = self.arrays()
        labels, in_all = arrays["labels"], int(arrays["num_train_classes"])
        used = in_all if num_train_classes is None else num_train_classes
        if not isinstance(used, int) or not 1 <= used <= in_all:
            raise DatasetError(
                f"num_train_classes must be an int, 1 to {in_all}, got {used!r}"
            )
        self.num_train_classes = used
        chosen = np.isin(labels, self.chosen(used, in_all))
        parts = {"train": chosen, "test": labels >= in_all}
        keep = np.any([parts[part] for part in self.split.split("+")], axis=0)
        self.images, self.labels = arrays["images"][keep], labels[keep].tolist()
        self.class_names = arrays["class_names"].tolist()
        self.describe(arrays, keep)

    @abstractmethod
    def arrays(self) -> Arrays:
        """Those of the file, made where there is no sound one."""

    def chosen(self, used: int, in_all: int) -> np.ndarray:
        """The training classes to use."""
        return np.arange(used)

    def describe(self, arrays: Arrays, keep: np.ndarray) -> None:
        """Set what else is known of classes and, as far as they are kept, of items."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = Image.fromarray(self.images[index]), self.labels[index]
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )


class Fetched(Rendered):
    """Of packages of npm.

    Args:
        archives: .tgz files of them, or folders of such, for a machine without a
            network; default: fetched where needed.
        *args, **kwargs: see Rendered.

    Raises:
        DatasetError: they cannot be had, or see there.
    """

    def __init__(
        self, *args: Any, archives: Sequence[Path] | None = None, **kwargs: Any
    ) -> None:
        self.archives = archives
        super().__init__(*args, **kwargs)

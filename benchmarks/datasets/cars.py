"""CARS196: cars by make, model and year."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import numpy as np
from pytorch_metric_learning import datasets as pml
from scipy.io import loadmat

from .errors import DatasetError
from .folders import class_folders, folder_with, images_in
from .images import ImageFiles, some
from .lists import read_rows

NUM_CLASSES = 196
NUM_TRAIN_CLASSES = 98


class Cars196(ImageFiles, pml.Cars196):
    """Cars of 196 models: the first 98 for training, the others for testing.

    In `root`, one of:
    - names.csv, anno_train.csv, anno_test.csv and car_data/car_data/, as in the archive
      that PML downloads;
    - train/<class>/* and test/<class>/*, folders named by the classes' numbers, 1 to 98
      and 99 to 196: MemVir's. `data prepare` makes it of the original archive, car_ims,
      and its annotations.

    Arguments and items: see ImageFiles.
    """

    NAME = "cars196"
    PUBLISHED = {"train": (98, 8_054), "test": (98, 8_131)}
    NEEDS = "--archive car_ims.tgz --annotations cars_annos.mat, or --download"
    ARCHIVE = "stanford-car-dataset-by-classes-folder.zip"

    def generate_split(self) -> None:
        if (self.root / "names.csv").is_file():
            self._check_lists()
            super().generate_split()
            self.labels = [label - 1 for label in self.labels]
        elif (self.root / "train").is_dir() and (self.root / "test").is_dir():
            self.paths, self.labels = [], []
            for split in self.split.split("+"):
                self._add_folders(split)
        else:
            raise DatasetError(
                f"{self.root} has neither names.csv nor train/ and test/: it is not a "
                "prepared Cars196",
                self.remedy(),
            )

    def _check_lists(self) -> None:
        names = read_rows(self.root / "names.csv", columns=1, separator="\n")
        for split in ("train", "test"):
            path = self.list_file(f"anno_{split}.csv")
            rows = read_rows(path, integers=[-1], files=[0], separator=",")
            for number, row in enumerate(rows, start=1):
                check_class(row[-1], f"{path}, line {number}", len(names))

    def _add_folders(self, split: str) -> None:
        folder = self.root / split
        names = class_folders(folder)
        for name in names:
            number = check_class(name, f"The folder {folder / name}", NUM_CLASSES)
            if (number <= NUM_TRAIN_CLASSES) != (split == "train"):
                raise DatasetError(
                    f"{folder / name}: classes 1 to {NUM_TRAIN_CLASSES} are for "
                    "training, the others for testing",
                    "Move the folder to where it belongs",
                )
        for name in sorted(names, key=int):
            images, _ = images_in(folder / name)
            self.paths += images
            self.labels += [int(name) - 1] * len(images)

    @classmethod
    def find(cls, folder: Path, annotations: Path | None) -> Path:
        for names in (["names.csv"], ["train", "test"]):
            try:
                return folder_with(folder, *names)
            except DatasetError:
                pass
        parent = folder_with(folder, "car_ims")
        if annotations is None and (parent / "cars_annos.mat").is_file():
            annotations = parent / "cars_annos.mat"
        if annotations is None:
            raise DatasetError(
                "the classes of the images in car_ims/ are in a file of their own",
                "Name it, too: --annotations cars_annos.mat",
            )
        arranged = folder / "by_class"
        arrange(parent / "car_ims", read_annotations(annotations), arranged)
        return arranged


def check_class(text: str, where: str, num_classes: int) -> int:
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= num_classes:
        return int(text)
    raise DatasetError(
        f"{where}: expected a class from 1 to {num_classes}, found {text!r}"
    )


def arrange(images: Path, class_of: dict[str, int], target: Path) -> None:
    """Move a folder's images to train/<class>/ and test/<class>/ of a new folder.

    Raises:
        DatasetError: images of `class_of` are missing.
    """
    missing = sorted(set(class_of) - set(os.listdir(images)))
    if missing:
        raise DatasetError(
            f"{len(missing):,} of the {len(class_of):,} annotated images are not in "
            f"car_ims/: {some(missing)}"
        )
    for name, number in class_of.items():
        split = "train" if number <= NUM_TRAIN_CLASSES else "test"
        folder = target / split / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        (images / name).rename(folder / name)


def read_annotations(path: Path) -> dict[str, int]:
    """The classes (1 to 196) of all images, by the names of their files.

    Args:
        path: cars_annos.mat, or a text file with lines car_ims/000001.jpg,<class>,...

    Raises:
        DatasetError: it is missing or damaged.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is not a file", "Name the annotations of car_ims")
    if path.suffix.lower() == ".mat":
        pairs = _read_mat(path)
    else:
        rows = read_rows(path, integers=[1], files=[0], separator=",")
        pairs = [(row[0], row[1]) for row in rows]
    class_of: dict[str, int] = {}
    for number, (name, text) in enumerate(pairs, start=1):
        where = f"{path}, image {number}"
        name = PurePosixPath(name).name
        if not name or name in class_of:
            raise DatasetError(f"{where}: {name!r} is not the name of another image")
        class_of[name] = check_class(text, where, NUM_CLASSES)
    return class_of


def _read_mat(path: Path) -> list[tuple[str, str]]:
    """Names and classes of the struct array `annotations`."""
    try:
        # Each field is an array of one element, which `simplify_cells` undoes.
        content = loadmat(path, simplify_cells=True, variable_names=["annotations"])
        records = np.atleast_1d(content["annotations"])
        return [(str(x["relative_im_path"]), f"{x['class']:g}") for x in records]
    except Exception as error:  # a damaged file raises almost anything
        raise DatasetError(
            f"{path} cannot be read: expected a .mat file with a struct array "
            f"`annotations` of relative_im_path and class: {error!r}",
            "Name the cars_annos.mat that belongs to car_ims.tgz",
        ) from error

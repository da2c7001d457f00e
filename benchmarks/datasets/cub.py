"""CUB-200-2011: birds."""

from __future__ import annotations

from pathlib import Path

from pytorch_metric_learning import datasets as pml

from .errors import DatasetError
from .folders import folder_with
from .images import ImageFiles
from .lists import read_rows

FOLDER = "CUB_200_2011"


class CUB200(ImageFiles, pml.CUB):
    """Birds of 200 species: the first 100 for training, the others for testing.

    In `root`: CUB_200_2011/, as in its archive. Arguments and items: see ImageFiles.
    """

    NAME = "cub200"
    PUBLISHED = {"train": (100, 5_864), "test": (100, 5_924)}
    NEEDS = "--archive CUB_200_2011.tgz, or --download"
    ARCHIVE = "CUB_200_2011.tgz"

    def generate_split(self) -> None:
        images = self.list_file(f"{FOLDER}/images.txt")
        classes = self.list_file(f"{FOLDER}/image_class_labels.txt")
        # PML leaves out, without a word, lines of one list that the other has not.
        rows = read_rows(images, columns=2, integers=[0], files=[1])
        of_classes = read_rows(classes, columns=2, integers=[0, 1])
        if [row[0] for row in rows] != [row[0] for row in of_classes]:
            raise DatasetError(
                f"{images} has {len(rows):,} lines and {classes} {len(of_classes):,}, "
                "which do not list the same images in the same order",
                self.remedy(),
            )
        super().generate_split()
        self.labels = [label - 1 for label in self.labels]

    @classmethod
    def find(cls, folder: Path, annotations: Path | None) -> Path:
        return folder_with(folder, f"{FOLDER}/images.txt")

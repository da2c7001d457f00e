"""Stanford Online Products: things for sale."""

from __future__ import annotations

from pathlib import Path

from pytorch_metric_learning import datasets as pml

from .folders import folder_with
from .images import ImageFiles
from .lists import read_rows

FOLDER = "Stanford_Online_Products"


class StanfordOnlineProducts(ImageFiles, pml.StanfordOnlineProducts):
    """Products of an auction site, a few images each.

    In `root`: Stanford_Online_Products/, as in its archive. Arguments and items: see
    ImageFiles.
    """

    NAME = "sop"
    PUBLISHED = {"train": (11_318, 59_551), "test": (11_316, 60_502)}
    NEEDS = "--archive Stanford_Online_Products.zip, or --download"
    ARCHIVE = "Stanford_Online_Products.zip"

    def generate_split(self) -> None:
        for split in self.split.split("+"):
            path = self.list_file(f"{FOLDER}/Ebay_{split}.txt")
            read_rows(path, columns=4, integers=[0, 1, 2], files=[3], header=1)
        super().generate_split()
        self.labels = [label - 1 for label in self.labels]

    @classmethod
    def find(cls, folder: Path, annotations: Path | None) -> Path:
        return folder_with(folder, f"{FOLDER}/Ebay_train.txt")

"""In-Shop Clothes Retrieval, of DeepFashion."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import DatasetError
from .folders import folder_with
from .images import ImageFiles
from .lists import read_rows

LIST = "list_eval_partition.txt"


class InShop(ImageFiles):
    """Clothes of a shop, by item: each query is searched for in the gallery.

    In `root`: list_eval_partition.txt or Eval/list_eval_partition.txt, and img/ or
    Img/img/. `class_names` are the items' ids, by label. Query and gallery have the
    same classes. Arguments and items: see ImageFiles.
    """

    NAME = "inshop"
    SPLITS = ("train", "query", "gallery")
    PUBLISHED = {
        "train": (3_997, 25_882),
        "query": (3_985, 14_218),
        "gallery": (3_985, 12_612),
    }
    NEEDS = f"--archive img.zip --annotations {LIST}"

    def generate_split(self) -> None:
        path = self.list_file(LIST, f"Eval/{LIST}")
        rows = read_rows(path, columns=3, files=[0], header=2)
        for number, (name, _, split) in enumerate(rows, start=3):
            if split not in self.SPLITS or not name.startswith("img/"):
                raise DatasetError(
                    f"{path}, line {number}, is damaged: expected img/..., an item and "
                    f"one of {self.SPLITS}, found {name!r} and {split!r}",
                    self.remedy(),
                )
        for_training = {item for _, item, split in rows if split == "train"}
        others = {item for _, item, _ in rows} - for_training
        self.class_names = sorted(for_training) + sorted(others)
        label = {item: index for index, item in enumerate(self.class_names)}
        parent = self.root if (self.root / "img").is_dir() else self.root / "Img"
        mine = [row for row in rows if row[2] == self.split]
        self.paths = [os.path.join(parent, name) for name, _, _ in mine]
        self.labels = [label[item] for _, item, _ in mine]

    @classmethod
    def find(cls, folder: Path, annotations: Path | None) -> Path:
        """The list may come apart from the images, or in another folder."""
        if annotations is None:
            annotations = folder_with(folder, LIST) / LIST
        parent = folder_with(folder, "img")
        target = parent / LIST
        if target != annotations:
            target.write_bytes(annotations.read_bytes())
        return parent

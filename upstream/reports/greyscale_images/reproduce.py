"""PML's data sets: a batch with a greyscale image in it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_metric_learning.datasets import CUB, Cars196, StanfordOnlineProducts


def image(path: Path, mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8)).save(path)


def make_cars(root: Path) -> None:
    (root / "names.csv").write_text("car\n")
    for split, mode in [("train", "RGB"), ("test", "L")]:
        (root / f"anno_{split}.csv").write_text("1.jpg,0,0,8,8,1\n")
        image(root / "car_data/car_data" / split / "car/1.jpg", mode)


def make_sop(root: Path) -> None:
    root = root / "Stanford_Online_Products"
    for split, mode in [("train", "RGB"), ("test", "L")]:
        image(root / split / "1.jpg", mode)
        lines = f"image_id class_id super_class_id path\n1 1 1 {split}/1.jpg\n"
        (root / f"Ebay_{split}.txt").write_text(lines)


def make_cub(root: Path) -> None:
    root = root / "CUB_200_2011"
    image(root / "images/1.jpg", "RGB")
    image(root / "images/2.jpg", "L")
    (root / "images.txt").write_text("1 1.jpg\n2 2.jpg\n")
    (root / "image_class_labels.txt").write_text("1 1\n2 1\n")


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """What torchvision's ToTensor gives."""
    pixels = np.atleast_3d(np.array(picture))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


faulty = False
makers = {Cars196: make_cars, StanfordOnlineProducts: make_sop, CUB: make_cub}
for dataset_class, make in makers.items():
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        dataset = dataset_class(folder, transform=to_tensor)
        try:
            shape = next(iter(torch.utils.data.DataLoader(dataset, 2)))[0].shape
            result = str(tuple(shape))
        except RuntimeError as error:
            result = f"RuntimeError: {error}"
            faulty = True
    print(f"{dataset_class.__name__}\n  expected (2, 3, 8, 8)\n  actual   {result}")
sys.exit(int(faulty))

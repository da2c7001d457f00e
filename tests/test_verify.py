"""Data sets are held against what is published, file by file."""

import pytest
from PIL import Image
from torch.utils.data import Dataset

from benchmarks.datasets.cub import CUB200
from benchmarks.datasets.errors import DatasetError
from benchmarks.datasets.verify import table, verify

from . import small_archives as small


def test_verify(cub, console):
    rows = verify("cub200", cub, console)
    assert [row.problems for row in rows] == [[], []]
    assert [(row.classes, row.images, row.greyscale) for row in rows] == [(2, 4, 1)] * 2
    image = cub / "CUB_200_2011/images/001.Auk/Auk_0001.jpg"
    image.write_bytes(small.cut(image.read_bytes()))
    (cub / "CUB_200_2011/images/100.Wren/Wren_0003.jpg").unlink()
    CUB200.PUBLISHED["test"] = (2, 5)
    train, test = verify("cub200", cub, console)
    missing, damaged = train.problems
    assert "Wren_0003.jpg does not exist" in missing
    assert "Auk_0001.jpg cannot be read" in damaged and train.greyscale == 0
    assert test.problems == [
        "expected 5 images of 2 classes, found 4 images of 2 classes"
    ]
    assert verify("cub200", cub, console, decode=False)[0].problems == [missing]
    console.print(table([train, test]))
    assert "| test  |       2 |         2 |      4 |         5 |" in (
        console.file.getvalue()
    )


def test_verify_finds_shared_classes(tmp_path, small_counts, console):
    members = small.sop()
    name = "Stanford_Online_Products/Ebay_test.txt"
    members[name] = members[name].replace(b" 3 7 ", b" 2 7 ")
    small.write_files(tmp_path, members)
    train, test = verify("sop", tmp_path, console)
    assert train.problems == []
    assert test.problems == ["1 of its classes are in train, too"]


class Drawn(Dataset):
    """A data set without files."""

    SPLITS = ("train", "test", "train+test")
    PUBLISHED: dict = {}

    def __init__(self, root, split, transform=None):
        if split == "test":
            raise DatasetError("not drawn yet")
        self.labels = [0, 0]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        if index == 1:
            raise DatasetError("item 1 is blank")
        return Image.new("L", (2, 2)), self.labels[index]


def test_verify_of_another_class(tmp_path, console):
    train, test = verify("drawn", tmp_path, console, datasets={"drawn": Drawn})
    assert (train.classes, train.images, train.greyscale) == (1, 2, 1)
    assert train.expected_images is None and train.problems == ["item 1 is blank"]
    assert test.images is None and test.problems == ["not drawn yet"]
    with pytest.raises(DatasetError, match="expected one of drawn, got 'cub200'"):
        verify("cub200", tmp_path, console, datasets={"drawn": Drawn})

"""The published data sets, on small archives of the published layouts."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytorch_metric_learning import datasets as pml
from torch.utils.data import DataLoader

from benchmarks.datasets import images
from benchmarks.datasets.cars import Cars196
from benchmarks.datasets.cub import CUB200
from benchmarks.datasets.errors import DatasetError
from benchmarks.datasets.folders import ImageFolders
from benchmarks.datasets.inshop import InShop
from benchmarks.datasets.prepare import prepare
from benchmarks.datasets.sop import StanfordOnlineProducts

from . import small_archives as small


def relative(dataset):
    root = Path(dataset.root)
    return [Path(path).relative_to(root).as_posix() for path in dataset.paths]


def is_picture(dataset, index, number):
    expected = Image.open(io.BytesIO(small.picture(number))).convert("RGB")
    image = dataset[index][0]
    return image.mode == "RGB" and np.array_equal(image, expected)


def test_published_counts():
    assert CUB200.published("train") == (100, 5_864)
    assert CUB200.published("test") == (100, 5_924)
    assert CUB200.published("train+test") == (200, 11_788)
    assert Cars196.published("train+test") == (196, 16_185)
    assert Cars196.published("train") == (98, 8_054)
    assert StanfordOnlineProducts.published("train") == (11_318, 59_551)
    assert StanfordOnlineProducts.published("train+test") == (22_634, 120_053)
    assert InShop.PUBLISHED == {
        "train": (3_997, 25_882),
        "query": (3_985, 14_218),
        "gallery": (3_985, 12_612),
    }
    assert ImageFolders.published("train+test") is None


def test_cub(tmp_path, small_counts, console):
    archive = small.write_tar(tmp_path / "CUB_200_2011.tgz", small.cub())
    prepare("cub200", tmp_path / "cub", [archive], console=console)
    train, test = (CUB200(tmp_path / "cub", split) for split in ("train", "test"))
    assert isinstance(train, pml.CUB)
    assert train.labels == [0, 0, 99, 99] and test.labels == [100, 100, 199, 199]
    assert relative(test)[0] == "CUB_200_2011/images/101.Gull/Gull_0005.jpg"
    assert relative(train)[3] == "CUB_200_2011/images/100.Wren/Wren_0004.jpg"
    for index in range(4):  # number 1 is grey, 2 CMYK, 3 has a palette
        assert is_picture(train, index, index + 1)
    both = CUB200(tmp_path / "cub", "train+test", np.asarray, lambda label: -label)
    assert both[7][0].shape == (4, 6, 3) and both[7][1] == -199


def test_sop(tmp_path, small_counts, console):
    archive = small.write_zip(tmp_path / "products.zip", small.sop())
    prepare("sop", tmp_path / "sop", [archive], console=console)
    train = StanfordOnlineProducts(tmp_path / "sop", "train")
    test = StanfordOnlineProducts(tmp_path / "sop", "test")
    assert train.labels == [0, 0, 1, 1] and test.labels == [2, 2, 3, 3]
    top = "Stanford_Online_Products/sofa_final"
    assert relative(train)[:2] == [f"{top}/11001_0.JPG", f"{top}/11001_1.JPG"]
    assert is_picture(test, 3, 8)


def check_inshop(root):
    train, query, gallery = (InShop(root, split) for split in InShop.SPLITS)
    assert train.labels == [0, 0, 1]
    assert query.labels == [2, 3] and gallery.labels == [2, 2, 3]
    assert gallery.class_names[2:] == ["id_00000002", "id_00000010"]
    assert query.paths[0].endswith("img/WOMEN/Dresses/id_00000002/01_1_front.jpg")
    assert is_picture(query, 0, 3) and is_picture(query, 1, 8)


def test_inshop(tmp_path, small_counts, console):
    members, partition = small.inshop()
    half = len(members) // 2
    archives = [
        small.write_zip(tmp_path / f"img{i}.zip", dict(part))
        for i, part in enumerate(
            (list(members.items())[:half], list(members.items())[half:])
        )
    ]
    annotations = tmp_path / "list_eval_partition.txt"
    annotations.write_bytes(partition)
    prepare("inshop", tmp_path / "a", archives, annotations, console=console)
    check_inshop(tmp_path / "a")
    with pytest.raises(DatasetError, match="no folder has list_eval_partition.txt"):
        prepare("inshop", tmp_path / "b", archives, console=console)


def test_inshop_as_published(tmp_path, small_counts, console):
    members, partition = small.inshop()
    members = {f"In-shop/Img/{name}": data for name, data in members.items()}
    members["In-shop/Eval/list_eval_partition.txt"] = partition
    check_inshop(small.write_files(tmp_path / "unpacked", members) / "In-shop")
    archive = small.write_zip(tmp_path / "all.zip", members)
    prepare("inshop", tmp_path / "inshop", [archive], console=console)
    check_inshop(tmp_path / "inshop")


@pytest.mark.parametrize("kind", ["mat", "txt"])
def test_cars_of_car_ims(kind, tmp_path, small_counts, console):
    archive = small.write_tar(tmp_path / "car_ims.tgz", small.car_ims())
    write = {"mat": small.cars_annos_mat, "txt": small.cars_annos_txt}[kind]
    annotations = write(tmp_path / f"cars_annos.{kind}")
    root = tmp_path / "cars"
    with pytest.raises(DatasetError, match="--annotations"):
        prepare("cars196", root, [archive], console=console)
    prepare("cars196", root, [archive], annotations, console=console)
    train, test = Cars196(root, "train"), Cars196(root, "test")
    assert train.labels == [0, 0, 97, 97] and test.labels == [98, 195]
    assert relative(train)[1] == "train/1/000005.jpg"
    assert relative(test) == ["test/99/000003.jpg", "test/196/000004.jpg"]
    assert is_picture(train, 1, 5) and is_picture(test, 0, 3)
    assert Cars196(root, "train+test").labels == train.labels + test.labels
    assert sorted(path.name for path in root.iterdir()) == ["test", "train"]


def test_cars_of_kaggle(tmp_path, small_counts, console):
    archive = small.write_zip(tmp_path / "kaggle", small.cars_of_kaggle())
    prepare("cars196", tmp_path / "cars", [archive], console=console)
    train, test = (Cars196(tmp_path / "cars", split) for split in ("train", "test"))
    assert train.labels == [0, 97, 0, 97] and test.labels == [98, 195]
    top = "car_data/car_data/test/Make 98 Coupe C-V 2012"
    assert relative(train)[3] == f"{top}/00003.jpg"
    assert is_picture(train, 3, 13)


def test_cars_annotations_that_do_not_fit(tmp_path, console):
    archive = small.write_tar(tmp_path / "car_ims.tgz", small.car_ims())
    path = tmp_path / "cars_annos.txt"
    for text, message in {
        "car_ims/000009.jpg,5\n": "1 of the 1 annotated images .*: 000009.jpg",
        "car_ims/000001.jpg,5\ncar_ims/000001.jpg,6\n": "image 2: '000001.jpg'",
        "car_ims/000001.jpg,197\n": "from 1 to 196, found '197'",
    }.items():
        path.write_text(text)
        with pytest.raises(DatasetError, match=message):
            prepare("cars196", tmp_path / "cars", [archive], path, console=console)
    path = path.with_suffix(".mat")
    path.write_bytes(b"MATLAB 5.0" + bytes(300))
    with pytest.raises(DatasetError, match="cars_annos.mat cannot be read"):
        prepare("cars196", tmp_path / "cars", [archive], path, console=console)


@pytest.mark.parametrize("folder", ["train/99", "test/98", "train/BMW", "test/197"])
def test_cars_in_a_wrong_folder(folder, tmp_path):
    members = {"train/1/1.jpg": b"", "test/99/1.jpg": b"", f"{folder}/2.jpg": b""}
    small.write_files(tmp_path, members)
    with pytest.raises(DatasetError, match=folder):
        Cars196(tmp_path, folder.split("/")[0], check_counts=False)


def test_folders(tmp_path):
    names = ["train/b/2.png", "train/b/1.JPG", "train/a/1.webp", "test/c/1.png"]
    members = {name: small.picture(number) for number, name in enumerate(names)}
    small.write_files(tmp_path, {**members, "train/b/notes.txt": b"", "train/x": b""})
    with pytest.warns(UserWarning, match="1 files are left out, as they are no images"):
        train = ImageFolders(tmp_path, "train")
    test = ImageFolders(tmp_path, "test")
    assert relative(train) == ["train/a/1.webp", "train/b/1.JPG", "train/b/2.png"]
    assert train.labels == [0, 1, 1] and test.labels == [2]
    assert test.class_names == ["a", "b", "c"] and is_picture(train, 0, 2)

    small.write_files(tmp_path, {"test/b/7.png": small.picture(7)})
    with pytest.raises(DatasetError, match="1 classes are in both .*: b"):
        ImageFolders(tmp_path, "train")
    assert ImageFolders(tmp_path, "test", allow_shared_classes=True).labels == [1, 2]
    (tmp_path / "test/d").mkdir()
    with pytest.raises(DatasetError, match="test/d has no images"):
        ImageFolders(tmp_path, "test", allow_shared_classes=True)


def test_folders_in_halves(tmp_path):
    """Classes of training and testing differ; the middle one is for testing."""
    names = [f"{name}/{number}.png" for name in "bca" for number in range(2)]
    small.write_files(tmp_path, {name: small.picture(0) for name in names})
    with pytest.raises(DatasetError, match="train has no folders of classes") as said:
        ImageFolders(tmp_path, "train")
    assert "halves=True" in str(said.value)
    train, test = (ImageFolders(tmp_path, s, halves=True) for s in ("train", "test"))
    assert relative(train) == ["a/0.png", "a/1.png"] and train.labels == [0, 0]
    assert test.labels == [1, 1, 2, 2] and test.class_names == ["a", "b", "c"]
    accents = ["cafe\u0301", "caf\xe9"]  # one class, written in two ways
    small.write_files(
        tmp_path / "same",
        {f"{name}/1.png": small.picture(0) for name in [*accents, "d"]},
    )
    train = ImageFolders(tmp_path / "same", "train", halves=True)
    assert train.labels == [0, 0] and train.class_names == ["caf\xe9", "d"]
    small.write_files(tmp_path, {"alone/a/1.png": small.picture(0)})
    with pytest.raises(DatasetError, match="one class"):
        ImageFolders(tmp_path / "alone", "train", halves=True)


def test_images_in_memory_are_decoded_once(tmp_path):
    """By all data sets that keep them; what a transform draws on is a copy."""
    members = {
        f"{split}/{split}/1.png": small.picture(3) for split in ("train", "test")
    }
    small.write_files(tmp_path, members)

    def painted(image):
        image.paste((1, 2, 3), (0, 0, *image.size))
        return image.getpixel((0, 0))

    kept = ImageFolders(tmp_path, "train", in_memory=True)
    read = ImageFolders(tmp_path, "train")
    assert is_picture(kept, 0, 3) and is_picture(read, 0, 3)
    (tmp_path / "train/train/1.png").write_bytes(small.picture(7))
    other = ImageFolders(tmp_path, "train", painted, in_memory=True)
    assert other[0] == ((1, 2, 3), 0)
    assert is_picture(kept, 0, 3) and is_picture(read, 0, 7)


def test_wrong_counts(cub, monkeypatch):
    monkeypatch.undo()
    message = "expected 5,864 images of 100 classes, found 4 images of 2 classes"
    with pytest.raises(DatasetError, match=message):
        CUB200(cub, "train")
    assert len(CUB200(cub, "train", check_counts=False)) == 4


def test_missing_things(cub):
    with pytest.raises(ValueError, match="split must be one of .* got 'val'"):
        CUB200(cub, "val")
    command = r"(?s)is not a folder.*python -m benchmarks data prepare cub200 --root"
    with pytest.raises(DatasetError, match=command):
        CUB200(cub / "nothing", "train")
    with pytest.raises(DatasetError, match=r"(?s)Ebay_test.txt.*data prepare sop"):
        StanfordOnlineProducts(cub, "test")
    with pytest.raises(DatasetError, match=r"(?s)Eval/list_.*data prepare inshop"):
        InShop(cub, "query")
    with pytest.raises(DatasetError, match=r"(?s)names.csv.*data prepare cars196"):
        Cars196(cub, "train")
    (cub / "CUB_200_2011/images/100.Wren/Wren_0003.jpg").unlink()
    with pytest.raises(DatasetError, match="1 of 4 images do not exist: .*Wren_0003"):
        CUB200(cub, "train")
    assert CUB200(cub, "test").labels


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("image_class_labels.txt", "3", "line 3, .*expected 2 columns, found 1"),
        ("image_class_labels.txt", "3 x", "line 3, .*whole numbers in column 1 and 2"),
        ("images.txt", "3 ../../a.jpg", "line 3, .*a path inside"),
        ("images.txt", "3 \xff.jpg", "line 3, is damaged"),
        ("images.txt", "4 001.Auk/Auk_0004.jpg", "do not list the same images"),
    ],
)
def test_damaged_list(name, row, message, cub):
    path = cub / "CUB_200_2011" / name
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = row.encode("latin-1") + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(DatasetError, match=message):
        CUB200(cub, "train")


@pytest.mark.parametrize(
    ("cls", "name", "line"),
    [
        (StanfordOnlineProducts, "Stanford_Online_Products/Ebay_train.txt", "4 2 x a"),
        (InShop, "list_eval_partition.txt", "img/a.jpg id_1 validation"),
        (Cars196, "anno_test.csv", "00001.jpg,39,116,569,375,197"),
    ],
)
def test_damaged_lists_of_others(cls, name, line, tmp_path):
    members, partition = small.inshop()
    members |= {"list_eval_partition.txt": partition}
    members |= small.sop() | small.cars_of_kaggle()
    number = len(members[name].splitlines()) + 1
    members[name] += line.encode() + b"\n"
    small.write_files(tmp_path, members)
    with pytest.raises(DatasetError, match=f"{name}, line {number}\\b"):
        cls(tmp_path, "train", check_counts=False)


@pytest.mark.parametrize("workers", [0, 1])
def test_image_that_cannot_be_decoded(workers, cub):
    path = cub / "CUB_200_2011/images/001.Auk/Auk_0001.jpg"
    path.write_bytes(path.read_bytes()[:-30])
    loader = DataLoader(CUB200(cub, "train"), None, num_workers=workers)
    with pytest.raises(DatasetError, match="Auk_0001.jpg cannot be read as an image"):
        next(iter(loader))


def test_image_larger_than_pillow_takes(cub, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DatasetError, match="(?s)jpg: Image size .* pixels.*smaller"):
        CUB200(cub, "train")[0]


def test_images_that_do_not_fit_into_memory_are_not_kept(tmp_path, monkeypatch):
    """Also by a config, for folders of one's own."""
    pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")
    from benchmarks.config.building import build

    names = ("train/a/0.png", "train/a/1.png", "test/b/0.png")
    members = {name: small.picture(i) for i, name in enumerate(names)}
    small.write_files(tmp_path, members)
    width, height = Image.open(io.BytesIO(small.picture(0))).size
    monkeypatch.setattr(images, "KEPT_BYTES", 4 * width * height)
    monkeypatch.setattr(images, "_KEPT", images._Kept())
    spec = {"ImageFolders": {"root": str(tmp_path), "in_memory": True}}
    given = {"split": "train", "transform": None}
    mine = build("dataset", spec, "dataset", given)
    assert is_picture(mine, 0, 0) and is_picture(mine, 1, 1)
    assert list(images._KEPT.images) == [str(tmp_path / "train/a/0.png")]

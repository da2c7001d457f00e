"""Archives in the layouts of the published ones, of a few small images each."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from benchmarks.datasets.npm import Package

SIZE = (6, 4)
# By turns: published photographs are mostly RGB, with some of the others among them.
MODES = ("RGB", "L", "CMYK", "P")
CUB_CLASSES = {1: "001.Auk", 100: "100.Wren", 101: "101.Gull", 200: "200.Finch"}
CAR_NAMES = [f"Make {n} Coupe C/V 2012" for n in range(1, 197)]
CARS = [(1, 0), (98, 0), (99, 0), (196, 1), (1, 1), (98, 1)]  # class, official test


def picture(number: int) -> bytes:
    """An encoded image, in one of MODES; the same number is the same image."""
    mode = MODES[number % len(MODES)]
    noise = np.random.default_rng(number).integers(0, 256, (*SIZE[::-1], 3), np.uint8)
    image = Image.fromarray(noise).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if mode == "P" else "JPEG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def write_npm(folder: Path, package: Package, files: dict[str, bytes], **about) -> Path:
    """As `npm pack` does; `about` stands in package.json in place of what is right."""
    right = {"name": package.name, "version": package.version}
    about = right | {"license": package.licence} | about
    members = {"package.json": json.dumps(about).encode(), **files}
    path = folder / f"{package.name[1:].replace('/', '-')}-{about['version']}.tgz"
    return write_tar(path, {f"package/{name}": x for name, x in members.items()})


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def write_files(folder: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def cub() -> dict[str, bytes]:
    """Two images a class; grey, CMYK and palette ones are among them."""
    top, images, labels = "CUB_200_2011", [], []
    members = {"attributes.txt": b"1 has_bill_shape::curved\n"}
    for label, name in CUB_CLASSES.items():
        for _ in range(2):
            number = len(images) + 1
            file = f"{name}/{name[4:]}_{number:04}.jpg"
            images.append(f"{number} {file}\n")
            labels.append(f"{number} {label}\n")
            members[f"{top}/images/{file}"] = picture(number)
    members[f"{top}/images.txt"] = "".join(images).encode()
    members[f"{top}/image_class_labels.txt"] = "".join(labels).encode()
    return members


def sop() -> dict[str, bytes]:
    top, number = "Stanford_Online_Products", 0
    members = {}
    for split, labels in {"train": (1, 2), "test": (3, 4)}.items():
        rows = ["image_id class_id super_class_id path\n"]
        for label in labels:
            for view in range(2):
                number += 1
                file = f"sofa_final/1100{label}_{view}.JPG"
                rows.append(f"{number} {label} 7 {file}\n")
                members[f"{top}/{file}"] = picture(number)
        members[f"{top}/Ebay_{split}.txt"] = "".join(rows).encode()
    return members


def inshop() -> tuple[dict[str, bytes], bytes]:
    """The members of img.zip, and list_eval_partition.txt; item 2 is for testing."""
    members, rows = {}, []
    for item, splits in {
        1: ["train", "train"],
        2: ["query", "gallery", "gallery"],
        3: ["train"],
        10: ["gallery", "query"],
    }.items():
        for view, split in enumerate(splits, start=1):
            name = f"img/WOMEN/Dresses/id_{item:08}/{view:02}_1_front.jpg"
            rows.append(f"{name:<70} id_{item:08} {split:<10}\n")
            members[name] = picture(len(rows))
    header = f"{len(rows)}\nimage_name item_id evaluation_status\n"
    return members, (header + "".join(rows)).encode()


def car_ims() -> dict[str, bytes]:
    return {
        f"car_ims/{number:06}.jpg": picture(number)
        for number in range(1, len(CARS) + 1)
    }


def cars_annos_mat(path: Path) -> Path:
    """A struct array, (1, N), whose fields are arrays of one element each."""
    records = np.zeros(
        (1, len(CARS)),
        [(name, object) for name in ("relative_im_path", "bbox_x1", "class", "test")],
    )
    for index, (label, test) in enumerate(CARS):
        name = f"car_ims/{index + 1:06}.jpg"
        records[0, index] = (name, np.uint8(112), np.uint8(label), np.uint8(test))
    names = np.array([CAR_NAMES], dtype=object)
    savemat(path, {"annotations": records, "class_names": names})
    return path


def cars_annos_txt(path: Path) -> Path:
    rows = [
        f"car_ims/{n:06}.jpg,{label},{test}\n"
        for n, (label, test) in enumerate(CARS, start=1)
    ]
    path.write_text("".join(rows))
    return path


def cars_of_kaggle() -> dict[str, bytes]:
    members = {"names.csv": "\n".join(CAR_NAMES).encode() + b"\n"}
    for official, split in enumerate(("train", "test")):
        labels = [label for label, test in CARS if test == official]
        rows = []
        for number, label in enumerate(labels, start=1):
            folder = CAR_NAMES[label - 1].replace("/", "-")
            name = f"car_data/car_data/{split}/{folder}/{number:05}.jpg"
            members[name] = picture(10 * official + number)
            rows.append(f"{number:05}.jpg,39,116,569,375,{label}\n")
        members[f"anno_{split}.csv"] = "".join(rows).encode()
    return members


def cut(data: bytes) -> bytes:
    """As by a download that stopped."""
    return data[: len(data) // 2]

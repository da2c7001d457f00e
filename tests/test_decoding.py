"""Images of one's own, as they lie on disks."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rich", reason="the data sets report with rich")

from benchmarks.datasets import DatasetError, ImageFolders  # noqa: E402
from benchmarks.datasets.decoding import read_image  # noqa: E402

SIZE = (20, 10)
GREY = np.full((10, 20), 0x8000, np.uint16)
GREY[:5] = 0x2000
ORIENTATION = 0x0112


def colours(path):
    """Of a pixel above and one below, and the size."""
    image, _ = read_image(path)
    assert image.mode == "RGB"
    width, height = image.size
    return image.getpixel((1, 1)), image.getpixel((width // 2, height - 2)), image.size


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_not_clipped(tmp_path, name):
    if name == "a.pgm":
        pixels = GREY.astype(">u2").tobytes()
        (tmp_path / name).write_bytes(b"P5\n20 10\n65535\n" + pixels)
    else:
        Image.fromarray(GREY).save(tmp_path / name)
    assert colours(tmp_path / name) == ((0x20,) * 3, (0x80,) * 3, SIZE)


@pytest.mark.parametrize("dark", [True, False])
def test_dark_images_of_sixteen_bits_stay_dark(tmp_path, dark):
    pixels = (GREY // (256 if dark else 1)).astype(">u2").tobytes()
    (tmp_path / "a.pgm").write_bytes(b"P5\n20 10\n65535\n" + pixels)
    expected = (0, 0) if dark else (0x20, 0x80)
    assert [c[0] for c in colours(tmp_path / "a.pgm")[:2]] == list(expected)


@pytest.mark.parametrize(
    "levels",
    [
        GREY.astype(np.int32),
        (GREY // 256).astype(np.int32),
        (GREY / 65536).astype(np.float32),
        (GREY / 256).astype(np.float32),
        GREY.astype(np.float32),
    ],
    ids=["65535", "255", "fractions", "fractional 255", "fractional 65535"],
)
def test_thirty_two_bits_keep_their_range(tmp_path, levels):
    Image.fromarray(levels).save(tmp_path / "a.tif")
    assert colours(tmp_path / "a.tif") == ((0x20,) * 3, (0x80,) * 3, SIZE)


def test_negative_and_large_numbers_are_stretched(tmp_path):
    levels = np.where(GREY == 0x2000, -1.0, 3e9).astype(np.float32)
    Image.fromarray(levels).save(tmp_path / "a.tif")
    assert colours(tmp_path / "a.tif")[:2] == ((0,) * 3, (255,) * 3)


@pytest.mark.parametrize("deep", [False, True])
def test_orientation_is_obeyed(tmp_path, deep):
    image = Image.fromarray(GREY if deep else (GREY >> 8).astype(np.uint8))
    exif = image.getexif()
    exif[ORIENTATION] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    assert colours(tmp_path / "a.png") == ((0x80,) * 3, (0x20,) * 3, SIZE)
    exif[ORIENTATION] = 6  # a quarter turn
    image.save(tmp_path / "a.png", exif=exif)
    assert colours(tmp_path / "a.png")[2] == SIZE[::-1]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P of several", "RGB"])
def test_what_is_transparent_is_white(tmp_path, mode):
    """Whatever colour hides there."""
    image = Image.new("RGBA", SIZE, (0, 80, 0, 0))
    image.paste((255, 0, 0, 255), (0, 5, 20, 10))
    more = {}
    if mode.startswith("P"):
        image = Image.new("P", SIZE, 0)
        image.putpalette([0, 80, 0, 255, 0, 0])
        image.paste(1, (0, 5, 20, 10))
        more = {"transparency": b"\0\xff" if "several" in mode else 0}
    elif mode == "RGB":
        image, more = image.convert("RGB"), {"transparency": (0, 80, 0)}
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.png", **more)
    above, below, _ = colours(tmp_path / "a.png")
    grey = image.convert("L").getpixel((1, 8)) if mode == "LA" else None
    assert above == (255,) * 3
    assert below == ((grey,) * 3 if grey is not None else (255, 0, 0))


def test_other_kinds_are_read_as_ever(tmp_path):
    Image.new("CMYK", SIZE, (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert colours(tmp_path / "a.tif")[0] == (255, 0, 0)
    Image.new("1", SIZE, 1).save(tmp_path / "b.png")
    assert colours(tmp_path / "b.png")[0] == (255,) * 3


def test_no_other_program_is_started(tmp_path):
    """An EPS would be drawn by Ghostscript, whatever its name says."""
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "a.jpg").write_bytes(text)
    with pytest.raises(DatasetError, match="a.jpg cannot be read as an image") as error:
        read_image(tmp_path / "a.jpg")
    assert "UnidentifiedImageError" in error.value.problem
    assert "\n" not in error.value.problem


@pytest.fixture
def folders(tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "test/c/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", SIZE).save(tmp_path / name)
    return tmp_path


def test_nothing_is_left_out_without_a_word(folders):
    (folders / "train/a/more/deep").mkdir(parents=True)
    Image.new("RGB", SIZE).save(folders / "train/a/more/deep/2.png")
    for name in ("x.pdf", "x.eps", "x.h5", "x.mpg", "x.txt", ".hidden.png"):
        (folders / "train/a" / name).write_bytes(b"no image")
    with pytest.warns(UserWarning, match="train: 5 files are left out.*x.eps"):
        found = ImageFolders(folders, "train")
    assert [p.rpartition("/")[2] for p in found.paths] == ["1.png", "2.png", "1.png"]
    assert found.labels == [0, 0, 1]
    (folders / "train/b/1.png").rename(folders / "train/b/1.pdf")
    with pytest.raises(
        DatasetError, match="b has no images, by their names, but .*pdf"
    ):
        ImageFolders(folders, "train")


def test_a_name_is_one_in_every_unicode_form(folders):
    for form, split in (("NFC", "train"), ("NFD", "train")):
        path = folders / split / unicodedata.normalize(form, "é")
        if not path.exists():
            path.mkdir()
        Image.new("RGB", SIZE).save(path / f"{form}.png")
    if len(list((folders / "train").iterdir())) < 4:
        pytest.skip("this file system has one form itself")
    found = ImageFolders(folders, "train")
    assert found.labels == [0, 1, 2, 2]
    assert found.class_names == ["a", "b", "é", "c"]
    (folders / "test" / unicodedata.normalize("NFD", "é")).mkdir()
    with pytest.raises(DatasetError, match="classes are in both train and test"):
        ImageFolders(folders, "train")

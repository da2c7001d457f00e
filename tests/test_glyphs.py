"""The Glyphs data set."""

import logging
from collections import defaultdict

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.datasets import Glyphs
from benchmarks.datasets import glyphs as module
from benchmarks.datasets import letters


@pytest.fixture(scope="module")
def train(glyphs_root):
    return Glyphs(glyphs_root, "train")


@pytest.fixture(scope="module")
def test(glyphs_root):
    return Glyphs(glyphs_root, "test")


@pytest.fixture
def no_rendering(monkeypatch):
    def fail():
        raise AssertionError("rendered again")

    monkeypatch.setattr(module, "render", fail)


def test_size(train, test):
    counts = np.bincount(train.labels + test.labels)
    assert len(counts) >= 1000 and counts.min() >= 12
    assert set(train.labels) == set(range(train.num_train_classes))
    assert set(test.labels) == set(range(train.num_train_classes, len(counts)))
    assert len(train.class_names) == len(set(train.class_names)) == len(counts)


def test_no_test_script_is_seen_in_training(train, test):
    of_training = {train.class_scripts[label] for label in set(train.labels)}
    of_testing = {test.class_scripts[label] for label in set(test.labels)}
    assert of_training == {"Latn"}
    assert of_testing == {"Grek", "Cyrl", "Armn", "Geor"}


def test_no_picture_is_in_two_classes(glyphs_root):
    both = Glyphs(glyphs_root)
    classes = defaultdict(set)
    for image, label in zip(both.images, both.labels):
        classes[image.tobytes()].add(label)
    assert all(len(labels) == 1 for labels in classes.values())
    assert len(classes) == len(both)  # nor twice in one


def test_letters_of_one_shape_are_one_class():
    some = [
        "A",
        "Α",
        "А",
        "B",
        "В",
        "Б",
        "g",
    ]  # Latin, Greek, Cyrillic; Latin, Cyrillic
    number = letters.same_shape(some, letters.draw_all(some))
    assert number["A"] == number["Α"] == number["А"]
    assert number["B"] == number["В"]
    assert len(set(number.values())) == 4


def test_shared_shapes_are_trained_on(train):
    for name in ("LATIN CAPITAL LETTER A", "LATIN SMALL LETTER O"):
        assert train.class_names.index(name) < train.num_train_classes
    assert "GREEK CAPITAL LETTER ALPHA" not in train.class_names
    assert "GREEK CAPITAL LETTER PSI" in train.class_names


def test_pictures_show_something(train):
    assert train.images.shape[1:] == (32, 32) and train.images.dtype == np.uint8
    ink = 255 - train.images.astype(int)
    assert (ink.max(axis=(1, 2)) > 100).all()  # thin strokes stay grey
    border = np.ones((32, 32), bool)
    border[1:-1, 1:-1] = False
    assert ink[:, border].max() == 0  # none is cut off


def test_pictures_are_centred_and_upright(train):
    ink = 255 - train.images.astype(int)
    for axis in (1, 2):
        has_ink = ink.max(axis=axis) > 0
        first = has_ink.argmax(axis=1)
        behind = has_ink[:, ::-1].argmax(axis=1)
        off = abs(first - behind)  # slanted letters reach further than they say
        assert off.mean() < 2
    dot = ink[train.labels.index(train.class_names.index("LATIN SMALL LETTER I"))]
    rows = (dot.max(axis=1) > 100).tolist()
    gap = rows.index(False, rows.index(True))
    assert gap < 16  # the dot is above


def test_training_classes_show_latin_letters_only(train):
    label = train.class_names.index("LATIN CAPITAL LETTER K")
    shown = {x.tobytes() for x, y in zip(train.images, train.labels) if y == label}
    latin = [x for x in "K\u212a" if letters.script(x) == "Latn"]  # Kelvin sign
    assert shown == {p.pixels.tobytes() for p in letters.draw_all(latin)}


def test_a_failed_write_leaves_the_old_file(train, tmp_path, monkeypatch):
    path = tmp_path / "glyphs.npz"
    path.write_bytes(b"old")

    def fail(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    arrays = {name: train.images[:1] for name in module.ARRAYS}
    monkeypatch.setattr(module, "render", lambda: arrays)
    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        Glyphs(tmp_path, "train")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_items(train):
    image, label = train[0]
    assert isinstance(image, Image.Image) and image.mode == "L"
    assert image.size == (32, 32) and label == 0


def test_transforms(glyphs_root):
    dataset = Glyphs(
        glyphs_root, "test", transform=np.asarray, target_transform=lambda y: -y
    )
    assert dataset[3][0].shape == (32, 32) and dataset[3][1] < 0


def test_unknown_split(glyphs_root):
    with pytest.raises(ValueError, match="split must be one of .* got 'val'"):
        Glyphs(glyphs_root, "val")


def test_fewer_training_classes(train, glyphs_root):
    """Evenly spread; labels and the test set stay as they are."""
    few = Glyphs(glyphs_root, "train", num_train_classes=10)
    labels = sorted(set(few.labels))
    assert few.num_train_classes == len(labels) == 10
    assert labels[0] == 0 and labels[-1] == train.num_train_classes - 1
    assert len(set(np.diff(labels))) <= 2
    expected = [i for i, label in enumerate(train.labels) if label in labels]
    assert few.labels == [train.labels[i] for i in expected]
    assert np.array_equal(few.images, train.images[expected])
    test, both = (Glyphs(glyphs_root, s) for s in ("test", "train+test"))
    less = Glyphs(glyphs_root, "test", num_train_classes=10)
    assert less.labels == test.labels and len(both) == len(train) + len(test)


@pytest.mark.parametrize("count", [0, 10_000, 2.5])
def test_number_of_training_classes_is_checked(glyphs_root, count):
    with pytest.raises(ValueError, match=f"must be an int, 1 to .*, got {count}"):
        Glyphs(glyphs_root, "train", num_train_classes=count)


def test_rendered_once(train, glyphs_root, no_rendering):
    assert np.array_equal(Glyphs(glyphs_root, "train").images, train.images)
    assert [path.name for path in glyphs_root.iterdir()] == ["glyphs.npz"]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_a_pixel(path):
    with np.load(path) as file:
        arrays = dict(file)
    arrays["images"][0, 16, 16] ^= 255
    np.savez_compressed(path, **arrays)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def another_kind(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize("damage", [truncate, change_a_pixel, flip_a_bit, another_kind])
def test_a_damaged_file_is_rendered_again(
    damage, glyphs_root, tmp_path, caplog, train, monkeypatch
):
    path, whole = tmp_path / "glyphs.npz", glyphs_root / "glyphs.npz"
    path.write_bytes(whole.read_bytes())
    damage(path)
    arrays = module.load_or_render(whole)
    monkeypatch.setattr(module, "render", lambda: arrays)  # it takes seconds
    with caplog.at_level(logging.WARNING):
        repaired = Glyphs(tmp_path, "train")
    assert "is rendered again" in caplog.text
    assert np.array_equal(repaired.images, train.images)
    monkeypatch.setattr(module, "render", None)
    assert np.array_equal(Glyphs(tmp_path, "train").images, train.images)


def test_a_file_of_other_fonts_is_rendered_again(
    glyphs_root, train, no_rendering, monkeypatch
):
    monkeypatch.setattr(letters, "fonts_digest", lambda: "other")
    with pytest.raises(AssertionError, match="rendered again"):
        Glyphs(glyphs_root, "train")


def test_contact_sheet(glyphs_root, train, tmp_path):
    png = tmp_path / "sheet.png"
    arguments = ["glyphs", "--data", str(glyphs_root), "--classes", "5", str(png)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert f"{len(train)} images of {train.num_train_classes} classes" in result.output
    sheet = np.asarray(Image.open(png))
    assert sheet.shape == (5 * 34 + 2, 16 * 34 + 2)
    assert np.array_equal(sheet[2:34, 2:34], train.images[0])

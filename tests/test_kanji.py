"""The Kanji data set, of the packages' own layout and tiny fonts made here."""

import io
import shutil
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.datasets import DatasetError, Kanji
from benchmarks.datasets import kanji as module
from benchmarks.datasets.kanji import FILES, PACKAGES

from .small_archives import write_npm

SHOWN = "亜唖娃阿哀愛"  # the first of level 1
ONE_FACE = "挨"  # that the others have not
OTHERS = "弌あA"  # of level 2, and none


def font(face: int, characters: str) -> bytes:
    """A font of rectangles, a height for each character and a width for each face."""
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"u{ord(x):x}" for x in characters)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(x): f"u{ord(x):x}" for x in characters})
    glyphs = {}
    for number, name in enumerate(names):
        pen = TTGlyphPen(None)
        height, width = 300 + 80 * number, 200 + 40 * face
        for move, x, y in (
            (pen.moveTo, 0, 0),
            (pen.lineTo, 0, height),
            (pen.lineTo, width, height),
            (pen.lineTo, width, 0),
        ):
            move((x, y))
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (1000, 0) for name in names})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": f"face {face}", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.font.flavor = "woff"
    file = io.BytesIO()
    builder.save(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    for face, package in enumerate(PACKAGES):
        characters = OTHERS + SHOWN + (ONE_FACE if face == 0 else "")
        write_npm(folder, package, {FILES[package]: font(face, characters)})
    return folder


@pytest.fixture(scope="module")
def root(archives, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kanji")
    Kanji(folder, archives=[archives])
    return folder


def test_level_1():
    kanji = list(module.level_1())
    assert len(kanji) == len(set(kanji)) == 2965
    assert kanji[0] == "亜" and kanji[-1] == "腕"


def test_classes(root):
    """Those that all faces have, in the standard's order, halved."""
    train, test = Kanji(root), Kanji(root, "test")
    assert train.class_names == test.class_names == list(SHOWN)
    assert train.labels == np.repeat([0, 1, 2], len(PACKAGES)).tolist()
    assert test.labels == np.repeat([3, 4, 5], len(PACKAGES)).tolist()
    assert Kanji(root, num_train_classes=2).labels == train.labels[: 2 * len(PACKAGES)]


def test_pictures_are_of_their_kanji_and_face(root):
    both = Kanji(root, "train+test")
    ink = both.images < 128
    heights = ink.any(axis=2).sum(axis=1).reshape(-1, len(PACKAGES))
    widths = ink.any(axis=1).sum(axis=1).reshape(-1, len(PACKAGES))
    assert (np.diff(heights, axis=0) > 0).all() and (np.ptp(heights, axis=1) <= 1).all()
    assert (np.diff(widths, axis=1) > 0).all() and (np.ptp(widths, axis=0) <= 1).all()


def test_items(root):
    image, label = Kanji(root, "test")[0]
    assert isinstance(image, Image.Image) and image.mode == "L"
    assert image.size == (32, 32) and label == 3


def test_rendered_once(root, monkeypatch):
    monkeypatch.setattr(module, "render", None)
    assert len(Kanji(root)) == 3 * len(PACKAGES)
    assert [path.name for path in root.iterdir()] == ["kanji.npz"]


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "has no files/"),
        ({FILES[PACKAGES[0]]: b"no font"}, "the fonts cannot be rendered"),
        ({FILES[PACKAGES[0]]: font(0, SHOWN[:1])}, "fonts of 2 or more kanji, got 1"),
    ],
)
def test_bad_packages(files, message, archives, tmp_path):
    folder = shutil.copytree(archives, tmp_path / "archives")
    write_npm(folder, PACKAGES[0], files)
    with pytest.raises(DatasetError, match=message):
        Kanji(tmp_path / "root", archives=[folder])
    assert not (tmp_path / "root").exists()


def test_commands(archives, tmp_path):
    run = partial(CliRunner().invoke, main, catch_exceptions=False)
    there = ["kanji", "--root", str(tmp_path / "root")]
    result = run(["data", "prepare", *there, "--archive", str(archives)])
    assert "96 images of 6 classes" in result.output
    result = run(["data", "prepare", *there, "--download"])
    assert result.exit_code == 2 and "kanji takes --archive only" in result.output
    result = run(["data", "verify", *there])
    assert result.exit_code == 0 and "48" in result.output

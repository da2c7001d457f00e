"""Glyphs: letters as classes, drawn in the fonts that matplotlib ships."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from . import cached_arrays, letters

FILE_NAME = "glyphs.npz"
FORMAT = 1
MIN_IMAGES = 12  # a class of fewer is left out
ARRAYS = ("images", "labels", "class_names", "class_scripts", "num_train_classes")


class Glyphs(cached_arrays.Rendered):
    """Real images that need no download: 32x32, grey, dark letters on white.

    A class is a distinct letter shape: letters that look the same in any face (Latin
    A, Greek Alpha, Cyrillic A) are one class. Classes with a Latin letter are for
    training, and show their Latin letters only; the others (Greek, Cyrillic, Armenian,
    Georgian) are for testing. So no test class and no test script is seen in training.

    Rendered once, into `root`, from the 12 DejaVu faces (which have every letter) and
    4 STIX faces. A file that is damaged, or that other fonts made, is rendered again.

    For arguments and items see Rendered. `num_train_classes` takes evenly spread ones.
    """

    ROOT, SPLIT = "data/glyphs", "train+test"
    class_scripts: list[str]

    def arrays(self) -> cached_arrays.Arrays:
        return load_or_render(self.root / FILE_NAME)

    def chosen(self, used: int, in_all: int) -> np.ndarray:
        return np.linspace(0, in_all - 1, used).round().astype(int)

    def describe(self, arrays: cached_arrays.Arrays, keep: np.ndarray) -> None:
        self.class_scripts = arrays["class_scripts"].tolist()


def load_or_render(path: Path) -> cached_arrays.Arrays:
    """The arrays of `path`, rendered first where there is no sound file."""
    key = f"{FORMAT} {letters.fonts_digest()}"
    return cached_arrays.load_or_make(path, ARRAYS, key, render)


def render() -> cached_arrays.Arrays:
    """All images, grouped by class, training classes first."""
    all_letters = letters.letters_of_every_face()
    pictures = letters.draw_all(all_letters)
    shape_of = letters.same_shape(all_letters, pictures)

    members: dict[int, list[str]] = defaultdict(list)
    for letter in all_letters:
        members[shape_of[letter]].append(letter)
    shown = {shape: _latin_or_all(group) for shape, group in members.items()}

    images: dict[int, dict[bytes, np.ndarray]] = defaultdict(dict)
    for picture in pictures:
        shape = shape_of[picture.letter]
        if picture.letter in shown[shape]:
            images[shape].setdefault(picture.pixels.tobytes(), picture.pixels)

    shapes = [shape for shape in shown if len(images[shape]) >= MIN_IMAGES]
    latin = {s for s in shapes if letters.script(shown[s][0]) == "Latn"}
    shapes.sort(key=lambda s: (s not in latin, shown[s][0]))
    classes = [list(images[shape].values()) for shape in shapes]
    return {
        "images": np.stack([image for group in classes for image in group]),
        "labels": np.repeat(np.arange(len(classes)), [len(g) for g in classes]),
        "class_names": np.array([unicodedata.name(shown[s][0]) for s in shapes]),
        "class_scripts": np.array([letters.script(shown[s][0]) for s in shapes]),
        "num_train_classes": np.array(len(latin)),
    }


def _latin_or_all(group: list[str]) -> list[str]:
    """Of letters of one shape the Latin ones if there are any, else all."""
    return [x for x in group if letters.script(x) == "Latn"] or group


def contact_sheet(dataset: Glyphs, classes: int = 40, columns: int = 16) -> Image.Image:
    """A picture to look at: a row a class, evenly spread over the split's classes."""
    labels = np.asarray(dataset.labels)
    present = np.unique(labels)
    classes = min(classes, len(present))
    chosen = present[np.linspace(0, len(present) - 1, classes).round().astype(int)]
    gap, size = 2, letters.SIZE
    step = size + gap
    sheet = Image.new("L", (columns * step + gap, len(chosen) * step + gap), 200)
    for row, label in enumerate(chosen):
        for column, index in enumerate(np.flatnonzero(labels == label)[:columns]):
            corner = (gap + column * step, gap + row * step)
            sheet.paste(Image.fromarray(dataset.images[index]), corner)
    return sheet

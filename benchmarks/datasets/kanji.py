"""Kanji as classes, drawn in Japanese fonts from npm."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from rich.progress import track

from ..console import plain_console
from . import cached_arrays, letters, npm
from .errors import DatasetError

FILE_NAME = "kanji.npz"
FORMAT = 1
FONT_SIZE = 30  # they fill their squares, as Latin letters do not
PACKAGES = tuple(
    npm.Package("fontsource", face, version, licence)
    for face, version, licence in (
        ("biz-udpgothic", "5.3.0", "OFL-1.1"),
        ("dotgothic16", "5.3.0", "OFL-1.1"),
        ("hachi-maru-pop", "5.3.0", "OFL-1.1"),
        ("hina-mincho", "5.2.8", "OFL-1.1"),
        ("kosugi", "5.3.0", "Apache-2.0"),
        ("kosugi-maru", "5.3.0", "Apache-2.0"),
        ("potta-one", "5.3.0", "OFL-1.1"),
        ("reggae-one", "5.3.0", "OFL-1.1"),
        ("rocknroll-one", "5.3.0", "OFL-1.1"),
        ("sawarabi-gothic", "5.3.1", "OFL-1.1"),
        ("sawarabi-mincho", "5.2.8", "OFL-1.1"),
        ("shippori-antique", "5.3.0", "OFL-1.1"),
        ("yuji-syuku", "5.3.0", "OFL-1.1"),
        ("yusei-magic", "5.3.0", "OFL-1.1"),
        ("zen-antique", "5.3.0", "OFL-1.1"),
        ("zen-kurenaido", "5.3.0", "OFL-1.1"),
    )
)
FILES = {p: f"files/{p.short_name}-japanese-400-normal.woff" for p in PACKAGES}
ARRAYS = ("images", "labels", "class_names", "num_train_classes")


class Kanji(cached_arrays.Fetched):
    """Real images from npm: 32x32, grey, dark kanji on white; a class is one kanji.

    The kanji of JIS X 0208, level 1, that all of 16 fonts have (PACKAGES: upright,
    written by hand or brush, of pixels). By the standard's order, which is that of how
    they are read, the first half is for training and the second for testing.

    Fetched with npm (130 MB, of which nothing stays) and rendered once, into `root`,
    which takes a minute or two and needs Node.js. A damaged file is rendered again.

    For arguments and items see Fetched. `num_train_classes` takes the first ones;
    `class_names` are the kanji.
    """

    ROOT, SPLIT = "data/kanji", "train"

    def arrays(self) -> cached_arrays.Arrays:
        key = " ".join(map(str, (FORMAT, FONT_SIZE, *PACKAGES)))
        return cached_arrays.load_or_make(
            self.root / FILE_NAME, ARRAYS, key, lambda: render(_fonts(self.archives))
        )


def _fonts(archives: Sequence[Path] | None) -> list[bytes]:
    found = npm.files(PACKAGES, FILES.values(), archives, plain_console())
    for package, files in zip(PACKAGES, found):
        if FILES[package] not in files:
            raise DatasetError(f"{package} has no {FILES[package]}")
    return [files[FILES[package]] for package, files in zip(PACKAGES, found)]


def level_1() -> Iterator[str]:
    """The kanji of JIS X 0208, level 1: rows 16 to 47, in order."""
    for row in range(16, 48):
        for cell in range(1, 95):
            yield from bytes([0xA0 + row, 0xA0 + cell]).decode("euc_jp", "ignore")


def render(fonts: Sequence[bytes]) -> cached_arrays.Arrays:
    """All images, grouped by class, training classes first.

    Raises:
        DatasetError: a font cannot be read, or they share fewer than two kanji.
    """
    try:
        covered = [TTFont(io.BytesIO(font)).getBestCmap() for font in fonts]
        shown = [x for x in level_1() if all(ord(x) in names for names in covered)]
        drawn = [
            [letters.draw(kanji, sizes) for kanji in shown]
            for sizes in track(
                (letters.sizes(io.BytesIO(font), FONT_SIZE) for font in fonts),
                "Rendering faces",
                len(fonts),
                console=plain_console(),
            )
        ]
    except Exception as error:  # a damaged font raises almost anything
        raise DatasetError(f"the fonts cannot be rendered: {error}") from error
    if len(shown) < 2:
        raise DatasetError(f"expected fonts of 2 or more kanji, got {len(shown)}")
    groups = [list({x.tobytes(): x for x in faces}.values()) for faces in zip(*drawn)]
    return {
        "images": np.stack([image for group in groups for image in group]),
        "labels": np.repeat(np.arange(len(shown)), [len(group) for group in groups]),
        "class_names": np.array(shown),
        "num_train_classes": np.array(len(shown) // 2),
    }

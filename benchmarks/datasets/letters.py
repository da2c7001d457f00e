"""Letters of the fonts that matplotlib ships: their pictures, and which look alike."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from fontTools import unicodedata as scripts
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

SIZE = 32  # pixels, of a picture's side
MARGIN = 1
FONT_SIZE = 22
PAPER, INK = 255, 0

DEJAVU = [
    f"DejaVu{family}{style}.ttf"
    for family, styles in {
        "Sans": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "SansMono": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "Serif": ("", "-Bold", "-Italic", "-BoldItalic"),
    }.items()
    for style in styles
]
STIX = [f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")]

Outline = tuple[tuple[str, tuple[tuple[float, float] | None, ...]], ...]


@dataclass(frozen=True)
class Picture:
    """One letter in one face."""

    letter: str
    face: str
    outline: Outline
    pixels: np.ndarray  # (SIZE, SIZE) of uint8


def font_folder() -> Path:
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def fonts_digest() -> str:
    """SHA-256 of all font files used, in order."""
    digest = hashlib.sha256()
    for name in DEJAVU + STIX:
        digest.update((font_folder() / name).read_bytes())
    return digest.hexdigest()


def script(letter: str) -> str:
    """The four-letter ISO 15924 code of its writing system; Zyyy if none of its own."""
    return str(scripts.script(letter))


def letters_of_every_face() -> list[str]:
    """Letters, of a script of their own, that all DejaVu faces have."""
    common: set[int] | None = None
    for name in DEJAVU:
        covered = set(TTFont(font_folder() / name).getBestCmap())
        common = covered if common is None else common & covered
    letters = [chr(code) for code in sorted(common or ())]
    return [
        letter
        for letter in letters
        if unicodedata.category(letter).startswith("L") and script(letter) != "Zyyy"
    ]


def draw_all(letters: Iterable[str]) -> list[Picture]:
    """Each letter in each face that has it (STIX lacks some)."""
    letters = list(letters)
    pictures = []
    for name in tqdm(DEJAVU + STIX, desc="Rendering faces"):
        path = font_folder() / name
        font = TTFont(path)
        names, glyphs = font.getBestCmap(), font.getGlyphSet()
        faces = sizes(path, FONT_SIZE)
        for letter in letters:
            if ord(letter) not in names:
                continue
            outline = _outline(glyphs, names[ord(letter)])
            if outline:
                pictures.append(Picture(letter, name, outline, draw(letter, faces)))
    return pictures


def same_shape(letters: list[str], pictures: list[Picture]) -> dict[str, int]:
    """Number letters so that those which look the same in any face share a number.

    They do if their outlines are equal but for their position, or their pictures are
    equal to the pixel. (Latin A, Greek Alpha and Cyrillic A share their outlines.)
    """
    by_look: dict[tuple[str, object], list[int]] = defaultdict(list)
    index = {letter: i for i, letter in enumerate(letters)}
    for picture in pictures:
        for look in (picture.outline, picture.pixels.tobytes()):
            by_look[picture.face, look].append(index[picture.letter])
    pairs = [(group[0], other) for group in by_look.values() for other in group[1:]]
    rows, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(letters),) * 2)
    _, numbers = connected_components(graph, directed=False)
    return {letter: int(number) for letter, number in zip(letters, numbers)}


def _outline(glyphs: object, name: str) -> Outline:
    """The drawing commands, moved to the origin; empty for a blank glyph."""
    pen = DecomposingRecordingPen(glyphs)
    glyphs[name].draw(pen)  # type: ignore[index]
    points = [p for _, args in pen.value for p in args if p is not None]
    if not points:
        return ()
    left, bottom = min(x for x, _ in points), min(y for _, y in points)
    return tuple(
        (command, tuple(p and (p[0] - left, p[1] - bottom) for p in args))
        for command, args in pen.value
    )


def sizes(font: Path | BytesIO, largest: int) -> dict[int, ImageFont.FreeTypeFont]:
    """A font in all sizes to draw in."""
    first = ImageFont.truetype(font, largest)
    return {size: first.font_variant(size=size) for size in range(8, largest + 1)}


def draw(letter: str, faces: dict[int, ImageFont.FreeTypeFont]) -> np.ndarray:
    """Dark ink on white paper, centred; smaller where the letter would not fit."""
    room = SIZE - 2 * MARGIN
    for size in sorted(faces, reverse=True):
        left, top, right, bottom = faces[size].getbbox(letter)
        if right - left <= room and bottom - top <= room:
            break
    image = Image.new("L", (SIZE, SIZE), PAPER)
    corner = (
        (SIZE - (right - left)) // 2 - left,
        (SIZE - (bottom - top)) // 2 - top,
    )
    ImageDraw.Draw(image).text(corner, letter, fill=INK, font=faces[size])
    return np.asarray(image)

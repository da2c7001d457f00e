"""From an image file to RGB, as a viewer would show it."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageOps

from .errors import DatasetError

# Those that Pillow decodes by itself: EPS and PDF would start another program, and
# some others (HDF5, MPEG, GRIB) it knows by name only.
FORMATS = (
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "MPO",
    "PCX",
    "PNG",
    "PPM",
    "QOI",
    "SGI",
    "TGA",
    "TIFF",
    "WEBP",
)
WHITE = (255, 255, 255, 255)
SIXTEEN_BITS = ("PNG", "PPM")  # which have no other where Pillow says "I"


def formats() -> list[str]:
    """Of FORMATS, those that this Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def suffixes() -> set[str]:
    """How names of such files end, in lower case."""
    known = formats()
    return {s for s, name in Image.registered_extensions().items() if name in known}


def read_image(path: str | os.PathLike[str]) -> tuple[Image.Image, str]:
    """The image as RGB, and the mode that it is stored in.

    It is turned as its EXIF orientation says. Transparent pixels are laid on white.
    Grey levels of 16 bits become their upper 8; whole or fractional numbers of 32 bits
    are taken to go to 1, 255 or 65,535, whichever is the first not to be exceeded, or
    from their least to their greatest.

    Raises:
        DatasetError: it cannot be decoded.
    """
    try:
        with Image.open(path, formats=formats()) as image:
            mode = image.mode
            if mode in ("I", "F") or mode.startswith("I;16"):
                return ImageOps.exif_transpose(_eight_bits(image)), mode
            upright = ImageOps.exif_transpose(image)
            return _on_white(upright).convert("RGB"), mode
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{os.fspath(path)}: {error}", "Make it smaller") from error
    except Exception as error:  # a damaged image raises almost anything
        raise DatasetError(
            f"{os.fspath(path)} cannot be read as an image: {error!r}",
            "Prepare the data set again, or restore this file",
        ) from error


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    with_alpha = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), with_alpha)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey levels of more than 8 bits, which Pillow would clip at 255."""
    levels = np.asarray(image)
    if image.mode.startswith("I;16") or image.format in SIXTEEN_BITS:
        scaled = levels.astype(np.int64) >> 8
    else:
        scaled = _scaled(levels.astype(np.float64), image.mode == "F")
    grey = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8)).convert("RGB")
    grey.info["exif"] = image.getexif().tobytes()
    return grey


def _scaled(levels: np.ndarray, fractions: bool) -> np.ndarray:
    finite = np.nan_to_num(levels)
    low, high = float(finite.min()), float(finite.max())
    if low >= 0:
        for top, factor in ((1, 255.0 * fractions), (255, 1.0), (65_535, 1 / 256)):
            if factor and high <= top:
                return np.floor(finite * factor + 0.5 * (factor == 255.0))
    return np.round((finite - low) * (255 / (high - low or 1)))

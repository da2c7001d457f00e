"""Drawings of Iconify icon sets, and rendering them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from .emoji_packages import IconSet
from .errors import DatasetError

SIZE = 64  # pixels, of a picture's side
MEASURES = {"left": 0, "top": 0, "width": 16, "height": 16}  # Iconify's defaults
SVG = "{http://www.w3.org/2000/svg}"
# What a drawing may consist of. The rest of SVG could read other files, or depend on
# the fonts installed.
ALLOWED = frozenset(
    "svg g defs symbol use path rect circle ellipse line polyline polygon "
    "linearGradient radialGradient stop clipPath mask pattern title desc "
    "filter feBlend feColorMatrix feComponentTransfer feComposite feFlood feFuncA "
    "feFuncB feFuncG feFuncR feGaussianBlur feMerge feMergeNode feMorphology "
    "feOffset".split()
)


@dataclass(frozen=True)
class Drawing:
    """What is drawn; equal for icons that only differ in name."""

    body: str  # SVG elements
    left: float
    top: float
    width: float
    height: float
    h_flip: bool = False
    v_flip: bool = False
    rotate: int = 0  # quarter turns, clockwise, after the flips


def drawings(icon_set: IconSet) -> dict[str, Drawing]:
    """Those of all icons and aliases by name, but for spoilt ones.

    These are hidden (withdrawn), or have classes of a style sheet that the set lacks.

    Raises:
        DatasetError: the set is not as Iconify's are.
    """
    icons: Any = icon_set.icons.get("icons")
    aliases: Any = icon_set.icons.get("aliases", {})
    try:
        found = {name: _find(name, icon_set.icons) for name in [*icons, *aliases]}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{icon_set.package}: icons.json is not a sound Iconify icon set: {error!r}"
        ) from error
    return {name: drawing for name, drawing in found.items() if drawing is not None}


def _find(name: str, data: dict[str, Any]) -> Drawing | None:
    """An alias is its parent, with some measures or transformations of its own."""
    icon = data["icons"].get(name)
    if icon is None:
        icon = data["aliases"][name]
        drawing = _find(icon["parent"], data)
    else:
        measures = {key: data.get(key, MEASURES[key]) for key in MEASURES}
        drawing = Drawing(str(icon["body"]), **measures)
    if drawing is None or icon.get("hidden") or " class=" in drawing.body:
        return None
    own: dict[str, Any] = {
        key: float(icon.get(key, getattr(drawing, key))) for key in MEASURES
    }
    return replace(
        drawing,
        **own,
        h_flip=drawing.h_flip ^ bool(icon.get("hFlip")),
        v_flip=drawing.v_flip ^ bool(icon.get("vFlip")),
        rotate=(drawing.rotate + int(icon.get("rotate", 0))) % 4,
    )


def render_all(items: Sequence[Drawing], console: Console) -> list[np.ndarray]:
    """Pictures of (SIZE, SIZE, 3), uint8, on white.

    Raises:
        DatasetError: resvg-py is not installed, or a drawing is not sound.
    """
    shown: Iterable[Drawing] = track(items, "Rendering emoji", console=console)
    return [render(drawing) for drawing in shown]


def render(drawing: Drawing) -> np.ndarray:
    """One picture; the drawing is centred on a square and fills its longer side."""
    try:
        import resvg_py
    except ImportError as error:
        raise DatasetError(
            "rendering emoji needs resvg-py: pip install resvg-py"
        ) from error
    svg = _svg(drawing)
    _check_elements(svg)
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg,
            background="#ffffff",
            width=SIZE,
            height=SIZE,
            skip_system_fonts=True,
        )
    except ValueError as error:
        raise DatasetError(
            f"cannot be rendered: {error}: {drawing.body[:200]}"
        ) from error
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    # The square is centred, so turning pixels is turning the drawing.
    if drawing.h_flip:
        pixels = pixels[:, ::-1]
    if drawing.v_flip:
        pixels = pixels[::-1]
    return np.ascontiguousarray(np.rot90(pixels, -drawing.rotate))


def _check_elements(svg: str) -> None:
    """Raise DatasetError for elements and references that are not for drawings."""
    try:
        if "<!" in svg:  # entities, and what comments could hide
            raise DatasetError("a drawing with <!")
        for element in ElementTree.fromstring(svg).iter():
            if element.tag.removeprefix(SVG) not in ALLOWED:
                raise DatasetError(f"a drawing with <{element.tag}>")
            for name, value in element.attrib.items():
                is_link = name.rpartition("}")[2] == "href"
                if is_link and not value.startswith("#"):
                    raise DatasetError(f"a drawing with {name}={value!r}")
    except (DatasetError, ElementTree.ParseError) as error:
        raise DatasetError(f"cannot be rendered: {error}: {svg[:300]}") from error


def _svg(drawing: Drawing) -> str:
    side = max(drawing.width, drawing.height)
    left = drawing.left - (side - drawing.width) / 2
    top = drawing.top - (side - drawing.height) / 2
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left:g} {top:g} {side:g} {side:g}" '
        f'width="{side:g}" height="{side:g}">{drawing.body}</svg>'
    )

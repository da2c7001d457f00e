"""Drawings of Iconify icon sets, and rendering them."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
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
PROCESS = Path(__file__).with_name("svg_process.py")
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

    A drawing is centred on a square and fills its longer side.

    Raises:
        DatasetError: resvg-py is not installed, or a drawing is not sound, or takes too
            much time or memory.
    """
    if find_spec("resvg_py") is None:
        raise DatasetError("rendering emoji needs resvg-py: pip install resvg-py")
    process = subprocess.Popen(
        [sys.executable, str(PROCESS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="ascii",
    )
    with process:
        try:
            shown = track(items, "Rendering emoji", console=console)
            return [_render(drawing, process) for drawing in shown]
        finally:
            process.kill()


def _render(drawing: Drawing, process: subprocess.Popen[str]) -> np.ndarray:
    svg = _svg(drawing)
    _check_elements(svg)
    options = {"background": "#ffffff", "skip_system_fonts": True}
    request = {"svg_string": svg, "width": SIZE, "height": SIZE, **options}
    assert process.stdin is not None and process.stdout is not None  # they are pipes
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
    except (OSError, ValueError):  # it is not there any more
        answer = {"error": "it takes too much time or memory, or crashes the renderer"}
    if "error" in answer:
        raise DatasetError(f"cannot be rendered: {answer['error']}: {svg[:300]}")
    png = base64.b64decode(answer["png"])
    pixels = np.asarray(Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB"))
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

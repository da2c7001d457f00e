"""Draws the figures of the documentation, each for light and for dark pages.

    python docs/figures/draw.py [FOLDER]

Both show N = 4 and M = 2 at step 13: snapshots of steps 10, 7, 4 and 1 are met.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.patches import FancyArrowPatch, Rectangle  # noqa: E402

N, M, STEP = 4, 2, 13
WIDTH, LARGE, SMALL = 4.6, 12, 10.5  # inches and points: a phone shows it as it is
SETTINGS = {"svg.hashsalt": "pml-memvir", "svg.fonttype": "path", "font.size": LARGE}


@dataclass(frozen=True)
class Colours:
    """Fills and lines on a page of either scheme; the page itself shows through."""

    text: str
    plain: str
    plain_line: str
    now: str
    now_line: str
    replaced: str
    replaced_line: str


SCHEMES = {
    "light": Colours(
        "#212121", "#eeeeee", "#9e9e9e", "#c5cae9", "#3949ab", "#ffe0b2", "#bf5600"
    ),
    "dark": Colours(
        "#e8e8ee", "#3a3d4a", "#7d8192", "#3f4c94", "#a3b0ff", "#7a4a12", "#ffb765"
    ),
}


def met(step: int) -> list[int]:
    """Steps whose snapshots a step meets, newest first."""
    return [step - k * (M + 1) for k in range(1, N + 1)]


def cell(step: int) -> tuple[int, int]:
    """Track and cell of a step's snapshot, as row and column."""
    return step % (M + 1), step // (M + 1) % N


def memory_grid(ax: Axes, c: Colours) -> None:
    """What each cell holds when step 13 comes: it reads a track and replaces a cell."""
    own = cell(STEP)
    for step in range(STEP - N * (M + 1), STEP):
        row, column = cell(step)
        fill, line, width = c.plain, c.plain_line, 1.0
        if row == own[0]:
            fill, line, width = c.now, c.now_line, 1.6
        if (row, column) == own:
            fill, line, width = c.replaced, c.replaced_line, 2.4
        ax.add_patch(_box(column, -row, fill, line, width, width > 2))
        replaced = (row, column) == own
        text = f"{step} → {STEP}" if replaced else str(step)
        _write(ax, column + 0.5, -row - 0.5, text, c, bold=replaced)
    for row in range(M + 1):
        _write(ax, -0.15, -row - 0.5, f"track {row}", c, SMALL, ha="right")
    _write(ax, N / 2, 0.3, f"N = {N} cells", c, SMALL)
    _span(ax, c, (0, 0.12), (N, 0.12))
    _write(ax, -1.28, -(M + 1) / 2, f"M + 1 = {M + 1} tracks", c, SMALL, rotation=90)
    _span(ax, c, (-1.08, 0), (-1.08, -M - 1))
    mod = f"{STEP} mod {M + 1} = {own[0]}"
    _legend(
        ax, 0, -3.55, c.now, c.now_line, f"step {STEP} reads track {own[0]} ({mod})", c
    )
    oldest = f"then replaces its oldest cell, of step {met(STEP)[-1]}"
    _legend(ax, 0, -4.1, c.replaced, c.replaced_line, oldest, c)
    _limits(ax, (-1.5, N + 0.05), (-4.4, 0.55))


def blocks(ax: Axes, c: Colours) -> None:
    """The blocks of logits of step 13, each with the step that computed it."""
    steps = [STEP, *met(STEP)]
    for i, rows in enumerate(steps):
        for j, classes in enumerate(steps):
            now = STEP in (rows, classes)
            fill, line = (c.now, c.now_line) if now else (c.plain, c.plain_line)
            ax.add_patch(_box(j, -i, fill, line, 1.6 if now else 1.0, now))
            _write(ax, j + 0.5, -i - 0.5, str(max(rows, classes)), c, bold=now)
    for i, step in enumerate(steps):
        _write(ax, i + 0.5, 0.25, str(step), c, SMALL)
        _write(ax, -0.15, -i - 0.5, str(step), c, SMALL, ha="right")
    _write(ax, (N + 1) / 2, 0.72, "class weights of step", c, SMALL)
    _write(ax, -0.85, -(N + 1) / 2, "embeddings of step", c, SMALL, rotation=90)
    now = f"computed now: 2N + 1 = {2 * N + 1} blocks"
    _legend(ax, -0.6, -5.6, c.now, c.now_line, now, c)
    kept = f"remembered: N² = {N * N}, each from the step in it"
    _legend(ax, -0.6, -6.2, c.plain, c.plain_line, kept, c)
    _limits(ax, (-1.1, N + 1.4), (-6.55, 1.0))


FIGURES: dict[str, Callable[[Axes, Colours], None]] = {
    "memory-grid": memory_grid,
    "blocks": blocks,
}


def draw(folder: Path) -> list[Path]:
    """Write all figures to a folder, NAME-light.svg and NAME-dark.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in FIGURES.items():
        for scheme, colours in SCHEMES.items():
            with matplotlib.rc_context(SETTINGS):
                made, ax = plt.subplots(layout="constrained")
                figure(ax, colours)
                (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
                made.set_size_inches(WIDTH, WIDTH * (high - low) / (right - left))
                path = folder / f"{name}-{scheme}.svg"
                made.savefig(path, transparent=True, metadata={"Date": None})
                plt.close(made)
            written.append(path)
    return written


def _box(
    x: float, y: float, fill: str, line: str, width: float, in_front: bool = False
) -> Rectangle:
    """A cell whose upper left corner is (x, y)."""
    gap = 0.05
    return Rectangle(
        (x + gap, y - 1 + gap),
        1 - 2 * gap,
        1 - 2 * gap,
        facecolor=fill,
        edgecolor=line,
        linewidth=width,
        zorder=3 if in_front else 2,
    )


def _write(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    c: Colours,
    size: float = LARGE,
    *,
    bold: bool = False,
    ha: str = "center",
    rotation: float = 0,
) -> None:
    weight = "bold" if bold else "normal"
    style = {"color": c.text, "fontsize": size, "fontweight": weight}
    ax.text(x, y, text, ha=ha, va="center", rotation=rotation, zorder=4, **style)


def _legend(
    ax: Axes, x: float, y: float, fill: str, line: str, text: str, c: Colours
) -> None:
    size = 0.32
    corner = (x + 0.05, y - size / 2)
    box = Rectangle(corner, size, size, facecolor=fill, edgecolor=line, linewidth=1.6)
    ax.add_patch(box)
    _write(ax, x + 0.55, y, text, c, SMALL, ha="left")


def _span(
    ax: Axes, c: Colours, start: tuple[float, float], end: tuple[float, float]
) -> None:
    line = {"color": c.plain_line, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="|-|,widthA=2,widthB=2", **line)
    )


def _limits(ax: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    ax.set(xlim=x, ylim=y, aspect="equal")
    ax.axis("off")


if __name__ == "__main__":
    here = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for path in draw(here):
        print(path)

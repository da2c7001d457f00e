"""What MemVir saw in training: its shares, losses and drift, as a PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from .files import replacing
from .structure import Insight

SHARES = {
    "share_of_actual_classes": "actual classes",
    "share_of_own_copies": "old copies of the own class",
    "share_of_other_copies": "old copies of other classes",
}
LOSSES = {
    "actual_loss": "actual rows",
    "virtual_loss": "virtual rows",
    "log_num_copies": "ln(n + 1)",
}
COSINES = {
    "cosine_to_newest": "to the newest snapshot",
    "cosine_to_oldest": "to the oldest snapshot",
}
PANELS = (
    ("Where actual rows put their probability", SHARES),
    ("Loss", LOSSES),
    ("Cosine of class weights", COSINES),
)


def draw(arms: Sequence[Insight], path: Path) -> None:
    """A row an arm: shares, losses beside ln(n + 1), and drift, over training steps."""
    size = (4.2 * len(PANELS), 2.9 * len(arms) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(arms), len(PANELS), squeeze=False)
    colors = colormaps["tab10"]
    for axes_of_arm, arm in zip(grid, arms):
        for axes, (title, names) in zip(axes_of_arm, PANELS):
            for number, (name, label) in enumerate(names.items()):
                if name in arm.lines:
                    line = arm.lines[name]
                    style = "--" if name == "log_num_copies" else "-"
                    marker = "o" if len(line.x) == 1 else None
                    axes.plot(
                        line.x,
                        line.y,
                        style,
                        color=colors(number),
                        label=label,
                        marker=marker,
                    )
            if names is SHARES:
                axes.set_ylim(0, 1)
            axes.set_title(f"{arm.label}\n{title}", fontsize="small")
            axes.set_xlabel("training steps", fontsize="small")
            axes.grid(alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize="x-small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png")

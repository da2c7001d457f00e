"""`python -m benchmarks speed`: the table, a JSON file and a figure."""

from __future__ import annotations

import json
import os
from pathlib import Path

from matplotlib.figure import Figure
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from .arms import Setting
from .measure import Results, machine, measure

TWELVE = (
    "NormalizedSoftmaxLoss",
    "ProxyNCALoss",
    "ProxyAnchorLoss",
    "SoftTripleLoss",
    "LargeMarginSoftmaxLoss",
    "SphereFaceLoss",
    "CosFaceLoss",
    "ArcFaceLoss",
    "SubCenterArcFaceLoss",
    "NormSoftmax",
    "ProxyNCA",
    "Softmax",
)
PAPER = [
    Setting("NormSoftmax", 45, 10, 128, 98, 512),  # CARS196
    Setting("ProxyNCA", 20, 25, 128, 98, 512),  # CARS196
    Setting("NormSoftmax", 20, 1, 64, 1000, 128),
    Setting("NormSoftmax", 10, 0, 64, 11318, 512),  # the classes of SOP
]
OF_EACH_LOSS = [Setting(loss, 10, 3, 64, 500, 256) for loss in TWELVE]
GROWTH = {
    "N": [Setting("NormSoftmax", n, 0, 64, 200, 128) for n in (2, 5, 10, 20, 40)],
    "C": [
        Setting("NormSoftmax", 10, 0, 64, c, 128) for c in (100, 200, 400, 800, 1600)
    ],
    "B": [Setting("NormSoftmax", 10, 0, b, 200, 128) for b in (16, 32, 64, 128, 256)],
}
QUICK = [
    Setting("NormSoftmax", 3, 1, 8, 20, 16),
    Setting("CosFaceLoss", 2, 0, 8, 20, 16),
]


def run(
    output: Path, repeats: int, device: str, quick: bool, console: Console
) -> dict[str, object]:
    """Measure everything, print the tables, write speed.json and growth.png."""
    rows = [
        measure(setting, repeats, device, with_memory=True)
        for setting in (QUICK if quick else PAPER + OF_EACH_LOSS)
    ]
    console.print(table(rows, fits_terminal=True))
    growth: dict[str, list[Results]] = {}
    for name, settings in GROWTH.items():
        settings = settings[:2] if quick else settings
        growth[name] = [
            measure(s, repeats, device, with_memory=False) for s in settings
        ]
    about = machine()
    result: dict[str, object] = {
        "machine": about,
        "device": device,
        "rows": rows,
        "growth": growth,
    }
    output.mkdir(parents=True, exist_ok=True)
    temporary = output / "speed.json.tmp"
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(temporary, output / "speed.json")
    (output / "speed.md").write_text(as_markdown(rows, about))
    plot(growth, output / "growth.png")
    console.print(f"Written to {output}: speed.json, speed.md, growth.png")
    return result


def table(rows: list[Results], fits_terminal: bool = False) -> Table:
    """Medians of a step, forward and backward, memory full, and their ratios.

    The whole table has peak memory, too, and how many pages the kernel had to map in a
    step of the oracle; what fits a terminal of 80 characters has not.
    """
    style = {"box": None, "padding": (0, 1, 0, 0)} if fits_terminal else {}
    result = Table(**{"box": MARKDOWN, **style})  # type: ignore[arg-type]
    heads = ["plain ms", "fast ms", "oracle ms", "floor ms"]
    heads += ["oracle / fast", "fast / floor"]
    if fits_terminal:
        heads = ["N M B C D", *heads]
    else:
        heads = ["N", "M", "B", "C", "D", *heads]
        heads += ["fast MB", "oracle MB", "oracle faults"]
    result.add_column("loss", no_wrap=True)
    for head in heads:
        result.add_column(head, justify="right")
    for row in rows:
        loss, *sizes = (str(value) for value in row["setting"].values())
        cells = [" ".join(sizes)] if fits_terminal else sizes
        cells += [
            f"{1000 * row['median'][arm]:.1f}" if arm in row["median"] else "too large"
            for arm in ("plain", "fast", "oracle", "floor")
        ]
        ratio = row["oracle / fast"]
        cells += [
            "-" if ratio is None else f"{ratio:.1f}",
            f"{row['fast / floor']:.2f}",
        ]
        if not fits_terminal:
            peak, faults = row["peak MB"], row["page faults"]
            cells += [
                f"{peak[a]:.0f}" if a in peak else "-" for a in ("fast", "oracle")
            ]
            cells += [f"{faults['oracle']:.0f}" if ratio else "-"]
        result.add_row(loss, *cells)
    return result


def as_markdown(rows: list[Results], machine_: object) -> str:
    """The table as a file."""
    console = Console(record=True, width=200, file=open(os.devnull, "w"))
    console.print(table(rows))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    about = "\n".join(f"- {k}: {v}" for k, v in dict(machine_).items())  # type: ignore
    return "\n".join(line for line in lines if line) + f"\n\n{about}\n"


def plot(growth: dict[str, list[Results]], path: Path) -> None:
    """Time against N, C and B, both axes logarithmic."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, len(growth)), growth.items()):
        for arm in ("oracle", "fast", "plain", "floor"):
            points = [
                (row["setting"][name], 1000 * row["median"][arm])
                for row in rows
                if arm in row["median"]
            ]
            if points:
                style = {"ls": "--", "color": "0.5"} if arm == "floor" else {}
                axes.plot(*zip(*points), marker="o", ms=3, label=arm, **style)
        fixed = {k: v for k, v in rows[0]["setting"].items() if k not in (name, "loss")}
        about = ", ".join(f"{k}={v}" for k, v in fixed.items())
        axes.set(xscale="log", yscale="log", xlabel=name, title=about)
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].set_ylabel("ms a step, forward and backward")
    figure.axes[-1].legend()
    figure.savefig(path, dpi=150)

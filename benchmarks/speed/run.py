"""`python -m benchmarks speed`: the table, a JSON file and a figure."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from ..files import write_png, write_text
from ..report.markdown import as_table
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
OF_MEMORY = ["fast MB", "oracle MB", "oracle faults"]
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
    made = table(rows)
    sizes = made[[*"NMBCD"]].agg(" ".join, axis=1)
    narrow = made.drop(columns=[*"NMBCD", *OF_MEMORY])
    narrow.insert(1, "N M B C D", sizes)
    console.print(narrow.to_string(index=False))
    growth = {
        name: [
            measure(setting, repeats, device, with_memory=False)
            for setting in (settings[:2] if quick else settings)
        ]
        for name, settings in GROWTH.items()
    }
    about = machine()
    result: dict[str, object] = {"machine": about, "device": device}
    result |= {"rows": rows, "growth": growth}
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "speed.json", json.dumps(result, indent=1) + "\n")
    lines = "\n".join(f"- {name}: {value}" for name, value in about.items())
    write_text(output / "speed.md", f"{as_table(made)}\n\n{lines}\n")
    plot(growth, output / "growth.png")
    console.print(f"Written to {output}: speed.json, speed.md, growth.png")
    return result


def table(rows: list[Results]) -> pd.DataFrame:
    """Medians of a step, forward and backward, memory full, and their ratios.

    And peak memory, and how many pages the kernel had to map in a step of the oracle.
    """
    made = []
    for row in rows:
        median, ratio = row["median"], row["oracle / fast"]
        cells = {name: str(value) for name, value in row["setting"].items()}
        for arm in ("plain", "fast", "oracle", "floor"):
            too_large = arm not in median
            cells[f"{arm} ms"] = (
                "too large" if too_large else f"{1e3 * median[arm]:.1f}"
            )
        cells["oracle / fast"] = "-" if ratio is None else f"{ratio:.1f}"
        cells["fast / floor"] = f"{row['fast / floor']:.2f}"
        peak, faults = row["peak MB"], row["page faults"]
        for arm in ("fast", "oracle"):
            cells[f"{arm} MB"] = f"{peak[arm]:.0f}" if arm in peak else "-"
        cells["oracle faults"] = f"{faults['oracle']:.0f}" if ratio else "-"
        made.append(cells)
    return pd.DataFrame(made)


def plot(growth: dict[str, list[Results]], path: Path) -> None:
    """Time against N, C and B, both axes logarithmic."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, len(growth)), growth.items()):
        for arm in ("oracle", "fast", "plain", "floor"):
            points = {
                row["setting"][name]: 1000 * row["median"][arm]
                for row in rows
                if arm in row["median"]
            }
            style = {"ls": "--", "color": "0.5"} if arm == "floor" else {}
            if points:
                axes.plot(*zip(*points.items()), marker="o", ms=3, label=arm, **style)
        fixed = {k: v for k, v in rows[0]["setting"].items() if k not in (name, "loss")}
        about = ", ".join(f"{k}={v}" for k, v in fixed.items())
        axes.set(xscale="log", yscale="log", xlabel=name, title=about)
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].set_ylabel("ms a step, forward and backward")
    figure.axes[-1].legend()
    write_png(path, figure)

"""The figures of a report, one function each."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from .build import Report
from .curves import curves
from .names import metric_label
from .selection import LABELS
from .tables import last_insights, of_memvir
from .text import mathtext

FEWEST_SHARES = 3  # arms, for a figure
SHARE = "share_of_actual_classes"
PANELS = {
    "Where actual rows put their probability": {
        SHARE: "actual classes",
        "share_of_own_copies": "old copies of the own class",
        "share_of_other_copies": "old copies of other classes",
    },
    "Loss": {
        "actual_loss": "actual rows",
        "virtual_loss": "virtual rows",
        "log_num_copies": "ln(n + 1)",
    },
    "Cosine of class weights": {
        "cosine_to_newest": "to the newest snapshot",
        "cosine_to_oldest": "to the oldest snapshot",
    },
}


def drawn(
    report: Report, wanted: Collection[str]
) -> Iterator[tuple[str, Figure | None, int]]:
    """What it is called, the figure if there is something to draw, and dots an inch.

    Args:
        wanted: of ALL_FIGURES. Of several data sets there are curves of each, too.
    """
    for name in ALL_FIGURES:
        if name in FIGURES and name in wanted:
            draw, dots = FIGURES[name]
            yield name, draw(report), dots
        elif name in wanted:
            datasets = list(dict.fromkeys(report.runs.experiments.dataset))
            yield name, curves(report, datasets), 150
            for dataset in datasets if len(datasets) > 1 else ():
                ending = re.sub(r"[^\w.-]", "_", dataset) or "unnamed"
                yield f"{name}_{ending}", curves(report, [dataset]), 150


def differences(report: Report) -> Figure | None:
    """A row of panels a data set, a panel a metric, a line an arm, a color a selection.

    Points are means over pairs of seeds, bars their 95% intervals (none of one pair).
    None where nothing is compared.
    """
    arms: dict[str, dict[tuple[str, str], None]] = {}
    for dataset, _, of in report.sections():
        if compared := [arm for arm in of if arm[0] in report.baselines]:
            arms.setdefault(dataset, {}).update(dict.fromkeys(compared))
    if not arms:
        return None
    metrics, heights = report.metrics, [len(of) for of in arms.values()]
    size = 3 + 3.2 * len(metrics), 1.6 + 0.42 * sum(heights) + 0.7 * len(heights)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(
        *(len(arms), len(metrics)),
        squeeze=False,
        sharey="row",
        height_ratios=[height + 1 for height in heights],
    )
    legend: dict[str, Any] = {}
    for row, (dataset, shown) in zip(grid, arms.items()):
        names = [_label(report, *arm) for arm in shown]
        for axes, metric in zip(row, metrics):
            axes.axvline(0, color="black", lw=0.8)
            for number, selection in enumerate(report.selections):
                shift = 0.22 * (number - (len(report.selections) - 1) / 2)
                for place, arm in enumerate(shown):
                    delta = report.difference(dataset, selection, *arm, metric)
                    if delta.mean is None:
                        continue
                    half = 0 if delta.high is None else 100 * (delta.high - delta.mean)
                    at = 100 * delta.mean, place + shift
                    style = {"fmt": "o", "ms": 4, "capsize": 2, "color": f"C{number}"}
                    bar = axes.errorbar(*at, xerr=half, **style)
                    legend[LABELS[selection]] = bar
            axes.set_yticks(range(len(shown)), names, fontsize="small")
            axes.set_ylim(len(shown) - 0.5, -0.5)
            axes.set_title(mathtext(metric_label(metric)), fontsize="medium")
            axes.grid(axis="x", alpha=0.3)
        row[0].set_ylabel(mathtext(dataset or "unnamed data set"))
    title = (
        "Difference to the baseline, in points: mean over pairs of seeds, 95% interval"
    )
    figure.suptitle(title, fontsize="medium")
    ncols = max(1, len(legend))
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=ncols)
    return figure


def shares(report: Report) -> Figure | None:
    """What arms gain, over how well MemVir told their classes from old copies.

    A panel a section with several such arms, a point an arm, a color a loss. Not of
    best_on_test, whose differences are optimistic. None where there is no panel.
    """
    last, metric = last_insights(report.runs), report.metrics[0]
    table, panels = report.runs.experiments, {}
    for dataset, selection, arms in report.sections():
        points = [
            (table.loss[name].partition("+")[0], last[name, SHARE], 100 * delta.mean)
            for name, kind in arms
            if kind != "concatenated" and (name, SHARE) in last
            for delta in [report.difference(dataset, selection, name, kind, metric)]
            if delta.mean is not None
        ]
        if len(points) >= FEWEST_SHARES and selection != "best_on_test":
            title = f"{dataset or 'unnamed data set'}, {LABELS[selection]}"
            panels[title] = pd.DataFrame(points, columns=["loss", "x", "y"])
    if not panels:
        return None
    figure = Figure(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    losses = sorted(set(pd.concat(panels.values()).loss))
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, of_panel) in zip(grid, panels.items()):
        axes.axhline(0, color="black", lw=0.8)
        for number, loss in enumerate(losses):
            of = of_panel[of_panel.loss == loss]
            color, marker = colormaps["tab10"](number % 10), "os^Dv"[number % 5]
            style = {"s": 26, "color": color, "marker": marker}
            axes.scatter(of.x, of.y, label=mathtext(loss), **style)
        label = f"{metric_label(metric)}: difference to the baseline, in points"
        axes.set(title=mathtext(title), ylabel=mathtext(label), xlim=(0, 1))
        axes.set_xlabel("probability on the actual classes, until the last evaluation")
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def insights(report: Report) -> Figure | None:
    """What MemVir saw in training: a row an arm, over training steps.

    Shares, losses beside ln(n + 1), and drift: means over the trials that have got to a
    step. None where it saw nothing.
    """
    seen = of_memvir(report.runs)
    means = seen.groupby(["experiment", "metric", "step"]).value.mean()
    lines = {of: line.droplevel([0, 1]) for of, line in means.groupby(level=[0, 1])}
    arms = list(dict.fromkeys(seen.experiment))
    if not arms:
        return None
    size = 4.2 * len(PANELS), 2.9 * len(arms) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(arms), len(PANELS), squeeze=False)
    for row, arm in zip(grid, arms):
        for axes, (title, names) in zip(row, PANELS.items()):
            for number, (name, label) in enumerate(names.items()):
                if (line := lines.get((arm, name))) is None:
                    continue
                dashes = "--" if name == "log_num_copies" else "-"
                marker = "o" if len(line) == 1 else None
                style = {"color": f"C{number}", "label": label, "marker": marker}
                axes.plot(line, dashes, **style)
            if SHARE in names:
                axes.set_ylim(0, 1)
            axes.set_title(mathtext(arm) + f"\n{title}", fontsize="small")
            axes.set_xlabel("training steps", fontsize="small")
            axes.grid(alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize="x-small")
    return figure


def _label(report: Report, name: str, kind: str) -> str:
    arm = report.runs.experiments.arm[name]
    return mathtext(arm if kind == "single" else f"{arm}, {kind}")


# By name: what is drawn, and dots an inch.
FIGURES: dict[str, tuple[Callable[[Report], Figure | None], int]] = {
    "differences": (differences, 150),
    "actual_shares": (shares, 130),
    "memvir": (insights, 80),
}
ALL_FIGURES = ("differences", "curves", "actual_shares", "memvir")

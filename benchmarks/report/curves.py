"""The figure of learning curves."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .build import Report
from .names import LOSSES, metric_label, order
from .notes import about, versions
from .runs import SEED, Runs
from .selection import accuracies
from .text import mathtext

MAX_SEED_LINES = 5
MAX_LOSSES = 3  # that share a panel
# Where the longest schedule is so many times the shortest, that would be a sliver.
LOGARITHMIC_FROM = 4
LEGEND_WIDTH = 24  # characters of a label and its line, of 4 inches


def curves(report: Report, datasets: Sequence[str]) -> Figure:
    """Learning curves: a row a data set, a panel a metric, a line an arm.

    Losses that are more than MAX_LOSSES have a panel each, and metrics a row. Dashed
    lines are baselines. The line is the mean over finished seeds, the band goes from
    the worst to the best; thin lines are single seeds, if they are few. They are of the
    test split, or of held-out classes where nothing else is reported.
    """
    held_out = report.selections == ("held_out",)
    points = curve_points(report.runs, held_out)
    table = report.runs.experiments
    table = table.assign(plain=_plain(report), color=_colors(report))
    captions, panels = [], []
    apart = any(_many(table[table.dataset == name]) for name in datasets)
    for dataset in datasets:
        arms = table[table.dataset == dataset]
        text = f"{about(report.runs, arms)} {versions(arms)}"
        captions.append(f"Of held-out classes. {text}" if held_out else text)
        groups = [of for _, of in arms.groupby("color", sort=False)]
        if apart:
            panels += [[(metric, of) for of in groups] for metric in report.metrics]
        else:
            panels.append([(metric, arms) for metric in report.metrics])
    columns = max(map(len, panels))
    width = max((2.7 if apart else 4.2) * columns, 7)
    size = width, (2.6 if apart else 3.4) * len(panels) + 1.6
    figure = Figure(figsize=size, layout="constrained")
    share: Any = "row" if apart else "none"
    grid = figure.subplots(len(panels), columns, squeeze=False, sharey=share)
    handles: dict[str, Line2D] = {}
    for row, line in zip(grid, panels):
        for axes, (metric, arms) in zip(row, line):
            first, title = arms.iloc[0], metric_label(metric)
            title = f"{first.arm}, {title}" if apart else title
            if len(datasets) > 1 and first.dataset:
                title = first.dataset + ("\n" if apart else ": ") + title
            axes.set_title(mathtext_lines(title), fontsize="medium")
            of_metric = points[points.metric == metric]
            handles |= _draw_arms(axes, arms, of_metric, report.runs)
        row[0].set_ylabel("percent")
        for axes in row[len(line) :]:
            axes.set_axis_off()
    per_row = max(1, round(width / 4 * LEGEND_WIDTH / (max(map(len, handles)) + 8)))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(per_row, len(handles)),
        handlelength=3,
        fontsize="small",
    )
    key = "Lines: mean over finished seeds; bands: worst to best; dashed: plain losses."
    texts = (textwrap.fill(text, round(15 * width)) for text in [*captions, key])
    figure.suptitle(mathtext_lines("\n".join(texts)), fontsize="small")
    return figure


def curve_points(runs: Runs, held_out: bool = False) -> pd.DataFrame:
    """By experiment, seed and metric: values by epoch and step, means over folds.

    Only where all folds have been evaluated.
    """
    found = accuracies(runs, held_out)
    found = found[found.epoch > 0]
    by = [*SEED, "metric", "epoch", "step"]
    means = found.groupby(by, as_index=False).agg(
        value=("value", "mean"), folds=("fold", "nunique")
    )
    return means[means.folds == means.groupby(SEED).folds.transform("max")]


def mathtext_lines(text: str) -> str:
    return "\n".join(map(mathtext, text.split("\n")))


def _draw_arms(
    axes: Axes, arms: pd.DataFrame, points: pd.DataFrame, runs: Runs
) -> dict[str, Line2D]:
    """Over epochs if all schedules of the data set are equally long, else steps."""
    of_dataset = runs.trials.experiment.map(runs.experiments.dataset)
    begun = (of_dataset == arms.dataset.iloc[0]) & (runs.trials.num_epochs > 0)
    lengths = set(runs.trials[begun].num_epochs)
    x = "step" if len(lengths) > 1 else "epoch"
    axes.set_xlabel("optimiser steps" if x == "step" else "epochs")
    if len(lengths) > 1 and max(lengths) >= LOGARITHMIC_FROM * max(1, min(lengths)):
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    handles = {}
    for name, arm in arms.iterrows():
        palette = colormaps["tab10" if arm.color < 10 else "tab20b"]
        style = {"color": palette(arm.color % palette.N)}
        style["linestyle"] = "--" if arm.plain else "-"
        of_arm = points[points.experiment == name]
        seeds = 100 * of_arm.pivot(index=x, columns="seed", values="value")
        if len(seeds.columns) <= MAX_SEED_LINES:
            for seed in seeds:
                axes.plot(seeds[seed].dropna(), lw=0.6, alpha=0.35, **style)
        complete = runs.complete_seeds(name)
        finished = seeds[[s for s in seeds if s in complete]].dropna()
        ends = finished.index, finished.min(axis=1), finished.max(axis=1)
        axes.fill_between(*ends, color=style["color"], alpha=0.12, lw=0)
        mean = finished.mean(axis=1)
        # A line of one point cannot be seen.
        marker = "o" if len(mean) == 1 else None
        (line,) = axes.plot(mean.index, mean, lw=1.8, ms=4, marker=marker, **style)
        handles[mathtext(arm.arm)] = line
    return handles


def _plain(report: Report) -> pd.Series:
    """Whether an arm has no baseline: it is one."""
    table = report.runs.experiments
    return ~table.memvir.astype(bool) & ~table.index.isin(list(report.baselines))


def _colors(report: Report) -> pd.Series:
    """A number a loss; one an arm where the line's style tells too little."""
    table = report.runs.experiments.assign(plain=_plain(report))
    arms = table.drop_duplicates("arm")
    if len(table[["loss", "plain"]].drop_duplicates()) < len(arms):
        numbers = {arm: k for k, arm in enumerate(sorted(arms.arm, key=order))}
        return table.arm.map(numbers)
    losses = [*LOSSES, *sorted(set(table.loss) - set(LOSSES))]
    return table.loss.map({loss: k for k, loss in enumerate(losses)})


def _many(arms: pd.DataFrame) -> bool:
    """If arms share colors at all, they share that of their loss."""
    return bool(MAX_LOSSES < arms.color.nunique() < len(arms))

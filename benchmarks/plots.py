"""Figures as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch.nn.functional import normalize

from pml_memvir.snapshots import Snapshots

from .files import write_png


def curves(histories: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A panel a metric, a line an arm.

    Args:
        histories: by arm, then by metric, values by epoch; "epoch" holds the epochs.
        path: the PNG to write.
    """
    metrics = [m for m in next(iter(histories.values())) if m != "epoch"]
    figure = Figure(figsize=(4 * len(metrics), 3.4), layout="constrained")
    for axes, metric in zip(
        figure.subplots(1, len(metrics), squeeze=False)[0], metrics
    ):
        for arm, history in histories.items():
            axes.plot(history["epoch"], history[metric], marker="o", ms=3, label=arm)
        axes.set(title=metric, xlabel="epoch")
        axes.grid(alpha=0.3)
    axes.legend()
    write_png(path, figure)


def classes_by_tsne(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    num_classes: int,
    path: Path,
    seed: int = 0,
) -> bool:
    """Embeddings of the classes with most images, a colour a class.

    Nothing is drawn, and False returned, where embeddings are not finite or all alike:
    scikit-learn's t-SNE can crash on them.

    Args:
        embeddings: (R, D).
        labels: (R,).
        num_classes: how many classes to show; those there are, if they are fewer.
        path: the PNG to write.
    """
    classes, counts = labels.cpu().unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    shown = classes[order[:num_classes]]
    chosen = torch.isin(labels.cpu(), shown)
    points = embeddings.cpu()[chosen].float().numpy()
    names = labels.cpu()[chosen].numpy()
    if len(points) < 4 or not np.isfinite(points).all() or points.std(0).max() < 1e-6:
        return False
    flat = _flat(points, 30, seed)
    title = f"Test embeddings of {len(shown)} classes (t-SNE)"
    figure, axes = _map(6, title)
    colors = colormaps["turbo"](np.linspace(0.05, 0.95, len(shown)))
    for k, (label, color) in enumerate(zip(shown.tolist(), colors)):
        # Neighbouring colours are told apart by their markers.
        x, y = flat[names == label].T
        axes.scatter(x, y, 18, [color], marker="os^Dv"[k % 5])
    write_png(path, figure)
    return True


def snapshots_by_tsne(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    class_weights: torch.Tensor,
    virtual: Snapshots,
    path: Path,
    seed: int = 0,
) -> None:
    """The paper's figure: embeddings and class weights, now and in each snapshot.

    Args:
        embeddings: (R, D), all of the classes to show, by the network of now.
        labels: (R,).
        class_weights: (C, D), those of now.
        virtual: the snapshots; class weights (n, C, D).
        path: the PNG to write.
    """
    shown = labels.unique()
    names, groups, weights = ["now"], [embeddings], [class_weights[shown]]
    newest_first = sorted(range(len(virtual)), key=lambda k: -virtual.steps[k])
    for k in newest_first:
        size = virtual.batch_sizes[k]
        of_shown = torch.isin(virtual.labels[k][:size], shown)
        names.append(f"step {virtual.steps[k]}")
        groups.append(virtual.embeddings[k][:size][of_shown])
        weights.append(virtual.class_weights[k][shown])

    points = normalize(torch.cat(groups + weights).float()).cpu().numpy()
    cuts = np.cumsum([len(group) for group in groups + weights])[:-1]
    parts = np.split(_flat(points, 20, seed), cuts)
    title = f"Embeddings and class weights of {len(shown)} training classes"
    figure, axes = _map(7, title)
    colors = ["0.7", *colormaps["viridis"](np.linspace(0, 0.95, len(virtual)))]
    for k, (name, color) in enumerate(zip(names, colors)):
        x, y = parts[k].T
        axes.scatter(x, y, 16, [color], label=name, zorder=1 + (k > 0))
        # Old ones below and larger, so that weights that have hardly moved all show.
        size, below = 36 + 24 * k, 4 + len(names) - k
        x, y = parts[len(names) + k].T
        axes.scatter(
            x, y, size, [color], marker="D", edgecolor="k", lw=0.5, zorder=below
        )
    axes.scatter([], [], marker="D", color="none", edgecolor="k", label="class weights")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    write_png(path, figure)


def _flat(points: np.ndarray, perplexity: int, seed: int) -> np.ndarray:
    most = (len(points) - 1) / 3
    tsne = TSNE(init="pca", perplexity=min(perplexity, most), random_state=seed)
    return tsne.fit_transform(points)


def _map(width: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xticks=[], yticks=[], title=title)
    return figure, axes

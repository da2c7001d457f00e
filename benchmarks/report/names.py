"""Names of metrics, losses and arms."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import ReportError

METRICS = {
    "precision_at_1": "Recall@1",
    "r_precision": "R-Precision",
    "mean_average_precision_at_r": "MAP@R",
}
RECALL_AT = "recall_at_"  # and K: Recall@K, for K above 1
LOSSES = (
    "softmax",
    "norm_softmax",
    "cosface",
    "arcface",
    "proxy_nca",
    "proxy_anchor",
)


def metric_label(metric: str) -> str:
    recall = re.fullmatch(rf"{RECALL_AT}(\d+)", metric)
    return f"Recall@{recall[1]}" if recall else METRICS.get(metric, metric)


def metric_name(name: str) -> str:
    """The name in history.json of a metric given by it or by its label."""
    by_label = {label.lower(): metric for metric, label in METRICS.items()}
    recall = re.fullmatch(r"recall@([2-9]|[1-9]\d+)", name.lower())
    return f"{RECALL_AT}{recall[1]}" if recall else by_label.get(name.lower(), name)


def split_name(experiment: str) -> tuple[str, str]:
    """("cars196", "norm_softmax_memvir") of "cars196/norm_softmax_memvir"."""
    dataset, slash, arm = experiment.partition("/")
    return (dataset, arm) if slash else ("", experiment)


def split_arm(arm: str) -> tuple[str, bool]:
    """The loss, and whether MemVir is on: <loss>[_memvir[_<variant>]][+<overlays>].

    Overlays change all arms alike, so that they stay with the loss.
    """
    match = re.fullmatch(r"(.+?)_memvir(?:_[^+]*)?(\+.*)?", arm)
    return (match[1] + (match[2] or ""), True) if match else (arm, False)


def order(arm: str) -> tuple[int, str, bool, str]:
    """Sorts arms as the paper's Table 4 does: by loss, MemVir second."""
    loss, memvir = split_arm(arm)
    known = loss.partition("+")[0]
    place = LOSSES.index(known) if known in LOSSES else len(LOSSES)
    return place, loss, memvir, arm


def common_overlays(arms: Iterable[str]) -> str:
    """Such as "+resnet50" if it ends all names; "" where they differ or have none."""
    overlays = {arm[len(arm.partition("+")[0]) :] for arm in arms}
    return overlays.pop() if len(overlays) == 1 else ""


def chosen_from(given: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    """`given` without repetitions, in its order; all of `known` if it is empty.

    Raises:
        ReportError: one of them is not known.
    """
    known = list(known)
    chosen = list(dict.fromkeys(given)) or known
    for name in chosen:
        if name not in known:
            raise ReportError(f"{what} must be one of {', '.join(known)}, got {name!r}")
    return chosen

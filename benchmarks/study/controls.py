"""The controls: both arms of a loss at equal learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..report.build import build
from ..report.experiments import load
from ..report.names import metric_label, split_name
from ..report.structure import Report
from .columns import (
    ABOUT,
    HEADINGS,
    METRICS,
    PICKED,
    by_selection,
    differences,
    means,
    numbers,
    table,
)
from .pages import markdown
from .stages import RANDOM, finished

# Stages, by data set.
PLAIN = {"glyphs": "glyphs-controls", "emoji": "emoji-controls"}
MEMVIR = {"glyphs": "glyphs-controls-memvir"}
NOT_PRETRAINED = "emoji-factors-controls"

ABOUT_CONTROLS = (
    "Test classes, at the epoch that is best on held-out classes: the plain loss at "
    "its own learning rates and at those of the arm with MemVir, and that arm; MemVir "
    "minus plain at MemVir's rates; plain at MemVir's rates minus plain at its own. "
    "At the plain loss's rates: MemVir minus plain, columns as in the comparison."
)


def with_controls(dataset: str, results: Path) -> dict[str, str]:
    """The arms with MemVir against the plain losses at their rates, as far as run."""
    jobs = finished(PLAIN[dataset], results)
    return {f"{job.preset}_memvir": job.name for job in jobs}


def controls_tables(results: Path) -> str:
    """A section a data set, metric and arm whose rates both have, a line a loss.

    "" if no control is finished.
    """
    sections: dict[str, str] = {}
    for dataset in PLAIN:
        sections |= _sections(dataset, results)
    sections |= _not_pretrained(results)
    if not sections:
        return ""
    return markdown("At equal learning rates", sections, ABOUT, ABOUT_CONTROLS)


def _sections(dataset: str, results: Path) -> dict[str, str]:
    """By heading."""
    against = with_controls(dataset, results)
    jobs = finished(MEMVIR[dataset], results) if dataset in MEMVIR else ()
    memvir = {_arm(job.name): _arm(job.preset) for job in jobs}
    if not against and not memvir:
        return {}
    folders = [results / "controls" / dataset, results / "main" / dataset]
    report = build(load(folders), tuple(HEADINGS), METRICS, against)
    controls = {_arm(arm): _arm(control) for arm, control in against.items()}
    losses = [(arm, of.removesuffix("_memvir")) for arm, of in memvir.items()]
    sections = {}
    for metric in METRICS:
        heading = f"{dataset}, {metric_label(metric)}"
        if controls:
            sections[heading] = _table(report, metric, controls)
        if losses:
            columns = by_selection(report, metric)
            sections[f"{heading}, the plain loss's rates"] = table(
                "loss", columns, losses
            )
    return sections


def _not_pretrained(results: Path) -> dict[str, str]:
    """Of the factor's pair from random weights, by heading."""
    jobs = finished(NOT_PRETRAINED, results)
    against = {f"{job.preset}_memvir{RANDOM}": job.name for job in jobs}
    if not against:
        return {}
    experiments = load([results / "factors" / "emoji"])
    report = build(experiments, tuple(HEADINGS), METRICS, against)
    controls = {_arm(arm): _arm(control) for arm, control in against.items()}
    return {
        f"emoji, random weights, {metric_label(metric)}": _table(
            report, metric, controls
        )
        for metric in METRICS
    }


def _arm(experiment: str) -> str:
    return split_name(experiment)[1]


def _table(report: Report, metric: str, controls: Mapping[str, str]) -> str:
    """`controls`: by arm with MemVir."""
    both = means(report, metric)
    delta = differences(report, PICKED, metric)
    columns = {
        "pairs": numbers(report, metric),
        "plain, own rates": {arm: both[own][0] for arm, own in controls.items()},
        "plain, MemVir's": {arm: both[arm][0] for arm in controls},
        "with MemVir": {arm: both[arm][1] for arm in controls},
        "MemVir, equal rates": delta,
        "rates, no MemVir": {arm: delta[own] for arm, own in controls.items()},
    }
    return table("loss", columns, [(a, a.partition("_memvir")[0]) for a in controls])

"""The factors: differences of MemVir to the plain loss, a line a changed setting."""

from __future__ import annotations

from pathlib import Path

from ..report.actual_shares import SHARE
from ..report.build import build
from ..report.experiments import load
from ..report.names import metric_label, split_name
from ..report.structure import Report
from .columns import (
    ABOUT,
    ABOUT_SELECTIONS,
    HEADINGS,
    METRICS,
    Cells,
    by_selection,
    table,
)
from .pages import markdown
from .settings import Memory
from .stages import COMPARED, FACTOR_EPOCHS, STAGES

# Of the comparison's plain runs so much is as long as a factor's run.
LENGTHS = {"glyphs": FACTOR_EPOCHS, "emoji": None}

CHANGES = {
    "+class_lr_x0.1": "class weights' rate x 0.1",
    "+class_lr_x10": "class weights' rate x 10",
    "+eps_0.01": "Adam's eps 0.01",
    "+100_classes": "100 training classes",
    "+300_classes": "300 training classes",
    "+random": "random weights",
}
ABOUT_SHARE = (
    "share: the mean probability of a batch's rows on actual classes in the last epoch."
)


def factors_tables(results: Path) -> str:
    """A section a data set and metric; "" if there is no pair."""
    sections = {}
    for dataset in COMPARED:
        arms = _arms(dataset, results)
        if not arms:
            continue
        folders = [results / "factors" / dataset, results / "main" / dataset]
        there = [folder for folder in folders if folder.exists()]
        report = build(load(there, LENGTHS[dataset]), tuple(HEADINGS), METRICS)
        for metric in METRICS:
            columns = {**by_selection(report, metric), "share": _shares(report)}
            heading = f"{dataset}, {metric_label(metric)}"
            sections[heading] = table("change", columns, arms)
    return markdown(
        "One factor at a time", sections, ABOUT, ABOUT_SELECTIONS, ABOUT_SHARE
    )


def _arms(dataset: str, results: Path) -> list[tuple[str, str]]:
    """Those with MemVir that have a finished run, and what was changed."""
    try:
        jobs = list(STAGES[f"{dataset}-factors"](results))
    except FileNotFoundError:  # tuning is not over
        return []
    finished = [job for job in jobs if job.baseline and job.finished(results)]
    arms = dict.fromkeys(split_name(job.name)[1] for job in finished)
    return [(arm, _change(arm)) for arm in arms]


def _change(arm: str) -> str:
    """Of norm_softmax_memvir_5_2 "N = 5, M = 2"."""
    change = arm.partition("_memvir")[2]
    if change.startswith("+"):
        return CHANGES[change]
    return Memory(*map(int, change[1:].split("_"))).label


def _shares(report: Report) -> Cells:
    """In the last epoch, means over seeds; by arm."""
    return {
        split_name(one.label)[1]: f"{one.lines[SHARE].y[-1]:.2f}"
        for one in report.insights
        if SHARE in one.lines
    }

"""The factors: differences of MemVir to the plain loss, a line a changed setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..report.build import build
from ..report.experiments import load
from ..report.names import metric_label, split_name
from .columns import (
    ABOUT,
    ABOUT_SELECTIONS,
    ABOUT_SHARE,
    HEADINGS,
    METRICS,
    PICKED,
    by_selection,
    differences,
    shares,
    table,
)
from .pages import markdown
from .settings import REFERENCE, Memory
from .stages import COMPARED, FACTOR_EPOCHS, RANDOM, finished

# Of the comparison's plain runs so much is as long as a factor's run.
LENGTHS = {"glyphs": FACTOR_EPOCHS, "emoji": None}

CHANGES = {
    "+class_lr_x0.1": "class weights' rate x 0.1",
    "+class_lr_x10": "class weights' rate x 10",
    "+eps_0.01": "Adam's eps 0.01",
    "+100_classes": "100 training classes",
    "+300_classes": "300 training classes",
    RANDOM: "random weights",
}
ABOUT_REFERENCE = (
    f"to {REFERENCE.label}: this setting of N and M minus that one, both with MemVir, "
    "on test classes at the picked epoch."
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
        experiments = load(there, LENGTHS[dataset])
        report = build(experiments, tuple(HEADINGS), METRICS)
        against = _to_reference(dataset, [arm for arm, _ in arms])
        compared = build(experiments, (PICKED,), METRICS, against)
        for metric in METRICS:
            columns = by_selection(report, metric)
            if against:
                deltas = differences(compared, PICKED, metric)
                columns[f"to {REFERENCE.label}"] = {
                    arm: deltas[arm] for arm, _ in arms if f"{dataset}/{arm}" in against
                }
            columns["share"] = shares(report)
            heading = f"{dataset}, {metric_label(metric)}"
            sections[heading] = table("change", columns, arms)
    return markdown(
        "One factor at a time",
        sections,
        ABOUT,
        ABOUT_SELECTIONS,
        ABOUT_REFERENCE,
        ABOUT_SHARE,
    )


def _arms(dataset: str, results: Path) -> list[tuple[str, str]]:
    """Those with MemVir that have a finished run, and what was changed."""
    jobs = finished(f"{dataset}-factors", results)
    arms = dict.fromkeys(split_name(job.name)[1] for job in jobs if job.baseline)
    return [(arm, _change(arm)) for arm in arms]


def _to_reference(dataset: str, arms: Sequence[str]) -> dict[str, str]:
    """By experiment that has another N or M, the one of REFERENCE, if it is there."""
    memories = {arm: memory for arm in arms if (memory := _memory(arm)) is not None}
    return {
        f"{dataset}/{arm}": f"{dataset}/{reference}"
        for reference in memories
        for arm in memories
        if memories[reference] == REFERENCE != memories[arm]
    }


def _change(arm: str) -> str:
    """Of norm_softmax_memvir_5_2 "N = 5, M = 2"."""
    memory = _memory(arm)
    return CHANGES[arm.partition("_memvir")[2]] if memory is None else memory.label


def _memory(arm: str) -> Memory | None:
    """Where nothing but N and M is changed."""
    change = arm.partition("_memvir_")[2]
    return Memory(*map(int, change.split("_"))) if change else None

"""What the factors suggested, with all losses: differences of MemVir, a line a loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..report.build import build
from ..report.experiments import load
from ..report.names import metric_label, split_arm, split_name
from .columns import (
    ABOUT,
    ABOUT_SELECTIONS,
    ABOUT_SHARE,
    HEADINGS,
    METRICS,
    PICKED,
    Cells,
    by_selection,
    differences,
    numbers,
    shares,
    table,
)
from .jobs import Job
from .lengths import ABOUT_LENGTH, by_length
from .pages import markdown
from .stages import WIDE, finished

WIDE_GAP, FEW_CLASSES = "glyphs-wide-gap", "glyphs-few-classes"
FOLLOW_UPS = {WIDE_GAP: WIDE.label, FEW_CLASSES: "100 training classes"}
ABOUT_OTHERS = (
    f"Other settings: {WIDE.label} minus another setting, both with MemVir, on test "
    "classes at the picked epoch: the picked one with its own learning rates, and its "
    "N and M at the rates of the plain loss, as here."
)


def follow_up_tables(results: Path) -> str:
    """A section a stage and metric; "" if there is no run with MemVir."""
    sections = {}
    for stage, what in FOLLOW_UPS.items():
        jobs = [job for job in finished(stage, results) if job.baseline]
        if not jobs:
            continue
        arms = dict.fromkeys(split_name(job.name)[1] for job in jobs)
        rows = [(arm, split_arm(arm)[0].partition("+")[0]) for arm in arms]
        there = _there(results, "follow_up", "main")
        report = build(load(there), tuple(HEADINGS), METRICS)
        for metric in METRICS:
            columns = {**by_selection(report, metric), "share": shares(report)}
            heading = f"glyphs, {what}, {metric_label(metric)}"
            sections[heading] = table("loss", columns, rows)
        of_memvir = list(dict.fromkeys(job.experiment(results) for job in jobs))
        lengths = by_length(of_memvir, there)
        sections[f"glyphs, {what}, length"] = table("loss", lengths, rows)
        if stage == WIDE_GAP:
            others = _to_other_settings(jobs, results)
            sections[f"glyphs, {what}, other settings"] = table("loss", others, rows)
    return markdown(
        "What the factors suggested",
        sections,
        ABOUT,
        ABOUT_SELECTIONS,
        ABOUT_SHARE,
        ABOUT_LENGTH,
        ABOUT_OTHERS,
    )


def _to_other_settings(jobs: Sequence[Job], results: Path) -> dict[str, Cells]:
    """Of runs with MemVir, differences to those of other settings."""
    picked = {job.name: f"{job.baseline}_memvir" for job in jobs}
    controls = {
        control.baseline: control.name
        for control in finished("glyphs-controls-memvir", results)
    }
    # Where there is no control, the rates that were picked are the plain loss's.
    at_equal_rates = {
        job.name: controls.get(job.baseline, picked[job.name]) for job in jobs
    }
    experiments = load(_there(results, "follow_up", "main", "controls"))
    names = {one.name for one in experiments}
    settings = {"picked setting": picked, "equal rates": at_equal_rates}
    columns: dict[str, Cells] = {}
    for what, others in settings.items():
        against = {arm: other for arm, other in others.items() if other in names}
        report = build(experiments, (PICKED,), METRICS[:1], against)
        columns[f"pairs, {what}"] = numbers(report, METRICS[0])
        columns[what] = differences(report, PICKED, METRICS[0])
    return columns


def _there(results: Path, *names: str) -> list[Path]:
    folders = [results / name / "glyphs" for name in names]
    return [folder for folder in folders if folder.exists()]

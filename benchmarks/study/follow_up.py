"""What the factors suggested, with all losses: differences of MemVir, a line a loss."""

from __future__ import annotations

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
    by_selection,
    shares,
    table,
)
from .lengths import ABOUT_LENGTH, by_length
from .pages import markdown
from .stages import WIDE, finished

FOLLOW_UPS = {
    "glyphs-wide-gap": WIDE.label,
    "glyphs-few-classes": "100 training classes",
}


def follow_up_tables(results: Path) -> str:
    """A section a stage and metric; "" if there is no run with MemVir."""
    sections = {}
    for stage, what in FOLLOW_UPS.items():
        jobs = [job for job in finished(stage, results) if job.baseline]
        if not jobs:
            continue
        arms = dict.fromkeys(split_name(job.name)[1] for job in jobs)
        rows = [(arm, split_arm(arm)[0].partition("+")[0]) for arm in arms]
        folders = [results / "follow_up" / "glyphs", results / "main" / "glyphs"]
        there = [folder for folder in folders if folder.exists()]
        report = build(load(there), tuple(HEADINGS), METRICS)
        for metric in METRICS:
            columns = {**by_selection(report, metric), "share": shares(report)}
            heading = f"glyphs, {what}, {metric_label(metric)}"
            sections[heading] = table("loss", columns, rows)
        of_memvir = list(dict.fromkeys(job.experiment(results) for job in jobs))
        lengths = by_length(of_memvir, there)
        sections[f"glyphs, {what}, length"] = table("loss", lengths, rows)
    return markdown(
        "What the factors suggested",
        sections,
        ABOUT,
        ABOUT_SELECTIONS,
        ABOUT_SHARE,
        ABOUT_LENGTH,
    )

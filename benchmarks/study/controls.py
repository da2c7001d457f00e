"""The controls: the plain losses at the learning rates of the arms with MemVir."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..report.build import build
from ..report.experiments import load
from ..report.names import metric_label, split_name
from ..report.structure import Report
from .columns import ABOUT, METRICS, PICKED, differences, means, numbers, table
from .jobs import Job
from .pages import markdown
from .stages import STAGES

STAGE = "glyphs-controls"
DATASET = "glyphs"

ABOUT_CONTROLS = (
    "Test classes, at the epoch that is best on held-out classes: the plain loss at "
    "its own learning rates and at those of the arm with MemVir, and that arm; MemVir "
    "minus plain at MemVir's rates; plain at MemVir's rates minus plain at its own."
)


def with_controls(results: Path) -> dict[str, str]:
    """The arms with MemVir against the plain losses at their rates, as far as run."""
    return {f"{job.preset}_memvir": job.name for job in _finished(results)}


def controls_tables(results: Path) -> str:
    """A section a metric, a line a loss; "" if no control is finished."""
    against = with_controls(results)
    sections = {}
    if against:
        folders = [results / "controls" / DATASET, results / "main" / DATASET]
        report = build(load(folders), (PICKED,), METRICS, against)
        controls = {_arm(arm): _arm(control) for arm, control in against.items()}
        sections = {
            f"{DATASET}, {metric_label(metric)}": _table(report, metric, controls)
            for metric in METRICS
        }
    return markdown("At equal learning rates", sections, ABOUT, ABOUT_CONTROLS)


def _finished(results: Path) -> Iterator[Job]:
    try:
        jobs = list(STAGES[STAGE](results))
    except FileNotFoundError:  # tuning is not over
        return
    yield from (job for job in jobs if job.finished(results))


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
    return table("loss", columns, [(a, a.removesuffix("_memvir")) for a in controls])

"""The controls: the plain losses at the learning rates of the arms with MemVir."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..report.build import build
from ..report.experiments import load
from ..report.names import metric_label, split_name
from ..report.structure import Report
from .differences import ABOUT, METRICS, PICKED, differences, means, numbers, table
from .jobs import Job
from .pages import page
from .stages import STAGES

STAGE = "glyphs-controls"
DATASET = "glyphs"

ABOUT_CONTROLS = (
    "On test classes, at the epoch that is best on held-out classes. The plain loss at "
    "the rates picked for it, and at those of the arm with MemVir; MemVir minus the "
    "latter; the latter minus the former."
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
    return page("At equal learning rates", sections, ABOUT, ABOUT_CONTROLS)


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
    of_rates = differences(report, PICKED, metric)
    columns = {
        "pairs": numbers(report, metric),
        "plain": {arm: both[control][0] for arm, control in controls.items()},
        "at MemVir's rates": {arm: both[arm][0] for arm in controls},
        "with MemVir": {arm: both[arm][1] for arm in controls},
        "difference at those": differences(report, PICKED, metric),
        "of rates alone": {a: of_rates[control] for a, control in controls.items()},
    }
    return table("loss", columns, [(a, a.removesuffix("_memvir")) for a in controls])

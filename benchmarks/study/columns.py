"""Columns of tables: arms, and their differences to their baselines.

A column is its cells by arm; arms have their labels of reports.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from rich.box import MARKDOWN
from rich.table import Table

from ..report import cells
from ..report.actual_shares import SHARE
from ..report.names import split_name
from ..report.structure import Report, Result
from ..report.tables import as_text

METRICS = ("mean_average_precision_at_r", "precision_at_1", "r_precision")
PICKED = "best_on_validation"
HEADINGS = {  # by selection
    PICKED: "picked epoch",
    "last": "last epoch",
    "best_on_test": "best on test",
    "held_out": "held-out classes",
}
Cells = Mapping[str, str]

ABOUT = (
    "Accuracies are in percent, differences in points: means over pairs of seeds, in "
    "brackets their 95% intervals by Student's t."
)
ABOUT_SELECTIONS = (
    "MemVir minus plain. Means and the first difference are of test classes, at the "
    "epoch that is best on held-out classes; the last difference is of the held-out "
    "classes themselves, at that epoch."
)
ABOUT_SHARE = (
    "share: the mean probability of a batch's rows on actual classes in the last epoch."
)


def by_selection(report: Report, metric: str) -> dict[str, Cells]:
    """Numbers of pairs, means, and differences by how the epoch is picked.

    Args:
        report: by all selections of HEADINGS.
    """
    both = means(report, metric)
    return {
        "pairs": numbers(report, metric),
        "plain": {arm: plain for arm, (plain, _) in both.items()},
        "with MemVir": {arm: memvir for arm, (_, memvir) in both.items()},
        **{
            heading: differences(report, selection, metric)
            for selection, heading in HEADINGS.items()
        },
    }


def baselines(report: Report) -> dict[str, str]:
    """Of the arms that have one."""
    return {r.label: r.baseline for r in report.sections[0].results if r.baseline}


def means(report: Report, metric: str) -> dict[str, tuple[str, str]]:
    """By arm: of its baseline and of itself, at the picked epoch.

    Over the seeds that both have, as the difference is.
    """
    (section,) = (s for s in report.sections if s.selection == PICKED)
    by_label = {result.label: result for result in section.results}
    found = {}
    for arm, baseline in baselines(report).items():
        both = _values(by_label[baseline], metric), _values(by_label[arm], metric)
        seeds = both[0].keys() & both[1].keys()
        if seeds:
            plain, memvir = (statistics.fmean(of[s] for s in seeds) for of in both)
            found[arm] = cells.percent(plain), cells.percent(memvir)
    return found


def _values(result: Result, metric: str) -> dict[int, float]:
    return {
        seed: value.value
        for seed, of_seed in result.seeds.items()
        if (value := of_seed[metric]) is not None
    }


def numbers(report: Report, metric: str) -> Cells:
    """Of pairs."""
    return {
        result.label: str(delta.n)
        for result in report.sections[0].results
        if (delta := result.differences[metric]) is not None
    }


def differences(report: Report, selection: str, metric: str) -> Cells:
    return {
        result.label: cells.difference(result.differences[metric])
        for section in report.sections
        if section.selection == selection
        for result in section.results
    }


def shares(report: Report) -> Cells:
    """In the last epoch, means over seeds; by arm."""
    return {
        split_name(one.label)[1]: f"{one.last[SHARE]:.2f}"
        for one in report.insights
        if SHARE in one.last
    }


def table(
    of: str, columns: Mapping[str, Cells], rows: Iterable[tuple[str, str]]
) -> str:
    """Markdown; `rows` are arms and what they are called."""
    made = Table(box=MARKDOWN)
    made.add_column(of)
    for heading in columns:
        made.add_column(heading, justify="right")
    for arm, name in rows:
        made.add_row(
            name, *(column.get(arm, cells.NONE) for column in columns.values())
        )
    return as_text(made)

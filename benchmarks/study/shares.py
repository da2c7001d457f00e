"""What MemVir gained in tuning, beside how well it told classes from old copies."""

from __future__ import annotations

from pathlib import Path

from rich.box import MARKDOWN
from rich.table import Table

from ..protocol.history import History
from ..report import cells
from ..report.actual_shares import SHARE
from ..report.tables import as_text
from .jobs import Job
from .pages import markdown, of_tuned
from .stages import COMPARED
from .tuning import (
    WithMemVir,
    best,
    first_memvir_trials,
    held_out,
    more_memvir_trials,
    plain_trials,
)

ABOUT = (
    "The share of actual classes, a mean over the last epoch, and in parentheses the "
    "best held-out MAP@R minus the plain loss's at the same learning rates, in points. "
    "One seed."
)


def shares_tables(results: Path) -> str:
    """A section a data set whose tuning is over: a line a setting, a column a loss."""
    return markdown("Shares", of_tuned("shares", _table, results), ABOUT)


def _table(dataset: str, results: Path) -> str:
    table = Table(box=MARKDOWN)
    table.add_column("setting")
    columns = []
    for loss in COMPARED[dataset]:
        table.add_column(loss, justify="right")
        columns.append(_column(dataset, loss, results))
    for setting in columns[0]:
        table.add_row(setting, *(column[setting] for column in columns))
    return as_text(table)


def _column(dataset: str, loss: str, results: Path) -> dict[str, str]:
    """A loss's cells, by setting."""
    first = first_memvir_trials(dataset, loss, results)
    found = best(first, results)
    named = {memory.label: job for (_, memory), job in first.items()}
    named["the best of these"] = first[found]
    for setting, job in more_memvir_trials(dataset, loss, results).items():
        named[_change(found, setting)] = job
    without = {
        job.name: held_out(job, results) for job in plain_trials(dataset, loss).values()
    }
    return {name: _cell(job, without, results) for name, job in named.items()}


def _change(of: WithMemVir, to: WithMemVir) -> str:
    """The second round's, of the best of the first."""
    (rates, memory), (other_rates, other_memory) = of, to
    if other_memory != memory:
        return other_memory.label
    network = f"network's rate {other_rates.network:g}"
    if other_rates.class_weights == rates.class_weights:
        return f"... {network}"
    both = "" if other_rates.network == rates.network else f", {network}"
    return f"... class weights' other rate{both}"


def _cell(job: Job, without: dict[str, float], results: Path) -> str:
    difference = held_out(job, results) - without[str(job.baseline)]
    history = History.load(job.trial(results))
    share = None if history is None else history.epochs[-1].get("memvir", {}).get(SHARE)
    shown = cells.NONE if share is None else f"{share:.2f}"
    return f"{shown} ({cells.signed(difference)})"

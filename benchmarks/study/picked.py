"""What tuning picked for both arms of each loss, as a table."""

from __future__ import annotations

from pathlib import Path

from rich.box import MARKDOWN
from rich.table import Table

from ..report import cells
from ..report.tables import as_text
from .pages import markdown, of_tuned
from .settings import Rates
from .stages import COMPARED
from .tuning import best, held_out, memvir_trials, plain_trials

HEADINGS = (
    "loss",
    "plain: rates",
    "held-out MAP@R",
    "with MemVir: rates",
    "N, M",
    "held-out MAP@R",
    "difference",
)
NUMBERS = ("held-out MAP@R", "difference")
ABOUT = (
    "Rates are the learning rates of network and class weights. One seed; accuracies "
    "in percent, the best of the trial's evaluations."
)


def picked_tables(results: Path) -> str:
    """A section a data set whose tuning is over."""
    return markdown(
        "Picked settings", of_tuned("picked settings", _table, results), ABOUT
    )


def _table(dataset: str, results: Path) -> str:
    table = Table(box=MARKDOWN)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in NUMBERS else "left")
    for loss in COMPARED[dataset]:
        plain = plain_trials(dataset, loss)
        memvir = memvir_trials(dataset, loss, results)
        rates, (memvir_rates, memory) = best(plain, results), best(memvir, results)
        without = held_out(plain[rates], results)
        found = held_out(memvir[memvir_rates, memory], results)
        table.add_row(
            loss,
            _of(rates),
            cells.percent(without),
            _of(memvir_rates),
            f"{memory.num_steps}, {memory.step_gap}",
            cells.percent(found),
            cells.signed(found - without),
        )
    return as_text(table)


def _of(rates: Rates) -> str:
    return f"{rates.network:g}, {rates.class_weights:g}"

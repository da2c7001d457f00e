"""The report in Markdown, which is what the terminal shows, too."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import cells
from .names import common_overlays, metric_label
from .statistics import Summary
from .structure import Insight, Report, Result, Section

WIDTH = 100
# Short, for a table of 100 columns; docs/tuning.md has the names in full.
INSIGHTS = {
    "share_of_actual_classes": "actual",
    "share_of_own_copies": "own",
    "share_of_other_copies": "other",
    "actual_loss": "loss",
    "virtual_loss": "virtual",
    "log_num_copies": "ln(n+1)",
    "cosine_to_newest": "newest",
    "cosine_to_oldest": "oldest",
}
Row = list[str]


def as_markdown(report: Report, figures: Sequence[str] = ()) -> str:
    """Protocol, a table a section, notes, figures by their file names."""
    parts = ["# Report", _list(report.protocol)]
    for section in report.sections:
        name = section.dataset or "(unnamed data set)"
        parts.append(f"## {name}, selection: {section.selection}")
        if section.selection == "best_on_test":
            parts.append(
                "In parentheses: the epoch. Picked on the test set; optimistic."
            )
        overlays = common_overlays(result.label for result in section.results)
        if overlays:
            parts.append(f"All arms: {overlays}")
        if len(section.results) > 1:
            parts.append(summary(section, report.metrics))
        parts.append(table(section, report.metrics))
    if report.insights:
        parts += [
            "## What MemVir saw, until the last evaluation",
            insight_table(report.insights),
        ]
    if report.notes:
        parts += ["## Notes", _list(report.notes)]
    parts += [f"![{name}]({name})" for name in figures]
    return "\n\n".join(parts) + "\n"


def summary(section: Section, metrics: Sequence[str]) -> str:
    """A line an arm: means, and the difference to its baseline in the first metric."""
    first = metrics[0]
    result = Table(box=MARKDOWN)
    result.add_column("mean")
    for heading in ["n", *map(metric_label, metrics)]:
        result.add_column(Text(_plain(heading)), justify="right")
    result.add_column(Text(_plain(f"{metric_label(first)} diff.")), justify="right")
    overlays = common_overlays(one.label for one in section.results)
    for one in section.results:
        kind = "" if one.accuracy == "single" else f", {one.accuracy}"
        means = [one.summaries[m] for m in metrics]
        delta = one.differences.get(first) if one.baseline else None
        row = [
            f"{one.label.removesuffix(overlays)}{kind}",
            _n(means),
            *(cells.percent(s.mean) if s else cells.NONE for s in means),
            cells.difference(delta) if delta else "",
        ]
        result.add_row(*(Text(_plain(cell), no_wrap=True) for cell in row))
    return as_text(result)


def insight_table(insights: Sequence[Insight]) -> str:
    """A line an arm: its numbers at the end of training, means over finished seeds."""
    result = Table(box=MARKDOWN)
    result.add_column("")
    for heading in INSIGHTS.values():
        result.add_column(heading, justify="right")
    for one in insights:
        row = [one.label]
        for name in INSIGHTS:
            decimals = 3 if name.startswith("cosine") else 2  # they are all near 1
            last = one.last.get(name)
            row.append(cells.NONE if last is None else f"{last:.{decimals}f}")
        result.add_row(*(Text(_plain(cell), no_wrap=True) for cell in row))
    return as_text(result)


def table(section: Section, metrics: Sequence[str]) -> str:
    """A section in Markdown, in percent; as wide as its longest names need."""
    result = Table(box=MARKDOWN)
    result.add_column("")
    result.add_column("epoch", justify="right")
    for metric in metrics:
        result.add_column(Text(_plain(metric_label(metric))), justify="right")
    # What all names end with is said above the table, which it would make wide.
    overlays = common_overlays(result.label for result in section.results)
    for one in section.results:
        one = replace(
            one,
            label=one.label.removesuffix(overlays),
            baseline=one.baseline and one.baseline.removesuffix(overlays),
        )
        rows = _rows(one, metrics, section.selection == "best_on_test")
        if any(other.published for other in section.results):
            rows += _published_rows(one, metrics)
        for row in rows:
            # Text, as rich would take "[...]" in a plain string for a style.
            result.add_row(*(Text(_plain(cell), no_wrap=True) for cell in row))
    return as_text(result)


def as_text(result: Table) -> str:
    """As wide as it is, whatever the terminal."""
    console = Console(file=io.StringIO(), width=10_000, color_system=None)
    with console.capture() as capture:
        console.print(result)
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "\n".join(line for line in lines if line)


def _rows(result: Result, metrics: Sequence[str], epoch_in_cell: bool) -> list[Row]:
    empty = [""] * (1 + len(metrics))
    rows = [[f"**{result.label}**", *empty]]
    if result.accuracy != "single":
        rows.append([f"*{result.accuracy}*", *empty])
    for seed in sorted([*result.seeds, *result.unfinished]):
        rows.append(_seed_row(result, seed, metrics, epoch_in_cell))
    means = [result.summaries[m] for m in metrics]
    rows += [
        _row(
            f"mean (n = {_n(means)})",
            (cells.percent(s.mean) if s else "-" for s in means),
        ),
        _row("sd", (cells.percent(s.sd) if s else "-" for s in means)),
        _row("95% interval", (cells.interval(s.interval) if s else "-" for s in means)),
    ]
    if result.baseline is not None:
        deltas = [result.differences[m] for m in metrics]
        rows += [
            _row(
                f"minus {result.baseline} (n = {_n(deltas)})",
                (cells.signed(d.mean) if d else "-" for d in deltas),
            ),
            _row("its sd", (cells.percent(d.sd) if d else "-" for d in deltas)),
            _row(
                "its 95% interval",
                (cells.interval(d.interval, True) if d else "-" for d in deltas),
            ),
        ]
    return rows


def _seed_row(
    result: Result, seed: int, metrics: Sequence[str], epoch_in_cell: bool
) -> Row:
    if seed in result.unfinished:
        return _row(f"seed {seed}, unfinished", ("-" for _ in metrics))
    values = [result.seeds[seed][m] for m in metrics]
    if epoch_in_cell:
        return _row(f"seed {seed}", map(cells.value_and_epoch, values))
    known = [value for value in values if value is not None]
    numbers = (cells.percent(value.value if value else None) for value in values)
    # All metrics of a seed are of the same epochs.
    epochs = cells.epochs(known[0].epochs) if known else cells.NONE
    return _row(f"seed {seed}", numbers, epochs)


def _published_rows(result: Result, metrics: Sequence[str]) -> list[Row]:
    rows = []
    for one in result.published:
        label, decimals = one.source.label, one.source.decimals
        values = (
            cells.with_sd(*one.values[m], decimals) if m in one.values else cells.NONE
            for m in metrics
        )
        rows.append(_row(f"published, {label}", values))
        if one.differences:
            differences = (one.differences.get(m) for m in metrics)
            rows.append(
                _row("its difference", (cells.signed(d, decimals) for d in differences))
            )
    return rows or [_row("published", (cells.NONE for _ in metrics))]


def _row(label: str, values: Iterable[str], epoch: str = "") -> Row:
    return [label, epoch, *values]


def _n(summaries: Sequence[Summary | None]) -> str:
    return cells.epochs(s.n if s else 0 for s in summaries)


def _plain(text: str) -> str:
    """Without what would end a cell."""
    return text.replace("|", r"\|").replace("\n", " ")


def _list(texts: Iterable[str]) -> str:
    return "\n".join(
        textwrap.fill(
            f"- {text}", WIDTH, subsequent_indent="  ", break_on_hyphens=False
        )
        for text in texts
    )

"""report.csv, a line a measured value, and summary.csv, a line an arm and metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from .published import sources
from .structure import Record, Report, Result, Section

VALUES = "Metrics are fractions, 0 to 1. Lines that begin with # are comments."


def values_csv(report: Report) -> str:
    """Long form. A fold is a line of its own; seeds that are unfinished have none."""
    columns = [field.name for field in fields(Record)]
    return _csv(report, columns, (asdict(record) for record in report.records))


def summary_csv(report: Report) -> str:
    """Means and paired differences, with standard deviations and 95% intervals."""
    rows = [
        _summary(section, result, metric)
        for section in report.sections
        for result in section.results
        for metric in report.metrics
    ]
    return _csv(report, list(rows[0]), rows)


def _summary(section: Section, result: Result, metric: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "experiment": result.experiment,
        "dataset": section.dataset,
        "loss": result.loss,
        "memvir": result.memvir,
        "accuracy": result.accuracy,
        "selection": section.selection,
        "metric": metric,
    }
    for prefix, one in (
        ("", result.summaries[metric]),
        ("difference_", result.differences[metric]),
    ):
        low, high = one.interval if one and one.interval else (None, None)
        row |= {
            f"{prefix}n": one.n if one else 0,
            f"{prefix}mean": one.mean if one else None,
            f"{prefix}sd": one.sd if one else None,
            f"{prefix}low": low,
            f"{prefix}high": high,
        }
    row["baseline"] = result.baseline
    by_source = {one.source.key: one for one in result.published}
    for source in sources():
        found = by_source.get(source.key)
        mean, sd = found.values.get(metric, (None, None)) if found else (None, None)
        difference = found.differences.get(metric) if found else None
        row[f"published_{source.key}_mean"] = mean
        row[f"published_{source.key}_sd"] = sd
        row[f"published_{source.key}_difference"] = difference
    return row


def _csv(report: Report, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    for line in (*report.protocol, *report.notes, VALUES):
        text.write(f"# {line}\n")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

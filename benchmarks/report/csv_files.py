"""report.csv, a line a measured value, and summary.csv, a line an arm and metric."""

from __future__ import annotations

import pandas as pd

from . import text
from .build import Report
from .notes import notes, protocol
from .published import published, sources
from .statistics import Summary

VALUES = "Metrics are fractions, 0 to 1. Lines that begin with # are comments."
ABOUT = ["experiment", "dataset", "loss", "memvir"]


def values_csv(report: Report) -> str:
    """Long form. A fold is a line of its own; seeds that are unfinished have none."""
    table = report.records.join(report.runs.experiments[ABOUT[1:]], on="experiment")
    of = ["experiment", "seed", "selection", "metric"]
    places = {
        "experiment": list(report.runs.experiments.index),
        "selection": report.selections,
        "metric": report.metrics,
    }
    order = {name: {one: k for k, one in enumerate(of)} for name, of in places.items()}
    table = table.sort_values(
        of, key=lambda c: c.map(order[c.name]) if c.name in order else c, kind="stable"
    )
    columns = [*ABOUT, "seed", "fold", "selection", "epoch", "metric", "value"]
    return _csv(report, table[columns].astype({"epoch": "Int64"}))


def summary_csv(report: Report) -> str:
    """Means and paired differences, with standard deviations and 95% intervals."""
    rows = []
    table = report.runs.experiments
    for (dataset, selection, name, accuracy, metric), of in report.summary.iterrows():
        own, difference = of.own._asdict(), of.difference._asdict()
        baseline = report.baselines.get(name)
        row = {"experiment": name, "dataset": dataset, "loss": table.loss[name]}
        row |= {"memvir": table.memvir[name], "accuracy": accuracy}
        row |= {"selection": selection, "metric": metric, **own}
        row |= {f"difference_{key}": value for key, value in difference.items()}
        row["baseline"] = table.arm[baseline] if baseline else None
        by_source = {one.source: one for one in published(name)}
        for source in sources() if selection != "held_out" else ():
            one = by_source.get(source)
            mean, sd = one.values.get(metric, (None, None)) if one else (None, None)
            row[f"published_{source}_mean"], row[f"published_{source}_sd"] = mean, sd
            delta = one.differences.get(metric) if one else None
            row[f"published_{source}_difference"] = delta
        rows.append(row)
    columns = [
        f"published_{s}_{c}" for s in sources() for c in ("mean", "sd", "difference")
    ]
    about = [*ABOUT, "accuracy", "selection", "metric"]
    numbers = [f"{of}{n}" for of in ("", "difference_") for n in Summary._fields]
    frame = pd.DataFrame(rows, columns=[*about, *numbers, "baseline", *columns])
    return _csv(report, frame)


def _csv(report: Report, table: pd.DataFrame) -> str:
    lines = (*protocol(report), *notes(report), VALUES)
    comments = "".join(f"# {text.plain(line)}\n" for line in lines)
    return comments + table.map(text.csv).to_csv(index=False, lineterminator="\n")

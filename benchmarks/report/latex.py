"""A paper's table for each section, for LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .build import Report
from .names import metric_label
from .notes import notes, protocol
from .selection import SELECTIONS
from .statistics import Summary
from .text import latex, plain


def as_latex(report: Report) -> str:
    """Protocol and notes as comments, then the tables; needs booktabs."""
    comments = [f"% {plain(line)}" for line in (*protocol(report), *notes(report))]
    head = "\n".join([*comments, r"% \usepackage{booktabs}"])
    sections = [_table(report, *section) for section in report.sections()]
    return "\n\n".join([head, *sections]) + "\n"


def _table(
    report: Report, dataset: str, selection: str, arms: Sequence[tuple[str, str]]
) -> str:
    rows, before = [], None
    for name, kind in arms:
        arm = report.runs.experiments.loc[name]
        of = [(dataset, selection, name, kind, metric) for metric in report.metrics]
        own = [report.numbers(*cell)[0] for cell in of]
        label = latex(arm.arm if kind == "single" else f"{arm.arm} ({kind})")
        space = "" if before in (None, arm.loss) else "\\addlinespace\n"
        before = arm.loss
        numbers = [_cell(s, report.better(*cell)) for s, cell in zip(own, of)]
        rows.append([space + label, str(max(s.n for s in own)), *numbers])
    heads = ["Loss", "$n$", *(latex(metric_label(m)) for m in report.metrics)]
    return (
        pd.DataFrame(rows, columns=heads)
        .style.hide(axis="index")
        .to_latex(
            hrules=True,
            position_float="centering",
            caption=_caption(dataset, selection),
            column_format=f"lr{'c' * len(report.metrics)}",
        )
        .rstrip()
    )


def _caption(dataset: str, selection: str) -> str:
    return latex(
        f"{dataset or 'unnamed data set'}: percent, mean ± sample standard deviation "
        f"over n seeds. Selection {selection}: {SELECTIONS[selection]}. Bold: the "
        "better of an arm and its baseline, where the 95% interval (Student's t) of "
        "the difference paired by seed excludes 0."
    ).replace("±", r"$\pm$")


def _cell(summary: Summary, bold: bool) -> str:
    if summary.mean is None:
        return "--"
    number = f"{100 * summary.mean:.2f}"
    if summary.sd is not None:
        number += rf" \pm {100 * summary.sd:.2f}"
    return rf"$\mathbf{{{number}}}$" if bold else f"${number}$"

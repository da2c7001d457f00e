"""A paper's table for each section, for LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .names import metric_label
from .selection import SELECTIONS
from .statistics import Summary
from .structure import Report, Result, Section

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "_%&#${}"},
}


def escape(text: str) -> str:
    """Text as LaTeX shows it unchanged."""
    return re.sub(r"[\\~^_%&#${}]", lambda match: SPECIAL[match[0]], text)


def as_latex(report: Report) -> str:
    """Protocol and notes as comments, then the tables; needs booktabs."""
    comments = [f"% {line}" for line in (*report.protocol, *report.notes)]
    tables = [_table(section, report.metrics) for section in report.sections]
    head = "\n".join([*comments, r"% \usepackage{booktabs}"])
    return "\n\n".join([head, *tables]) + "\n"


def _table(section: Section, metrics: Sequence[str]) -> str:
    heads = ["Loss", "$n$", *(escape(metric_label(metric)) for metric in metrics)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(section)}}}",
        rf"\begin{{tabular}}{{lr{'c' * len(metrics)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for before, result in zip((None, *section.results), section.results):
        if before is not None and before.loss != result.loss:
            lines.append(r"\addlinespace")
        lines.append(_row(result, metrics))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _caption(section: Section) -> str:
    name = section.dataset or "unnamed data set"
    return escape(
        f"{name}: percent, mean ± sample standard deviation over n seeds. Selection "
        f"{section.selection}: {SELECTIONS[section.selection]}. Bold: the better of an "
        "arm and its baseline, where the 95% interval (Student's t) of the difference "
        "paired by seed excludes 0."
    ).replace("±", r"$\pm$")


def _row(result: Result, metrics: Sequence[str]) -> str:
    kind = "" if result.accuracy == "single" else f" ({result.accuracy})"
    known = [s.n for m in metrics if (s := result.summaries[m]) is not None]
    numbers = [_cell(result.summaries[m], m in result.better) for m in metrics]
    n = str(max(known, default=0))
    return " & ".join([escape(result.label + kind), n, *numbers]) + r" \\"


def _cell(summary: Summary | None, bold: bool) -> str:
    if summary is None:
        return "--"
    number = f"{100 * summary.mean:.2f}"
    if summary.sd is not None:
        number += rf" \pm {100 * summary.sd:.2f}"
    return rf"$\mathbf{{{number}}}$" if bold else f"${number}$"

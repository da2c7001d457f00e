"""A report in Markdown, which is what the terminal shows, too."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence

import pandas as pd
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .build import Report
from .cells import Strong
from .notes import notes, protocol
from .tables import sections
from .text import markdown

WIDTH = 100


def as_markdown(report: Report, figures: Sequence[str] = ()) -> str:
    """Protocol, tables for each section, notes, figures by their file names."""
    parts = ["# Report", _list(protocol(report))]
    for heading, content in sections(report):
        parts.append(f"## {markdown(heading)}")
        parts += [markdown(x) if isinstance(x, str) else as_table(x) for x in content]
    if texts := notes(report):
        parts += ["## Notes", _list(texts)]
    parts += [f"![{name}]({name})" for name in figures]
    return "\n\n".join(parts) + "\n"


def as_table(frame: pd.DataFrame) -> str:
    """As wide as its cells need, whatever the terminal.

    Numbers are on the right; the first column, and those that `frame.attrs["left"]`
    names, are words.
    """
    left = frame.attrs.get("left", ())
    table = Table(box=MARKDOWN)
    for place, heading in enumerate(frame.columns):
        is_left = place == 0 or heading in left
        table.add_column(
            Text(markdown(heading)), justify="left" if is_left else "right"
        )
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*(Text(_cell(cell), no_wrap=True) for cell in row))
    console = Console(file=io.StringIO(), width=10_000, color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "\n".join(line for line in lines if line)


def _cell(cell: str) -> str:
    return f"**{markdown(cell)}**" if isinstance(cell, Strong) else markdown(cell)


def _list(texts: Iterable[str]) -> str:
    return "\n".join(
        textwrap.fill(
            f"- {markdown(text)}", WIDTH, subsequent_indent="  ", break_on_hyphens=False
        )
        for text in texts
    )

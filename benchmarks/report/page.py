"""One self-contained HTML page: tables that sort, figures inline, nothing loaded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from . import tables
from .build import Report
from .cells import Strong
from .notes import notes, protocol
from .text import html

Section = tuple[str, list[str | pd.DataFrame]]  # heading, paragraphs and tables
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em;
       padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
th { border-bottom: 2px solid #888; background: #fff; position: sticky; top: 0 }
.sorts th { cursor: pointer } th[aria-sort=ascending]::after { content: " ▲" }
th[aria-sort=descending]::after { content: " ▼" } img { max-width: 100% }
"""
SCRIPT = """
const key = c => { const t = c.textContent, n = parseFloat(t);
  return isNaN(n) ? t : n };
document.querySelectorAll("table.sorts th").forEach((th, k) => th.onclick = () => {
  const down = th.getAttribute("aria-sort") !== "descending", body = th.closest("table")
    .tBodies[0], place = th.cellIndex, sign = down ? -1 : 1;
  th.parentNode.querySelectorAll("th").forEach(o => o.removeAttribute("aria-sort"));
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  [...body.rows].sort((a, b) => {
    const x = key(a.cells[place]), y = key(b.cells[place]);
    return typeof x === typeof y ? sign * (x < y ? -1 : x > y ? 1 : 0)
      : typeof x === "number" ? -1 : 1 }).forEach(row => body.append(row)) });
"""


def as_page(
    report: Report, figures: Iterable[Path], further: Iterable[Section] = ()
) -> str:
    """What the other files of a report have, as one that can be sent.

    Args:
        further: sections for its beginning.
    """
    sections: list[Section] = [*further, ("Protocol", list(protocol(report)))]
    for dataset, selection, arms in report.sections():
        of = [tables.summary, tables.details] if len(arms) > 1 else [tables.details]
        made = [make(report, dataset, selection, arms) for make in of]
        heading = f"{dataset or '(unnamed data set)'}, selection: {selection}"
        ending = tables.overlays(report, arms)
        said = [f"All arms: {ending}"] if ending else []
        sections.append((heading, [*said, *made]))
    seen = tables.insights(report.runs)
    if len(seen):
        sections.append(("What MemVir saw, until the last evaluation", [seen]))
    sections.append(("Notes", list(notes(report))))
    return page("Report", sections, {path.name: path for path in figures})


def page(title: str, sections: Iterable[Section], figures: Mapping[str, Path]) -> str:
    """
    Args:
        figures: PNG files, by what they are called.
    """
    parts = [f"<h1>{html(title)}</h1>"]
    for heading, content in sections:
        parts += [f"<h2>{html(heading)}</h2>"] if heading else []
        for one in content:
            is_table = isinstance(one, pd.DataFrame)
            parts.append(_table(one) if is_table else f"<p>{html(one)}</p>")
    for name, path in figures.items():
        data = base64.b64encode(path.read_bytes()).decode()
        image = f'<img alt="{html(name)}" src="data:image/png;base64,{data}">'
        parts.append(f"<figure>{image}</figure>")
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"{POLICY}'sha256-{digest}'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{html(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _table(frame: pd.DataFrame) -> str:
    """One whose rows stand under headings of their own does not sort."""
    grouped = frame.map(lambda cell: isinstance(cell, Strong)).to_numpy().any()
    shown = frame.map(
        lambda cell: f"<b>{html(cell)}</b>" if isinstance(cell, Strong) else html(cell)
    )
    shown.columns = [html(heading) for heading in frame.columns]
    classes = "" if grouped else "sorts"
    return shown.to_html(index=False, escape=False, border=0, classes=classes)

"""One self-contained HTML page: tables that sort, figures inline, nothing loaded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from .build import Report
from .cells import Strong
from .notes import notes, protocol
from .tables import SEEN, insights, of_section, overlays
from .text import plain

Section = tuple[str, list[str | pd.DataFrame]]  # heading, paragraphs and tables
TEMPLATES = Path(__file__).with_name("templates")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
# Whatever is not of these files is escaped, and has no control characters.
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    keep_trailing_newline=True,
    finalize=lambda value: value if isinstance(value, Markup) else plain(value),
)


def _is_strong(cell: object) -> bool:
    return isinstance(cell, Strong)


ENVIRONMENT.tests["strong"] = _is_strong
ENVIRONMENT.tests["grouped"] = lambda frame: frame.map(_is_strong).to_numpy().any()


def as_page(
    report: Report, figures: Iterable[Path], further: Iterable[Section] = ()
) -> str:
    """What the other files of a report have, as one that can be sent.

    Args:
        figures: PNG files.
        further: sections for its beginning.
    """
    sections: list[Section] = [*further, ("Protocol", list(protocol(report)))]
    for dataset, selection, arms in report.sections():
        heading = f"{dataset or '(unnamed data set)'}, selection: {selection}"
        ending = overlays(report, arms)
        said = [f"All arms: {ending}"] if ending else []
        made = of_section(report, dataset, selection, arms)
        sections.append((heading, [*said, *made]))
    of_memvir = insights(report.runs)
    sections += [(SEEN, [of_memvir])] if len(of_memvir) else []
    sections.append(("Notes", list(notes(report))))
    script, style = (
        Markup((TEMPLATES / f"page.{kind}").read_text()) for kind in ("js", "css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return ENVIRONMENT.get_template("page.html").render(
        title="Report",
        sections=sections,
        figures={f.name: base64.b64encode(f.read_bytes()).decode() for f in figures},
        policy=Markup(f"{POLICY}'sha256-{digest}'"),
        script=script,
        style=style,
    )

"""One self-contained HTML page: tables that sort, figures inline, nothing loaded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

import jinja2
from markupsafe import Markup

from .build import Report
from .cells import Strong
from .notes import notes, protocol
from .tables import Section, sections
from .text import plain

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
    first, last = ("Protocol", protocol(report)), ("Notes", notes(report))
    script, style = (
        Markup((TEMPLATES / f"page.{kind}").read_text()) for kind in ("js", "css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return ENVIRONMENT.get_template("page.html").render(
        title="Report",
        sections=[*further, first, *sections(report), last],
        figures={f.name: base64.b64encode(f.read_bytes()).decode() for f in figures},
        policy=Markup(f"{POLICY}'sha256-{digest}'"),
        script=script,
        style=style,
    )

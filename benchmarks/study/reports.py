"""The reports that a study's file asks for, and pages that have tables of them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from ..errors import NotPicked
from ..files import write_png, write_text
from ..report import ReportError
from ..report.build import Report, build
from ..report.figures import ALL_FIGURES
from ..report.markdown import as_table
from ..report.run import write
from ..report.runs import Runs
from ..report.tables import Section
from .figures import forest, has_intervals, scatter
from .settings import filled
from .study import Study
from .tables import Tables

MARKED = re.compile(
    r"(?P<begin><!-- table: (?P<report>\S+) / (?P<heading>.+) -->)\n"
    r"(?:\|.*\n)*(?P<end><!-- end -->)"
)
Page = tuple[str, list[str], dict[str, pd.DataFrame]]  # title, paragraphs, tables
TABLES_FILE = "tables.md"


def write_reports(study: Study, output: Path, console: Console) -> None:
    """Each report of what there is of it into a folder of its name in `output`.

    Marked tables of the pages beside that folder, and of a README.md above it, are
    brought up to date.
    """
    made = Tables(study)
    for name, of in study.reports.items():
        folder = output / name
        report = built(study, of, made.runs)
        pages = further(made, of)
        if report is None:
            console.print(f"{name}: no results yet")
        else:
            sections: list[Section] = [
                (heading, [table])
                for _, _, tables in pages
                for heading, table in tables.items()
            ]
            write(report, folder, of.get("figures", ALL_FIGURES), sections)
            console.print(f"{name}: {folder}", soft_wrap=True)
        if pages:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / TABLES_FILE, as_markdown(pages))
            for _, _, tables in pages:
                for table in tables.values():
                    if "figure" in table.attrs and has_intervals(table):
                        name = re.sub(r"[^\w.-]", "_", table.attrs["figure"])
                        against = table.attrs["against"]
                        drawn = scatter(table, against) if against else forest(table)
                        write_png(folder / f"{name}.png", drawn)
        else:
            (folder / TABLES_FILE).unlink(missing_ok=True)
    beside = output.parent
    paths = [*sorted(beside.glob("*.md")), *beside.parent.glob("README.md")]
    texts = {path: path.read_text() for path in paths}
    marked = {path: text for path, text in texts.items() if MARKED.search(text)}
    filled_in = {path: with_tables(text, output) for path, text in marked.items()}
    for path, text in filled_in.items():
        write_text(path, text)


def built(study: Study, of: Mapping[str, Any], runs: Runs | None) -> Report | None:
    """None where the first of its patterns, which it is about, has no results."""
    if runs is None:
        return None
    names = [fnmatch.filter(runs.experiments.index, one) for one in of["of"]]
    if not names[0]:
        return None
    short = {key: key.partition("/")[2] for matched in names for key in matched}
    if len(set(short.values())) < len(short):
        raise ReportError(f"a report of {of['of']} has experiments of one name")
    chosen = runs.only(short).renamed(short.__getitem__)
    if "until" in of:
        chosen = chosen.until(of["until"])
    baselines = {}
    for one in of.get("baselines", ()):
        try:
            for job in study.arms(one["of"], {}):
                arm, minus = (filled(one[k], job.context, k) for k in ("arm", "minus"))
                baselines[arm] = minus
        except NotPicked:
            continue
    return build(chosen, of.get("selections", ()), study.metrics, baselines)


def further(tables: Tables, of: Mapping[str, Any]) -> list[Page]:
    """Each page of tables that has any."""
    return [
        (page["title"], page.get("about", []), made)
        for page in of.get("tables", ())
        if (made := tables.sections(page))
    ]


def as_markdown(pages: list[Page]) -> str:
    texts = []
    for title, about, tables in pages:
        parts = [f"## {name}\n\n{as_table(table)}" for name, table in tables.items()]
        texts.append("\n\n".join([f"# {title}", *about, *parts]) + "\n")
    return "\n".join(texts)


def with_tables(page: str, output: Path) -> str:
    """The page with the first table of a file's section between each pair of marks.

    Raises:
        ReportError: a mark names a report or a section that is not there.
    """

    def of_mark(match: re.Match[str]) -> str:
        report, heading = match["report"], match["heading"]
        path = output / f"{report}.md"
        text = path.read_text() if path.exists() else ""
        section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        table = re.search(r"^(\|.*\n)+", section, re.MULTILINE)
        if table is None:
            raise ReportError(f"{path} has no table under {heading!r}")
        return f"{match['begin']}\n{table[0]}{match['end']}"

    return MARKED.sub(of_mark, page)

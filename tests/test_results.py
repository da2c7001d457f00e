"""docs/results: every table is one that `report` makes of the committed results.

And so are the marked tables of other pages.
"""

import re
from pathlib import Path

import pytest

pytest.importorskip("omegaconf", reason="the report reads config.yaml with it")

from click.testing import CliRunner  # noqa: E402

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.config import differences, load, load_saved  # noqa: E402
from benchmarks.report.build import build  # noqa: E402
from benchmarks.report.experiments import experiment_folders  # noqa: E402
from benchmarks.report.experiments import load as read  # noqa: E402
from benchmarks.report.tables import as_markdown  # noqa: E402
from benchmarks.study import REPORTS, STAGES  # noqa: E402
from benchmarks.study.reports import (  # noqa: E402
    METRICS,
    TABLES,
    TABLES_FILE,
    folders_there,
    tables,
    with_tables,
)

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "study"
PAGES = ROOT / "docs" / "results"
PAGE, TUNING = ROOT / "docs" / "results.md", ROOT / "docs" / "tuning.md"
README = ROOT / "README.md"


def planned():
    """The study's runs, as far as their settings are picked, by folder."""
    found = {}
    for make in STAGES.values():
        try:
            jobs = list(make(RESULTS))
        except FileNotFoundError:
            continue
        for job in jobs:
            found.setdefault(RESULTS / job.folder / job.name, []).append(job)
    return found


def test_every_experiment_is_one_of_the_protocol():
    """And was run with the settings that the protocol's code gives it."""
    jobs = planned()
    there = list(experiment_folders(RESULTS))
    assert there and set(there) <= set(jobs)
    for folder in there:
        seeds = {job.trial(RESULTS).parent for job in jobs[folder]}
        assert set(folder.glob("seed*")) <= seeds, folder
        _, preset, *rest = jobs[folder][0].arguments(RESULTS)
        files = [a.removeprefix("--with=") for a in rest if a.startswith("--with=")]
        wanted = load(preset, files, [a for a in rest if not a.startswith("--")])
        saved = load_saved(folder / "config.yaml")
        assert {f"seed{seed}" for seed in saved.seeds} == {
            path.name for path in folder.glob("seed*")
        }, folder
        changed = differences(saved, wanted)
        assert not [line for line in changed if not line.startswith("seeds")], folder


@pytest.mark.parametrize("name", REPORTS)
def test_tables_are_those_of_the_committed_results(name):
    folders = folders_there(REPORTS[name], RESULTS)
    if not folders:
        assert not (PAGES / name).exists()
        return
    reported = REPORTS[name]
    report = build(
        read(folders, reported.until),
        reported.selections,
        METRICS,
        reported.baselines(RESULTS),
    )
    committed = (PAGES / name / "report.md").read_text()
    text = re.sub(r"!\[.*\n?", "", committed).rstrip()
    assert text == as_markdown(report).rstrip()


@pytest.mark.parametrize("name", TABLES)
def test_further_tables_are_of_the_committed_results(name):
    path = PAGES / name / TABLES_FILE
    assert (path.read_text() if path.exists() else "") == tables(name, RESULTS)


@pytest.mark.parametrize("path", [PAGE, TUNING, README], ids=lambda path: path.stem)
def test_tables_of_a_page_are_those_of_the_reports(path):
    page = path.read_text()
    assert "<!-- table: " in page and with_tables(page, PAGES) == page


def test_the_command_writes_reports_and_pages(tmp_path):
    """Of the committed results what is committed, and tables that were emptied."""
    marked = re.compile(r"(<!-- table: .*-->\n)(?:\|.*\n)+")
    docs = tmp_path / "docs"
    docs.mkdir()
    pages = {docs / PAGE.name: PAGE, docs / TUNING.name: TUNING}
    pages[tmp_path / README.name] = README
    for path, of in pages.items():
        path.write_text(marked.sub(r"\1", of.read_text()))
    page = docs / PAGE.name
    arguments = ["study", "--output", str(RESULTS)]
    arguments += ["--report", str(docs / "results")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    for path, of in pages.items():
        assert path.read_text() == of.read_text()
    written, committed = (
        {path.relative_to(folder) for path in folder.rglob("*.md")}
        for folder in (docs / "results", PAGES)
    )
    assert written == committed
    (mark,) = re.findall("<!-- table: tuning/report .*-->", page.read_text())[:1]
    page.write_text(f"{mark.replace('glyphs', 'nowhere')}\n<!-- end -->\n")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and "has no table under 'nowhere" in result.output


def test_every_table_of_the_page_is_of_a_report():
    """None is written by hand: all lie between their marks."""
    page = PAGE.read_text()
    text = re.sub(r"<!-- table: .*?<!-- end -->", "", page, flags=re.DOTALL)
    text = re.sub(r"\]\(\S+\)", "]", text)  # links
    assert not re.search(r"\d\.\d\d", text)


def test_the_page_shows_figures_that_are_there():
    figures = re.findall(r"!\[[^\]]*\]\((\S+)\)", PAGE.read_text())
    assert all((PAGE.parent / path).exists() for path in figures)

"""The study's reports and pages are brought up to date, or none is."""

import pytest

pytest.importorskip("omegaconf", reason="runs are configs, read with it")

from rich.console import Console  # noqa: E402

from benchmarks.report import ReportError  # noqa: E402
from benchmarks.study import STAGES, Job, reports, stages  # noqa: E402
from benchmarks.study.reports import with_tables  # noqa: E402

from .study_runs import finish  # noqa: E402


def test_tables_of_the_page_are_brought_up_to_date(tmp_path):
    (tmp_path / "main").mkdir()
    text = "# Report\n\n## a, b\n\n| x |\n| 1 |\n\n| y |\n\n## c\n\n| z |\n"
    (tmp_path / "main" / "report.md").write_text(text)
    begin, end = "<!-- table: main/report / {} -->", "<!-- end -->"
    page = "\n".join(["one", begin.format("a, b"), "| old |", end, "two", ""])
    filled = "\n".join(["one", begin.format("a, b"), "| x |", "| 1 |", end, "two", ""])
    assert with_tables(page, tmp_path) == filled
    assert with_tables(filled, tmp_path) == filled
    with pytest.raises(ReportError, match="no table under 'd'"):
        with_tables("\n".join([begin.format("d"), end]), tmp_path)


def test_reports_are_made_as_they_are_listed(tmp_path, monkeypatch):
    """Of what is there, if that is there which a report is about."""
    made = {}

    def record(folders, output, console, selections, metrics, **rest):
        made[output.name] = [f.relative_to(tmp_path).as_posix() for f in folders], rest

    monkeypatch.setattr(reports, "run", record)
    monkeypatch.setattr(reports, "TABLES", {})
    finish(Job("main", "glyphs/norm_softmax", "glyphs/norm_softmax", (), 0), tmp_path)
    reports.write_reports(tmp_path, tmp_path / "pages", Console(quiet=True))
    assert set(made) == {"main"} and made["main"][1]["until"] is None
    finish(Job("factors", "glyphs/arm", "glyphs/norm_softmax", (), 0), tmp_path)
    control = Job("controls", "glyphs/softmax+lr", "glyphs/softmax", (), 0)
    finish(control, tmp_path)
    monkeypatch.setitem(STAGES, "glyphs-controls", lambda results: iter([control]))
    reports.write_reports(tmp_path, tmp_path / "pages", Console(quiet=True))
    assert set(made) == {"main", "controls", "factors"}
    assert made["factors"][0] == ["factors/glyphs", "main/glyphs/norm_softmax"]
    assert made["factors"][1]["until"] == stages.FACTOR_EPOCHS
    against = {"glyphs/softmax_memvir": "glyphs/softmax+lr"}
    assert made["controls"][1]["baselines"] == against


def test_tables_without_results_go(tmp_path, monkeypatch):
    """Nothing stays for a page to be filled with, and no page is half brought up."""
    old = tmp_path / "pages" / "controls" / reports.TABLES_FILE
    old.parent.mkdir(parents=True)
    old.write_text("## glyphs, MAP@R\n\n| old |\n")
    marks = "<!-- table: {} / glyphs, MAP@R -->\n| as it was |\n<!-- end -->\n"
    for name, of in (("a", "main/tables"), ("b", "controls/tables")):
        (tmp_path / f"{name}.md").write_text(marks.format(of))
    made = {"main": (lambda results: "\n## glyphs, MAP@R\n\n| new |\n",)}
    made["controls"] = (lambda results: "",)
    monkeypatch.setattr(reports, "TABLES", made)
    with pytest.raises(ReportError, match="controls/tables.md has no table"):
        reports.write_reports(tmp_path, tmp_path / "pages", Console(quiet=True))
    assert not old.exists()
    assert "| as it was |" in (tmp_path / "a.md").read_text()
    (tmp_path / "b.md").unlink()
    reports.write_reports(tmp_path, tmp_path / "pages", Console(quiet=True))
    assert "| new |" in (tmp_path / "a.md").read_text()

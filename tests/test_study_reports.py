"""Reports that a study's file asks for, and pages with its tables."""

import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from benchmarks.report import ReportError
from benchmarks.study import Study, reports, write_reports
from benchmarks.study.cells import SHOWN
from benchmarks.study.figures import GAIN, LOSS, OPEN, forest, has_intervals, scatter
from benchmarks.study.reports import built, with_tables
from benchmarks.study.tables import Tables
from pml_memvir import MemVir

from .study_runs import (
    COMPARISON,
    compared,
    finish,
    made_of,
    table_of,
)

ROOT = Path(__file__).parent.parent
MEGABYTES = ("num_classes", "embedding_size", "batch_size", "minus")


def test_reports_and_pages_are_written(tmp_path):
    """Of what there is; tables without results go, so that no page shows them."""
    made = compared(tmp_path, COMPARISON)
    made.reports["none"] = {"of": ["other/*"]}
    docs = tmp_path / "docs"
    old = docs / "results" / "none" / "tables.md"
    old.parent.mkdir(parents=True)
    old.write_text("## all, MAP@R\n\n| old |\n")
    mark = "<!-- table: {}/tables / all, MAP@R -->\n| as it was |\n<!-- end -->\n"
    (docs / "a.md").write_text(mark.format("main"))
    (docs / "b.md").write_text(mark.format("none"))
    made.reports["main"]["figures"] = ["differences"]
    made.reports["main"]["selections"] = ["last"]
    for _ in range(2):
        with pytest.raises(ReportError, match="none/tables.md has no table"):
            write_reports(made, docs / "results", Console(quiet=True))
        assert not old.exists() and "| as it was |" in (docs / "a.md").read_text()
    (docs / "b.md").unlink()
    write_reports(made, docs / "results", Console(quiet=True))
    assert "| cosface |" in (docs / "a.md").read_text()
    written = {path.name for path in (docs / "results" / "main").iterdir()}
    assert {"tables.md", "report.md", "report.html", "differences.png"} <= written
    html = (docs / "results" / "main" / "report.html").read_text()
    assert "<h2>all, MAP@R</h2>" in html


def test_a_figure_of_a_table(tmp_path):
    """What is drawn is what the table says, in the colour of what that means."""
    shown = pd.DataFrame(
        {
            "loss": ["ahead", "behind", "open", "not measured"],
            "pairs": ["5", "5", "5", "-"],
            "diff": [
                "+2.0 [+1.0, +3.0]",
                "-1.5 [-2.0, -1.0]",
                "+0.5 [-1.0, +2.0]",
                "-",
            ],
        }
    )
    (axes,) = forest(shown).axes
    assert axes.get_title() == "diff"
    points = {float(c.lines[0].get_xdata()[0]): c.lines[0] for c in axes.containers}
    colors = {mean: line.get_color() for mean, line in points.items()}
    assert colors == {2.0: GAIN, -1.5: LOSS, 0.5: OPEN}
    bars = [c.lines[2][0].get_segments()[0][:, 0].tolist() for c in axes.containers]
    assert bars == [[1.0, 3.0], [-2.0, -1.0], [-1.0, 2.0]]
    assert names_in(axes) == ["ahead", "behind", "open"]


def names_in(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_panels_have_the_rows_of_their_line_and_numbers_below():
    gain, none = "+2.0 [+1.0, +3.0]", "-"
    columns = {**dict.fromkeys("vwx", [gain, none, none]), "y": [none, none, gain]}
    table = pd.DataFrame({"loss": ["a", "b", "c"], **columns, "z": [none, gain, none]})
    panels = forest(table).axes[:5]
    shown = [axes.xaxis.get_tick_params()["labelbottom"] for axes in panels]
    assert shown == [False, False, True, True, True]
    assert [names_in(axes) for axes in panels[::3]] == [["a"], ["b", "c"]]
    places = [axes.containers[0].lines[0].get_ydata()[0] for axes in panels]
    assert places == [0, 0, 0, 1, 0]


def test_a_figure_over_another_column():
    shown = pd.DataFrame(
        {
            "arm": ["A, narrow", "A, wide", "B, wide", "B, of one seed"],
            "cosine": ["0.99", "0.90", "0.80", "0.70"],
            "gain": [
                "-1.0 [-2.0, +0.5]",
                "+2.0 [+1.0, +3.0]",
                "+1.0 [+0.9, +1.1]",
                "+4",
            ],
        }
    )
    figure = scatter(shown, "cosine")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "cosine"
    points = [c.lines[0].get_xydata().tolist() for c in axes.containers]
    assert points == [[[0.99, -1.0], [0.9, 2.0]], [[0.8, 1.0]]]
    bars = axes.containers[0].lines[2][0].get_segments()
    assert [bar[:, 1].tolist() for bar in bars] == [[-2.0, 0.5], [1.0, 3.0]]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["A", "B"]


def test_a_table_of_one_seed_has_no_figure():
    shown = pd.DataFrame({"arm": ["A"], "cosine": ["0.9"], "gain": ["+1.0"]})
    assert not has_intervals(shown)
    shown.loc[1] = ["B", "0.8", "+1.0 [+0.5, +1.5]"]
    assert has_intervals(shown)


def test_a_figure_is_named_as_the_section_says(tmp_path):
    made = compared(tmp_path, COMPARISON)
    (section,) = made.reports["main"]["tables"][0]["sections"]
    section["figure"] = "of {metric}"
    write_reports(made, tmp_path / "results", Console(quiet=True))
    assert (tmp_path / "results" / "main" / "of_MAP_R.png").stat().st_size > 5000


def test_a_figure_is_drawn_over_the_column_that_the_section_says(tmp_path, monkeypatch):
    made = compared(tmp_path, COMPARISON)
    (section,) = made.reports["main"]["tables"][0]["sections"]
    section.update(figure="over", against="plain")
    drawn = []
    monkeypatch.setattr(
        reports, "scatter", lambda *given: drawn.append(given) or scatter(*given)
    )
    write_reports(made, tmp_path / "results", Console(quiet=True))
    ((table, against),) = drawn
    assert against == "plain" and list(table["loss"]) == ["cosface"]


def test_a_report_has_baselines_and_a_length_of_its_own(tmp_path):
    made = compared(tmp_path, COMPARISON)
    baselines = [
        {"of": "main.plain", "arm": "glyphs/{loss}", "minus": "glyphs/{loss}_memvir"}
    ]
    of = {"of": ["main/*cosface*"], "until": 2, "baselines": baselines}
    report = built(made, {**of, "selections": ["last"]}, Tables(made).runs)
    assert report.baselines["glyphs/cosface"] == "glyphs/cosface_memvir"
    assert set(report.runs.trials.num_epochs) == {2}
    assert built(made, {"of": ["wide/*", "main/*"]}, Tables(made).runs) is None


def test_tables_of_a_page_are_brought_up_to_date(tmp_path):
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


THINNED = ("snapshot_every", "class_weights_every")
SIZES = {"num_classes": 10, "embedding_size": 4, "batch_size": 2}


def test_the_study_of_the_docs(tmp_path):
    """Its runs are configs, and its table says what is asked for."""
    page = (ROOT / "docs" / "studies.md").read_text()
    text = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]
    file = tmp_path / "my_study.yaml"
    file.write_text(text)
    made = Study(file, tmp_path / "results")
    for k, job in enumerate(made.jobs("tune")):
        finish(job, made, (0.5 + k * (-1) ** k / 10, 0.5))
    for job in made.jobs("compare"):
        of_job = job.config()
        assert of_job.experiment_name == job.name
        assert list(of_job.split_manager) == ["ClassDisjointSplitManager"]
        best = {"norm_softmax": 0.01, "proxy_nca": 0.01}[job.context["loss"]]
        assert of_job.optimizers["metric_loss_optimizer"]["Adam"]["lr"] == best
        finish(job, made, (0.5, 0.6 if "memvir" in job.name else 0.5))
        if memory := of_job.loss_funcs["metric_loss"].get("MemVir"):
            fixed = {k: memory[k] for k in ("num_steps", "step_gap", *THINNED)}
            assert MemVir.estimate_nbytes(**fixed, **SIZES) > 0  # they fit together
    head, _, *rows = table_of(made_of(made), "all, MAP@R")
    assert len(rows) == 4 and rows[1][:2] == ["norm_softmax, memvir_5_499", "3"]
    assert rows[1][2:5] == ["50.00", "60.00", "+10.00 [+10.00, +10.00]"]
    for show in re.findall(r"`(\w+)`", page.split("| `show` | |")[1].split("\n\n")[0]):
        assert show in {*SHOWN, "as", "name", "decimals"} or show in MEGABYTES, show

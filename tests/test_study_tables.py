"""Tables that a study's file asks for, worked out by hand; and pages with them."""

import re
from pathlib import Path

import pytest

pytest.importorskip("omegaconf", reason="runs are configs, read with it")

from rich.console import Console  # noqa: E402

from benchmarks.report import ReportError  # noqa: E402
from benchmarks.study import Study, StudyError, write_reports  # noqa: E402
from benchmarks.study.reports import (  # noqa: E402
    as_markdown,
    built,
    further,
    with_tables,
)
from benchmarks.study.cells import SHOWN  # noqa: E402
from benchmarks.study.tables import Tables  # noqa: E402

from .study_runs import config, finish, study, table_of  # noqa: E402

ROOT = Path(__file__).parent.parent
MEGABYTES = ("num_classes", "embedding_size", "batch_size", "minus")
STAGES = """
stages:
  tune:
    folder: tuning
    seeds: [100]
    each: {loss: [softmax, cosface]}
    arms:
      trial:
        each: {rates: [[1e-3, 0.5], [2e-3, 0.5]]}
        preset: "glyphs/{loss}"
        name: "glyphs/{loss}+{rates}"
        baseline: "glyphs/{loss}+lr_0.001_0.5"
        set: [rates]
  main:
    folder: main
    seeds: [0, 1, 2]
    each: {loss: [softmax, cosface]}
    arms:
      plain: {preset: "glyphs/{loss}"}
      memvir: {preset: "glyphs/{loss}_memvir", baseline: "glyphs/{loss}"}
  wide:
    folder: wide
    seeds: [0, 1, 2]
    each: {loss: [softmax, cosface], memory: [[5, 100], [1, 7]]}
    arms:
      memvir:
        preset: "glyphs/{loss}_memvir"
        name: "glyphs/{loss}_{memory}"
        baseline: "glyphs/{loss}"
        set: [memory]
"""
PLAIN = [(0.3, 0.20), (0.5, 0.30), (0.4, 0.50), (0.1, 0.10)]  # 2 is picked, 3 best
OURS = [(0.3, 0.10), (0.2, 0.20), (0.6, 0.44), (0.1, 0.40)]  # 3 is, 1 until 2


def page(sections, metrics="[MAP@R]"):
    return f"""
reports:
  main:
    of: [main/*]
    tables:
      - title: Tables
        about: [How it was.]
        each: {{metric: {metrics}}}
        sections:
          - {sections}
"""


def made_of(study_):
    text = as_markdown(further(Tables(study_), study_.reports["main"]))
    return text


def cell(mean, half=12.71):
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def finished(study_, stage, values):
    """Runs by name and seed."""
    for job in study_.jobs(stage):
        if (job.name.partition("/")[2], job.seed) in values:
            finish(job, study_, *values[job.name.partition("/")[2], job.seed])


COMPARISON = """
            heading: "all, {metric}"
            head: loss
            rows: [{of: main.memvir, label: "{loss}"}]
            columns:
              - {head: pairs, show: pairs}
              - {head: plain, show: minus}
              - {head: with MemVir, show: arm}
              - {head: picked epoch}
              - {head: last epoch, selection: last}
              - {head: best on test, selection: best_on_test}
              - {head: held-out classes, selection: held_out}
"""


@pytest.fixture
def compared(tmp_path):
    """Two pairs of seeds of CosFace, a plain run without a partner, and no Softmax."""

    def make(sections, metrics="[MAP@R]"):
        made = study(tmp_path, STAGES + page(sections.strip(), metrics))
        assert made_of(made) == ""
        values = {("cosface", seed): PLAIN for seed in (0, 1)}
        values["cosface", 2] = [(0.9, 0.9)] * 4  # is in no number
        for seed in (0, 1):
            values["cosface_memvir", seed] = [(v, t + 0.02 * seed) for v, t in OURS]
        finished(made, "main", values)
        return made

    return make


def test_means_and_differences(compared):
    text = made_of(compared(COMPARISON, "[MAP@R, Recall@1]"))
    assert text.startswith("# Tables\n\nHow it was.\n\n## all, MAP@R\n\n|")
    head, _, row = table_of(text, "all, MAP@R")
    assert head[:4] == ["loss", "pairs", "plain", "with MemVir"]
    assert row == [
        *("cosface", "2", "30.00", "45.00"),
        *map(cell, (15, 31, -5)),
        "+10.00 [+10.00, +10.00]",
    ]
    *_, row = table_of(text, "all, Recall@1")
    assert row[2:5] == ["15.00", "22.50", "+7.50 [+1.15, +13.85]"]


def test_quarters_of_the_training(compared):
    """Over the seeds that got to its end, as if it had ended there."""
    made = compared(
        '{heading: q, head: loss, rows: [{of: main.memvir, label: "{loss}"}], '
        "quarters: true}"
    )
    head, _, row = table_of(made_of(made), "q")
    steps = [f"{thousands},000 steps" for thousands in (1, 2, 3, 4)]
    assert head == ["loss", "pairs", *steps]
    assert row == ["cosface", "2", *map(cell, (-9, -19, 15, 15))]


OTHERS = """
            heading: wide
            head: memory
            rows: [{each: {loss: [cosface]}, of: wide, label: "{memory.label}"}]
            columns:
              - {head: picked}
              - {head: to dense, minus: &dense "wide/glyphs/{loss}_memvir_5_100"}
              - {head: holds, show: holds, as: *dense}
              - {head: corrected, show: holds, as: *dense, comparisons: 1000}
              - {head: first, any: [{minus: "wide/none"}, {arm: "main/glyphs/{loss}"}]}
              - {head: only, only: other}
              - head: MB
                show: megabytes
                num_classes: 10
                embedding_size: 4
                batch_size: 8
              - {head: newest, show: seen, name: cosine_to_newest, decimals: 3}
              - {head: "N", text: "{memory.num_steps}"}
"""


def test_other_arms_and_what_holds(tmp_path):
    """The cheaper memory is ahead of plain, and as good as the dense one."""
    made = study(tmp_path, STAGES + page(OTHERS.strip()))
    one = {f"cosface{end}": v for end, v in (("", 0.1), ("_memvir_5_100", 0.2))}
    values = {(n, s): [(0.5, v)] for n, v in one.items() for s in (0, 1, 2)}
    for seed, value in enumerate((0.19, 0.2, 0.22)):
        values["cosface_memvir_1_7", seed] = [(0.5, value)]
    finished(made, "main", values)
    for job in made.jobs("wide"):
        if "cosface" in job.name:
            value = values[job.name.partition("/")[2], job.seed]
            finish(job, made, *value, memvir={"cosine_to_newest": 0.9 + job.seed / 10})
    path = made.results.folder / "wide/glyphs/cosface_memvir_1_7/config.yaml"
    memvir = "{loss: {CosFace: {}}, num_steps: 1, step_gap: 7, warmup_epochs: 1}"
    with path.open("a") as file:
        file.write(f"loss_funcs: {{metric_loss: {{MemVir: {memvir}}}}}\n")
    made.refresh()
    head, _, dense, cheap = table_of(made_of(made), "wide")
    assert dense[:5] == ["N = 5, M = 100", "+10.00 [+10.00, +10.00]", "-", "-", "-"]
    assert cheap[:3] == [
        "N = 1, M = 7",
        "+10.33 [+6.54, +14.13]",
        "+0.33 [-3.46, +4.13]",
    ]
    assert cheap[3:5] == ["yes", "no"]
    assert cheap[5:7] == ["+0.00 [+0.00, +0.00]", "-"] or cheap[5] == "-"
    assert cheap[8:] == ["1.000", "1"] and dense[7] == "-"
    from pml_memvir import MemVir

    assert float(cheap[7]) == round(MemVir.estimate_nbytes(1, 7, 10, 4, 8) / 1e6, 1)


PIVOT = """
            heading: tuned
            head: rates
            pivot: loss
            rows:
              - {of: tune, label: "{rates.network:g}"}
              - each: {loss: [softmax, cosface]}
                pick: {best: tune}
                of: tune
                among: best
                label: best
            columns:
              - head: x
                format: "{seen} ({d})"
                of: {seen: {show: seen, name: a}, d: {selection: held_out}}
"""


def test_a_column_a_loss(tmp_path):
    """With the setting that each has picked; none before that is known."""
    made = study(tmp_path, STAGES + page(PIVOT.strip()))
    jobs = made.jobs("tune")
    for job, value in zip(jobs[:3], (0.5, 0.25, 0.25)):
        finish(job, made, (value, 0.5), memvir={"a": value})
    *_, best = table_of(made_of(made), "tuned")
    assert best == ["best", "0.50 (-)", "-"]
    finish(jobs[3], made, (0.5, 0.5))
    head, _, *rows = table_of(made_of(made), "tuned")
    assert head == ["rates", "softmax", "cosface"]
    assert rows == [
        ["0.001", "0.50 (-)", "0.25 (-)"],
        ["0.002", "0.25 (-25.00)", "- (+25.00)"],
        ["best", "0.50 (-)", "- (+25.00)"],
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        (("show: pairs", "show: pears"), "show must be one of pairs, .*got 'pears'"),
        (('label: "{loss}"', 'label: "{lass}"'), "cannot fill in '{lass}'"),
        (("of: main.memvir", "of: mine"), "expected one of tune, main, wide"),
    ],
)
def test_what_is_wrong_is_said(compared, change, message):
    with pytest.raises(StudyError, match=message):
        made_of(compared(COMPARISON.replace(*change)))


def test_reports_and_pages_are_written(compared, tmp_path):
    """Of what there is; tables without results go, so that no page shows them."""
    made = compared(COMPARISON)
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


def test_a_report_has_baselines_and_a_length_of_its_own(compared):
    made = compared(COMPARISON)
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
        of_job = config(job, made.results.folder)
        assert of_job.experiment_name == job.name
        assert list(of_job.split_manager) == ["ClassDisjointSplitManager"]
        best = {"norm_softmax": 0.01, "proxy_nca": 0.01}[job.context["loss"]]
        assert of_job.optimizers["metric_loss_optimizer"]["Adam"]["lr"] == best
        finish(job, made, (0.5, 0.6 if "memvir" in job.name else 0.5))
    head, _, *rows = table_of(made_of(made), "all, MAP@R")
    assert len(rows) == 4 and rows[1][:2] == ["norm_softmax, memvir_5_500", "3"]
    assert rows[1][2:5] == ["50.00", "60.00", "+10.00 [+10.00, +10.00]"]
    for show in re.findall(r"`(\w+)`", page.split("| `show` | |")[1].split("\n\n")[0]):
        assert show in {*SHOWN, "as", "name", "decimals"} or show in MEGABYTES, show

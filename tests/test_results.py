"""The project's own study, and docs/results.

Each table is one that `report` makes of the committed results, and so are the marked
tables of other pages. The committed CSV files have all numbers to the last digit.
"""

import re
from pathlib import Path

import pytest
import yaml

from benchmarks.commands.studies import OURS
from benchmarks.config import differences, load_saved
from benchmarks.report.markdown import as_markdown
from benchmarks.report.pack import read_pack
from benchmarks.report.runs import read
from benchmarks.study import Study, reports
from benchmarks.study.settings import Picked
from benchmarks.study.tables import Tables

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ROOT / "docs" / "results"
PAGE, TUNING = ROOT / "docs" / "results.md", ROOT / "docs" / "tuning.md"
NAMES = [
    name
    for path in OURS.parent.glob("*.yaml")
    for name in (yaml.safe_load(path.read_text()).get("reports") or {})
]


@pytest.fixture(scope="module")
def ours():
    return Study(OURS)


@pytest.fixture(scope="module")
def tables(ours):
    return Tables(ours)


def test_every_run_has_a_config_of_its_own(ours):
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    for stage in ours.stages:
        jobs = ours.jobs(stage)
        assert jobs and len({(job.key, job.seed) for job in jobs}) == len(jobs)
        seeds = [job.seed for job in jobs]
        assert seeds == sorted(seeds)
        assert (seeds == [100] * len(jobs)) == jobs[0].folder.endswith("tuning")
        by_name = {job.name: job for job in jobs}
        for name in by_name if "class-weights-once" not in stage else ():
            made = by_name[name].config()
            assert made.experiment_name == name


@pytest.mark.parametrize("stage", ["glyphs-main", "emoji-main", "emoji-factors"])
def test_arms_differ_in_memvir_and_rates_alone(ours, stage):
    if stage.startswith("emoji"):
        pytest.importorskip("torchvision", reason="transforms are torchvision's")
    jobs = ours.jobs(stage)
    for plain, memvir in zip(jobs[::2], jobs[1::2], strict=True):
        one, other = plain.config(), memvir.config()
        assert memvir.baseline == plain.name and memvir.seed == plain.seed
        changed = {line.split(":")[0].split(".")[0] for line in differences(one, other)}
        assert {"experiment_name", "baseline", "loss_funcs"} <= changed
        assert changed <= {"experiment_name", "baseline", "loss_funcs", "optimizers"}
        (inner,), (wrapped,) = one.loss_funcs.values(), other.loss_funcs.values()
        assert wrapped["MemVir"]["loss"] == {k: v for k, v in [*inner.items()][:1]}


@pytest.mark.parametrize("dataset, trials", [("glyphs", 6), ("emoji", 5)])
def test_arms_have_as_many_trials(ours, dataset, trials):
    plain = ours.jobs(f"{dataset}-tune-plain")
    memvir = ours.jobs(f"{dataset}-tune-memvir") + ours.jobs(f"{dataset}-tune-more")
    losses = {job.context["loss"] for job in plain}
    assert len(plain) == len(memvir) == trials * len(losses)
    assert len({job.overrides + (job.preset,) for job in plain + memvir}) == (
        len(plain) + len(memvir)
    )


def test_controls_are_at_the_rates_of_the_other_arm(ours):
    """The plain losses at those of the arm with MemVir, and the reverse."""
    for stage, mine in (
        ("glyphs-controls", "plain"),
        ("emoji-controls", "plain"),
        ("glyphs-controls-memvir", "memvir"),
    ):
        for job in ours.jobs(stage):
            plain, memvir = job.context["plain"].rates, job.context["memvir"].rates
            assert plain != memvir and isinstance(job.context["plain"], Picked)
            rates = memvir if mine == "plain" else plain
            assert job.overrides[:3] == tuple(rates.overrides)
            assert job.name.endswith(f"+{rates}")


def test_every_experiment_is_one_of_the_protocol(ours, tmp_path):
    """And was run with the settings that the study's file gives it."""
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    jobs = {}
    for stage in ours.stages:
        for job in ours.jobs(stage):
            jobs.setdefault(job.key, []).append(job)
    there = 0
    for file in ours.results.folder.glob("*.csv.gz"):
        for stored in read_pack(file):
            there += 1
            path = tmp_path / "config.yaml"
            path.write_text(stored.files["config.yaml"])
            saved = load_saved(path)
            key = f"{file.name.partition('.')[0]}/{saved.experiment_name}"
            seeds = {seed for seed, _ in stored.histories}
            assert seeds <= set(saved.seeds) <= {job.seed for job in jobs[key]}, key
            wanted = jobs[key][0].config()
            changed = differences(saved, wanted)
            assert not [line for line in changed if not line.startswith("seeds")], key
    assert there >= 157


@pytest.mark.parametrize("name", NAMES)
def test_reports_are_those_of_the_committed_results(tables, name):
    folder = PAGES / name
    report = reports.built(tables.study, tables.study.reports[name], tables.runs)
    if report is None:
        assert not folder.exists()
        return
    committed = (folder / "report.md").read_text()
    figures = re.findall(r"^!\[(.*)\]", committed, re.M)
    assert all((folder / figure).exists() for figure in figures)
    assert committed == as_markdown(report, figures)


@pytest.mark.parametrize("name", NAMES)
def test_further_tables_are_of_the_committed_results(tables, name):
    path = PAGES / name / reports.TABLES_FILE
    made = reports.as_markdown(reports.further(tables, tables.study.reports[name]))
    assert (path.read_text() if path.exists() else "") == made


@pytest.mark.parametrize("path", [PAGE, TUNING], ids=lambda path: path.stem)
def test_tables_of_a_page_are_those_of_the_reports(path):
    page = path.read_text()
    assert "<!-- table: " in page and reports.with_tables(page, PAGES) == page
    emptied = re.sub(r"(<!-- table: .*-->\n)(?:\|.*\n)+", r"\1", page)
    assert emptied != page == reports.with_tables(emptied, PAGES)


def test_the_best_arms_on_tuning_are_those_of_the_table_of_drifts():
    text = (
        (PAGES / "wide_gaps" / "tables.md").read_text().partition("## gain against")[2]
    )
    best = {}
    cases = r"^\| (\w+, (?:Glyphs|cars196_half|cub200_2010), .*) \|$"
    for line in re.findall(cases, text, flags=re.MULTILINE):
        arm, pairs, cosine, gain, _ = map(str.strip, line.split("|"))
        loss, dataset, setting = arm.split(", ", 2)
        if "[" not in gain or "training classes" in setting:
            continue
        long = setting.endswith((", 20,000 steps", "plain's rates"))
        long |= setting == "N = 5, M = 500" and pairs == "5"
        steps = "4,000" if dataset != "Glyphs" else "20,000" if long else "10,000"
        one, case = (float(gain.split()[0]), cosine), (f"{dataset}, {steps}", loss)
        best[case] = max(best.get(case, one), one)
    page = TUNING.read_text().partition("## Is there a rule")[2]
    head, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(
            r"^\|[^-].*\|$", page.partition("\n![")[0], flags=re.MULTILINE
        )
    )
    found = {
        (row[0], loss): c for row in rows for loss, c in zip(head[1:], row[1:]) if c
    }
    assert found == {key: cosine for key, (_, cosine) in best.items()}
    cosines = [float(cosine) for cosine in found.values()]
    assert sum(0.9 <= c <= 0.98 for c in cosines) == 5 and len(cosines) == 14
    assert sum(0.7 <= c <= 0.9 for c in cosines) == 8
    assert sum(0.86 <= c <= 0.95 for c in cosines) == 10


def test_every_table_of_the_page_is_of_a_report():
    """None is written by hand: all lie between their marks."""
    page = PAGE.read_text()
    text = re.sub(r"<!-- table: .*?<!-- end -->", "", page, flags=re.DOTALL)
    text = re.sub(r"\]\(\S+\)", "]", text)  # links
    assert not re.search(r"\d\.\d\d", text)


def test_the_page_shows_figures_that_are_there():
    figures = re.findall(r"!\[[^\]]*\]\((\S+)\)", PAGE.read_text())
    assert all((PAGE.parent / path).exists() for path in figures)


@pytest.mark.parametrize("name, runs", [("first-look", 6), ("pilot", 5)])
def test_other_results_can_be_read(name, runs):
    (file,) = (RESULTS / name).glob("*.csv.gz")
    assert len(read([file]).experiments) == runs

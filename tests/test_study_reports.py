"""Tables of the study, and its pages."""

from dataclasses import replace

import pytest

pytest.importorskip("omegaconf", reason="runs are configs, read with it")

from rich.console import Console  # noqa: E402

from benchmarks.config import save  # noqa: E402
from benchmarks.protocol.history import History  # noqa: E402
from benchmarks.report import ReportError  # noqa: E402
from benchmarks.study import STAGES, Job, compared, reports, stages  # noqa: E402
from benchmarks.study.picked import picked_tables  # noqa: E402
from benchmarks.study.reports import with_tables  # noqa: E402
from benchmarks.study.shares import shares_tables  # noqa: E402

from .study_runs import MAP, config, finish  # noqa: E402


def test_tables_of_the_page_are_brought_up_to_date(tmp_path):
    (tmp_path / "main").mkdir()
    text = "# Report\n\n## a, b\n\n| x |\n| 1 |\n\n| y |\n\n## c\n\n| z |\n"
    (tmp_path / "main" / "report.md").write_text(text)
    begin, end = "<!-- table: main / {} -->", "<!-- end -->"
    page = "\n".join(["one", begin.format("a, b"), "| old |", end, "two", ""])
    filled = "\n".join(["one", begin.format("a, b"), "| x |", "| 1 |", end, "two", ""])
    assert with_tables(page, tmp_path) == filled
    assert with_tables(filled, tmp_path) == filled
    with pytest.raises(ReportError, match="no table under 'd'"):
        with_tables("\n".join([begin.format("d"), end]), tmp_path)


def test_what_was_picked(tmp_path):
    """The best trial of each arm, of the data sets whose tuning is over."""
    assert picked_tables(tmp_path) == ""
    for name in ("plain", "memvir", "more"):
        for k, job in enumerate(STAGES[f"glyphs-tune-{name}"](tmp_path)):
            value = 0.3 + 0.01 * (k % 7) + 0.1 * (name == "more")
            finish(job, tmp_path, held_out=value, test=1 - value)
    text = picked_tables(tmp_path)
    assert "emoji" not in text
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.split("\n")]
    (softmax,) = [row for row in rows if row[:1] == ["softmax"]]
    # Plain: 30 to 35, the sixth trial best. MemVir: 30 to 32, then 40 to 42 with the
    # third memory and the plain loss's third rates.
    assert softmax == [
        "softmax",
        "0.004, 0.1",
        "35.00",
        "0.002, 0.1",
        "1, 400",
        "42.00",
        "+7.00",
    ]
    assert len([row for row in rows if row and row[0] in stages.LOSSES]) == 6


def test_shares_and_differences_of_the_trials(tmp_path):
    """To the plain loss at the same rates; Proxy-Anchor has no shares."""
    assert shares_tables(tmp_path) == ""
    plain = (0.30, 0.31, 0.35, 0.32, 0.33, 0.40)  # the third is the first round's best
    for k, job in enumerate(STAGES["glyphs-tune-plain"](tmp_path)):
        finish(job, tmp_path, held_out=plain[k % 6])
    ours = {"memvir": (0.33, 0.34, 0.32), "more": (0.36, 0.37, 0.38)}
    for name, values in ours.items():
        for k, job in enumerate(STAGES[f"glyphs-tune-{name}"](tmp_path)):
            share = {"share_of_actual_classes": values[k % 3] + 0.5}
            memvir = {} if "anchor" in job.name else share
            finish(job, tmp_path, held_out=values[k % 3], memvir=memvir)
    head, _, *rows = table_of(shares_tables(tmp_path), "glyphs")
    assert head == ["setting", *stages.LOSSES]
    assert [[row[0], row[1], row[-1]] for row in rows] == [
        ["N = 5, M = 20", "0.83 (-2.00)", "- (-2.00)"],
        ["N = 5, M = 100", "0.84 (-1.00)", "- (-1.00)"],
        ["N = 1, M = 100", "0.82 (-3.00)", "- (-3.00)"],
        ["the best of these", "0.84 (-1.00)", "- (-1.00)"],
        ["... class weights' other rate", "0.86 (+6.00)", "- (+6.00)"],
        ["... network's rate 0.004", "0.87 (-3.00)", "- (-3.00)"],
        ["N = 1, M = 400", "0.88 (+3.00)", "- (+3.00)"],
    ]


def curve(job, results, values):
    """A finished run by (held-out, test) MAP@R, an epoch each.

    Recall@1 is half as much, R-Precision a quarter.
    """

    def metrics(value):
        return {m: value / 2**k for k, m in enumerate(compared.METRICS)}

    epochs = [
        {
            "epoch": n,
            "step": 1000 * n,
            "loss": 1.0,
            "splits": {
                "val": metrics(held_out),
                "test": metrics(test),
            },
        }
        for n, (held_out, test) in enumerate(values, 1)
    ]
    history = History(job.seed, 0, len(epochs), MAP, "val", "test")
    history.epochs, history.finished = epochs, True
    folder = job.trial(results)
    folder.mkdir(parents=True)
    history.save(folder)
    of_job = replace(config(job, results), num_epochs_train=len(epochs))
    save(of_job, folder.parents[1] / "config.yaml")


def table_of(text, heading):
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_tables_of_differences(tmp_path):
    """By how epochs are picked, and by the length of training; by hand."""
    assert compared.by_selection(tmp_path) == compared.by_length(tmp_path) == ""
    plain = [(0.3, 0.20), (0.5, 0.30), (0.4, 0.50), (0.1, 0.10)]  # 2 is picked, 3 best
    ours = [(0.3, 0.10), (0.2, 0.20), (0.6, 0.44), (0.1, 0.40)]  # 3 is, 1 until 2
    for seed in (0, 1):
        base = Job("main", "glyphs/cosface", "glyphs/cosface", (), seed)
        arm = Job(
            "main",
            "glyphs/cosface_memvir",
            "glyphs/cosface_memvir",
            (),
            seed,
            "glyphs/cosface",
        )
        curve(base, tmp_path, plain)
        curve(arm, tmp_path, [(v, t + 0.02 * seed) for v, t in ours])
    alone = Job("main", "glyphs/cosface", "glyphs/cosface", (), 2)
    curve(alone, tmp_path, [(0.9, 0.9)] * 4)  # is in no number: nothing to pair it with

    def cell(mean, half=12.71):
        return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"

    head, _, row = table_of(compared.by_selection(tmp_path), "glyphs, MAP@R")
    means = {
        "picked epoch": 15,
        "last epoch": 31,
        "best on test": -5,
        "held-out classes": 10,
    }
    assert head[4:] == list(means)
    assert row == [
        "cosface",
        "2",
        "30.00",
        "45.00",
        *map(cell, (15, 31, -5)),
        "+10.00 [+10.00, +10.00]",
    ]
    *_, row = table_of(compared.by_selection(tmp_path), "glyphs, Recall@1")
    assert row[2:5] == ["15.00", "22.50", "+7.50 [+1.15, +13.85]"]
    head, _, row = table_of(compared.by_length(tmp_path), "glyphs")
    steps = [f"{thousands},000 steps" for thousands in (1, 2, 3, 4)]
    assert head == ["loss", "pairs", *steps]
    assert row == ["cosface", "2", *map(cell, (-9, -19, 15, 15))]


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
    reports.write_reports(tmp_path, tmp_path / "pages", Console(quiet=True))
    assert made["factors"][0] == ["factors", "main/glyphs/norm_softmax"]
    assert made["factors"][1]["until"] == stages.FACTOR_EPOCHS

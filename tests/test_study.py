"""The study: what it runs, what it picks, how it goes on."""

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

pytest.importorskip("omegaconf", reason="runs are configs, read with it")

from click.testing import CliRunner  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.config import differences, load, save  # noqa: E402
from benchmarks.protocol.history import History  # noqa: E402
from benchmarks.report import ReportError  # noqa: E402
from benchmarks.study import (  # noqa: E402
    STAGES,
    Job,
    compared,
    jobs,
    overview,
    reports,
    run,
    runner,
    settings,
    stages,
    tuning,
)
from benchmarks.study.picked import picked_tables  # noqa: E402
from benchmarks.study.reports import with_tables  # noqa: E402
from benchmarks.study.shares import shares_tables  # noqa: E402

MAP = "mean_average_precision_at_r"


def config(job, results):
    """As `run` loads it."""
    _, preset, *rest = job.arguments(results)
    files = [a.removeprefix("--with=") for a in rest if a.startswith("--with=")]
    return load(preset, files, [a for a in rest if not a.startswith("--")])


def finish(job, results, held_out=0.5, test=0.5, finished=True, memvir=()):
    """What a run of the job leaves: accuracies of three evaluations.

    The last one has what MemVir saw.
    """
    splits = [
        {"val": {MAP: value}, "test": {MAP: test}}
        for value in (0.0, held_out, held_out / 2)
    ]
    epochs = [
        {"epoch": n, "step": n, "loss": 1.0, "splits": s} for n, s in enumerate(splits)
    ]
    epochs[-1]["memvir"] = dict(memvir)
    content = {
        "seed": job.seed,
        "fold": 0,
        "num_epochs": 2,
        "primary_metric": MAP,
        "validation": "val",
        "test": "test",
        "epochs": epochs,
        "finished": finished,
    }
    folder = job.trial(results)
    folder.mkdir(parents=True)
    (folder / "history.json").write_text(json.dumps(content))


RATES, MEMORY = settings.Rates(2e-3, 1e-2), settings.Memory(1, 100)


@pytest.fixture
def picked(monkeypatch):
    """As if tuning had picked these, and other rates for MemVir."""
    trials = settings.Rates(4e-3, 1e-1), MEMORY
    monkeypatch.setattr(tuning, "best", lambda trials, results: next(iter(trials)))
    monkeypatch.setattr(stages, "picked_rates", lambda *a: RATES)
    monkeypatch.setattr(stages, "picked_memvir", lambda *a: trials)


# What is run


def test_every_run_has_a_config_of_its_own(tmp_path, picked):
    for stage, make in STAGES.items():
        jobs = list(make(tmp_path))
        assert jobs, stage
        assert len({job.trial(tmp_path) for job in jobs}) == len(jobs)
        by_name = {job.name: config(job, tmp_path) for job in jobs}
        for job in jobs:
            assert by_name[job.name].split_manager["ClassDisjointSplitManager"]
            if job.folder == "main":
                assert job.baseline is None or job.baseline in by_name


@pytest.mark.parametrize("stage", ["glyphs-main", "emoji-main", "emoji-factors"])
def test_arms_differ_in_memvir_and_rates_alone(tmp_path, picked, stage):
    jobs = list(STAGES[stage](tmp_path))
    assert len(jobs) % 2 == 0
    for plain, memvir in zip(jobs[::2], jobs[1::2]):
        one, other = config(plain, tmp_path), config(memvir, tmp_path)
        assert memvir.baseline == plain.name and memvir.seed == plain.seed
        changed = {line.split(":")[0].split(".")[0] for line in differences(one, other)}
        assert changed == {"experiment_name", "baseline", "loss_funcs", "optimizers"}
        rates = one.optimizers["trunk_optimizer"]["Adam"].pop("lr")
        other_rates = other.optimizers["trunk_optimizer"]["Adam"].pop("lr")
        assert (rates, other_rates) == (2e-3, 4e-3)
        assert one.optimizers["trunk_optimizer"] == other.optimizers["trunk_optimizer"]
        (inner,) = one.loss_funcs.values()
        (wrapped,) = other.loss_funcs.values()
        assert wrapped["MemVir"]["loss"] == inner


def test_seeds_are_finished_one_after_the_other(tmp_path, picked):
    for stage in ("glyphs-main", "glyphs-factors", "emoji-main", "emoji-factors"):
        seeds = [job.seed for job in STAGES[stage](tmp_path)]
        assert seeds == sorted(seeds) and tuning.SEED not in seeds


def test_controls_are_the_plain_losses_at_the_rates_of_memvir(
    tmp_path, picked, monkeypatch
):
    jobs = list(STAGES["glyphs-controls"](tmp_path))
    assert [job.seed for job in jobs[::6]] == list(stages.SEEDS)
    arms = list(STAGES["glyphs-main"](tmp_path))
    for control, plain, memvir in zip(jobs, arms[::2], arms[1::2]):
        assert control.baseline == plain.name and control.name != plain.name
        one, other, third = (config(j, tmp_path) for j in (control, plain, memvir))
        assert one.loss_funcs == other.loss_funcs
        assert one.optimizers == third.optimizers != other.optimizers
        assert one.num_epochs_train == third.num_epochs_train
    finish(jobs[1], tmp_path)
    assert reports.with_controls(tmp_path) == {f"{jobs[1].preset}_memvir": jobs[1].name}
    monkeypatch.setattr(stages, "picked_rates", lambda *a: settings.Rates(4e-3, 1e-1))
    assert not list(STAGES["glyphs-controls"](tmp_path))  # the plain arm's are the same


@pytest.mark.parametrize("dataset, trials", [("glyphs", 6), ("emoji", 3)])
def test_arms_have_as_many_trials(tmp_path, picked, dataset, trials):
    losses = stages.COMPARED[dataset]
    plain = list(STAGES[f"{dataset}-tune-plain"](tmp_path))
    memvir = list(STAGES[f"{dataset}-tune-memvir"](tmp_path))
    memvir += STAGES[f"{dataset}-tune-more"](tmp_path)
    assert len(plain) == len(memvir) == trials * len(losses)
    assert {job.seed for job in plain + memvir} == {tuning.SEED}
    assert len({job.overrides + (job.preset,) for job in plain + memvir}) == len(
        plain + memvir
    )


def test_factors_change_what_they_say(tmp_path, picked):
    by_name = {
        job.name: config(job, tmp_path) for job in STAGES["glyphs-factors"](tmp_path)
    }
    name = "glyphs/norm_softmax"
    reference = by_name[f"{name}_memvir_5_100"]
    for arm, change in {
        "_memvir_5_2": {"loss_funcs.metric_loss.MemVir.step_gap: 100 -> 2"},
        "_memvir+class_lr_x10": {
            "optimizers.metric_loss_optimizer.Adam.lr: 0.01 -> 0.1"
        },
        "_memvir+100_classes": {"dataset.Glyphs.num_train_classes: (nothing) -> 100"},
    }.items():
        found = differences(reference, by_name[name + arm])
        assert {
            x for x in found if x[:10] not in ("experiment", "baseline: ")
        } == change


# What is picked


def test_a_setting_is_picked_by_held_out_classes_at_their_best_epoch(tmp_path):
    """Test accuracies say the opposite."""
    trials = tuning.plain_trials("glyphs", "softmax")
    for place, one in enumerate(trials.values()):
        best = place == 2
        finish(one, tmp_path, held_out=0.9 if best else 0.5, test=0.1 if best else 0.9)
    assert tuning.picked_rates("glyphs", "softmax", tmp_path) == list(trials)[2]


def test_memvir_is_tuned_in_two_rounds(tmp_path):
    """Over N and M at the best rates of the first round, then around the best."""
    plain = tuning.plain_trials("glyphs", "softmax")
    for place, one in enumerate(plain.values()):
        finish(one, tmp_path, held_out=[0.5, 0.5, 0.6, 0.9, 0.5, 0.5][place])
    assert tuning.picked_rates("glyphs", "softmax", tmp_path) == list(plain)[3]
    first = tuning.first_memvir_trials("glyphs", "softmax", tmp_path)
    assert {rates for rates, _ in first} == {list(plain)[2]}
    for place, one in enumerate(first.values()):
        assert one.baseline == "glyphs/softmax+lr_0.002_0.1"
        finish(one, tmp_path, held_out=[0.5, 0.7, 0.6][place])
    more = tuning.more_memvir_trials("glyphs", "softmax", tmp_path)
    assert list(more) == [
        (settings.Rates(2e-3, 1e-2), settings.Memory(5, 100)),
        (settings.Rates(4e-3, 1e-1), settings.Memory(5, 100)),
        (settings.Rates(2e-3, 1e-1), settings.Memory(1, 400)),
    ]
    for place, one in enumerate(more.values()):
        finish(one, tmp_path, held_out=[0.5, 0.8, 0.7][place])
    picked = tuning.picked_memvir("glyphs", "softmax", tmp_path)
    assert picked == (settings.Rates(4e-3, 1e-1), settings.Memory(5, 100))


def test_nothing_is_picked_before_all_trials_are_finished(tmp_path):
    *first, last = tuning.plain_trials("glyphs", "softmax").values()
    for one in first:
        finish(one, tmp_path)
    with pytest.raises(FileNotFoundError, match="not finished; tune first"):
        tuning.picked_rates("glyphs", "softmax", tmp_path)
    finish(last, tmp_path, finished=False)
    with pytest.raises(FileNotFoundError, match="not finished; tune first"):
        tuning.picked_rates("glyphs", "softmax", tmp_path)


# How it goes on


def job(number):
    return Job("main", f"glyphs/arm{number}", "glyphs/softmax", (), seed=0)


@pytest.fixture
def trained(monkeypatch):
    """Two stages of fake runs, and the names of those that were started."""
    started, failing = [], set()
    made = {
        "first": lambda results: iter([job(0), job(1)]),
        "second": lambda results: iter([job(2)]),
    }

    def train(self, job):
        started.append(job.name[-1])
        if job.name[-1] in failing:
            return 1, 60.0
        finish(job, self.results)
        return 0, 60.0

    monkeypatch.setattr(runner, "STAGES", made)
    monkeypatch.setattr(runner.Runner, "_train", train)
    return started, failing


def test_all_stages_are_run_and_finished_runs_are_not_run_again(tmp_path, trained):
    started, _ = trained
    assert run(tmp_path, 2, stages=["first", "second"]) == []
    assert sorted(started) == ["0", "1", "2"] and started[2] == "2"
    assert run(tmp_path, 2, stages=["first", "second"]) == []
    assert len(started) == 3
    with (tmp_path / "spent.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["experiment"][-1] for row in rows) == ["0", "1", "2"]


def test_a_failure_is_told_and_tried_again_the_next_time(tmp_path, trained, capsys):
    started, failing = trained
    failing.add("0")
    assert run(tmp_path, 1, stages=["first", "second"]) == [job(0)]
    assert started == ["0", "1", "2"]
    shown = capsys.readouterr().out
    assert "arm0.seed0.log" in shown and "first: 1 of 2 runs are left" in shown
    failing.clear()
    assert run(tmp_path, 1, stages=["first", "second"]) == []
    assert started == ["0", "1", "2", "0"]


def test_a_stage_whose_settings_are_not_picked_is_left_out(
    tmp_path, trained, capsys, monkeypatch
):
    def unknown(results):
        raise FileNotFoundError("tune first")

    monkeypatch.setitem(runner.STAGES, "first", unknown)
    assert run(tmp_path, 1, stages=["first", "second"]) == []
    assert trained[0] == ["2"] and "first: tune first" in capsys.readouterr().out


def test_no_run_is_started_when_the_budget_is_spent(tmp_path, trained, capsys):
    started, _ = trained
    header = ",".join(runner.COLUMNS)
    (tmp_path / "spent.csv").write_text(f"{header}\n-,main,x,0,1,7200\n")
    assert runner.spent(tmp_path) == 2.0
    assert run(tmp_path, 1, core_hours=2.0, stages=["first"]) == []
    assert started == [] and "2.0 of 2 core-hours spent" in capsys.readouterr().out
    run(tmp_path, 1, core_hours=2.1, stages=["first"])
    assert started == ["0", "1"]


def test_a_run_is_a_process_whose_output_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(Job, "arguments", lambda self, results: ["list", "sampler"])
    status, cpu_seconds = runner.Runner(tmp_path, 1, 1.0)._train(job(0))
    assert status == 0 and 0 < cpu_seconds < 600
    log = tmp_path / "main" / "glyphs" / "arm0.seed0.log"
    assert "MPerClassSampler" in log.read_text()


def test_a_stopped_study_leaves_no_process_behind(tmp_path):
    """SIGTERM reaches the runs, and nothing else is started."""
    script = f"""
import sys
from pathlib import Path
from benchmarks.study import Job, run, runner
jobs = [Job("main", "glyphs/arm" + str(n), "glyphs/softmax", (), 0) for n in (1, 2)]
runner.STAGES = {{"one": lambda results: jobs}}
runner.sys.executable = {str(tmp_path / "slow")!r}
run(Path({str(tmp_path)!r}), 1, stages=["one"])
"""
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/started\nexec sleep 600\n")
    slow.chmod(0o755)
    study = subprocess.Popen([sys.executable, "-c", script], cwd=jobs.ROOT)
    started = tmp_path / "started"
    while not (started.exists() and started.read_text().endswith("\n")):
        assert study.poll() is None
        time.sleep(0.05)
    study.terminate()
    assert study.wait(60) != 0
    (pid,) = started.read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_overview_shows_what_waits_for_tuning(tmp_path, monkeypatch, capsys):
    for one in tuning.plain_trials("emoji", "proxy_nca").values():
        finish(one, tmp_path)
    table = overview(tmp_path, ["emoji-tune-plain", "emoji-main"])
    cells = [list(column.cells) for column in table.columns]
    assert cells[1] == ["3", "-", "0.0"]
    assert cells[2] == ["6", "settings are not picked yet", f"{runner.CORE_HOURS:g}"]


def test_the_command_knows_its_stages(tmp_path):
    result = CliRunner().invoke(main, ["study", "--stage", "cars-main"])
    assert result.exit_code == 2 and "'cars-main'; expected one of" in result.output
    arguments = ["study", "--dry-run", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0 and "glyphs-tune-plain" in result.output


# Its page


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

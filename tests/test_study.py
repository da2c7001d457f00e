"""The study: what it runs, what it picks, how it goes on."""

import csv
import json

import pytest

pytest.importorskip("omegaconf", reason="runs are configs, read with it")

from click.testing import CliRunner  # noqa: E402

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.config import differences, load  # noqa: E402
from benchmarks.report import ReportError  # noqa: E402
from benchmarks.study import (  # noqa: E402
    STAGES,
    Job,
    overview,
    run,
    runner,
    settings,
    stages,
    tuning,
)
from benchmarks.study.reports import with_tables  # noqa: E402

MAP = "mean_average_precision_at_r"


def config(job, results):
    """As `run` loads it."""
    _, preset, *rest = job.arguments(results)
    files = [a.removeprefix("--with=") for a in rest if a.startswith("--with=")]
    return load(preset, files, [a for a in rest if not a.startswith("--")])


def finish(job, results, held_out=0.5, test=0.5, finished=True):
    """What a run of the job leaves: accuracies of three evaluations."""
    splits = [
        {"val": {MAP: value}, "test": {MAP: test}}
        for value in (0.0, held_out, held_out / 2)
    ]
    epochs = [
        {"epoch": n, "step": n, "loss": 1.0, "splits": s} for n, s in enumerate(splits)
    ]
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


@pytest.fixture
def picked(monkeypatch):
    """As if tuning had picked what is not the presets'."""
    for module in (stages, tuning):
        monkeypatch.setattr(
            module, "picked_rates", lambda d, loss, results: settings.RATES[d][1]
        )
        monkeypatch.setattr(
            module, "picked_memory", lambda d, loss, results: settings.MEMORIES[d][1]
        )


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
def test_arms_differ_in_memvir_alone(tmp_path, picked, stage):
    jobs = list(STAGES[stage](tmp_path))
    assert len(jobs) % 2 == 0
    for plain, memvir in zip(jobs[::2], jobs[1::2]):
        one, other = config(plain, tmp_path), config(memvir, tmp_path)
        assert memvir.baseline == plain.name and memvir.seed == plain.seed
        changed = {line.split(":")[0].split(".")[0] for line in differences(one, other)}
        assert changed == {"experiment_name", "baseline", "loss_funcs"}
        (inner,) = one.loss_funcs.values()
        (wrapped,) = other.loss_funcs.values()
        assert wrapped["MemVir"]["loss"] == inner


def test_seeds_are_finished_one_after_the_other(tmp_path, picked):
    for stage in ("glyphs-main", "glyphs-factors", "emoji-main", "emoji-factors"):
        seeds = [job.seed for job in STAGES[stage](tmp_path)]
        assert seeds == sorted(seeds) and tuning.SEED not in seeds


@pytest.mark.parametrize("dataset, losses", [("glyphs", 6), ("emoji", 2)])
def test_arms_have_as_many_trials(tmp_path, picked, dataset, losses):
    rates = list(STAGES[f"{dataset}-tune-rates"](tmp_path))
    memories = list(STAGES[f"{dataset}-tune-memory"](tmp_path))
    assert len(rates) == len(memories) == losses * len(settings.RATES[dataset])
    assert {job.seed for job in rates + memories} == {tuning.SEED}


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
    for place, job in enumerate(tuning.tuning_rates("glyphs", "softmax").values()):
        best = place == 2
        finish(job, tmp_path, held_out=0.9 if best else 0.5, test=0.1 if best else 0.9)
    rates = tuning.picked_rates("glyphs", "softmax", tmp_path)
    assert rates == settings.RATES["glyphs"][2]
    memories = tuning.tuning_memory("glyphs", "softmax", tmp_path)
    for place, job in enumerate(memories.values()):
        assert "optimizers.metric_loss_optimizer.Adam.lr=0.1" in job.overrides
        assert job.baseline == "glyphs/softmax+lr_0.002_0.1"
        finish(job, tmp_path, held_out=[0.5, 0.7, 0.6][place])
    picked = tuning.picked_memory("glyphs", "softmax", tmp_path)
    assert picked == settings.MEMORIES["glyphs"][1]


def test_nothing_is_picked_before_all_trials_are_finished(tmp_path):
    *first, last = tuning.tuning_rates("glyphs", "softmax").values()
    for job in first:
        finish(job, tmp_path)
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

    def train(job, results, threads):
        started.append(job.name[-1])
        if job.name[-1] in failing:
            return 1, 60.0
        finish(job, results)
        return 0, 60.0

    monkeypatch.setattr(runner, "STAGES", made)
    monkeypatch.setattr(runner, "_train", train)
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


def test_a_failure_is_told_and_the_next_stage_waits(tmp_path, trained, capsys):
    started, failing = trained
    failing.add("0")
    assert run(tmp_path, 1, stages=["first", "second"]) == [job(0)]
    assert started == ["0", "1"]
    shown = capsys.readouterr().out
    assert "arm0.seed0.log" in shown and "first: 1 of 2 runs are left" in shown
    failing.clear()
    assert run(tmp_path, 1, stages=["first", "second"]) == []
    assert started == ["0", "1", "0", "2"]


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
    status, cpu_seconds = runner._train(job(0), tmp_path, 1)
    assert status == 0 and 0 < cpu_seconds < 600
    log = tmp_path / "main" / "glyphs" / "arm0.seed0.log"
    assert "MPerClassSampler" in log.read_text()


def test_overview_shows_what_waits_for_tuning(tmp_path, monkeypatch, capsys):
    for one in tuning.tuning_rates("emoji", "proxy_nca").values():
        finish(one, tmp_path)
    table = overview(tmp_path, ["emoji-tune-rates", "emoji-main"])
    cells = [list(column.cells) for column in table.columns]
    assert cells[1] == ["2", "-", "0.0"]
    assert cells[2] == ["4", "settings are not picked yet", f"{runner.CORE_HOURS:g}"]


def test_the_command_knows_its_stages(tmp_path):
    result = CliRunner().invoke(main, ["study", "--stage", "cars-main"])
    assert result.exit_code == 2 and "'cars-main'; expected one of" in result.output
    arguments = ["study", "--dry-run", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0 and "glyphs-tune-rates" in result.output


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

"""How the study runs, stops and goes on."""

import csv
import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("omegaconf", reason="runs are configs, read with it")

from click.testing import CliRunner  # noqa: E402

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.study import Job, jobs, overview, run, runner, tuning  # noqa: E402

from .study_runs import finish  # noqa: E402


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


def test_runs_keep_freed_memory_unless_told_otherwise(tmp_path, monkeypatch):
    shows = tmp_path / "shows"
    shows.write_text("#!/bin/sh\nenv\n")
    shows.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(shows))
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    assert runner.Runner(tmp_path, 1, 1.0)._train(job(0))[0] == 0
    log = (tmp_path / "main" / "glyphs" / "arm0.seed0.log").read_text().splitlines()
    assert "MALLOC_MMAP_MAX_=0" in log and "MALLOC_TRIM_THRESHOLD_=1000" in log


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
    trials = tuning.plain_trials("emoji", "proxy_nca").values()
    for one in trials:
        finish(one, tmp_path)
    table = overview(tmp_path, ["emoji-tune-plain", "emoji-main"])
    cells = [list(column.cells) for column in table.columns]
    assert cells[1] == [f"{len(trials)}", "-", "0.0"]
    waits = "settings are not picked yet"
    assert cells[2] == [f"{2 * len(trials)}", waits, f"{runner.CORE_HOURS:g}"]


def test_the_command_knows_its_stages(tmp_path):
    result = CliRunner().invoke(main, ["study", "--stage", "cars-main"])
    assert result.exit_code == 2 and "'cars-main'; expected one of" in result.output
    arguments = ["study", "--dry-run", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0 and "glyphs-tune-plain" in result.output

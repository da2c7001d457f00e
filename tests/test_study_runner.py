"""How a study runs, stops and goes on."""

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.config import load
from benchmarks.study import overview, run, runner
from benchmarks.study.jobs import ROOT, Job

from .study_runs import finish, study

STAGES = """
stages:
  first:
    folder: main
    seeds: [0]
    each: {number: [0, 1]}
    arms: {arm: {preset: glyphs/softmax, name: "glyphs/arm{number}"}}
  second:
    folder: main
    seeds: [0]
    pick: {best: first}
    arms: {arm: {preset: glyphs/softmax, name: glyphs/arm2}}
"""


@pytest.fixture
def made(tmp_path):
    return study(tmp_path, STAGES)


@pytest.fixture
def trained(monkeypatch, made):
    """Fake runs: names of those that were started, and of those that are to fail."""
    started, failing = [], set()

    def train(self, job):
        started.append(job.name[-1])
        if job.name[-1] in failing:
            return 1, 60.0
        finish(job, self.study, (0.5, 0.5))
        return 0, 60.0

    monkeypatch.setattr(runner.Runner, "_train", train)
    return started, failing


def go(made, processes=1, core_hours=None, stages=("first", "second")):
    text = io.StringIO()
    console = Console(file=text, width=200)
    return run(made, processes, core_hours, stages, console), text.getvalue()


def test_all_stages_are_run_and_finished_runs_are_not_run_again(made, trained):
    started, _ = trained
    on_sigterm = signal.getsignal(signal.SIGTERM)
    assert go(made)[0] == []
    assert signal.getsignal(signal.SIGTERM) is on_sigterm
    assert sorted(started) == ["0", "1", "2"] and started[2] == "2"
    assert go(made)[0] == []
    assert len(started) == 3
    with (made.results.folder / "spent.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["experiment"][-1] for row in rows) == ["0", "1", "2"]


def test_a_failure_is_told_and_tried_again_the_next_time(made, trained):
    """A stage that is picked by it waits."""
    started, failing = trained
    failing.add("0")
    failed, shown = go(made)
    assert [job.name for job in failed] == ["glyphs/arm0"] and started == ["0", "1"]
    assert "arm0.seed0.log" in shown and "first: 1 of 2 runs are left" in shown
    assert "second: main/glyphs/arm0, seed 0, is not finished" in shown
    failing.clear()
    assert go(made)[0] == []
    assert started == ["0", "1", "0", "2"]


def test_no_run_is_started_when_the_budget_is_spent(made, trained):
    started, _ = trained
    folder = made.results.folder
    folder.mkdir()
    header = ",".join(runner.COLUMNS)
    (folder / "spent.csv").write_text(f"{header}\n-,main,x,0,1,7200\n")
    assert runner.spent(folder) == 2.0
    _, shown = go(made, core_hours=2.0, stages=["first"])
    assert started == [] and "2.0 of 2 core-hours spent" in shown
    go(made, core_hours=2.1, stages=["first"])
    assert started == ["0", "1"]


def test_the_budget_is_the_files_unless_the_command_has_one(trained, tmp_path):
    started, _ = trained
    made = study(tmp_path, f"core_hours: 0\n{STAGES}")
    first = ["study", str(made.file), "--processes", "1", "--stage", "first"]
    assert CliRunner().invoke(main, first).exit_code == 0 and started == []
    assert CliRunner().invoke(main, [*first, "--core-hours", "1"]).exit_code == 0
    assert started == ["0", "1"]


def test_packed_runs_are_finished_and_gone_on_with(made, trained, tmp_path):
    """An experiment that gets another seed is unpacked first, so that none is lost."""
    started, _ = trained
    go(made, stages=["first"])
    assert made.results.pack("main") == ["glyphs/arm0", "glyphs/arm1"]
    folder = made.results.folder / "main"
    shutil.rmtree(folder)
    assert all(made.results.finished(job) for job in made.jobs("first"))
    made = study(tmp_path, STAGES)
    go(made, stages=["first"])
    assert len(started) == 2 and not list(folder.rglob("*.json"))
    made = study(tmp_path, STAGES.replace("seeds: [0]", "seeds: [1]", 1))
    go(made, stages=["first"])
    assert len(started) == 4
    seeds = {path.parts[-3] for path in folder.glob("glyphs/arm0/**/history.json")}
    assert seeds == {"seed0", "seed1"}
    assert len(made.results.pack("main")) == 2
    assert len(made.results.of("main").trials) == 4


def test_a_run_is_a_process_whose_output_is_kept(made, monkeypatch):
    monkeypatch.setattr(Job, "arguments", lambda self, results: ["list", "sampler"])
    job = made.jobs("first")[0]
    status, cpu_seconds = runner.Runner(made, 1, 1.0)._train(job)
    assert status == 0 and 0 < cpu_seconds < 600
    log = made.results.folder / "main" / "glyphs" / "arm0.seed0.log"
    assert "MPerClassSampler" in log.read_text()


def test_runs_keep_freed_memory_unless_told_otherwise(made, tmp_path, monkeypatch):
    shows = tmp_path / "shows"
    shows.write_text("#!/bin/sh\nenv\n")
    shows.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(shows))
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    job = made.jobs("first")[0]
    assert runner.Runner(made, 1, 1.0)._train(job)[0] == 0
    log = job.log(made.results.folder).read_text().splitlines()
    assert "MALLOC_MMAP_MAX_=0" in log and "MALLOC_TRIM_THRESHOLD_=1000" in log


def test_a_stopped_study_leaves_no_process_behind(made, tmp_path):
    """SIGTERM reaches the runs, and nothing else is started."""
    script = f"""
from pathlib import Path
from rich.console import Console
from benchmarks.study import Study, run, runner
runner.sys.executable = {str(tmp_path / "slow")!r}
run(Study(Path({str(made.file)!r})), 1, None, ["first"], Console())
"""
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/started\nexec sleep 600\n")
    slow.chmod(0o755)
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    started = tmp_path / "started"
    while not (started.exists() and started.read_text().endswith("\n")):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) != 0
    (pid,) = started.read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_run_that_starts_while_it_is_stopped_is_stopped(made, tmp_path, monkeypatch):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    stopped = runner.Runner(made, 1, None)
    stopped.stop()  # between what `_work` asks and its process
    status, _ = stopped._train(made.jobs("first")[0])
    assert status == -signal.SIGTERM


def test_a_run_is_started_with_its_config(tmp_path):
    """Overlays, too; as its command reads them."""
    made = study(tmp_path, f"with: [validation]\n{STAGES}")
    job = made.jobs("first")[1]
    _, preset, *rest = job.arguments(made.results.folder)
    files = [a.removeprefix("--with=") for a in rest if a.startswith("--with=")]
    config = load(preset, files, [a for a in rest if not a.startswith("--")])
    assert config == job.config() and files == ["validation"]
    assert config.experiment_name == job.name and config.seeds == [0]


def test_wrong_configs_are_told_before_anything_is_run(tmp_path, trained):
    """Once, if it is the same of several; not of what is finished."""
    started, _ = trained
    text = STAGES.replace("softmax", "softmax, set: ['epochs={number}']", 1)
    made = study(tmp_path, text.replace("[0, 1]", "[0, 1, 2]"))
    finish(made.jobs("first")[0], made, (0.5, 0.5))
    for option in (), ("--dry-run",):
        result = CliRunner().invoke(main, ["study", str(made.file), *option])
        assert result.exit_code == 1 and started == []
        said = " ".join(result.output.split())
        assert "first, main/glyphs/arm1 and 1 more: unknown key 'epochs'" in said


def test_overview_shows_what_waits_for_a_pick(made):
    finish(made.jobs("first")[0], made, (0.5, 0.5))
    table = overview(made, ["first", "second"])
    cells = [list(column.cells) for column in table.columns]
    assert cells[1] == ["1", "-", "0.0"]
    assert cells[2] == ["2", "settings are not picked yet", "no limit"]


def test_the_command_knows_its_stages_and_files(made, tmp_path):
    def invoke(*arguments):
        return CliRunner().invoke(main, ["study", *arguments])

    result = invoke("--stage", "cars-main")
    assert result.exit_code == 2 and "'cars-main'; expected one of" in result.output
    stage = ["--stage", "glyphs-tune-plain"]
    result = invoke("--dry-run", *stage, "--output", str(tmp_path / "none"))
    assert result.exit_code == 0 and "glyphs-tune-plain" in result.output
    result = invoke(str(made.file), "--dry-run")
    assert result.exit_code == 0 and "second" in result.output
    made.file.write_text("stages: 3")
    result = invoke(str(made.file), "--dry-run")
    assert result.exit_code == 1 and "is no study" in result.output

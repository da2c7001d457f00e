"""Runs of a study side by side, each a `python -m benchmarks run` of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..errors import NotPicked
from .jobs import ROOT, Job
from .study import Study

SPENT = "spent.csv"
COLUMNS = ("time", "folder", "experiment", "seed", "seconds", "cpu_seconds")
# Of the GNU C library: a step's freed memory stays with the process, for the next step.
# The same numbers, sooner.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
}


class Runner:
    """Runs processes, several at a time, and stops them if it is stopped."""

    def __init__(self, study: Study, processes: int, core_hours: float | None) -> None:
        self.study = study
        self.folder = study.results.folder
        self.processes = processes
        self.core_hours = core_hours
        self.threads = max(1, (os.cpu_count() or 1) // processes)
        self.failed: list[Job] = []
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    def run(self, jobs: Iterable[Job], report: Callable[[Job, str], None]) -> None:
        """Run those that are not finished, as long as the budget lasts.

        Args:
            report: gets each job when it is done with, and what went wrong or "".
        """

        def work(job: Job) -> None:
            if not self._stopping:
                report(job, self._work(job))

        with ThreadPoolExecutor(self.processes) as pool:
            try:
                list(pool.map(work, jobs))
            except BaseException:  # Ctrl-C and the like: leave no process behind
                self.stop()
                raise

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            for process in self._running:
                process.terminate()

    def _work(self, job: Job) -> str:
        with self._lock:
            limit = self.core_hours
            in_budget = limit is None or spent(self.folder) < limit
            if self.study.results.finished(job) or not in_budget:
                return ""
            self.study.results.go_on_with(job)
        started = time.monotonic()
        status, cpu_seconds = self._train(job)
        with self._lock:
            _note(job, self.folder, time.monotonic() - started, cpu_seconds)
        if status == 0:
            return ""
        self.failed.append(job)
        return f"failed: see {job.log(self.folder)}"

    def _train(self, job: Job) -> tuple[int, float]:
        """Exit status, and seconds of processor time."""
        log = job.log(self.folder)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            threads = {"OMP_NUM_THREADS": str(self.threads)}
            with self._lock:  # it is known to `stop` as soon as it is there
                process = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks", *job.arguments(self.folder)],
                    cwd=ROOT,
                    env={**KEEP_FREED_MEMORY, **os.environ, **threads},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
                self._running.add(process)
                if self._stopping:
                    process.terminate()
            _, status, usage = os.wait4(process.pid, 0)
            with self._lock:
                self._running.discard(process)
                process.returncode = os.waitstatus_to_exitcode(status)  # waited for
        return process.returncode, usage.ru_utime + usage.ru_stime


def run(
    study: Study,
    processes: int,
    core_hours: float | None,
    stages: Iterable[str],
    console: Console,
) -> list[Job]:
    """Run what is left of the stages, in order, as long as the budget lasts.

    Finished runs are skipped, and interrupted ones resumed. What each took is added to
    spent.csv in the study's results, and its output kept beside its folder. Stages
    whose settings cannot be picked yet are left out.

    Args:
        processes: runs side by side; they share the CPU's cores evenly.
        core_hours: start no run when so much is spent, by spent.csv; None: no limit.

    Returns:
        runs that failed.
    """
    results = study.results.folder
    results.mkdir(parents=True, exist_ok=True)
    runner = Runner(study, processes, core_hours)
    with Progress(console=console) as progress, _terminated_as_by_ctrl_c():
        for stage in stages:
            study.refresh()
            try:
                jobs = study.jobs(stage)
            except NotPicked as error:
                console.print(f"{stage}: {error}", soft_wrap=True)
                continue
            task = progress.add_task(stage, total=len(jobs))

            def report(job: Job, problem: str) -> None:
                if problem:
                    console.print(problem, soft_wrap=True)
                progress.advance(task)

            runner.run(jobs, report)
            study.refresh()
            left = sum(not study.results.finished(job) for job in jobs)
            if left:
                of = "" if core_hours is None else f" of {core_hours:g}"
                console.print(
                    f"{stage}: {left} of {len(jobs)} runs are left; "
                    f"{spent(results):.1f}{of} core-hours spent"
                )
    return runner.failed


@contextmanager
def _terminated_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def overview(study: Study, stages: Iterable[str]) -> Table:
    """How far each stage is."""
    table = Table("stage", "finished", "of")
    for stage in stages:
        try:
            jobs = study.jobs(stage)
        except NotPicked:
            table.add_row(stage, "-", "settings are not picked yet")
            continue
        finished = sum(map(study.results.finished, jobs))
        table.add_row(stage, str(finished), str(len(jobs)))
    limit = "no limit" if study.core_hours is None else f"{study.core_hours:g}"
    table.add_row("core-hours", f"{spent(study.results.folder):.1f}", limit)
    return table


def spent(results: Path) -> float:
    """Core-hours of all runs so far; what a killed one took is not known."""
    path = results / SPENT
    return pd.read_csv(path).cpu_seconds.sum() / 3600 if _is_begun(path) else 0.0


def _is_begun(path: Path) -> bool:
    """Whether it has lines; a full disk may have left none."""
    return path.exists() and path.stat().st_size > 0


def _note(job: Job, results: Path, seconds: float, cpu_seconds: float) -> None:
    path = results / SPENT
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    numbers = round(seconds), round(cpu_seconds)
    row = pd.DataFrame([[now, job.folder, job.name, job.seed, *numbers]], None, COLUMNS)
    row.to_csv(path, mode="a", header=not _is_begun(path), index=False)

"""Runs of the study side by side, each a `python -m benchmarks run` of its own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .jobs import Job
from .stages import STAGES

SPENT = "spent.csv"
COLUMNS = ("time", "folder", "experiment", "seed", "seconds", "cpu_seconds")
CORE_HOURS = 22.0
ROOT = Path(__file__).resolve().parents[2]


def run(
    results: Path,
    processes: int,
    core_hours: float = CORE_HOURS,
    stages: Iterable[str] = STAGES,
    console: Console | None = None,
) -> list[Job]:
    """Run what is left of the stages, in order, as long as the budget lasts.

    Finished runs are skipped, and interrupted ones resumed. What each took is added to
    `results / "spent.csv"`, and its output kept beside its folder.

    Args:
        processes: runs side by side; they share the CPU's cores evenly.
        core_hours: start no run when so much is spent, by spent.csv.

    Returns:
        runs that failed. No stage is begun after one that has failures.
    """
    console = console or Console()
    results = results.resolve()
    results.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // processes)
    lock = threading.Lock()
    failed: list[Job] = []
    with Progress(console=console) as progress:

        def work(job: Job) -> None:
            if not job.finished(results) and spent(results) < core_hours:
                started = time.monotonic()
                status, cpu_seconds = _train(job, results, threads)
                if status != 0:
                    failed.append(job)
                    console.print(f"failed: see {_log(job, results)}", soft_wrap=True)
                with lock:
                    _note(job, results, time.monotonic() - started, cpu_seconds)
            progress.advance(task)

        for stage in stages:
            jobs = list(STAGES[stage](results))
            task = progress.add_task(stage, total=len(jobs))
            with ThreadPoolExecutor(processes) as pool:
                list(pool.map(work, jobs))
            left = sum(not job.finished(results) for job in jobs)
            if left:
                console.print(
                    f"{stage}: {left} of {len(jobs)} runs are left; "
                    f"{spent(results):.1f} of {core_hours:g} core-hours spent"
                )
                break
    return failed


def overview(results: Path, stages: Iterable[str] = STAGES) -> Table:
    """How far each stage is."""
    table = Table("stage", "finished", "of")
    for stage in stages:
        try:
            jobs = list(STAGES[stage](results))
        except FileNotFoundError:
            table.add_row(stage, "-", "settings are not picked yet")
            continue
        finished = sum(job.finished(results) for job in jobs)
        table.add_row(stage, str(finished), str(len(jobs)))
    table.add_row("core-hours", f"{spent(results):.1f}", f"{CORE_HOURS:g}")
    return table


def spent(results: Path) -> float:
    """Core-hours of all runs so far; what a killed one took is not known."""
    path = results / SPENT
    if not path.exists():
        return 0.0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sum(float(row["cpu_seconds"]) for row in rows) / 3600


def _train(job: Job, results: Path, threads: int) -> tuple[int, float]:
    """Exit status, and seconds of processor time."""
    log = _log(job, results)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", *job.arguments(results)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for
    return process.returncode, usage.ru_utime + usage.ru_stime


def _log(job: Job, results: Path) -> Path:
    return results / job.folder / f"{job.name}.seed{job.seed}.log"


def _note(job: Job, results: Path, seconds: float, cpu_seconds: float) -> None:
    path = results / SPENT
    new = not path.exists()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        numbers = (f"{seconds:.0f}", f"{cpu_seconds:.0f}")
        writer.writerow([now, job.folder, job.name, job.seed, *numbers])

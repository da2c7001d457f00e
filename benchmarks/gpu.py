"""All that wants a GPU, in one go: tests, times, a short comparison."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console

from .files import write_text
from .report.markdown import as_table
from .speed.measure import machine

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ("-m", "benchmarks")
PASSED, LEFT_OUT = "passed", "left out: it wants a GPU"
COMPARED = ("glyphs/proxy_anchor", "glyphs/proxy_anchor_memvir")
EPOCH_OF_200 = "trainer~APPLY~2={iterations_per_epoch: 200}"


@dataclass(frozen=True)
class Part:
    """A command of Python's, and what it is for.

    Attributes:
        on_cpu: the arguments to take where there is no GPU; None: it is left out.
        minutes: after which it is stopped.
    """

    name: str
    about: str
    on_gpu: tuple[str, ...]
    on_cpu: tuple[str, ...] | None
    minutes: int


def parts(folder: Path) -> list[Part]:
    """In the order in which they are run; those that write do so in the folder."""
    tests = ("-m", "pytest", "-q", "tests/test_gpu.py", "tests/test_no_waiting.py")
    speed = (*BENCHMARKS, "speed", f"--output={folder / 'speed'}")
    share = (*BENCHMARKS, "share", "--device=cuda", "--classes=98", "--classes=11318")
    run = (*BENCHMARKS, "run", *COMPARED, f"--output={folder / 'runs'}", "seeds=[0]")
    return [
        Part("tests", "the oracle's numbers on this device", tests, tests, 5),
        Part(
            "speed",
            "a step beside the naive way, at the paper's sizes",
            (*speed, "--device=cuda"),
            (*speed, "--quick", "--repeats=3"),
            10,
        ),
        Part(
            "share", "of a ResNet-50's step, 128 images of 224 pixels", share, None, 5
        ),
        Part(
            "run",
            "the loss and MemVir, trained",
            (*run, "--device=cuda", "num_epochs_train=5"),
            (*run, "--device=cpu", "num_epochs_train=1", EPOCH_OF_200),
            8,
        ),
        Part(
            "report",
            "of these trainings",
            (*BENCHMARKS, "report", f"{folder / 'runs'}"),
            (*BENCHMARKS, "report", f"{folder / 'runs'}"),
            2,
        ),
    ]


def run(folder: Path, console: Console) -> bool:
    """Each part, with its output in `<part>.log`, and `index.md` of all; did all pass?

    Without a GPU what asks little is done on the CPU, and the page says what was not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else "no GPU: on the CPU"
    rows = []
    for part in parts(folder.resolve()):
        arguments = part.on_gpu if gpu else part.on_cpu
        with console.status(f"{part.name}: {part.about}"):
            begun = time.perf_counter()
            result = LEFT_OUT if arguments is None else _result(part, arguments, folder)
            seconds = f"{time.perf_counter() - begun:.0f}"
        log = "-" if arguments is None else f"{part.name}.log"
        rows.append((part.name, part.about, result, seconds, log))
        console.print(f"{part.name}: {result}, {seconds} s", soft_wrap=True)
    made = pd.DataFrame(rows, columns=["part", "what", "result", "s", "output"])
    about = "\n".join(f"- {name}: {value}" for name, value in machine().items())
    page = f"# What a GPU is for\n\n- {device}\n{about}\n\n{as_table(made)}\n"
    write_text(folder / "index.md", page)
    console.print(f"{folder / 'index.md'}", soft_wrap=True)
    return not set(made.result) - {PASSED, LEFT_OUT}


def _result(part: Part, arguments: tuple[str, ...], folder: Path) -> str:
    with (folder / f"{part.name}.log").open("wb") as log:
        try:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=60 * part.minutes,
            )
        except subprocess.TimeoutExpired:
            return f"not done in {part.minutes} minutes"
    return PASSED if done.returncode == 0 else f"failed ({done.returncode})"

"""Checks of a patched copy of PML, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .build import TEMPLATES, TEST
from .isolated import SUMMARY

# As PML's repository sets flake8; its settings are not in the source distribution.
FLAKE8 = (
    "--extend-ignore=E203,E265,E266,E402,E501,E741",
    "--per-file-ignores=__init__.py:F401",
)

# Unless it says otherwise. The first two are of PML's tests, whose tensors are small.
ENVIRONMENT = {
    "TEST_DEVICE": "cpu",
    "TEST_DTYPES": "float32,float64",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Check:
    """What came of one.

    Attributes:
        name: of the check.
        passed: whether it did.
        seconds: it took.
        output: standard output and errors.
        summary: what it has found, in a line.
    """

    name: str
    passed: bool
    seconds: float
    output: str
    summary: str = ""

    def __str__(self) -> str:
        result = "passed" if self.passed else "FAILED"
        text = f"{self.name:<10} {result} in {self.seconds:.1f} s"
        return f"{text}: {self.summary}" if self.passed and self.summary else text


def check(tree: Path, files: list[str], examples: list[str]) -> Iterator[Check]:
    """Run all of them.

    Args:
        tree: the patched copy.
        files: those that the patch has written.
        examples: Python blocks of the documentation.
    """
    supply_test_packages(tree)
    yield isolated("import", tree, "importing")
    yield isolated("tests", tree, "tests", TEST[: -len(".py")].replace("/", "."))
    example = tree / "example_of_memvir.py"
    example.write_text("\n".join(examples), "utf-8")
    yield isolated("example", tree, "script", str(example))
    example.unlink()
    modules = [file for file in files if file.endswith(".py")]
    for name, *options in (
        ("black", "--check"),
        ("isort", "--check", "--profile", "black"),
        ("flake8", *FLAKE8),
    ):
        command = [sys.executable, "-I", "-m", name, *options, *modules]
        yield _run(name, command, tree)


def isolated(name: str, tree: Path, *command: str) -> Check:
    """A command of isolated.py, without pml_memvir; see there."""
    launcher = str(Path(__file__).with_name("isolated.py"))
    paths = os.pathsep.join(_installed())
    python = [sys.executable, "-I", "-S", launcher, str(tree), paths]
    return _run(name, [*python, *command], tree)


def supply_test_packages(tree: Path) -> None:
    """What PML's tests import of their packages, where the source has it not.

    The patch has none of it, as PML's repository has its own.
    """
    tests = tree / "tests"
    tests.mkdir(exist_ok=True)
    if not (tests / "__init__.py").exists():
        shutil.copy(TEMPLATES / "tests_init.py", tests / "__init__.py")
    of_losses = tests / "losses" / "__init__.py"
    if of_losses.parent.is_dir():
        of_losses.touch()


def _installed() -> list[str]:
    """Folders of installed packages: no checkout of pml_memvir is among them."""
    names = ("site-packages", "dist-packages")
    return [entry for entry in sys.path if Path(entry).name in names]


def _run(name: str, command: list[str], folder: Path) -> Check:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    for variable, value in ENVIRONMENT.items():
        environment.setdefault(variable, value)
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    seconds = time.perf_counter() - start
    output = done.stdout.strip()
    last = output.splitlines()[-1] if output else ""
    summary = last.removeprefix(SUMMARY) if last.startswith(SUMMARY) else ""
    return Check(name, done.returncode == 0, seconds, output, summary)

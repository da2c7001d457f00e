"""The reports in upstream/reports: each fault is there, each proposed fix mends it."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPORTS = Path(__file__).parent.parent / "upstream" / "reports"
NAMES = sorted(path.parent.name for path in REPORTS.glob("*/report.md"))
NEEDS = {"greyscale_images": "PIL", "record_keeper_table_names": "record_keeper"}

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(),
    reason="the scripts run in forked processes",
)


@pytest.fixture(params=NAMES)
def report(request):
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param], reason="the script imports it")
    return REPORTS / request.param


def execute(script: Path, package: str, site: Path | None, output: Path) -> None:
    """What `python script` does in this new process, with `site` first on the path."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if site is not None:
        # The server that forks may have imported the package for another test.
        for name in [n for n in sys.modules if n.partition(".")[0] == package]:
            del sys.modules[name]
        sys.path.insert(0, str(site))
        assert str(site) in str(importlib.import_module(package).__file__)
    runpy.run_path(str(script), run_name="__main__")


def run(report: Path, output: Path, site: Path | None = None) -> tuple[int | None, str]:
    """The script's exit status and what it printed.

    Processes are forked from one that has imported what takes long, but not PML.
    """
    context = multiprocessing.get_context("forkserver")
    slow = ["torch._dynamo", "scipy.stats", "sklearn"]  # the first is DDP's
    context.set_forkserver_preload(slow)
    arguments = (report / "reproduce.py", package_of(report), site, output)
    process = context.Process(target=execute, args=arguments)
    process.start()
    process.join(120)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode, output.read_text()


def package_of(report: Path) -> str:
    """The package whose sources the patch changes."""
    files = (report / "fix.patch").read_text()
    (package,) = set(re.findall(r"^\+\+\+ b/src/(\w+)/", files, re.MULTILINE))
    return package


def test_the_fault_is_there(report, tmp_path):
    status, printed = run(report, tmp_path / "output")
    assert status in (0, 1) and "Traceback" not in printed, printed
    package = "PML" if "metric" in package_of(report) else package_of(report)
    fixed = f"{package} has fixed this, close the report {report.name}"
    assert status == 1, f"{fixed}\n{printed}"


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patches")
def test_the_fix_mends_it(report, tmp_path):
    package = package_of(report)
    (installed,) = find_spec(package).submodule_search_locations
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(installed, tmp_path / "src" / package, ignore=ignore)
    subprocess.run(
        # record-keeper's files have CRLF line ends
        ["git", "apply", "--ignore-whitespace", report / "fix.patch"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
    )
    status, printed = run(report, tmp_path / "output", tmp_path / "src")
    assert status == 0, printed


def test_the_report_has_script_and_patch(report):
    text = (report / "report.md").read_text()
    for fence, name in [("python", "reproduce.py"), ("diff", "fix.patch")]:
        assert f"```{fence}\n{(report / name).read_text()}```\n" in text, name


def test_all_reports_are_listed():
    listed = re.findall(r"\]\((\w+)/report\.md\)", (REPORTS / "README.md").read_text())
    assert sorted(listed) == NAMES != []

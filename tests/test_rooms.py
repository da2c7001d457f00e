"""Which module may know which: as setup.cfg says, by import-linter."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="comes with the extra test")

ROOT = Path(__file__).parent.parent


def lint(folder):
    command = "from importlinter.cli import lint_imports_command as c; c()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def test_imports_go_one_way():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    "module, line",
    [
        ("core/values.py", "import pytorch_metric_learning"),
        ("training/hints.py", "from ..pml import plan"),
        ("pml/plan.py", "from ..state import checkpoints"),
        ("core/memory.py", "from .. import losses"),
        ("pml/specs.py", "from ..core import values"),
    ],
)
def test_another_way_would_be_seen(module, line, tmp_path):
    shutil.copytree(ROOT / "pml_memvir", tmp_path / "pml_memvir")
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    with open(tmp_path / "pml_memvir" / module, "a") as file:
        file.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1 and "BROKEN" in done.stdout, done.stdout


def test_with_version_3_of_pml_there_is_one_clear_sentence(tmp_path):
    """Which has no wrappers, trainers or hooks."""
    package = tmp_path / "pytorch_metric_learning"
    package.mkdir()
    (package / "__init__.py").write_text("")
    about = tmp_path / "pytorch_metric_learning-3.0.4.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: pytorch-metric-learning\nVersion: 3.0.4\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import pml_memvir"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: pml_memvir is for pytorch-metric-learning 2.9, and 3.0.4 is "
        "installed, whose losses have another interface: pip install "
        "'pytorch-metric-learning>=2.9,<3'"
    )

"""What an installation of the package alone gives."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pml_memvir

from . import public_api

ROOT = Path(__file__).parent.parent

# Distributions that `torch` and `pytorch_metric_learning` bring are allowed.
NOT_NEEDED = [
    "PIL",
    "benchmarks",
    "click",
    "faiss",
    "matplotlib",
    "record_keeper",
    "rich",
    "tensorboard",
    "tests",
    "torchvision",
]


def test_imports_with_torch_and_pml_only():
    script = f"""
import sys
for name in {NOT_NEEDED}:
    sys.modules[name] = None  # importing it raises
import torch
from pml_memvir import MemVir, losses
loss = MemVir(losses.NormSoftmax(3, 4), num_steps=1, step_gap=0)
for _ in range(2):
    value = loss(torch.randn(2, 4), torch.tensor([0, 1]))
assert loss.num_virtual_classes == 3
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_the_public_api_is_as_listed():
    """If the change is meant, say it in the changelog and list it anew:

    python -m tests.public_api > tests/data/public_api.txt
    """
    listed = (ROOT / "tests" / "data" / "public_api.txt").read_text()
    assert public_api.api() == listed


def test_requirements_and_extras():
    package = metadata.metadata("pml-memvir")
    assert package["Version"] == pml_memvir.__version__
    extras = [
        "with-hooks",
        "with-hooks-cpu",
        "bench",
        "docs",
        "examples",
        "upstream",
        "test",
        "dev",
    ]
    assert set(extras) <= set(package.get_all("Provides-Extra"))
    plain = [r for r in package.get_all("Requires-Dist") if "extra ==" not in r]
    assert {r.split(">")[0].split("<")[0].strip() for r in plain} == {
        "torch",
        "pytorch-metric-learning",
    }

"""What a run ran on: versions, git revision, machine, command."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..files import write_text
from ..processor import processor

FILE_NAME = "environment.json"
ROOT = Path(__file__).resolve().parents[2]
CODE = ("--", ":/", ":(top,exclude)benchmarks/results")  # as git's pathspecs
PACKAGES = (
    "pml-memvir",
    "pytorch-metric-learning",
    "torch",
    "torchvision",
    "numpy",
    "faiss-cpu",
    "faiss-gpu",
    "record-keeper",
    "omegaconf",
)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, revision, machine and command, as plain data."""
    on_gpu = device.type == "cuda"
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "versions": {"python": platform.python_version(), **_versions()},
        "git": git_state(),
        "machine": {
            "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "platform": platform.platform(),
        },
    }


def record(folder: Path, device: torch.device) -> None:
    """Write the environment; those of earlier sessions of the run stay listed."""
    path = folder / FILE_NAME
    now = environment(device)
    sessions: list[Any] = []
    if path.exists():
        try:
            sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
        except (ValueError, KeyError, TypeError):
            sessions = []  # only a note: not worth stopping a run
    text = json.dumps({**now, "sessions": [*sessions, now]}, indent=1)
    write_text(path, text + "\n")


def git_state(root: Path = ROOT) -> dict[str, Any]:
    """The checkout's revision, and whether files differ from it; empty without git.

    New results do not count as changes.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return {
            "revision": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no", *CODE)),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found

"""The patch: made by git from two states of a folder, and applied to a third."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import KitError


def make(folder: Path, files: dict[str, str]) -> str:
    """Write files into a folder, format the new ones, and give the difference.

    Args:
        folder: PML's source, a copy that can be written to.
        files: new texts by path.

    Returns:
        the patch, with paths as `git apply` and `patch -p1` expect them.
    """
    _git(folder, "init", "--quiet")
    _git(folder, "add", "--all", "--force", ".")
    new = [path for path in files if not (folder / path).exists()]
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
    _format(folder, [path for path in new if path.endswith(".py")])
    _git(folder, "add", "--intent-to-add", "--force", "--", *files)
    plain = ("--no-color", "--no-ext-diff", "--src-prefix=a/", "--dst-prefix=b/")
    difference = _git(folder, "diff", *plain, "--", *files)
    shutil.rmtree(folder / ".git")
    return difference


def apply(patch: Path, folder: Path) -> None:
    """Apply it, strictly, to a folder that is in no repository.

    Raises:
        KitError: it does not apply.
    """
    _git(folder, "apply", "--whitespace=error-all", str(patch.resolve()))


def refuse_differences(left: Path, right: Path, files: list[str]) -> None:
    """Raise KitError unless files are the same in both folders."""
    _, *others = filecmp.cmpfiles(left, right, files, shallow=False)
    if different := sorted(sum(others, [])):
        raise KitError(f"the patch, applied, does not give {', '.join(different)}")


def _format(folder: Path, paths: list[str]) -> None:
    """PML's `format_code.sh` does this: isort with black's profile, and black."""
    for tool in (["isort", "--profile", "black"], ["black"]):
        command = [sys.executable, "-I", "-m", *tool, "--quiet", *paths]
        _run(command, folder)


def _git(folder: Path, *arguments: str) -> str:
    if shutil.which("git") is None:
        raise KitError("the kit needs git, which is not on the path: install it")
    plain = ["git", "-c", "core.autocrlf=false", "-c", "core.safecrlf=false"]
    return _run([*plain, *arguments], folder)


def _run(command: list[str], folder: Path) -> str:
    """Its output. No setting of the user's, and no repository around it, counts."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment["GIT_CONFIG_NOSYSTEM"] = "1"
    environment["GIT_CONFIG_GLOBAL"] = os.devnull
    environment["GIT_CEILING_DIRECTORIES"] = str(folder.resolve().parent)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        raise KitError(f"{' '.join(command[:6])} failed:\n{done.stderr.strip()}")
    return done.stdout

"""A training run of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import Config, load

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Job:
    """One training run: a seed of an experiment.

    Attributes:
        folder: of the results, below the study's.
        name: the experiment's.
        preset: what it is laid over.
        files: overlays, as for --with.
        overrides: a.b=VALUE.
        baseline: the experiment that it is compared with.
        arm: its place in the stage: names of arms, with dots.
        context: what its templates were filled with.
    """

    folder: str
    name: str
    preset: str
    files: tuple[Path, ...]
    overrides: tuple[str, ...]
    seed: int
    baseline: str | None = None
    arm: str = ""
    context: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def key(self) -> str:
        """The experiment's name among all of the study."""
        return f"{self.folder}/{self.name}"

    @property
    def changes(self) -> list[str]:
        """Of the preset with its overlays: a.b=VALUE."""
        return [
            f"experiment_name={self.name}",
            f"baseline={self.baseline or 'null'}",
            f"seeds=[{self.seed}]",
            *self.overrides,
        ]

    def arguments(self, results: Path) -> list[str]:
        """Of `python -m benchmarks`, run at the root of the checkout."""
        return [
            "run",
            str(in_checkout(Path(self.preset))),
            *(f"--with={in_checkout(file)}" for file in self.files),
            f"--output={in_checkout(results / self.folder)}",
            *self.changes,
        ]

    def config(self) -> Config:
        """What `arguments` come to.

        Raises:
            ConfigError: something in it is unknown or does not fit.
        """
        return load(self.preset, [str(file) for file in self.files], self.changes)

    def log(self, results: Path) -> Path:
        return results / self.folder / f"{self.name}.seed{self.seed}.log"


def in_checkout(path: Path) -> Path:
    """Relative to the checkout, as records are to say nothing of where that is."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path

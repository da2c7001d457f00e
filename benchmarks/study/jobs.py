"""A training run of the study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..protocol.history import History

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Job:
    """One training run: a seed of an experiment.

    Attributes:
        folder: of the results, below the study's; the experiments of one folder are
            reported together.
        name: the experiment's.
        preset: what it is laid over.
        overrides: a.b=VALUE.
        baseline: the experiment that it is compared with.
    """

    folder: str
    name: str
    preset: str
    overrides: tuple[str, ...]
    seed: int
    baseline: str | None = None

    def arguments(self, results: Path) -> list[str]:
        """Of `python -m benchmarks`, run at the root of the checkout."""
        dataset = self.preset.partition("/")[0]
        return [
            "run",
            self.preset,
            f"--with={in_checkout(HERE / f'{dataset}.yaml')}",
            f"--output={in_checkout(results / self.folder)}",
            f"experiment_name={self.name}",
            f"baseline={self.baseline or 'null'}",
            f"seeds=[{self.seed}]",
            *self.overrides,
        ]

    def experiment(self, results: Path) -> Path:
        return results / self.folder / self.name

    def trial(self, results: Path) -> Path:
        return self.experiment(results) / f"seed{self.seed}" / "fold0"

    def finished(self, results: Path) -> bool:
        history = History.load(self.trial(results))
        return history is not None and history.finished


def in_checkout(path: Path) -> Path:
    """Relative to the checkout, as records are to say nothing of where that is."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path

"""The seeds of an experiment: which trials there are, and which are missing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import ReportError
from .history import read_concatenated, read_trial
from .trial import Metrics, Trial


@dataclass(frozen=True)
class Seed:
    """The trials of one seed: a single one, or one a fold.

    Attributes:
        unfinished: what is missing, in words; empty if the seed counts.
        concatenated: accuracy of the folds' concatenated embeddings, by selection.
    """

    number: int
    trials: tuple[Trial, ...]
    unfinished: tuple[str, ...]
    concatenated: dict[str, Metrics]

    @property
    def complete(self) -> bool:
        return not self.unfinished


def read_seeds(
    folder: Path, num_folds: int | None = None, until: int | None = None
) -> dict[int, Seed]:
    """By number, of an experiment's folder.

    Args:
        num_folds: how many there are to be; None: as many as are seen.
        until: leave out what came after this epoch.

    Raises:
        ReportError: a file is damaged, or some seeds have folds and others none.
    """
    read = {
        number: _read_trials(path, number) for number, path in _numbered(folder, "seed")
    }
    # Without being told, the seed that is furthest shows how many folds there are.
    folds = [fold for _, begun in read.values() for fold in begun]
    if num_folds is not None:
        folds.append(num_folds - 1)
    expected: list[int | None] = [*range(max(folds) + 1)] if folds else [None]
    seeds = {}
    for number, (trials, _) in read.items():
        path = folder / f"seed{number}" / "concatenated.json"
        is_cut = until is not None and any(t.last_epoch > until for t in trials)
        trials = [t if until is None else t.until(until) for t in trials]
        by_fold = {trial.fold: trial for trial in trials}
        if not set(by_fold) <= set(expected):
            raise ReportError(
                f"{folder} has seeds with folds and seeds without; move some out"
            )
        missing = (_missing(fold, by_fold.get(fold)) for fold in expected)
        seeds[number] = Seed(
            number,
            tuple(trials),
            tuple(text for text in missing if text),
            # Made of the models at the end of training.
            {} if is_cut else read_concatenated(path),
        )
    return seeds


def _read_trials(folder: Path, seed: int) -> tuple[list[Trial], list[int]]:
    """The trials that have a history, and all folds that have a folder."""
    folds = _numbered(folder, "fold")
    places: list[tuple[int | None, Path]] = [(None, folder), *folds]
    files = [(fold, path / "history.json") for fold, path in places]
    trials = [read_trial(file, seed, fold) for fold, file in files if file.exists()]
    if folds and any(trial.fold is None for trial in trials):
        raise ReportError(
            f"{folder} has a history.json beside its folds; move one or the other out"
        )
    return trials, [fold for fold, _ in folds]


def _numbered(folder: Path, prefix: str) -> list[tuple[int, Path]]:
    """Folders such as seed0, by number. Not seed00: a number has one name."""
    pattern = re.compile(rf"{prefix}(0|[1-9]\d*)")
    found = ((pattern.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(m[1]), path) for m, path in found if m and path.is_dir())


def _missing(fold: int | None, trial: Trial | None) -> str:
    """What a trial lacks, in words; "" if it is complete."""
    where = "" if fold is None else f"fold {fold} "
    if trial is None:
        return f"{where}not begun"
    if not trial.complete:
        return f"{where}at epoch {trial.last_epoch} of {trial.num_epochs}"
    return ""

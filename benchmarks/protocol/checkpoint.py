"""Trained models of a trial, read back for evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..backbones.weights import CheckpointError, read_tensors
from ..config import ConfigError
from ..config.errors import in_words
from .best import EVALUATED, best_folder
from .history import History
from .trial import Trial

SELECTIONS = ("last", "best_on_validation", "best_on_test")


def models_folder(history: History, folder: Path, selection: str) -> tuple[Path, int]:
    """Where a selection's models are, and their epoch.

    Raises:
        ConfigError: the trial has no such selection, or the files are not there.
    """
    trained = [entry["epoch"] for entry in history.epochs if entry["epoch"] > 0]
    if not trained:
        raise ConfigError(f"{folder}: no epoch has been evaluated yet")
    if selection == "last":
        return folder / "models", trained[-1]
    split = history.validation if selection == "best_on_validation" else history.test
    if split is None or split != history.selection_split:
        kept = "test" if history.validation is None else "validation"
        raise ConfigError(
            f"{folder}: the models that are {selection} were not kept; this trial "
            f"keeps those best on {kept}"
        )
    epoch = history.best_epoch(history.primary_metric)
    if epoch is None:
        raise ConfigError(f"{folder}: no accuracy is a number")
    return best_folder(folder, split, history.primary_metric), epoch


def load_models(
    into: Mapping[str, torch.nn.Module], folder: Path, selection: str
) -> int:
    """Load trunk and embedder of a selection of the trial in `folder`.

    Returns:
        the epoch that they are of.
    """
    history = History.load(folder)
    if history is None:
        raise ConfigError(f"{folder}: there is no trial")
    models, epoch = models_folder(history, folder, selection)
    for name in EVALUATED:
        path = models / f"{name}_{epoch}.pth"
        if not path.exists():
            raise ConfigError(f"{path} is missing: was save_models off?")
        try:
            into[name].load_state_dict(read_tensors(path))
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path} has not the weights of this {name}: "
                f"{' '.join(in_words(error).split())}"
            ) from error
    return epoch


def resume_from(trial: Trial, models: Path) -> int:
    """Load the latest checkpoint, whole.

    Returns:
        the epoch that it is of; 0 if there is none.

    Raises:
        ConfigError: a file of it is missing, damaged or of something else.
    """
    try:
        return trial.hooks.load_latest_saved_models(trial.trainer, str(models)) - 1
    except Exception as error:  # a damaged file raises almost anything
        raise ConfigError(
            f"{_first_unreadable(models) or models}: the checkpoint cannot be resumed "
            f"from ({in_words(error).splitlines()[0]}); restore the file, or delete "
            f"{models.parent} to train from the beginning"
        ) from error


def _first_unreadable(models: Path) -> Path | None:
    for path in sorted(models.glob("*.pth")):
        try:
            read_tensors(path)
        except CheckpointError:
            return path
    return None

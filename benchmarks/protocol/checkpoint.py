"""Trained models of a trial, read back for evaluation."""

from __future__ import annotations

from pathlib import Path

import torch

from .history import History
from .hooks import EVALUATED, best_folder
from .trial import Trial

SELECTIONS = ("last", "best_on_validation", "best_on_test")


def models_folder(history: History, folder: Path, selection: str) -> tuple[Path, int]:
    """Where a selection's models are, and their epoch.

    Raises:
        ValueError: the trial has no such selection, or the files are not there.
    """
    trained = [entry["epoch"] for entry in history.epochs if entry["epoch"] > 0]
    if not trained:
        raise ValueError(f"{folder}: no epoch has been evaluated yet")
    if selection == "last":
        return folder / "models", trained[-1]
    split = history.validation if selection == "best_on_validation" else history.test
    if split is None or split != history.selection_split:
        kept = "test" if history.validation is None else "validation"
        raise ValueError(
            f"{folder}: the models that are {selection} were not kept; this trial "
            f"keeps those best on {kept}"
        )
    epoch = history.best_epoch(history.primary_metric)
    assert epoch is not None  # there is an evaluated epoch
    return best_folder(folder, split, history.primary_metric), epoch


def load_models(trial: Trial, folder: Path, selection: str) -> int:
    """Load trunk and embedder of a selection into a trial's models.

    Returns:
        the epoch that they are of.
    """
    history = History.load(folder)
    if history is None:
        raise ValueError(f"{folder}: there is no trial")
    models, epoch = models_folder(history, folder, selection)
    for name in EVALUATED:
        path = models / f"{name}_{epoch}.pth"
        if not path.exists():
            raise ValueError(f"{path} is missing: was save_models off?")
        state = torch.load(path, map_location="cpu", weights_only=True)
        trial.models[name].load_state_dict(state)
    return epoch

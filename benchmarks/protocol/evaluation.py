"""Trained models evaluated once more, on their own data or on others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from rich.box import MARKDOWN
from rich.table import Table

from ..config import ConfigError
from ..config.loading import load
from ..files import naming
from ..report.names import metric_label
from .checkpoint import load_models
from .claims import CONFIG_FILE
from .experiment import trials_in
from .history import History
from .hooks import accuracies
from .trial import build_evaluator

KEPT = "evaluations.jsonl"


def evaluate(
    folder: Path,
    selection: str = "last",
    overrides: Sequence[str] = (),
    device: torch.device | None = None,
    images: Path | None = None,
) -> Table:
    """The accuracies of the saved models of all trials in an experiment's folder.

    They are kept there, too, a line of JSON an evaluation, in `evaluations.jsonl`.

    Args:
        selection: "last", "best_on_validation" or "best_on_test".
        overrides: `a.b=value`, laid over the run's config; nothing is trained.
        images: a folder of classes to evaluate on in place of the run's data set.

    Raises:
        ConfigError: the folder holds no experiment, or no such models.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{folder} holds no run: there is no {path}")
    config = load(str(path), overrides=overrides)
    table = Table(box=MARKDOWN)
    rows: list[list[str]] = []
    kept: list[dict[str, Any]] = []
    left_out = []
    for seed, fold, trial_folder in trials_in(folder, config):
        history = History.load(trial_folder)
        if history is None or not any(entry["epoch"] for entry in history.epochs):
            left_out.append(trial_folder.relative_to(folder).as_posix())
            continue
        trial = build_evaluator(config, seed, fold, device, images)
        epoch = load_models(trial.models, trial_folder, selection)
        metrics = trial.tester.accuracy_calculator.get_curr_metrics()
        found = accuracies(trial, epoch)
        for split, values in found.items():
            cells = [f"{100 * values[metric]:.2f}" for metric in metrics]
            name = trial_folder.relative_to(folder).as_posix()
            rows.append([name, str(epoch), split, *cells])
            kept.append({"trial": name, "epoch": epoch, "split": split, **values})
    if not rows:
        raise ConfigError(f"{folder}: not evaluated yet: {', '.join(left_out)}")
    about: dict[str, Any] = {"selection": selection, "changes": list(overrides)}
    if images is not None:
        about["images"] = str(images)
    notes = [f"not evaluated yet: {', '.join(left_out)}"] if left_out else []
    try:
        _keep(folder, {**about, "found": kept})
    except OSError as error:  # somebody else's run, say; what was measured is shown
        notes.append(f"not kept: {error.filename}: {error.strerror}")
    table.caption = "\n".join(notes) or None
    for column in ("trial", "epoch", "split"):
        table.add_column(column, overflow="fold")
    for metric in metrics:
        table.add_column(metric_label(metric), justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _keep(folder: Path, evaluation: dict[str, Any]) -> None:
    """Add a line to what was evaluated in this folder."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    line = json.dumps({"time": now, **evaluation})
    with naming(folder / KEPT), (folder / KEPT).open("a", encoding="utf-8") as file:
        file.write(line + "\n")

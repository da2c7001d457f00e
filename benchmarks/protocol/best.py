"""The best checkpoints of a trial: kept beside the latest one, and gone back to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pml_memvir.hook_container import write_atomically

from ..config import ConfigError
from ..files import replacing
from ..report.names import RECALL_AT
from .history import History
from .watcher import without_memory

# Of a trial's models, those that make embeddings.
EVALUATED = ("trunk", "embedder")


def best_folder(folder: Path, split: str, metric: str) -> Path:
    """Where the models with a trial's best accuracy are."""
    return folder / "models" / f"best_on_{split}_{metric}"


def keep_best(trial: Any) -> None:
    """Keep the latest models where the best of each metric are, if they are those.

    With the best of the primary metric is all that training goes on with, but for the
    memory of MemVir, which can be large.

    Done again on resuming: a kill may have come between saving and copying.
    """
    history, folder, loss_funcs = trial.history, trial.folder, trial.loss_funcs
    latest = history.epochs[-1] if history.epochs else None
    if latest is None or latest["epoch"] == 0:
        return
    ending = f"_{latest['epoch']}.pth"
    for metric in latest["splits"][history.selection_split]:
        if metric.startswith(RECALL_AT):  # too many models, next to each other
            continue
        if history.best_epoch(metric) != latest["epoch"]:
            continue
        best = best_folder(folder, history.selection_split, metric)
        best.mkdir(parents=True, exist_ok=True)
        whole = metric == history.primary_metric
        for source in (folder / "models").glob(f"*{ending}"):
            name = source.name.removesuffix(ending)
            if whole and name in loss_funcs:
                with without_memory([loss_funcs[name]]):
                    write_atomically(loss_funcs[name].state_dict(), best / source.name)
            elif whole or name in EVALUATED:
                _link_or_copy(source, best / source.name)
        for old in best.glob("*.pth"):
            if not old.name.endswith(ending):
                old.unlink()


def back_to_best(folder: Path) -> str | None:
    """Make the best checkpoint of a trial the latest, and forget what came after it.

    Returns:
        what was done, in words; None if the latest is the best, or there is none.

    Raises:
        ConfigError: it was not kept.
    """
    history = History.load(folder)
    if history is None:
        return None
    best = history.best_epoch(history.primary_metric)
    if best is None or history.epochs[-1]["epoch"] == best:
        return None
    kept = best_folder(folder, history.selection_split, history.primary_metric)
    found, trunk = f"*_{best}.pth", f"trunk_{best}.pth"
    files = sorted(kept.glob(found), key=lambda path: path.name == trunk)
    if not {trunk, f"rng_{best}.pth"} <= {path.name for path in files}:
        raise ConfigError(
            f"{kept} has no checkpoint of epoch {best} that training can go on from: "
            "was save_models off, or the run made by an earlier version?"
        )
    for path in files:  # the trunk last, by which a checkpoint is found
        _link_or_copy(path, folder / "models" / path.name)
    others = (folder / "models").glob("trunk_*.pth")
    for path in sorted(others, key=lambda path: len(path.name)):  # the trunk first
        if not path.stem.endswith(f"_{best}"):
            path.unlink()
    last = history.epochs[-1]["epoch"]
    history.truncate(best)
    history.save(folder)
    return f"back to epoch {best}, the best; until {last} all is trained again"


def _link_or_copy(source: Path, target: Path) -> None:
    """Checkpoints are never written in place, so a link stays what it was."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)

"""Whose config a run's folder holds, and what of it may change later."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..config import Config, ConfigError, differences, load_saved, save
from ..config.loading import without_places
from .history import FILE_NAME as HISTORY
from .history import History
from .locks import is_locked

CONFIG_FILE = "config.yaml"
CHANGES = "changes.txt"


def claim(folder: Path, config: Config, from_best: bool = False) -> None:
    """Make the folder this config's.

    What does not matter to results can be changed later, seeds may be added and epochs,
    too, which is recorded; all else only while nothing was measured and nobody trains.
    """
    path = folder / CONFIG_FILE
    if path.exists():
        changed = changes(folder, config, from_best=from_best)
        if changed and is_in_use(folder):
            raise another_config(folder, changed)
        if not changed:
            old = load_saved(path)
            if config.num_epochs_train > old.num_epochs_train:
                _lengthen(folder, old, config)
            added = [seed for seed in config.seeds if seed not in old.seeds]
            config = replace(config, seeds=[*old.seeds, *added])
            record_changes(folder, differences(old, config))
    save(config, path)


def changes(
    folder: Path, config: Config, longer: bool = True, from_best: bool = False
) -> list[str]:
    """In what the folder's config is another, as far as results depend on it.

    Args:
        longer: whether more epochs are no change.
        from_best: whether another patience is none, as it begins anew.
    """
    old = load_saved(folder / CONFIG_FILE)
    if from_best:
        old = replace(old, patience=config.patience)
    if longer and config.num_epochs_train >= old.num_epochs_train:
        old = replace(old, num_epochs_train=config.num_epochs_train)
    return differences(lasting(old), lasting(config))


def lasting(config: Config) -> Any:
    """A config without seeds, and without places, workers and the tester's batches."""
    values = asdict(replace(config, seeds=[0]))
    for arguments in values["tester"].values():
        if isinstance(arguments, dict):
            arguments.pop("batch_size", None)
    return without_places(values)


def record_changes(folder: Path, changed: list[str]) -> None:
    """A line for each change of a config that measured already."""
    if changed and is_in_use(folder):
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with (folder / CHANGES).open("a", encoding="utf-8") as file:
            file.writelines(f"{now} {line}\n" for line in changed)


def is_in_use(folder: Path) -> bool:
    """Whether something was measured there, or a process trains there now."""
    measured = any(folder.glob(f"seed*/**/{HISTORY}"))
    return measured or any(map(is_locked, _trials(folder)))


def another_config(folder: Path, changed: list[str]) -> ConfigError:
    listed = "\n  ".join(changed)
    return ConfigError(
        f"{folder} holds a run with another config:\n  {listed}\n"
        "Give another --output or experiment_name, or delete the folder"
    )


def _lengthen(folder: Path, old: Config, config: Config) -> None:
    """Have trials go on to more epochs, but for those that stopped early."""
    if any(map(is_locked, _trials(folder))):
        raise another_config(folder, differences(old, replace(config, seeds=old.seeds)))
    for path in folder.glob(f"seed*/**/{HISTORY}"):
        history = History.load(path.parent)
        if history is not None:
            history.num_epochs = config.num_epochs_train
            history.finished = history.stopped_early
            history.save(path.parent)


def _trials(folder: Path) -> list[Path]:
    return [*folder.glob("seed*/"), *folder.glob("seed*/fold*/")]

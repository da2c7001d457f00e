"""Experiment folders: found, read and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import ReportError
from .history import Trial, read_json
from .names import split_arm, split_name
from .seeds import Seed, read_seeds

CONFIG = "config.yaml"
TUNING = "tune"  # a search's trials are no results; they can be given by themselves


@dataclass(frozen=True)
class Experiment:
    """What one config.yaml has led to."""

    folder: Path
    name: str
    baseline: str | None
    source: str
    environment: dict[str, Any]
    seeds: dict[int, Seed]

    @property
    def dataset(self) -> str:
        return split_name(self.name)[0]

    @property
    def arm(self) -> str:
        return split_name(self.name)[1]

    @property
    def loss(self) -> str:
        return split_arm(self.arm)[0]

    @property
    def memvir(self) -> bool:
        return split_arm(self.arm)[1]

    @cached_property
    def trials(self) -> list[Trial]:
        return [trial for seed in self.seeds.values() for trial in seed.trials]

    @property
    def complete_seeds(self) -> dict[int, Seed]:
        return {number: seed for number, seed in self.seeds.items() if seed.complete}

    @property
    def with_folds(self) -> bool:
        return any(trial.fold is not None for trial in self.trials)

    @property
    def num_epochs(self) -> int | None:
        return self.trials[0].num_epochs if self.trials else None

    @property
    def validation(self) -> str | None:
        return self.trials[0].validation if self.trials else None


def load(folders: Iterable[Path]) -> list[Experiment]:
    """All experiments among and below `folders`.

    Raises:
        ReportError: there is none, two have one name, or a file is damaged.
    """
    folders = list(folders)
    found = dict.fromkeys(p for folder in folders for p in experiment_folders(folder))
    if not found:
        raise ReportError(
            f"no {CONFIG} in or below {', '.join(map(str, folders)) or 'no folder'}; "
            "give folders that experiments were run in"
        )
    experiments: dict[str, Experiment] = {}
    for folder in found:
        experiment = read_experiment(folder)
        other = experiments.setdefault(experiment.name, experiment)
        if other is not experiment:
            raise ReportError(
                f"{other.folder} and {folder} are both named {experiment.name!r}; give "
                "one of them, or change experiment_name"
            )
    return list(experiments.values())


def experiment_folders(folder: Path) -> Iterator[Path]:
    """Folders with a config.yaml; what is below one of them is part of it."""
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder; give folders of experiments")
    for path, subfolders, files in os.walk(folder.resolve()):
        if CONFIG in files:
            yield Path(path)
            subfolders.clear()
        subfolders[:] = sorted(
            s for s in subfolders if not s.startswith(".") and s != TUNING
        )


def read_experiment(folder: Path) -> Experiment:
    config = _read_config(folder / CONFIG)
    environment = folder / "environment.json"
    experiment = Experiment(
        folder=folder,
        name=config["experiment_name"],
        baseline=config["baseline"],
        source=config["source"],
        environment=read_json(environment) if environment.exists() else {},
        seeds=read_seeds(folder),
    )
    for trial in experiment.trials:
        first = experiment.trials[0]
        if trial.protocol != first.protocol:
            raise ReportError(
                f"{trial.path} and {first.path} are of one experiment, but differ in "
                "number of epochs, primary metric, validation or test split: "
                f"{trial.protocol}, {first.protocol}; move one of them out"
            )
    return experiment


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig):
            raise ReportError("it is a list")
        values = {
            "experiment_name": config.get("experiment_name"),
            "baseline": config.get("baseline"),
            "source": config.get("source", "ours"),
        }
    except (OmegaConfBaseException, yaml.YAMLError, OSError, ValueError) as error:
        raise ReportError(f"{path} is no experiment's config: {error}") from error
    for name, value in values.items():
        if (name == "baseline" and value is None) or (isinstance(value, str) and value):
            continue
        raise ReportError(
            f"{path}: {name} must be text, got {value!r}; if this is no experiment's "
            "config, give folders beside it"
        )
    return values

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
from .history import read_json
from .names import split_arm, split_name
from .seeds import Seed, read_seeds
from .trial import Trial

CONFIG = "config.yaml"
# The presets' names of data sets.
DATASETS = {
    "CUB200": "cub200",
    "Cars196": "cars196",
    "StanfordOnlineProducts": "sop",
    "InShop": "inshop",
    "Emoji": "emoji",
    "Glyphs": "glyphs",
}
# Folds of the split managers whose config does not say how many.
DEFAULT_FOLDS = {"ClassDisjointSplitManager": 4}
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
    dataset_class: str | None = None  # by config.yaml, as is whether there is MemVir
    has_memvir: bool | None = None
    folds: int | None = None

    @property
    def dataset(self) -> str:
        """The presets' name of the config's data set, else how the name begins."""
        return DATASETS.get(self.dataset_class or "", split_name(self.name)[0])

    @property
    def arm(self) -> str:
        beginning, arm = split_name(self.name)
        return arm if beginning == self.dataset else self.name

    @property
    def loss(self) -> str:
        return split_arm(self.arm)[0]

    @property
    def memvir(self) -> bool:
        by_name = split_arm(self.arm)[1]
        return by_name if self.has_memvir is None else self.has_memvir

    @cached_property
    def trials(self) -> list[Trial]:
        return [trial for seed in self.seeds.values() for trial in seed.trials]

    @property
    def complete_seeds(self) -> dict[int, Seed]:
        return {number: seed for number, seed in self.seeds.items() if seed.complete}

    @property
    def with_folds(self) -> bool:
        """Cross-validation; one fold alone is a plain held-out set."""
        return self.num_folds > 1

    @property
    def num_folds(self) -> int:
        """As config.yaml says, else as many as have begun; 0: no cross-validation."""
        begun = {trial.fold for trial in self.trials} - {None}
        return len(begun) if self.folds is None else self.folds

    @property
    def num_epochs(self) -> int | None:
        return self.trials[0].num_epochs if self.trials else None

    @property
    def validation(self) -> str | None:
        return self.trials[0].validation if self.trials else None


def load(folders: Iterable[Path], until: int | None = None) -> list[Experiment]:
    """All experiments among and below `folders`.

    Args:
        until: leave out what came after this epoch.

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
    labels: dict[tuple[str, str], Experiment] = {}
    for folder in found:
        experiment = read_experiment(folder, until)
        other = experiments.setdefault(experiment.name, experiment)
        if other is not experiment:
            raise ReportError(
                f"{other.folder} and {folder} are both named {experiment.name!r}; give "
                "one of them, or change experiment_name"
            )
        other = labels.setdefault((experiment.dataset, experiment.arm), experiment)
        if other is not experiment:
            raise ReportError(
                f"{other.folder} and {folder} would both be called {experiment.arm!r} "
                f"on {experiment.dataset}; give one of them, or change experiment_name"
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


def read_experiment(folder: Path, until: int | None = None) -> Experiment:
    config = _read_config(folder / CONFIG)
    environment = folder / "environment.json"
    num_folds = _num_folds(config["split_manager"])
    experiment = Experiment(
        folder=folder,
        name=config["experiment_name"],
        baseline=config["baseline"],
        source=config["source"],
        environment=read_json(environment) if environment.exists() else {},
        seeds=read_seeds(folder, num_folds, until),
        dataset_class=next(iter(config["dataset"]), None),
        has_memvir=_mentions(config["loss_funcs"], "MemVir"),
        folds=num_folds,
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
        parts = {
            name: (
                OmegaConf.to_container(config[name])
                if isinstance(config.get(name), DictConfig)
                else {}
            )
            for name in ("dataset", "split_manager", "loss_funcs")
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
    return {**values, **parts}


def _num_folds(split_manager: dict[str, Any]) -> int | None:
    """As config.yaml says, or the split manager; None where neither says anything."""
    name, arguments = next(iter(split_manager.items()), ("", None))
    if isinstance(arguments, dict) and "num_training_sets" in arguments:
        return int(arguments["num_training_sets"])
    return DEFAULT_FOLDS.get(name)


def _mentions(losses: Any, name: str) -> bool | None:
    """Whether a loss of this name is among nested ones; None where there are none."""
    if not losses:
        return None
    if isinstance(losses, list):
        return any(_mentions(one, name) for one in losses)
    if isinstance(losses, dict):
        return name in losses or any(_mentions(one, name) for one in losses.values())
    return losses == name

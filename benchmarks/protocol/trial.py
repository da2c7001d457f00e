"""One training run, built from a config: a seed and, in cross-validation, a fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import logging_presets

from ..config import Config, ConfigError
from ..config.building import build, split_spec
from ..config.errors import suggest
from ..config.registry import find
from . import trainer as trainers
from .history import History
from .optimizers import build_optimizers
from .sanity import check_evaluation
from .seeding import seed_everything
from .split_managers import Splits
from .transforms import compose

# What stands in for a data set that is not there: see `check`.
MakeDataset = Callable[[str, dict[str, Any], Any], Any]


@dataclass
class Trial:
    """All that a training run needs, built and not yet started."""

    config: Config
    seed: int
    fold: int | None
    device: torch.device
    splits: Splits
    models: dict[str, torch.nn.Module]
    loss_funcs: dict[str, torch.nn.Module]
    trainer: Any
    tester: Any
    hooks: Any
    history: History
    steps_per_epoch: int


def num_folds(config: Config) -> int | None:
    """How many folds the config's split manager makes; None if it makes none."""
    manager = build("split manager", config.split_manager, "split_manager")
    folds: int | None = manager.num_folds
    return folds


def build_trial(
    config: Config,
    seed: int,
    fold: int | None = None,
    folder: Path | None = None,
    device: torch.device | None = None,
    make_dataset: MakeDataset | None = None,
) -> Trial:
    """Build everything of a trial.

    Args:
        folder: where it keeps its records; None: nowhere (nothing is written).
        device: default: a GPU if there is one.
        make_dataset: used in place of the config's data set: from a split, the
            arguments of the config and a transform to a data set.

    Raises:
        ConfigError: something of the config does not fit.
    """
    device = device or c_f.use_cuda_if_available()
    seed_everything(seed, fold, config.deterministic)
    models = _models(config, device)
    splits = _splits(config, models["trunk"].preprocessing, fold, make_dataset)
    embedding_size = _embedding_size(models, device)

    name, arguments = split_spec(config.trainer, "trainer")
    batch_size = arguments.get("batch_size")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"trainer.{name} needs a batch_size, got {batch_size!r}")
    sampler = _sampler(config, splits, batch_size)
    steps = trainers.steps_per_epoch(
        splits.train,
        batch_size,
        sampler,
        arguments.get("drop_last", True),
        arguments.get("iterations_per_epoch"),
    )
    if steps < 1:
        raise ConfigError(
            f"an epoch has no step: {len(splits.train)} training images, "
            f"batch_size {batch_size}"
        )
    fill = {
        "num_classes": splits.num_classes,
        "embedding_size": embedding_size,
        "steps_per_epoch": steps,
    }
    loss_funcs = {
        key: build("loss", spec, f"loss_funcs.{key}", fill=fill).to(device)
        for key, spec in config.loss_funcs.items()
    }
    mining_funcs = {
        key: build("miner", spec, f"mining_funcs.{key}", fill=fill)
        for key, spec in config.mining_funcs.items()
    }
    optimizers, schedulers, clippers = build_optimizers(
        config, {**models, **loss_funcs}, arguments.get("freeze_these") or ()
    )
    if splits.validation is None and any(k.endswith("plateau") for k in schedulers):
        raise ConfigError(
            "scheduler_by_plateau needs held-out classes to watch: use a split manager "
            "that makes them, or --with validation"
        )
    hooks = _hooks(config, folder)
    tester = build(
        "tester",
        config.tester,
        "tester",
        given={
            "data_device": device,
            "end_of_testing_hook": hooks.end_of_testing_hook,
        },
    )
    check_evaluation(tester, hooks, splits)
    history = History(
        seed,
        fold,
        config.num_epochs_train,
        hooks.primary_metric,
        splits.validation,
        splits.test,
    )
    trainer = build(
        "trainer",
        config.trainer,
        "trainer",
        given={
            "models": models,
            "optimizers": optimizers,
            "lr_schedulers": schedulers,
            "gradient_clippers": clippers,
            "loss_funcs": loss_funcs,
            "mining_funcs": mining_funcs,
            "sampler": sampler,
            "dataset": splits.train,
            "data_device": device,
            "end_of_iteration_hook": hooks.end_of_iteration_hook,
        },
        fill={"iterations_per_epoch": steps, "dataset_labels": splits.train.labels},
    )
    return Trial(
        config,
        seed,
        fold,
        device,
        splits,
        models,
        loss_funcs,
        trainer,
        tester,
        hooks,
        history,
        steps,
    )


def _models(config: Config, device: torch.device) -> dict[str, torch.nn.Module]:
    if "trunk" not in config.models:
        raise ConfigError("models needs a trunk")
    for key in config.models:
        if key not in ("trunk", "embedder"):
            raise ConfigError(
                f"models: unknown key {key!r}{suggest(key, ('trunk', 'embedder'))}"
            )
    trunk = build("trunk", config.models["trunk"], "models.trunk")
    embedder = build(
        "embedder",
        config.models.get("embedder", "Identity"),
        "models.embedder",
        fill={"in_features": trunk.output_size},
    )
    return {"trunk": trunk.to(device), "embedder": embedder.to(device)}


def _embedding_size(models: Mapping[str, Any], device: torch.device) -> int:
    embedder = models["embedder"].eval()
    features = torch.zeros(2, models["trunk"].output_size, device=device)
    with torch.no_grad():
        size: int = embedder(features).shape[1]
    embedder.train()
    return size


def _splits(
    config: Config,
    preprocessing: Any,
    fold: int | None,
    make_dataset: MakeDataset | None,
) -> Splits:
    for key in config.transforms:
        if key not in ("train", "eval"):
            raise ConfigError(
                f"transforms: unknown key {key!r}{suggest(key, ('train', 'eval'))}"
            )
    transforms = {
        key: compose(config.transforms.get(key) or {}, preprocessing, key)
        for key in ("train", "eval")
    }
    name, arguments = split_spec(config.dataset, "dataset")
    dataset_class: Any = find("dataset", name, "dataset")

    def make(split: str, transform: str) -> Any:
        if make_dataset is not None:
            return make_dataset(split, arguments, transforms[transform])
        return build(
            "dataset",
            config.dataset,
            "dataset",
            given={"split": split, "transform": transforms[transform]},
        )

    manager = build("split manager", config.split_manager, "split_manager")
    try:
        splits: Splits = manager.splits(make, dataset_class.SPLITS, fold or 0)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"split_manager: {error}") from error
    return splits


def _sampler(config: Config, splits: Splits, batch_size: int) -> Any:
    if config.sampler is None:
        return None
    return build(
        "sampler",
        config.sampler,
        "sampler",
        fill={
            "labels": splits.train.labels,
            "batch_size": batch_size,
            "length_before_new_iter": len(splits.train),
        },
    )


def _hooks(config: Config, folder: Path | None) -> Any:
    record_keeper = None
    if folder is not None:
        record_keeper, _, _ = logging_presets.get_record_keeper(
            str(folder / "records"), str(folder / "tensorboard")
        )
    return build(
        "hook container",
        config.hook_container,
        "hook_container",
        given={"record_keeper": record_keeper},
    )

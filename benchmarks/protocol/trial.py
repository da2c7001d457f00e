"""One training run, built from a config: a seed and, in cross-validation, a fold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import logging_presets

from ..config import Config, ConfigError
from ..config.building import build, split_spec
from . import trainer as trainers
from .data import MakeDataset, image_splits, make_sampler, make_splits
from .finite import refuse_not_finite
from .history import History
from .models import classifiers, embedding_size, network, size_for
from .optimizers import build_optimizers
from .sanity import check_evaluation, check_names
from .seeding import seed_everything
from .split_managers import Splits


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
    folder: Path | None


@dataclass
class Evaluator:
    """What is needed to evaluate models that are trained already."""

    splits: Splits
    models: dict[str, torch.nn.Module]
    tester: Any


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
    held_out_only: bool = False,
) -> Trial:
    """Build everything of a trial.

    Args:
        folder: where it keeps its records; None: nowhere (nothing is written).
        device: default: a GPU if there is one.
        make_dataset: used in place of the config's data set: from a split, the
            arguments of the config and a transform to a data set.
        held_out_only: evaluate on validation classes only.

    Raises:
        ConfigError: something of the config does not fit.
    """
    device = device or c_f.use_cuda_if_available()
    seed_everything(seed, fold, config.deterministic)
    models = network(config, device)
    splits = make_splits(config, models["trunk"].preprocessing, fold, make_dataset)
    if held_out_only:
        splits = splits.held_out_only()

    name, arguments = split_spec(config.trainer, "trainer")
    batch_size = arguments.get("batch_size")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"trainer.{name} needs a batch_size, got {batch_size!r}")
    sampler = make_sampler(config, splits, batch_size)
    steps = arguments.get("iterations_per_epoch") or trainers.steps_per_epoch(
        splits.train, batch_size, sampler, arguments.get("drop_last", True)
    )
    if type(steps) is not int:
        raise ConfigError(f"iterations_per_epoch must be an integer, got {steps!r}")
    if steps < 1:
        raise ConfigError(
            f"an epoch has no step: {len(splits.train)} training images, "
            f"batch_size {batch_size}"
        )
    fill = {
        "num_classes": splits.num_classes,
        "embedding_size": embedding_size(models, device),
        "steps_per_epoch": steps,
    }
    loss_funcs = {}
    for key, spec in config.loss_funcs.items():
        size = size_for(config, key, fill["embedding_size"])
        sizes = {"embedding_size": size, "descriptors_dim": size}  # P2SGradLoss's word
        loss = build("loss", spec, f"loss_funcs.{key}", fill={**fill, **sizes})
        loss_funcs[key] = loss.to(device)
    models |= classifiers(config, fill, device)
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
    tester = _tester(config, splits, hooks, device)
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
    check_names(trainer)
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
        folder,
    )


@contextmanager
def closed(trial: Trial) -> Iterator[None]:
    """Close in the end what the trial has opened."""
    try:
        yield
    finally:
        trial.trainer.dataloader_iter = None  # ends its workers
        writer = trial.hooks.record_keeper.tensorboard_writer
        if writer is not None:
            writer.close()


def build_evaluator(
    config: Config,
    seed: int,
    fold: int | None,
    device: torch.device | None = None,
    images: Path | None = None,
) -> Evaluator:
    """Network and tester, with nothing recorded.

    Args:
        images: a folder of classes to evaluate on in place of the config's data set.

    Raises:
        ConfigError: something of the config does not fit.
    """
    device = device or c_f.use_cuda_if_available()
    seed_everything(seed, fold, config.deterministic)
    models = network(config, device)
    preprocessing = models["trunk"].preprocessing
    if images is None:
        splits = make_splits(config, preprocessing, fold)
    else:
        splits = image_splits(config, preprocessing, images)
    tester = _tester(config, splits, _hooks(config, None), device)
    tester.end_of_testing_hook = None
    return Evaluator(splits, models, tester)


def _tester(config: Config, splits: Splits, hooks: Any, device: torch.device) -> Any:
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
    refuse_not_finite(tester)
    return tester


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

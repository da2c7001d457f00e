"""One training run, built from a config: a seed and, in cross-validation, a fold."""

from __future__ import annotations

from collections.abc import Callable
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
from .finite import refuse_not_finite
from .history import History
from .models import classifiers, embedding_size, network, size_for
from .optimizers import build_optimizers
from .sanity import check_evaluation, check_names
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
    models = network(config, device)
    splits = make_splits(config, models["trunk"].preprocessing, fold, make_dataset)

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
    )


def make_splits(
    config: Config,
    preprocessing: Any,
    fold: int | None,
    make_dataset: MakeDataset | None = None,
) -> Splits:
    """The data sets of a fold."""
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
    known = getattr(dataset_class, "NAME", "")  # where `data prepare` puts it
    place = {"root": f"data/{known}"} if known else {}

    def make(split: str, transform: str) -> Any:
        if make_dataset is not None:
            return make_dataset(split, arguments, transforms[transform])
        return build(
            "dataset",
            config.dataset,
            "dataset",
            given={"split": split, "transform": transforms[transform]},
            fill=place,
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

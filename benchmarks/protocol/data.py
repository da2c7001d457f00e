"""The data that a trial trains and is evaluated on, from its config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import Config, ConfigError
from ..config.building import build, split_spec
from ..config.errors import suggest
from ..config.registry import find
from ..datasets.folders import ImageFolder
from .split_managers import ClassSubset, Splits
from .transforms import Compose, compose

# What stands in for a data set that is not there: see `check`.
MakeDataset = Callable[[str, dict[str, Any], Any], Any]


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
        key: _transform(config, preprocessing, key) for key in ("train", "eval")
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


def image_splits(config: Config, preprocessing: Any, folder: Path) -> Splits:
    """A folder of classes to evaluate on, and nothing to train with."""
    transform = _transform(config, preprocessing, "eval")
    images = ImageFolder(folder, "test", transform)
    nothing = ClassSubset(images, [])
    return Splits(nothing, {"test": images}, [("test", ["test"])], None, "test")


def _transform(config: Config, preprocessing: Any, key: str) -> Compose:
    return compose(config.transforms.get(key) or {}, preprocessing, key)


def make_sampler(config: Config, splits: Splits, batch_size: int) -> Any:
    if config.sampler is None:
        return None
    fill = {
        "labels": splits.train.labels,
        "batch_size": batch_size,
        "length_before_new_iter": len(splits.train),
    }
    try:
        return build("sampler", config.sampler, "sampler", fill=fill)
    except ConfigError as error:
        raise ConfigError(
            f"{error} (batch_size is {batch_size}, and there are {splits.num_classes} "
            "classes to train on)"
        ) from error

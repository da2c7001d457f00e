"""What would go wrong after minutes of training, found before it."""

from __future__ import annotations

from typing import Any

from ..config import ConfigError
from .split_managers import Splits

IMAGES_CHECKED = 8


def check_images(splits: Splits) -> None:
    """A few images of each split, read and put together as a loader does.

    Raises:
        ConfigError: they are of several sizes.
    """
    for name, dataset in {
        "train": splits.train,
        **splits.evaluation,
    }.items():
        picked = range(0, len(dataset), max(1, len(dataset) // IMAGES_CHECKED))
        shapes = {tuple(dataset[i][0].shape) for i in picked}
        if len(shapes) > 1:
            listed = ", ".join(map(str, sorted(shapes)[:3]))
            raise ConfigError(
                f"transforms: images of {name} have several sizes ({listed}); bring "
                "them to one, such as by transforms.train.RandomResizedCrop.size=224 "
                "and transforms.eval={Resize: {size: 256}, CenterCrop: {size: 224}}"
            )


def check_evaluation(tester: Any, hooks: Any, splits: Splits) -> None:
    """Whether what is to be selected by is computed, on images that there are.

    Raises:
        ConfigError: it is not.
    """
    for name, dataset in splits.evaluation.items():
        if not len(dataset):
            raise ConfigError(f"split_manager: there is no image in {name}")
    calculator = tester.accuracy_calculator
    metrics = calculator.get_curr_metrics()
    if hooks.primary_metric not in metrics:
        raise ConfigError(
            f"hook_container: the primary_metric {hooks.primary_metric!r} is not among "
            f"what the accuracy calculator includes ({', '.join(metrics)})"
        )
    if calculator.return_per_class:
        raise ConfigError("tester: accuracies must be numbers, not return_per_class")
    if tester.label_hierarchy_level != 0:
        raise ConfigError("tester: labels have one level, label_hierarchy_level is 0")
    if hooks.validation_split_name != "val":
        raise ConfigError(
            "hook_container: the validation split is called val, "
            f"got validation_split_name {hooks.validation_split_name!r}"
        )

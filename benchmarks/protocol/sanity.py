"""What would go wrong after minutes of training, found before it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..config import ConfigError
from ..config.errors import suggest
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


def check_names(trainer: Any) -> None:
    """Whether the trainer knows all parts; PML looks at how a name begins only.

    Raises:
        ConfigError: one would be left out.
    """
    trainer_name = type(trainer).__name__
    for where in ("models", "loss_funcs", "mining_funcs", "loss_weights"):
        patterns = trainer.schema[where].keys
        for key in getattr(trainer, where) or {}:
            if not any(re.fullmatch(pattern, key) for pattern in patterns):
                known = [p.replace("[0-9]+", "0") for p in patterns]
                raise ConfigError(
                    f"{where}.{key} would not be used: {trainer_name} has no such"
                    f"{suggest(key, known) or ' part'}"
                )


def check_evaluation(tester: Any, hooks: Any, splits: Splits) -> None:
    """Whether what is to be selected by is computed, on images that there are.

    Raises:
        ConfigError: it is not.
    """
    for name, dataset in splits.evaluation.items():
        if not len(dataset):
            raise ConfigError(f"split_manager: there is no image in {name}")
    for query, references in splits.to_evaluate:
        _check_matches(tester.accuracy_calculator.k, splits, query, references)
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


def _check_matches(
    k: int | str | None, splits: Splits, query: str, references: Sequence[str]
) -> None:
    """Whether a query can find one of its class, and k images to find it among."""
    itself = int(query in references)
    of_class = Counter(
        label for name in references for label in splits.evaluation[name].labels
    )
    labels = set(splits.evaluation[query].labels)
    if not any(of_class[label] > itself for label in labels):
        reason = (
            "no class has two images"
            if itself
            else f"no class of it is in {', '.join(references)}"
        )
        raise ConfigError(
            f"split_manager: nothing can be found in {query}, as {reason}: retrieval "
            "needs another image of the query's class"
        )
    there = sum(of_class.values()) - itself
    if isinstance(k, int) and k > there:
        raise ConfigError(
            f"tester: k is {k}, but there are {there} images to find in {query}; "
            "max_bin_count is as many as the largest class has"
        )

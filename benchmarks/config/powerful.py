"""powerful-benchmarker's words: what is done anyway, spelt otherwise, or not there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

SCHEDULED = ("scheduler", "scheduler_by_epoch", "scheduler_by_iteration")
BESIDE = (*SCHEDULED, "scheduler_by_plateau", "clip_grad_norm")
BN_INCEPTION = "data/weights/bn_inception-52deb4733.pth"
WEIGHTS = {
    "bninception": {"checkpoint": BN_INCEPTION},
    "efficientnet_lite0": {"weights": "imagenet"},
}
RESNETS = {"weights": "IMAGENET1K_V1"}

Test = Callable[[Any], bool]


def _any(value: Any) -> bool:
    return True


def _is(*expected: Any) -> Test:
    return lambda value: value in expected


def _class(name: str) -> Test:
    return lambda value: not value or (
        isinstance(value, dict) and list(value) == [name]
    )


def _default_factories(value: Any) -> bool:
    return all(
        isinstance(of, dict)
        and all(n.endswith("Factory") and not a for n, a in of.items())
        for of in (value or {}).values()
    )


def _splits(value: Any) -> bool:
    return set(value or []) <= {"train", "val", "test"}


# Words of the top level: whether their value says what is done anyway, and what is.
_FOLDS = "in cross-validation, separated and concatenated accuracies are both reported"
_SPLITS = "test is evaluated and, where the split manager makes it, val"
_ALWAYS = "it is always so"
_ONE_WAY = "there is one way to run an experiment"
_BY_NAME = "objects are looked up by name; `registry.register` adds your own"
ANYWAY: dict[str, tuple[Test, str]] = {
    "aggregator": (_class("MeanAggregator"), _FOLDS),
    "ensemble": (_class("ConcatenateEmbeddings"), _FOLDS),
    "splits_to_eval": (_splits, _SPLITS),
    "split_names": (_splits, _SPLITS),
    "skip_eval_if_already_done": (_is(True), _ALWAYS),
    "skip_ensemble_eval_if_already_done": (_is(True), _ALWAYS),
    "log_data_to_tensorboard": (_is(True), _ALWAYS),
    "save_lists_in_db": (_is(False), "lists are not recorded"),
    "save_figures_on_tensorboard": (
        _is(False),
        "figures are written as PNG, see tsne_classes",
    ),
    "api_parser": (_is(None), _ONE_WAY),
    "override_required_compatible_factories": (_any, _BY_NAME),
    "factories": (_default_factories, _BY_NAME),
    "config_foldernames": (_any, "files are named with --with, or by on_top_of"),
}
FOLDERS = ("dataset", "eval", "factories", "general", "loss_and_miners", "models")
for _folder in (*FOLDERS, "optimizers", "transforms"):
    ANYWAY[f"config_{_folder}"] = ANYWAY["config_foldernames"]
# Words of the top level with no counterpart, or another place.
ELSEWHERE = {
    "label_hierarchy_level": "labels have one level",
    "test_size": "write it among the arguments of the split manager",
    "test_start_idx": "write it among the arguments of the split manager",
    "num_training_partitions": "write it among the arguments of the split manager",
    "num_training_sets": "write it among the arguments of the split manager",
    "eval_dataset": "use python -m benchmarks eval",
    "layers_to_extract": "a trunk has one output; leave it out",
    "bayes_opt_iters": "use python -m benchmarks tune --trials",
    "pytorch_home": "PyTorch reads TORCH_HOME from the environment",
    "root_experiment_folder": "use --output",
    "dataset_root": "write it as root among the dataset's arguments",
}
# Arguments, by the place of their class.
ARGUMENTS: dict[str, dict[str, tuple[Test, str]]] = {
    "dataset": {
        "download": (_any, "`data prepare NAME --download` does it, before training")
    },
    "split_manager": {
        "hierarchy_level": (_is(0, None), "labels have one level"),
        "data_and_label_getter_keys": (_any, "items are (image, label)"),
    },
    "tester": {
        "reference_set": (
            _is("compared_to_self"),
            "each split is searched in itself, In-Shop's queries in its gallery",
        ),
        "visualizer": (
            _is({}, None),
            "tsne_classes of the config draws a t-SNE figure instead",
        ),
    },
    "sampler": {
        "length_before_new_iter": (_is("dataset_length"), "give a number"),
    },
}


def translated(
    values: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """A config in this suite's words.

    Returns:
        the values; what was left out, as it is done anyway; and what cannot be meant
        here, with the way out. Both by the path of the word.
    """
    values = copy.deepcopy(values)
    left_out: dict[str, str] = {}
    problems: dict[str, str] = {}
    for word in [word for word in values if word in ANYWAY]:
        test, instead = ANYWAY[word]
        found = left_out if test(values.pop(word)) else problems
        found[word] = instead
    for word in [word for word in values if word in ELSEWHERE]:
        del values[word]
        problems[word] = ELSEWHERE[word]
    for place, words in ARGUMENTS.items():
        for name, arguments in _classes(values.get(place)):
            for word in [word for word in arguments if word in words]:
                test, instead = words[word]
                if word == "length_before_new_iter" and type(arguments[word]) is int:
                    continue
                found = left_out if test(arguments.pop(word)) else problems
                found[f"{place}.{name}.{word}"] = instead
    if values.get("sampler") == {}:
        values["sampler"] = None
    for key in ("mining_funcs", "transforms"):
        if key in values and values[key] is None:
            values[key] = {}
    _pretrained(values.get("models"))
    _into_the_class(values.get("optimizers"))
    return values, left_out, problems


def _classes(spec: Any) -> list[tuple[str, dict[str, Any]]]:
    """Name and arguments, as far as there are any."""
    if not isinstance(spec, dict):
        return []
    return [(n, a) for n, a in spec.items() if isinstance(a, dict)]


def _pretrained(models: Any) -> None:
    """`pretrained: imagenet`, or true: the weights that this suite has a name for."""
    if not isinstance(models, dict):
        return
    for name, arguments in _classes(models.get("trunk")):
        if arguments.pop("pretrained", None):
            weights = RESNETS if name.startswith("resnet") else WEIGHTS.get(name, {})
            if not {"weights", "checkpoint"} & set(arguments):
                arguments.update(weights)


def _into_the_class(optimizers: Any) -> None:
    """Schedulers and clip_grad_norm, written beside the optimizer's class."""
    if not isinstance(optimizers, dict):
        return
    for spec in optimizers.values():
        if not isinstance(spec, dict):
            continue
        beside = {word: spec[word] for word in BESIDE if word in spec}
        classes = [name for name in spec if name not in BESIDE]
        if not beside or len(classes) != 1:
            continue
        for word in beside:
            del spec[word]
        (name,) = classes
        spec[name] = {**(spec[name] or {}), **beside}

"""Which class a name in a config means."""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from .errors import ConfigError, suggest
from .unusable import UNUSABLE

# Where names of each kind are looked up, ours first: a module or, after a colon, a dict
# in it. Imported when asked for, as some are slow and torchvision may be missing.
MODULES = {
    "loss": (
        "benchmarks.protocol.losses",
        "pml_memvir.losses",
        "pytorch_metric_learning.losses",
    ),
    "miner": ("pytorch_metric_learning.miners",),
    "sampler": ("pytorch_metric_learning.samplers",),
    "distance": ("pytorch_metric_learning.distances",),
    "reducer": ("pytorch_metric_learning.reducers",),
    "regularizer": ("pytorch_metric_learning.regularizers",),
    "accuracy calculator": (
        "benchmarks.protocol.accuracy",
        "pytorch_metric_learning.utils.accuracy_calculator",
    ),
    "dataset": ("benchmarks.datasets",),
    "split manager": ("benchmarks.protocol.split_managers",),
    "trunk": ("benchmarks.backbones:BACKBONES",),
    "embedder": ("benchmarks.backbones:EMBEDDERS",),
    "transform": ("torchvision.transforms",),
    "optimizer": ("torch.optim",),
    "scheduler": ("torch.optim.lr_scheduler",),
    "trainer": ("benchmarks.protocol.trainer", "pytorch_metric_learning.trainers"),
    "tester": ("pytorch_metric_learning.testers",),
    "knn function": ("benchmarks.protocol.accuracy:KNN_FUNCTIONS",),
    "kmeans function": ("benchmarks.protocol.accuracy:KMEANS_FUNCTIONS",),
    "hook container": ("benchmarks.protocol.hooks",),
}

# What an argument of this name holds, if it is given as {ClassName: arguments}.
ARGUMENTS = {
    "loss": "loss",
    "losses": "loss",
    "miner": "miner",
    "miners": "miner",
    "distance": "distance",
    "reducer": "reducer",
    "reducers": "reducer",
    "default_reducer": "reducer",
    "embedding_regularizer": "regularizer",
    "weight_regularizer": "regularizer",
    "accuracy_calculator": "accuracy calculator",
    "knn_func": "knn function",
    "kmeans_func": "kmeans function",
}

_extra: dict[str, dict[str, Callable[..., Any]]] = {}


def register(kind: str, thing: Callable[..., Any], name: str | None = None) -> None:
    """Make a class or function of one's own known to configs."""
    if kind not in MODULES:
        raise ConfigError(f"unknown kind {kind!r}{suggest(kind, MODULES)}")
    _extra.setdefault(kind, {})[name or thing.__name__] = thing


def names(kind: str) -> list[str]:
    """All names of a kind that can work in a config."""
    found: dict[str, Any] = {}
    for module in MODULES[kind]:
        found.update(_named(module, kind))
    for name in UNUSABLE.get(kind, {}):
        found.pop(name, None)
    found.update(_extra.get(kind, {}))
    return sorted(name for name in found if _is_meant(name, found[name]))


def _is_meant(name: str, thing: Any) -> bool:
    """Not what a module has for its own use: bases, mixins, errors, enumerations."""
    if inspect.isclass(thing) and issubclass(thing, (Exception, enum.Enum)):
        return False
    return not (name.startswith("Base") or "Mixin" in name)


def find(kind: str, name: str, where: str) -> Callable[..., Any]:
    """The class or function of this name.

    Raises:
        ConfigError: there is none, or it cannot work here; says why.
    """
    if name in _extra.get(kind, {}):
        return _extra[kind][name]
    if name in UNUSABLE.get(kind, {}):
        raise ConfigError(f"{where}: {name} cannot work here: {UNUSABLE[kind][name]}")
    for module in MODULES[kind]:
        things = _named(module, kind)
        if name in things:
            return things[name]
    raise ConfigError(f"{where}: unknown {kind} {name!r}{suggest(name, names(kind))}")


def _named(place: str, kind: str) -> dict[str, Any]:
    name, _, attribute = place.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a {kind} is looked up in {name}, which needs {error.name}: "
            "pip install -e '.[bench]'"
        ) from error
    return dict(getattr(module, attribute)) if attribute else _public(module)


def _public(module: Any) -> dict[str, Any]:
    """A module's classes, and functions that stand for one."""
    listed = getattr(module, "__all__", None) or vars(module)
    return {
        name: getattr(module, name)
        for name in listed
        if not name.startswith("_")
        and callable(getattr(module, name))
        and not (listed is vars(module) and _is_elsewhere(module, name))
    }


def _is_elsewhere(module: Any, name: str) -> bool:
    """Whether a module only uses the thing: it comes from another package."""
    home = getattr(getattr(module, name), "__module__", "") or ""
    return home.split(".")[0] != module.__name__.split(".")[0]

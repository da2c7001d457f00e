"""What a config may hold."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any, Optional

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import ConfigError, suggest
from .references import refuse_resolvers


@dataclass
class Config:
    """One experiment: a row of a table, over its seeds and folds.

    Words are those of powerful-benchmarker. What is `{ClassName: arguments}` is looked
    up by name: see `registry`.
    """

    experiment_name: str = MISSING
    # Where the settings come from: "official" (the authors' code) or "ours".
    source: str = "ours"
    baseline: Optional[str] = None  # the experiment to compare with
    dataset: dict[str, Any] = field(default_factory=dict)
    split_manager: dict[str, Any] = field(default_factory=dict)
    transforms: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    loss_funcs: dict[str, Any] = field(default_factory=dict)
    mining_funcs: dict[str, Any] = field(default_factory=dict)
    sampler: Optional[dict[str, Any]] = None  # None: all images, shuffled
    optimizers: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    tester: dict[str, Any] = field(default_factory=dict)
    hook_container: dict[str, Any] = field(default_factory=dict)
    num_epochs_train: int = MISSING
    save_interval: int = 1  # epochs from one evaluation and checkpoint to the next
    patience: Optional[int] = None  # epochs without a better primary metric
    check_untrained_accuracy: bool = False
    seeds: list[int] = field(default_factory=lambda: [0])
    deterministic: bool = False
    tsne_classes: int = 0  # classes in the t-SNE figure of the test set; 0: no figure


REQUIRED = ("dataset", "split_manager", "models", "loss_funcs", "optimizers")
COMPONENTS = ("dataset", "split_manager", "trainer", "tester", "hook_container")


KNOWN = [f.name for f in fields(Config)]


def validated(values: dict[str, Any]) -> Config:
    """The config, its types checked and its interpolations (`${...}`) resolved.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    for key in values:
        if key not in KNOWN:
            raise ConfigError(f"unknown key {key!r}{suggest(str(key), KNOWN)}")
    refuse_resolvers(values)
    _check_types(values)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(values))
        missing = OmegaConf.missing_keys(merged)
        if missing:
            raise ConfigError(f"these keys are missing: {', '.join(sorted(missing))}")
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    assert isinstance(config, Config)  # for the type checker
    _check(config)
    return config


def _check_types(values: dict[str, Any]) -> None:
    """Numbers, lists and mappings, each where it belongs."""
    plain = OmegaConf.to_container(OmegaConf.create(values))
    assert isinstance(plain, dict)  # for the type checker
    for f in fields(Config):
        value, kind = plain.get(f.name), str(f.type)
        if isinstance(value, str) and "${" in value:
            continue  # known when it is resolved
        if f.name not in plain or value == MISSING:
            continue
        if value is None:
            if not kind.startswith("Optional"):
                raise ConfigError(f"{f.name} must not be null")
        elif "list[int]" in kind:
            if not isinstance(value, list) or any(type(v) is not int for v in value):
                raise ConfigError(
                    f"{f.name} must be a list of integers, such as [0, 1], "
                    f"got {value!r}"
                )
        elif "dict" in kind:
            if not isinstance(value, dict):
                raise ConfigError(one_key_message(f.name, value))
        elif "int" in kind and type(value) is not int:
            raise ConfigError(f"{f.name} must be an integer, got {value!r}")
        elif "bool" in kind and type(value) is not bool:
            raise ConfigError(f"{f.name} must be true or false, got {value!r}")


def _check(config: Config) -> None:
    for key in REQUIRED:
        if not getattr(config, key):
            raise ConfigError(f"{key} is missing or empty")
    for key in COMPONENTS:
        if len(getattr(config, key)) != 1:
            raise ConfigError(one_key_message(key, getattr(config, key)))
    least = {"num_epochs_train": 1, "save_interval": 1, "patience": 0}
    for key, bound in {**least, "tsne_classes": 0}.items():
        value = getattr(config, key)
        if value is not None and value < bound:
            raise ConfigError(f"{key} must be >= {bound}, got {value}")
    name = PurePosixPath(config.experiment_name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ConfigError(
            "experiment_name is a path within the output folder, such as "
            f"cars196/mine, got {config.experiment_name!r}"
        )
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ConfigError(f"seeds must be distinct numbers, got {config.seeds}")
    if any(not 0 <= seed < 2**32 for seed in config.seeds):
        raise ConfigError(f"seeds must be from 0 to 2**32 - 1, got {config.seeds}")
    if config.source not in ("official", "ours"):
        raise ConfigError(f"source must be official or ours, got {config.source!r}")
    if config.num_epochs_train < config.save_interval:
        raise ConfigError(
            f"save_interval ({config.save_interval}) is longer than num_epochs_train "
            f"({config.num_epochs_train}): nothing would be evaluated"
        )


def one_key_message(where: str, value: Any) -> str:
    """The message for what should be `{ClassName: arguments}` and is not."""
    if isinstance(value, dict) and len(value) > 1:
        return (
            f"{where}: expected one class, got {len(value)} "
            f"({', '.join(map(str, value))}). To replace one by another, write "
            f"{where}~OVERRIDE~ or {where}~SWAP~1; to change its arguments, "
            f"{where}~APPLY~2"
        )
    return f"{where}: expected {{ClassName: arguments}}, got {value!r}"

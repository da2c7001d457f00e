"""What a config may hold."""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Optional

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from .errors import ConfigError, suggest
from .references import resolved

Spec = dict[str, Any]
One = Annotated[Spec, Field(min_length=1, max_length=1)]
Some = Annotated[Spec, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


@dataclass(config=ConfigDict(strict=True), kw_only=True)
class Config:
    """One experiment: a row of a table, over its seeds and folds.

    Words are those of powerful-benchmarker. What is `{ClassName: arguments}` is looked
    up by name: see `registry`.
    """

    experiment_name: str
    # Where the settings come from: "official" (the authors' code) or "ours".
    source: Literal["official", "ours"] = "ours"
    baseline: Optional[str] = None  # the experiment to compare with
    dataset: One
    split_manager: One
    transforms: Spec = field(default_factory=dict)
    models: Some
    loss_funcs: Some
    mining_funcs: Spec = field(default_factory=dict)
    sampler: Optional[Spec] = None  # None: all images, shuffled
    optimizers: Some
    trainer: One
    tester: One
    hook_container: One
    num_epochs_train: Positive
    save_interval: Positive = 1  # epochs from one evaluation and checkpoint to the next
    patience: Optional[Count] = None  # epochs without a better primary metric
    check_untrained_accuracy: bool = False
    seeds: list[Seed] = field(default_factory=lambda: [0])
    deterministic: bool = False
    tsne_classes: Count = 0  # classes in the t-SNE figure of the test set; 0: no figure


KNOWN = [f.name for f in fields(Config)]
EXPECTED = {
    "bool_type": "true or false",
    "int_type": "an integer",
    "list_type": "a list of integers, such as [0, 1]",
    "string_type": "text",
}


def validated(values: dict[str, Any]) -> Config:
    """The config, its types checked and its interpolations (`${...}`) resolved.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    for key in values:
        if key not in KNOWN:
            raise ConfigError(f"unknown key {key!r}{suggest(str(key), KNOWN)}")
    # Defaults can be referred to; ??? is how OmegaConf says that a value is missing.
    known = resolved({**_defaults(), **values})
    values = {key: value for key, value in known.items() if value != "???"}
    for name in ("experiment_name", "baseline"):  # 2024 on a command line is a number
        if type(values.get(name)) is int:
            values[name] = str(values[name])
    try:
        config = Config(**values)
    except ValidationError as error:
        problems = error.errors()
        missing = [str(p["loc"][0]) for p in problems if p["type"] == "missing"]
        if len(missing) > 1:
            raise ConfigError(
                f"these keys are missing: {', '.join(missing)}"
            ) from error
        raise ConfigError(_in_words(problems[0], values)) from error
    _check(config)
    return config


def _defaults() -> dict[str, Any]:
    made = {
        f.name: f.default_factory()
        for f in fields(Config)
        if f.default_factory is not MISSING
    }
    return made | {
        f.name: f.default for f in fields(Config) if f.default is not MISSING
    }


def _in_words(error: Any, values: dict[str, Any]) -> str:
    """The first that is wrong, as pydantic has it."""
    key, kind = error["loc"][0], error["type"]
    value = values.get(key)
    if kind in ("missing", "too_short"):
        return f"{key} is missing or empty"
    if value is None:
        return f"{key} must not be null"
    if kind in ("dict_type", "too_long"):
        return one_key_message(key, value)
    if error["loc"][-1] == "[key]":
        return f"{key}: names must be text, got {error['input']!r}"
    if key == "seeds" and kind in ("greater_than_equal", "less_than"):
        return f"seeds must be from 0 to 2**32 - 1, got {value}"
    if key == "seeds" and kind in EXPECTED:
        kind = "list_type"
    if kind == "greater_than_equal":
        return f"{key} must be >= {error['ctx']['ge']}, got {value}"
    if kind in EXPECTED:
        return f"{key} must be {EXPECTED[kind]}, got {value!r}"
    return f"{key}: {error['msg']}, got {value!r}"


def _check(config: Config) -> None:
    name = PurePosixPath(config.experiment_name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ConfigError(
            "experiment_name is a path within the output folder, such as "
            f"cars196/mine, got {config.experiment_name!r}"
        )
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ConfigError(f"seeds must be distinct numbers, got {config.seeds}")
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

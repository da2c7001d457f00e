"""What an experiment's config and files say, if they hold what they should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ReportError, explained
from .checks import Concatenated, History, check
from .experiments import CONCATENATED, CONFIG, ENVIRONMENT, Place, Stored, read_json
from .names import split_arm, split_name

# The presets' names of data sets.
DATASETS = {
    "CUB200": "cub200",
    "Cars196": "cars196",
    "StanfordOnlineProducts": "sop",
    "InShop": "inshop",
    "Emoji": "emoji",
    "Glyphs": "glyphs",
    "Kanji": "kanji",
}
# Folds of the split managers whose config does not say how many.
DEFAULT_FOLDS = {"ClassDisjointSplitManager": 4}
PROTOCOL = ["num_epochs", "primary_metric", "validation", "test"]
# Plain values only; libyaml's takes a tenth of the time, where it is there.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Text = Annotated[str, Field(min_length=1)]


class Config(BaseModel):
    """What must be in one; all else is kept as it is."""

    model_config = ConfigDict(strict=True, extra="allow")
    experiment_name: Text
    source: Text = "ours"
    baseline: Text | None = None


@dataclass(frozen=True)
class Contents:
    """An experiment whose files hold what they should.

    Attributes:
        about: its row of `Runs.experiments`.
        trials: with None for those that are missing.
        concatenated: by seed.
    """

    about: dict[str, Any]
    trials: dict[Place, History | None]
    concatenated: dict[int, Concatenated]


def contents(stored: Stored) -> Contents:
    """
    Raises:
        ReportError: of which file, and what is wrong with it.
    """
    config = read_config(stored)
    histories = {}
    for (seed, fold), data in stored.histories.items():
        trial = f"seed{seed}" + ("" if fold is None else f"/fold{fold}")
        place = f"{stored.place}/{trial}/history.json"
        histories[seed, fold] = check(History, data, place, seed=seed, fold=fold)
    together = {
        seed: check(Concatenated, read_json(stored.files[name], place), place)
        for seed in sorted({seed for seed, _ in stored.begun})
        if (name := f"seed{seed}/{CONCATENATED}") in stored.files
        if (place := f"{stored.place}/{name}")
    }
    protocols: dict[tuple[Any, ...], Place] = {}
    for at, history in histories.items():
        protocols.setdefault(tuple(getattr(history, key) for key in PROTOCOL), at)
    if len(protocols) > 1:
        (one, first), (two, second), *_ = protocols.items()
        raise ReportError(
            f"{stored.place}: seeds and folds {second} and {first} are of one "
            "experiment, but differ in number of epochs, primary metric, validation "
            f"or test split: {list(two)}, {list(one)}; move one of them out"
        )
    folds, num_folds = _folds(stored, config)
    if not {fold for _, fold in histories} <= set(folds):
        raise ReportError(
            f"{stored.place} has seeds with folds and seeds without; move some out"
        )
    trials = {
        (seed, fold): histories.get((seed, fold))
        for seed in sorted({seed for seed, _ in stored.begun})
        for fold in folds
    }
    about = {**_about(stored, config), "num_folds": num_folds}
    return Contents(about, trials, together)


def name_of(stored: Stored) -> str:
    return str(read_config(stored)["experiment_name"])


def read_config(stored: Stored) -> dict[str, Any]:
    """Read as plain YAML: what it refers to elsewhere is left as text."""
    try:
        config = yaml.load(stored.files[CONFIG], LOADER)
        return Config.model_validate(config).model_dump()
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        said = explained(error) if isinstance(error, ValidationError) else error
        raise ReportError(
            f"{stored.place}/{CONFIG} is no experiment's config: {said}; if it is "
            "something else, give folders beside it"
        ) from error


def _about(stored: Stored, config: dict[str, Any]) -> dict[str, Any]:
    name = config["experiment_name"]
    beginning, rest = split_name(name)
    dataset = DATASETS.get(str(next(iter(_mapping(config, "dataset")), "")), beginning)
    arm = rest if beginning == dataset else name
    loss, memvir = split_arm(arm)
    losses = _mapping(config, "loss_funcs")
    environment = stored.files.get(ENVIRONMENT)
    place = f"{stored.place}/{ENVIRONMENT}"
    return {
        "experiment": name,
        "place": stored.place,
        "baseline": config["baseline"],
        "source": config["source"],
        "environment": read_json(environment, place) if environment else {},
        "dataset": dataset,
        "arm": arm,
        "loss": loss,
        "memvir": "'MemVir'" in repr(losses) if losses else memvir,
        "config": config,
    }


def _mapping(config: dict[str, Any], key: str) -> dict[Any, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _folds(stored: Stored, config: dict[str, Any]) -> tuple[list[int | None], int]:
    """Those that each seed should have, None for a seed without; and how many.

    As config.yaml says, or the split manager; else the seed that is furthest shows it.
    """
    name, arguments = next(iter(_mapping(config, "split_manager").items()), ("", None))
    said = arguments.get("num_training_sets") if isinstance(arguments, dict) else None
    known = said if isinstance(said, int) and 0 < said < 1000 else None
    known = known or DEFAULT_FOLDS.get(name)
    begun = {fold for _, fold in stored.begun if fold is not None}
    count = max([known or 0, *(fold + 1 for fold in begun)])
    return list(range(count)) or [None], known or count

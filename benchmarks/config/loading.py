"""Configs from files, overlays and the command line; saved and compared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..files import write_text
from . import powerful, search
from .arguments import unknown_arguments
from .errors import ConfigError, suggest
from .layers import PRESETS, beside, find, layers, with_defaults
from .overlay import overlay
from .places import place
from .reading import read
from .schema import KNOWN, Config, validated

LOGGER = logging.getLogger("benchmarks")
# Arguments that say where things are and how they are read.
PLACES = "root checkpoint in_memory log_freq save_models dataloader_num_workers".split()


def load(
    name: str,
    extra: Sequence[str] = (),
    overrides: Sequence[str] = (),
    tell: Callable[[str], None] = LOGGER.info,
) -> Config:
    """The config of `load_values`, checked; there must be no range to search."""
    values = load_values(name, extra, overrides, tell)
    ranges = search.ranges(values)
    if ranges:
        raise ConfigError(
            f"{', '.join(r.path for r in ranges)}: a range to search; "
            "give a value, or use `python -m benchmarks tune`"
        )
    return validated(values)


def load_values(
    name: str,
    extra: Sequence[str] = (),
    overrides: Sequence[str] = (),
    tell: Callable[[str], None] = LOGGER.info,
) -> dict[str, Any]:
    """The values of a preset or a file, with what is laid over it.

    Args:
        name: a preset, `cars196/norm_softmax_memvir`, or the path of a YAML file. The
            `default.yaml` in its folder comes before it; for presets, also the one of
            all presets; then the files beside it that it names in `on_top_of`. A preset
            is its loss's file, laid over its data set's; then `memvir.yaml` of the data
            set, if it is with MemVir, and a file of the preset's own name. A folder
            stands for its `default.yaml`, or for powerful-benchmarker's
            `config_*/default.yaml`.
        extra: files laid over that, in turn: paths, names of files beside it, or names
            of the overlays that come with the presets (`resnet50`).
        overrides: `a.b=value`, laid over that; values are YAML, keys may have suffixes.
        tell: gets a note on words that were left out, as they say what is done anyway.

    Raises:
        ConfigError: something is unknown or does not fit; says what and where, of all
            files at once.
    """
    path = find(name)
    values: dict[str, Any] = {"experiment_name": _experiment_name(path, extra)}
    files = []
    for default in with_defaults(path):
        for file, content in layers(default):
            files.append(file)
            values = _laid_over(values, content, file)
    as_it_is = values
    if extra and values.get("baseline"):  # it has the same files laid over it
        values = {**values, "baseline": f"{values['baseline']}{_suffix(extra)}"}
    for other in extra:
        for file, content in layers(beside(path, other)):
            files.append(file)
            values = _laid_over(values, content, file)
    for override in overrides:
        values = _laid_over(values, _parsed(override), f"override {override!r}")
    if values.get("source") == "official" and _settings(values) != _settings(as_it_is):
        values["source"] = "ours"
    return _translated(values, files, tell)


def _translated(
    values: dict[str, Any], files: Sequence[Path], tell: Callable[[str], None]
) -> dict[str, Any]:
    """In this suite's words, if all of them are known."""
    values, left_out, elsewhere = powerful.translated(values)
    problems = {
        word: f"{word} is not needed here: {instead}"
        for word, instead in elsewhere.items()
    }
    for key in values:
        if key not in KNOWN:
            problems[key] = f"unknown key {key!r}{suggest(str(key), KNOWN)}"
    if problems or any(file.is_relative_to(PRESETS) is False for file in files):
        problems.update(unknown_arguments(values))
    if problems:
        lines = [
            f"{at}: {said}" if (at := place(files, word)) else said
            for word, said in problems.items()
        ]
        raise ConfigError("\n".join(lines))
    if left_out:
        tell(f"left out, as it is done anyway: {', '.join(left_out)}")
    return values


def _settings(values: dict[str, Any]) -> Any:
    """What results depend on: not names, seeds, places and workers."""
    left_out = ("experiment_name", "baseline", "seeds", "source", "tsne_classes")
    return without_places({k: v for k, v in values.items() if k not in left_out})


def without_places(value: Any) -> Any:
    """Values without those that say where things are, and without workers."""
    if not isinstance(value, dict):
        return value
    return {k: without_places(v) for k, v in value.items() if k not in PLACES}


def _laid_over(values: dict[str, Any], top: dict[str, Any], of: object) -> Any:
    try:
        return overlay(values, top)
    except ConfigError as error:
        raise ConfigError(f"{of}: {error}") from error


def save(config: Config, path: Path) -> None:
    """Write the resolved config."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(asdict(config))))


def load_saved(path: Path) -> Config:
    """A config that `save` wrote."""
    return validated(read(path))


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two configs, or their values, differ, as lines `a.b: old -> new`."""
    if isinstance(old, Config):
        old, new = asdict(old), asdict(new)
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in differences(
                old.get(key, "(nothing)"),
                new.get(key, "(nothing)"),
                f"{path}.{key}" if path else key,
            )
        ]
    return [] if old == new else [f"{path}: {old} -> {new}"]


def _experiment_name(path: Path, extra: Sequence[str]) -> str:
    resolved = path.resolve()
    if resolved.is_relative_to(PRESETS):
        resolved = resolved.relative_to(PRESETS)
    else:
        resolved = Path(*resolved.parts[-2:])
    name = resolved.with_suffix("").as_posix()
    return name + _suffix(extra)


def _suffix(extra: Sequence[str]) -> str:
    return "".join(f"+{_name(Path(other))}" for other in extra)


def _name(path: Path) -> str:
    """A file's name without .yaml; lr0.01 has no suffix."""
    return path.stem if path.suffix in (".yaml", ".yml") else path.name


def _parsed(override: str) -> dict[str, Any]:
    key, equals, _ = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r}: expected a.b=value")
    if "[" in key:
        raise ConfigError(
            f"override {override!r}: {key.partition('[')[0]} must be given as a whole, "
            "as in a.b=[1, 2]"
        )
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([override]))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"override {override!r}: {error}") from error
    assert isinstance(parsed, dict)  # for the type checker
    return {str(k): v for k, v in parsed.items()}

"""Configs from presets, files, folders and the command line."""

from __future__ import annotations

import io
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
from .overlay import overlay
from .places import place
from .references import resolved
from .schema import KNOWN, Config, validated

PRESETS = Path(__file__).resolve().parents[1] / "presets"
OVERLAYS = PRESETS / "overlays"
LOSSES = PRESETS / "losses"
DEFAULT = "default.yaml"
WITH_MEMVIR = "memvir.yaml"
ON_TOP_OF = "on_top_of"
POWERFUL = f"config_*/{DEFAULT}"
LOGGER = logging.getLogger("benchmarks")


def preset_names() -> list[str]:
    """All presets, as `<data set>/<loss>[_memvir]`: each loss with each data set."""
    return [
        f"{default.parent.name}/{loss.stem}{memvir}"
        for default in sorted(PRESETS.glob(f"*/{DEFAULT}"))
        for loss in sorted(LOSSES.iterdir())
        for memvir in ("", "_memvir")
    ]


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
    path = _find(name)
    values: dict[str, Any] = {"experiment_name": _experiment_name(path, extra)}
    files = []
    for default in _with_defaults(path):
        for file, content in _layers(default):
            files.append(file)
            values = _laid_over(values, content, file)
    as_it_is = values
    for other in extra:
        for file, content in _layers(_beside(path, other)):
            files.append(file)
            values = _laid_over(values, content, file)
    if extra and values.get("baseline"):  # it has the same files laid over it
        values["baseline"] += _suffix(extra)
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
    places = ("root", "checkpoint", "dataloader_num_workers", "save_models", "log_freq")
    if not isinstance(value, dict):
        return value
    return {k: without_places(v) for k, v in value.items() if k not in places}


def _laid_over(values: dict[str, Any], top: dict[str, Any], of: object) -> Any:
    try:
        return overlay(values, top)
    except ConfigError as error:
        raise ConfigError(f"{of}: {error}") from error


def read(path: Path) -> dict[str, Any]:
    """A YAML file's mapping, interpolations not yet resolved."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        loaded = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not in UTF-8 (byte {error.start}); save it again as UTF-8"
        ) from error
    except (OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected a mapping, got a {type(loaded).__name__}")
    return {str(key): value for key, value in loaded.items()}


def read_resolved(path: Path) -> dict[str, Any]:
    """A YAML file's mapping from anybody, references to its own values resolved.

    Nothing outside of the file is looked at: see `references`.

    Raises:
        ConfigError: it cannot be read, or refers to something else.
    """
    try:
        return resolved(read(path))
    except ConfigError as error:
        raise ConfigError(_with_path(path, error)) from error


def _with_path(path: Path, error: ConfigError) -> str:
    said = str(error)
    return said if said.startswith(str(path)) else f"{path}: {said}"


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


def _find(name: str) -> Path:
    for path in (Path(name), PRESETS / name, PRESETS / f"{name}.yaml"):
        if path.is_dir() and (path / DEFAULT).is_file():
            return path / DEFAULT
        if path.is_dir() and any(path.glob(POWERFUL)):
            return path
        if path.is_file() or _is_preset(path):
            return path
    known = preset_names()
    raise ConfigError(
        f"there is no preset or file {name!r}{suggest(name, known)} "
        "(`python -m benchmarks list` shows all presets)"
    )


def _is_preset(path: Path) -> bool:
    """Whether it is named as a preset's file, which need not be there."""
    folder = path.resolve().parent
    return (
        folder.parent == PRESETS
        and (folder / DEFAULT).is_file()
        and _of_loss(path).is_file()
    )


def _of_loss(path: Path) -> Path:
    """The loss's file of a preset, with or without MemVir."""
    return LOSSES / path.with_stem(path.stem.removesuffix("_memvir")).name


def _with_defaults(path: Path) -> list[Path]:
    """The file, after the defaults that it is laid over."""
    if path.is_dir():
        return sorted(path.glob(POWERFUL))
    files = [path.parent / DEFAULT]
    if path.resolve().is_relative_to(PRESETS):
        files.insert(0, PRESETS / DEFAULT)
    files = [file for file in files if file.is_file()]
    return list(dict.fromkeys([*files, path]))


def _layers(
    file: Path, above: tuple[Path, ...] = ()
) -> list[tuple[Path, dict[str, Any]]]:
    """The file's content, after that of the files that it says it is on top of."""
    if _is_preset(file):
        return _layers_of_preset(file)
    if file.resolve() in above:
        chain = " on top of ".join(path.name for path in (*above, file))
        raise ConfigError(f"{file}: it is on top of itself: {chain}")
    above = (*above, file.resolve())
    content = read(file)
    below = content.pop(ON_TOP_OF, [])
    if not isinstance(below, list):
        raise ConfigError(f"{file}: {ON_TOP_OF} must be a list, got {below!r}")
    layers = []
    for other in below:
        path = _beside(file, other)
        # From elsewhere, a preset's file stands for all that it is laid over.
        inside = path.resolve().is_relative_to(PRESETS)
        whole = inside and not file.resolve().is_relative_to(PRESETS)
        for one in _with_defaults(path) if whole else [path]:
            layers += _layers(one, above)
    return [*layers, (file, content)]


def _layers_of_preset(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    loss = _of_loss(path)
    content = read(loss)
    layers = [(loss, content)]
    if loss.stem != path.stem:
        losses = content["loss_funcs"]
        losses["metric_loss"] = {"MemVir": {"loss": losses["metric_loss"]}}
        content["baseline"] = f"{path.parent.name}/{loss.stem}"
        layers += _layers(path.parent / WITH_MEMVIR)
    return [*layers, (path, read(path))] if path.is_file() else layers


def _beside(path: Path, other: str) -> Path:
    stem = other.removesuffix(".yaml")
    for candidate in (
        Path(other),
        path.parent / other,
        path.parent / f"{stem}.yaml",
        OVERLAYS / f"{stem}.yaml",
        PRESETS.parent / f"{stem}.yaml",  # presets/default
        PRESETS / f"{stem}.yaml",  # cars196/default
        *sorted(path.glob(f"config_*/{stem}.yaml")),
    ):
        is_there = candidate.is_file() or _is_preset(candidate)
        if is_there and candidate.resolve() != path.resolve():
            return candidate
    names = [f.stem for f in (*path.parent.glob("*.yaml"), *OVERLAYS.glob("*.yaml"))]
    names += [f"{f.parent.name}/default" for f in PRESETS.rglob(DEFAULT)]
    raise ConfigError(f"there is no file {other!r} to lay over{suggest(other, names)}")


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

"""Which files a config is made of: its preset, defaults, and what it is on top of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import ConfigError, suggest
from .reading import read

PRESETS = Path(__file__).resolve().parents[1] / "presets"
OVERLAYS = PRESETS / "overlays"
LOSSES = PRESETS / "losses"
DEFAULT = "default.yaml"
WITH_MEMVIR = "memvir.yaml"
ON_TOP_OF = "on_top_of"
POWERFUL = f"config_*/{DEFAULT}"


def preset_names() -> list[str]:
    """All presets, as `<data set>/<loss>[_memvir]`: each loss with each data set."""
    return [
        f"{default.parent.name}/{loss.stem}{memvir}"
        for default in sorted(PRESETS.glob(f"*/{DEFAULT}"))
        for loss in sorted(LOSSES.iterdir())
        for memvir in ("", "_memvir")
    ]


def find(name: str) -> Path:
    """The file of a preset, or of a path; the folder of a powerful-benchmarker config.

    Raises:
        ConfigError: there is none.
    """
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


def with_defaults(path: Path) -> list[Path]:
    """The file, after the defaults that it is laid over."""
    if path.is_dir():
        return sorted(path.glob(POWERFUL))
    files = [path.parent / DEFAULT]
    if path.resolve().is_relative_to(PRESETS):
        files.insert(0, PRESETS / DEFAULT)
    files = [file for file in files if file.is_file()]
    return list(dict.fromkeys([*files, path]))


def layers(
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
    found = []
    for other in below:
        path = beside(file, other)
        # From elsewhere, a preset's file stands for all that it is laid over.
        inside = path.resolve().is_relative_to(PRESETS)
        whole = inside and not file.resolve().is_relative_to(PRESETS)
        for one in with_defaults(path) if whole else [path]:
            found += layers(one, above)
    return [*found, (file, content)]


def _layers_of_preset(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    loss = _of_loss(path)
    content = read(loss)
    found = [(loss, content)]
    if loss.stem != path.stem:
        losses = content["loss_funcs"]
        losses["metric_loss"] = {"MemVir": {"loss": losses["metric_loss"]}}
        content["baseline"] = f"{path.parent.name}/{loss.stem}"
        found += layers(path.parent / WITH_MEMVIR)
    return [*found, (path, read(path))] if path.is_file() else found


def beside(path: Path, other: str) -> Path:
    """The file that another names: by its path, beside it, or of the presets.

    Raises:
        ConfigError: there is none, or several of a powerful-benchmarker config.
    """
    stem = other.removesuffix(".yaml")
    for candidate in (
        Path(other),
        path / f"{stem}.yaml",
        path.parent / other,
        path.parent / f"{stem}.yaml",
        OVERLAYS / f"{stem}.yaml",
        PRESETS.parent / f"{stem}.yaml",  # presets/default
        PRESETS / f"{stem}.yaml",  # cars196/default
    ):
        is_there = candidate.is_file() or _is_preset(candidate)
        if is_there and candidate.resolve() != path.resolve():
            return candidate
    powerful = sorted(path.glob(f"config_*/{stem}.yaml"))
    if len(powerful) == 1:
        return powerful[0]
    if powerful:
        each = " and ".join(f"{file.parent.name}/{stem}" for file in powerful)
        raise ConfigError(f"{other!r} is {each}: name one, or both")
    names = [f.stem for f in (*path.parent.glob("*.yaml"), *OVERLAYS.glob("*.yaml"))]
    names += [f"{f.parent.name}/default" for f in PRESETS.rglob(DEFAULT)]
    names += [f"{f.parent.name}/{f.stem}" for f in path.glob("config_*/*.yaml")]
    raise ConfigError(f"there is no file {other!r} to lay over{suggest(other, names)}")

"""Experiments as they are stored: folders of runs, or packed files of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ReportError

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
HISTORY, CONCATENATED = "history.json", "concatenated.json"
TUNING = "tune"  # a search's trials are no results; they can be given by themselves
Place = tuple[int, int | None]  # seed and fold


@dataclass
class Stored:
    """One experiment; nothing in it is checked.

    Attributes:
        place: where it was read, for messages.
        files: texts of config.yaml and the like, by path in the experiment's folder.
        histories: contents of history.json.
        begun: all trials that have a folder; a fold of None is a seed's own folder.
    """

    place: Path
    files: dict[str, str] = field(default_factory=dict)
    histories: dict[Place, Any] = field(default_factory=dict)
    begun: list[Place] = field(default_factory=list)


def experiment_folders(folder: Path) -> Iterator[Path]:
    """Folders with a config.yaml; what is below one of them is part of it."""
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder; give folders of experiments")
    for path, subfolders, files in os.walk(folder.resolve()):
        if CONFIG in files:
            yield Path(path)
            subfolders.clear()
        subfolders[:] = sorted(
            s for s in subfolders if not s.startswith(".") and s != TUNING
        )


def read_folder(folder: Path) -> Stored:
    """What there is in one experiment's folder."""
    stored = Stored(folder)
    for seed, path in _numbered(folder, "seed"):
        folds = _numbered(path, "fold")
        stored.begun += [(seed, fold) for fold, _ in folds] or [(seed, None)]
        for fold, trial in [(None, path), *folds]:
            if (file := trial / HISTORY).exists():
                stored.histories[seed, fold] = read_json(file)
        if folds and (seed, None) in stored.histories:
            raise ReportError(
                f"{path} has a {HISTORY} beside its folds; move one or the other out"
            )
        _add_text(stored, f"{path.name}/{CONCATENATED}")
    for name in (CONFIG, ENVIRONMENT):
        _add_text(stored, name)
    return stored


def read_json(source: Path | str, place: object = None) -> dict[str, Any]:
    """The object that a JSON file, or a text, holds.

    Raises:
        ReportError: it cannot be read, is not JSON, or holds something else.
    """
    place = source if place is None else place
    try:
        text = source if isinstance(source, str) else source.read_text("utf-8")
        data = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(
            f"{place} cannot be read as JSON: {error}; remove its experiment from the "
            "report, or restore the file"
        ) from error
    if not isinstance(data, dict):
        raise ReportError(
            f"{place}: expected an object, got {type(data).__name__!r}; the file is "
            "damaged, or another program wrote it"
        )
    return data


def _add_text(stored: Stored, name: str) -> None:
    path = stored.place / name
    try:
        if path.exists():
            stored.files[name] = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from error


def _numbered(folder: Path, prefix: str) -> list[tuple[int, Path]]:
    """Folders such as seed0, by number. Not seed00: a number has one name."""
    pattern = re.compile(rf"{prefix}(0|[1-9]\d{{0,8}})")
    found = ((pattern.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(m[1]), path) for m, path in found if m and path.is_dir())

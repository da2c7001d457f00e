"""history.json and concatenated.json of one trial, checked as they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import ReportError
from .trial import Epoch, Metrics, Trial

FORMAT = 1
# Metrics are ratios of sums in floating point, which may exceed 1 by rounding.
TOLERANCE = 1e-6


def read_trial(path: Path, seed: int, fold: int | None) -> Trial:
    """The trial whose folder says that it is of this seed and fold.

    Raises:
        ReportError: the file is damaged, of another format, or of another trial.
    """
    data = read_json(path)
    _check_format(data, path)
    for name, expected in (("seed", seed), ("fold", fold)):
        if data.get(name) != expected:
            raise _damaged(path, f"{name} {expected} by its folder", data.get(name))
    trial = Trial(
        path=path,
        seed=seed,
        fold=fold,
        num_epochs=_whole(data, "num_epochs", path),
        finished=_field(data, "finished", (bool,), path),
        stopped_early=_field(data, "stopped_early", (bool,), path),
        primary_metric=_field(data, "primary_metric", (str,), path),
        validation=_field(data, "validation", (str, type(None)), path),
        test=_field(data, "test", (str,), path),
        epochs=tuple(_epoch(e, path) for e in _field(data, "epochs", (list,), path)),
    )
    _check_order(trial)
    return trial


def read_concatenated(path: Path) -> dict[str, Metrics]:
    """By selection, then by metric; {} where the file is missing.

    Raises:
        ReportError: the file is damaged or of another format.
    """
    if not path.exists():
        return {}
    data = read_json(path)
    _check_format(data, path)
    names = ("last", "best_on_validation")
    return {
        name: _metrics(data[name], f"{name} of {path}")
        for name in names
        if data.get(name) is not None
    }


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        ReportError: the file cannot be read, is not JSON, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(
            f"{path} cannot be read as JSON: {error}; remove its experiment from the "
            "report, or restore the file"
        ) from error
    if not isinstance(data, dict):
        raise _damaged(path, "an object", type(data).__name__)
    return data


def _damaged(place: object, expected: str, got: object) -> ReportError:
    return ReportError(
        f"{place}: expected {expected}, got {got!r}; the file is damaged, or another "
        "program wrote it"
    )


def _check_format(data: dict[str, Any], path: Path) -> None:
    if data.get("format") != FORMAT:
        raise _damaged(path, f"format {FORMAT}", data.get("format"))


def _field(data: Any, name: str, types: tuple[type, ...], place: object) -> Any:
    if not isinstance(data, dict) or name not in data:
        raise _damaged(place, f"an object with {name!r}", data)
    value = data[name]
    # bool is a subclass of int.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        kinds = " or ".join(kind.__name__ for kind in types)
        raise _damaged(place, f"{name!r} to be {kinds}", value)
    return value


def _whole(data: Any, name: str, place: object) -> int:
    value: int = _field(data, name, (int,), place)
    if value < 0:
        raise _damaged(place, f"{name!r} to be 0 or more", value)
    return value


def _epoch(data: Any, path: Path) -> Epoch:
    number = _whole(data, "epoch", f"{path}, epochs")
    place = f"{path}, epoch {number}"
    splits = {
        split: _metrics(metrics, f"{place}, split {split!r}")
        for split, metrics in _field(data, "splits", (dict,), place).items()
    }
    loss, memvir = data.get("loss"), data.get("memvir", {})
    if loss is not None:
        loss = _field(data, "loss", (int, float), place)
    if not isinstance(memvir, dict):
        raise _damaged(place, "'memvir' to be an object", memvir)
    watched = {name: _field(memvir, name, (int, float), place) for name in memvir}
    return Epoch(number, _whole(data, "step", place), splits, loss, watched)


def _metrics(data: Any, place: str) -> Metrics:
    if not isinstance(data, dict):
        raise _damaged(place, "an object of metrics", data)
    for name in data:
        value = _field(data, name, (int, float), place)
        lowest = -1 if name == "AMI" else 0
        if not lowest - TOLERANCE <= value <= 1 + TOLERANCE:  # refuses NaN, too
            raise _damaged(place, f"{name!r} to be a fraction, {lowest} to 1", value)
    return {name: float(value) for name, value in data.items()}


def _check_order(trial: Trial) -> None:
    for before, after in zip(trial.epochs, trial.epochs[1:]):
        if before.epoch >= after.epoch or before.step > after.step:
            raise _damaged(
                trial.path,
                f"epochs and steps to grow after epoch {before.epoch}",
                (after.epoch, after.step),
            )
    if trial.last_epoch > trial.num_epochs:
        raise _damaged(trial.path, f"{trial.num_epochs} epochs", trial.last_epoch)
    if trial.complete and not trial.trained:
        raise _damaged(trial.path, "epochs, as it is finished", "none")
    if trial.finished and not trial.stopped_early:
        if trial.last_epoch != trial.num_epochs:
            raise _damaged(
                trial.path,
                f"epoch {trial.num_epochs} last, as it is finished",
                trial.last_epoch,
            )

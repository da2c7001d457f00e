"""Everything that runs measured, in tables: the one reader of reports and studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from .checks import check_concatenated, check_history
from .errors import ReportError
from .experiments import (
    CONCATENATED,
    CONFIG,
    ENVIRONMENT,
    Stored,
    experiment_folders,
    read_folder,
    read_json,
)
from .names import split_arm, split_name
from .pack import MEMVIR, SUFFIX, TRAIN, read_pack

# The presets' names of data sets.
DATASETS = {
    "CUB200": "cub200",
    "Cars196": "cars196",
    "StanfordOnlineProducts": "sop",
    "InShop": "inshop",
    "Emoji": "emoji",
    "Glyphs": "glyphs",
}
# Folds of the split managers whose config does not say how many.
DEFAULT_FOLDS = {"ClassDisjointSplitManager": 4}
NO_FOLD = -1
# Plain values only; libyaml's takes a tenth of the time, where it is there.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SEED = ["experiment", "seed"]
TRIAL = [*SEED, "fold"]
PROTOCOL = ["num_epochs", "primary_metric", "validation", "test"]


@dataclass(frozen=True)
class Runs:
    """Tables, which refer to each other by `experiment`, `seed` and `fold`.

    Attributes:
        experiments: by name: place, baseline, source, environment, dataset, arm, loss,
            memvir (whether it is on), num_folds (0: no cross-validation), config.
        trials: a row a training, also of those that are missing: PROTOCOL, last_epoch,
            complete, stopped_early, and what is missing in words. A fold of NO_FOLD
            is a seed without folds.
        values: the tidy table, a row a measured number: TRIAL, epoch, step, split,
            metric, value. Accuracies are fractions. Training losses have the split
            "train", what MemVir said of its steps "memvir".
        concatenated: accuracies of the folds' concatenated embeddings: SEED, selection,
            metric, value.
    """

    experiments: pd.DataFrame
    trials: pd.DataFrame
    values: pd.DataFrame
    concatenated: pd.DataFrame

    def only(self, names: Iterable[str]) -> Runs:
        """These experiments, in this order."""
        names = list(names)
        rest = [
            table[table.experiment.isin(names)]
            for table in (self.trials, self.values, self.concatenated)
        ]
        return Runs(self.experiments.loc[names], *rest)

    def renamed(self, name: Callable[[str], str]) -> Runs:
        """The same under other names."""
        rest = [
            table.assign(experiment=table.experiment.map(name))
            for table in (self.trials, self.values, self.concatenated)
        ]
        return Runs(self.experiments.rename(index=name), *rest)

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """By experiment and seed: whether it is complete, and what is missing."""
        groups = self.trials.groupby(SEED, sort=False)
        return groups.agg(
            complete=("complete", "all"),
            missing=("missing", lambda texts: ", ".join(filter(None, texts))),
        )

    def complete_seeds(self, name: str) -> list[int]:
        if name not in self.seeds.index:
            return []
        complete = self.seeds.complete[name].astype(bool)
        return [int(seed) for seed in complete.index[complete]]

    def until(self, epoch: int, strict: bool = True) -> Runs:
        """As if schedules had ended with this epoch; the shorter ones are as they are.

        Args:
            strict: a training that had got there must have been evaluated there; else
                it counts as unfinished.

        Raises:
            ReportError: it was not.
        """
        values = self.values[self.values.epoch <= epoch]
        trials = self.trials.copy()
        longer = trials.num_epochs > epoch
        past = longer & (trials.last_epoch > epoch)
        reached = longer & (trials.last_epoch >= epoch)
        at_end = pd.MultiIndex.from_frame(values[values.epoch == epoch][TRIAL])
        there = pd.MultiIndex.from_frame(trials[TRIAL]).isin(at_end)
        if strict and (past & ~there).any():
            trial = trials[past & ~there].iloc[0]
            of = self.values.merge(trial[TRIAL].to_frame().T.infer_objects(), on=TRIAL)
            evaluated = ", ".join(str(e) for e in sorted(set(of.epoch) - {0}))
            raise ReportError(
                f"{self.experiments.place[trial.experiment]}, seed {trial.seed}, has "
                f"no evaluation at epoch {epoch}; there are {evaluated}"
            )
        trials.loc[reached, "stopped_early"] = False
        trials.loc[reached, ["complete", "missing", "last_epoch"]] = True, "", epoch
        trials.loc[past & ~there, "complete"] = False
        trials.loc[past & ~there, "missing"] = f"not evaluated at epoch {epoch}"
        trials.loc[longer, "num_epochs"] = epoch
        # Concatenated accuracies are of the models at the end of training.
        cut = pd.MultiIndex.from_frame(trials[past][SEED])
        of_cut = pd.MultiIndex.from_frame(self.concatenated[SEED]).isin(cut)
        together = self.concatenated[~of_cut]
        return Runs(self.experiments, trials, values, together)


def read(places: Iterable[Path], until: int | None = None) -> Runs:
    """All experiments in these files of packed runs, and in or below these folders.

    Args:
        until: leave out what came after this epoch.

    Raises:
        ReportError: there is none, two have one name, or a file is damaged.
    """
    runs = tables([checked(stored) for stored in find(places)])
    return runs if until is None else runs.until(until)


def find(places: Iterable[Path]) -> list[Stored]:
    """All experiments in these files, and in or below these folders.

    Raises:
        ReportError: there is none, or a file cannot be read.
    """
    places = list(places)
    found: list[Stored] = []
    seen: set[Path] = set()
    for place in (p.resolve() for p in places):
        if place.is_file() and place.name.endswith(SUFFIX):
            found += [] if place in seen else read_pack(place)
            seen.add(place)
            continue
        folders = [f for f in experiment_folders(place) if f not in seen]
        seen.update(folders)
        found += map(read_folder, folders)
    if not found:
        raise ReportError(
            f"no {CONFIG} in or below {', '.join(map(str, places)) or 'no folder'}; "
            f"give folders that experiments were run in, or files *{SUFFIX}"
        )
    return found


@dataclass(frozen=True)
class Checked:
    """An experiment whose files hold what they should."""

    stored: Stored
    about: dict[str, Any]
    num_folds: int | None
    concatenated: dict[int, dict[str, dict[str, float]]]


def name_of(stored: Stored) -> str:
    return str(_config(stored)["experiment_name"])


def checked(stored: Stored) -> Checked:
    """
    Raises:
        ReportError: of which file, and what is wrong with it.
    """
    config = _config(stored)
    for (seed, fold), history in stored.histories.items():
        trial = f"seed{seed}" + ("" if fold is None else f"/fold{fold}")
        check_history(history, f"{stored.place}/{trial}/history.json", seed, fold)
    together = {
        seed: check_concatenated(read_json(stored.files[name], place), place)
        for seed in sorted({seed for seed, _ in stored.begun})
        if (name := f"seed{seed}/{CONCATENATED}") in stored.files
        if (place := f"{stored.place}/{name}")
    }
    protocols = {
        place: [history[key] for key in PROTOCOL]
        for place, history in stored.histories.items()
    }
    first = next(iter(protocols.items()), None)
    for of_trial, protocol in protocols.items():
        if first is not None and protocol != first[1]:
            raise ReportError(
                f"{stored.place}: seeds and folds {of_trial} and {first[0]} are of one "
                "experiment, but differ in number of epochs, primary metric, "
                f"validation or test split: {protocol}, {first[1]}; move one of them "
                "out"
            )
    return Checked(stored, _about(stored, config), _num_folds(config), together)


def tables(found: Iterable[Checked]) -> Runs:
    """
    Raises:
        ReportError: two have one name, or would have one in a report.
    """
    experiments: dict[str, dict[str, Any]] = {}
    trials: list[dict[str, Any]] = []
    values: list[tuple[object, ...]] = []
    together: list[tuple[object, ...]] = []
    labels: dict[tuple[str, str], Path] = {}
    for one in found:
        name, place = one.about["experiment"], one.stored.place
        if name in experiments:
            raise ReportError(
                f"{experiments[name]['place']} and {place} are both named {name!r}; "
                "give one of them, or change experiment_name"
            )
        label = one.about["dataset"], one.about["arm"]
        if (other := labels.setdefault(label, place)) is not place:
            raise ReportError(
                f"{other} and {place} would both be called {label[1]!r} on {label[0]}; "
                "give one of them, or change experiment_name"
            )
        of_trials = _trials(name, one)
        trials += of_trials
        folds = {trial["fold"] for trial in of_trials} - {NO_FOLD}
        num_folds = one.num_folds or 0 if one.num_folds is not None else len(folds)
        experiments[name] = {**one.about, "num_folds": num_folds}
        values += _values(name, one.stored)
        together += [
            (name, seed, selection, metric, value)
            for seed, selections in one.concatenated.items()
            for selection, metrics in selections.items()
            for metric, value in metrics.items()
        ]
    columns = [*TRIAL, *PROTOCOL, "last_epoch", "complete", "stopped_early", "missing"]
    return Runs(
        pd.DataFrame.from_dict(experiments, orient="index", dtype=object),
        pd.DataFrame(trials, columns=columns).astype({"validation": object}),
        pd.DataFrame(
            values, columns=[*TRIAL, "epoch", "step", "split", "metric", "value"]
        ).astype({"value": float}),
        pd.DataFrame(together, columns=[*SEED, "selection", "metric", "value"]),
    )


def _config(stored: Stored) -> dict[str, Any]:
    """Read as plain YAML: what it refers to elsewhere is left as text."""
    path = f"{stored.place}/{CONFIG}"
    try:
        config = yaml.load(stored.files[CONFIG], LOADER)
        if not isinstance(config, dict):
            raise ReportError("it is no mapping")
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        raise ReportError(f"{path} is no experiment's config: {error}") from error
    config.setdefault("source", "ours")
    for key in ("experiment_name", "source", "baseline"):
        value = config.setdefault(key, None)
        if not (key == "baseline" and value is None) and not (
            isinstance(value, str) and value
        ):
            raise ReportError(
                f"{path}: {key} must be text, got {value!r}; if this is no "
                "experiment's config, give folders beside it"
            )
    return config


def _about(stored: Stored, config: dict[str, Any]) -> dict[str, Any]:
    name = config["experiment_name"]
    beginning, rest = split_name(name)
    dataset = DATASETS.get(str(next(iter(_mapping(config, "dataset")), "")), beginning)
    arm = rest if beginning == dataset else name
    loss, memvir = split_arm(arm)
    in_config = _mentions(_mapping(config, "loss_funcs"), "MemVir")
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
        "memvir": memvir if in_config is None else in_config,
        "config": config,
    }


def _mapping(config: dict[str, Any], key: str) -> dict[Any, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _num_folds(config: dict[str, Any]) -> int | None:
    """As config.yaml says, or the split manager; None where neither says anything."""
    name, arguments = next(iter(_mapping(config, "split_manager").items()), ("", None))
    if isinstance(arguments, dict):
        number = arguments.get("num_training_sets")
        if isinstance(number, int) and 0 < number < 1000:
            return number
    return DEFAULT_FOLDS.get(name)


def _mentions(losses: Any, name: str) -> bool | None:
    """Whether a loss of this name is among nested ones; None where there are none."""
    if not losses:
        return None
    if isinstance(losses, list):
        return any(_mentions(one, name) for one in losses)
    if isinstance(losses, dict):
        return name in losses or any(_mentions(one, name) for one in losses.values())
    return bool(losses == name)


def _trials(name: str, one: Checked) -> list[dict[str, Any]]:
    """Those that are there, and those that are missing."""
    stored = one.stored
    folds = {fold for _, fold in stored.begun if fold is not None}
    if one.num_folds is not None:
        folds.add(one.num_folds - 1)
    # Without being told, the seed that is furthest shows how many folds there are.
    expected = list(range(max(folds) + 1)) if folds else [None]
    if not {fold for _, fold in stored.histories} <= set(expected):
        raise ReportError(
            f"{stored.place} has seeds with folds and seeds without; move some out"
        )
    rows = []
    for seed in sorted({seed for seed, _ in stored.begun}):
        for fold in expected:
            row = {"experiment": name, "seed": seed}
            row["fold"] = NO_FOLD if fold is None else fold
            rows.append({**row, **_state(stored.histories.get((seed, fold)), fold)})
    return rows


def _state(history: dict[str, Any] | None, fold: int | None) -> dict[str, Any]:
    where = "" if fold is None else f"fold {fold} "
    if history is None:
        none = {key: "" for key in PROTOCOL} | {"validation": None, "num_epochs": 0}
        missing = {"missing": f"{where}not begun", "last_epoch": 0}
        return {**none, **missing, "complete": False, "stopped_early": False}
    last = history["epochs"][-1]["epoch"] if history["epochs"] else 0
    complete = history["finished"] or history["stopped_early"]
    at = f"{where}at epoch {last} of {history['num_epochs']}"
    return {
        **{key: history[key] for key in PROTOCOL},
        "last_epoch": last,
        "complete": complete,
        "stopped_early": history["stopped_early"],
        "missing": "" if complete else at,
    }


def _values(name: str, stored: Stored) -> Iterable[tuple[object, ...]]:
    for (seed, fold), history in stored.histories.items():
        trial = name, seed, NO_FOLD if fold is None else fold
        for entry in history["epochs"]:
            at = *trial, entry["epoch"], entry["step"]
            if entry.get("loss") is not None:
                yield *at, TRAIN, "loss", entry["loss"]
            splits = {**entry["splits"], MEMVIR: entry.get("memvir", {})}
            for split, metrics in splits.items():
                for metric, value in metrics.items():
                    yield *at, split, metric, value

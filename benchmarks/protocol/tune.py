"""Hyper-parameters, searched by Optuna on held-out classes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import optuna
import torch
import yaml
from omegaconf import OmegaConf
from rich.console import Console

from ..config import Config, ConfigError, differences
from ..config.building import split_spec
from ..config.errors import FAILURES, in_words
from ..config.reading import read
from ..config.schema import validated
from ..config.search import Range, ranges, with_values
from ..console import plain_console
from ..datasets.errors import DatasetError
from ..errors import DatabaseError
from ..files import write_text
from ..report.experiments import TUNING
from ..report.names import metric_label
from .experiment import run, trials_in
from .history import History
from .locks import locked
from .records import naming_database
from .searched import (
    ERROR,
    ERRORS_OF_STORAGE,
    INTERRUPTED,
    STORAGE,
    draw,
    open_study,
    settled,
    table,
)
from .trial import build_trial, num_folds

BEST = "best.yaml"
SEARCHED = "searched.yaml"


def tune(
    values: dict[str, Any],
    output: Path,
    num_trials: int,
    sampler_seed: int = 0,
    device: torch.device | None = None,
    console: Console | None = None,
) -> Path:
    """Search the ranges of a config until there are `num_trials` trials.

    A trial is an experiment over all seeds and folds of the config; its value is the
    mean of the best primary metric on validation classes. The test set is not
    evaluated; all else is as `run` has it, to the last digit. A trial that cannot be
    trained, by its values, counts as a failed one. All is kept in
    `output / experiment_name / "tune"`; run again, it goes on, with the trial that was
    killed first, as if it had not been stopped.

    Returns:
        the folder, with `best.yaml` to be laid over the config.

    Raises:
        ConfigError: there is no range, no validation split, or the folder holds a
            search of another config.
    """
    console = console or plain_console()
    found = ranges(values)
    if not found:
        raise ConfigError(
            "there is nothing to tune: give ranges, such as "
            "optimizers.metric_loss_optimizer.Adam.lr~LOG_BAYESIAN~=[1e-3,1e-1]"
        )
    config = validated(with_values(values, {r.path: r.low for r in found}))
    if num_folds(config) is None:
        raise ConfigError(
            "tuning needs held-out classes to choose on: add --with validation, or a "
            "split_manager that makes them"
        )
    _build_one(values, found, device)  # errors of all trials before the first run
    folder = output / config.experiment_name / TUNING
    folder.mkdir(parents=True, exist_ok=True)

    def objective(trial: optuna.Trial) -> float:
        chosen = {r.path: _suggest(trial, r) for r in found}
        name = f"trial-{_digest(chosen)}"
        console.print(f"trial {trial.number}", style="bold", end="")
        for path, value in chosen.items():
            console.print(f"  {path} = {value:.6g}", highlight=False, soft_wrap=True)
        try:
            changed = {"experiment_name": name, "tsne_classes": 0}
            of_trial = validated({**with_values(values, chosen), **changed})
            run(of_trial, folder, device, console, held_out_only=True)
            return score(folder / name, of_trial)
        except (KeyboardInterrupt, DatasetError, DatabaseError, OSError):
            trial.set_user_attr(INTERRUPTED, True)  # it is no fault of its values
            raise
        except FAILURES as error:
            trial.set_user_attr(ERROR, in_words(error))
            console.print(f"failed: {in_words(error)}", soft_wrap=True)
            raise _Failed from error

    naming = naming_database(folder / STORAGE, *ERRORS_OF_STORAGE)
    with locked(folder, "another process searches here"), naming:
        _claim(folder, values, found)
        study = open_study(folder, config.experiment_name)
        _take_up_killed(study)
        while (done := len(settled(study))) < num_trials:
            # A generator of its own for each, so that a search that was stopped
            # suggests what it would have, and one with more trials repeats none.
            seed = np.random.SeedSequence([sampler_seed, done]).generate_state(1)[0]
            study.sampler = optuna.samplers.TPESampler(seed=int(seed))
            study.optimize(objective, n_trials=1, catch=(_Failed,))
        _tell(config, study, folder, console)
    return folder


def _build_one(
    values: dict[str, Any], found: list[Range], device: torch.device | None
) -> None:
    """Build a trial of the lowest values or, if that fails, of the highest."""
    errors = []
    for bound in ("low", "high"):
        chosen = {r.path: getattr(r, bound) for r in found}
        config = validated(with_values(values, chosen))
        try:
            build_trial(config, config.seeds[0], 0, None, device)
            return
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


class _Failed(Exception):
    """A trial's values cannot be trained with; the search goes on."""


def _tell(config: Config, study: optuna.Study, folder: Path, console: Console) -> None:
    _, arguments = split_spec(config.hook_container, "hook_container")
    metric = arguments.get("primary_metric", "mean_average_precision_at_r")
    text = table(study, metric_label(metric))
    console.print(text, highlight=False, soft_wrap=True)
    trials = settled(study)
    if not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials):
        raise ConfigError(
            f"all {len(trials)} trials failed; the first: {trials[0].user_attrs[ERROR]}"
        )
    best = study.best_trial
    nested = OmegaConf.create()
    for path, value in best.params.items():
        OmegaConf.update(nested, path, value)
    text = OmegaConf.to_yaml(nested)
    write_text(folder / BEST, text)
    console.print(
        f"the best is trial {best.number}, with {metric} {100 * study.best_value:.2f} "
        f"on validation classes\n{folder / BEST}:\n{text}",
        highlight=False,
        soft_wrap=True,
    )
    if drawn := draw(study, folder):
        console.print(f"{folder}: {', '.join(drawn)}", soft_wrap=True)


def score(folder: Path, config: Config) -> float:
    """Mean over trials of the best primary metric on validation classes."""
    values = []
    for _, _, trial_folder in trials_in(folder, config):
        history = History.load(trial_folder)
        if history is None or history.validation is None:
            raise ValueError(f"{trial_folder}: no validation accuracies")
        metric, split = history.primary_metric, history.validation
        best = history.best_epoch(metric, split)
        if best is None:
            raise ValueError(f"{trial_folder}: {metric} is not a number in any epoch")
        (entry,) = [e for e in history.epochs if e["epoch"] == best]
        values.append(entry["splits"][split][metric])
    return mean(values)


def _claim(folder: Path, values: dict[str, Any], found: list[Range]) -> None:
    """Keep the config that is searched; bounds may change later, nothing else."""
    path = folder / SEARCHED
    fixed = with_values(values, {r.path: f"searched{r.scale}" for r in found})
    if path.exists():
        old = read(path)
        before = with_values(values, {r.path: "searched" for r in found})
        changed = differences(old, fixed)
        if changed and differences(old, before):  # which said nothing of scales
            listed = "\n  ".join(changed)
            raise ConfigError(f"{folder} holds a search of another config:\n  {listed}")
        return
    write_text(path, yaml.safe_dump(fixed, sort_keys=False))


def _take_up_killed(study: optuna.Study) -> None:
    """Trials that a kill or Ctrl-C stopped are closed, and their values tried first.

    Their folders are named by the values: what was trained is not lost.
    """
    state = optuna.trial.TrialState
    settled = [t.params for t in study.get_trials(states=(state.COMPLETE,))]
    settled += [
        t.system_attrs.get("fixed_params", {})
        for t in study.get_trials(states=(state.WAITING,))
    ]
    stopped = []
    for trial in study.get_trials(states=(state.RUNNING, state.FAIL)):
        if trial.state == state.RUNNING:
            study.tell(trial.number, state=state.FAIL)
        elif not trial.user_attrs.get(INTERRUPTED):
            settled.append(trial.params)  # it failed by itself, and would again
            continue
        stopped.append(trial)
    for trial in stopped:
        if trial.params and trial.params not in settled:
            study.enqueue_trial(trial.params)
            settled.append(trial.params)


def _suggest(trial: optuna.Trial, r: Range) -> float:
    if r.integer:
        return trial.suggest_int(r.path, int(r.low), int(r.high))
    return trial.suggest_float(r.path, r.low, r.high, log=r.log)


def _digest(chosen: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:10]

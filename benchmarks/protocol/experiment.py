"""An experiment: the trials of all seeds and folds, each resumed where it stopped."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from rich.console import Console

from .. import plots
from ..config import Config, ConfigError
from ..console import plain_console
from ..files import naming
from ..report.experiments import TUNING
from . import concatenated, environment, records
from .best import back_to_best, keep_best
from .checkpoint import resume_from
from .claims import (
    CONFIG_FILE,
    another_config,
    changes,
    claim,
    is_in_use,
    record_changes,
)
from .finite import NotFiniteError
from .history import FILE_NAME, History
from .locks import locked
from .progress import describe, describe_epoch
from .rehearsal import rehearse
from .trial import Trial, build_trial, closed, num_folds

TSNE = "tsne.png"


def run(
    config: Config,
    output: Path,
    device: torch.device | None = None,
    console: Console | None = None,
    from_best: bool = False,
    held_out_only: bool = False,
    is_rehearsed: bool = False,
) -> Path:
    """Train and evaluate every trial of a config that is not yet finished.

    Args:
        output: the experiment's folder is `output / config.experiment_name`.
        from_best: have trials go back to their best checkpoint first.
        held_out_only: evaluate on validation classes only.
        is_rehearsed: whether `rehearse_if_new` has been called.

    Returns:
        the experiment's folder.

    Raises:
        ConfigError: the folder holds an experiment with another config, or is within
            another experiment's; nothing is changed.
    """
    console = console or plain_console()
    device = device or c_f.use_cuda_if_available()
    folder = output / config.experiment_name
    check_place(folder, output)
    folds = num_folds(config)
    if not is_rehearsed:  # mistakes show before anything is written
        rehearse_if_new(config, output, device, console, from_best)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        claim(folder, config, from_best)
        environment.record(folder, device)
    for seed in config.seeds:
        for fold in folds_of(folds):
            trial_folder = folder_of(folder, seed, fold)
            name = trial_folder.relative_to(output).as_posix()
            if from_best and trial_folder.exists():
                with locked(trial_folder, "another process trains here"):
                    if said := back_to_best(trial_folder):
                        console.print(f"{name}: {said}")
                        record_changes(folder, [f"{trial_folder.name}: {said}"])
            if is_done(trial_folder, config):
                console.print(f"{name}: finished before")
                continue
            console.rule(name)
            trial_folder.mkdir(parents=True, exist_ok=True)
            (folder / f"seed{seed}" / concatenated.FILE_NAME).unlink(missing_ok=True)
            with locked(trial_folder, "another process trains here"):
                if changed := changes(folder, config, False):  # since it was claimed
                    raise another_config(folder, changed)
                run_trial(
                    config, seed, fold, trial_folder, device, console, held_out_only
                )
            free_memory()
        if folds is not None and folds > 1 and not held_out_only:
            concatenated.evaluate(config, seed, folds, folder, device)
    return folder


def rehearse_if_new(
    config: Config,
    output: Path,
    device: torch.device | None,
    console: Console,
    from_best: bool = False,
) -> None:
    """What would fail later fails now, of a config that the folder does not hold yet.

    Raises:
        ConfigError: see `rehearse` and `run`.
    """
    folder = output / config.experiment_name
    check_place(folder, output)
    if (folder / CONFIG_FILE).exists():
        changed = changes(folder, config, from_best=from_best)
        if not changed:
            return
        if is_in_use(folder):
            raise another_config(folder, changed)
    size, _ = rehearse(config, folds_of(num_folds(config))[0], device)
    console.print(size, highlight=False, soft_wrap=True)
    free_memory()


def check_place(folder: Path, output: Path) -> None:
    """Refuse folders that `report` would take for a part of another experiment."""
    inner = folder.relative_to(output).parts
    if TUNING in inner:
        raise ConfigError(
            f"experiment_name: {TUNING!r} is where searches keep their trials; give "
            f"another than {'/'.join(inner)}"
        )
    above = [output.joinpath(*inner[:n]) for n in range(1, len(inner))]
    within = [f for f in above if (f / CONFIG_FILE).exists()]
    below = (path.parent for path in folder.glob(f"*/**/{CONFIG_FILE}"))
    within += [f for f in below if TUNING not in f.relative_to(folder).parts]
    if within:
        raise ConfigError(
            f"experiment_name: {folder} and {within[0]}, an experiment, would be one "
            "within the other; give another name"
        )


def is_done(folder: Path, config: Config) -> bool:
    """Whether nothing is left to do for a trial: training, or its figure."""
    history = History.load(folder)
    if history is None or not history.finished:
        return False
    can_draw = any((folder / "models").glob("trunk_*.pth"))
    drawn = not config.tsne_classes or (folder / TSNE).exists()
    return drawn or not can_draw


def free_memory() -> None:
    """PML's trainers refer to themselves: their models go only when this is found."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run_trial(
    config: Config,
    seed: int,
    fold: int | None,
    folder: Path,
    device: torch.device,
    console: Console,
    held_out_only: bool = False,
) -> None:
    """Train one trial to its end, from its latest checkpoint if there is one."""
    with naming(folder), records.naming_database(folder / "records" / records.DATABASE):
        trial = build_trial(config, seed, fold, folder, device, None, held_out_only)
        with closed(trial):
            _run_trial(trial, folder, console)


def _run_trial(trial: Trial, folder: Path, console: Console) -> None:
    config, history = trial.config, trial.history
    start = resume(trial, folder)
    if start > 1:
        console.print(f"resumed after epoch {start - 1}")
    describe(trial, console)

    def report(entry: dict[str, Any]) -> None:
        describe_epoch(entry, config.num_epochs_train, console)

    trainer = trial.trainer
    trainer.end_of_epoch_hook = trial.hooks.end_of_trial_epoch(trial, report)
    if not history.finished:
        if start == 1 and config.check_untrained_accuracy:
            trainer.epoch = 0
            history.epochs.append(trial.hooks.evaluate(trial))
            report(history.epochs[-1])
        trainer.train(start, config.num_epochs_train)
    history.save(folder)
    if config.tsne_classes and not draw_tsne(trial, folder / TSNE):
        console.print("no t-SNE figure: the embeddings are all alike, or not finite")


def resume(trial: Trial, folder: Path) -> int:
    """Load the latest checkpoint and what was measured until then.

    Returns:
        the epoch to go on with.
    """
    models, history = folder / "models", trial.history
    done = resume_from(trial, models)
    saved = History.load(folder)
    if saved is None and done > 0:
        raise ConfigError(
            f"{folder} has a checkpoint of epoch {done}, and no {FILE_NAME} of what "
            f"was measured until then: restore it, or delete {models} to train from "
            "the beginning"
        )
    if saved is not None and done > 0:
        history.epochs = saved.epochs
        history.truncate(done)
        keep_best(trial)
        best = history.best_epoch(history.primary_metric)
        history.stopped_early = (
            done < history.num_epochs
            and not trial.hooks.patience_remaining(done, best, trial.config.patience)
        )
        history.finished = done == history.num_epochs or history.stopped_early
    for path in models.glob("*_*.pth"):  # of an earlier epoch, or a later one's half
        if not path.stem.endswith(f"_{done}"):
            path.unlink()
    records.cut_back(folder / "records", done, trial.steps_per_epoch)
    records.purge_events(trial.hooks.record_keeper, done, trial.steps_per_epoch)
    return done + 1


def draw_tsne(trial: Trial, path: Path) -> bool:
    """Test embeddings of the classes with most images; False if that cannot be."""
    dataset = trial.splits.evaluation[trial.splits.test]
    try:
        embeddings, labels = trial.tester.get_all_embeddings(
            dataset, trial.models["trunk"], trial.models["embedder"]
        )
    except NotFiniteError:
        return False
    return plots.classes_by_tsne(
        embeddings, labels.flatten(), trial.config.tsne_classes, path
    )


def folds_of(count: int | None) -> list[int | None]:
    """All folds; one None where there is no cross-validation."""
    return [None] if count is None else list(range(count))


def folder_of(folder: Path, seed: int, fold: int | None) -> Path:
    """A trial's folder within its experiment's."""
    trial = folder / f"seed{seed}"
    return trial if fold is None else trial / f"fold{fold}"


def trials_in(folder: Path, config: Config) -> Iterator[tuple[int, int | None, Path]]:
    """Seed, fold and folder of all trials of an experiment."""
    for seed in config.seeds:
        for fold in folds_of(num_folds(config)):
            yield seed, fold, folder_of(folder, seed, fold)

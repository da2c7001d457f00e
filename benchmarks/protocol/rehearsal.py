"""A training's first minute, in seconds: what would fail after hours fails now."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from torch.utils.data import BatchSampler, Subset, default_collate

from pml_memvir import MemVir

from ..config import Config, ConfigError
from ..config.errors import FAILURES, in_words
from ..datasets.errors import DatasetError
from ..files import FULL, naming
from .data import MakeDataset
from .progress import idle
from .records import DATABASE, naming_database
from .sanity import check_images
from .trial import Trial, build_trial, closed
from .watcher import memvirs, without_memory

IMAGES = 12  # of a batch; a multiple of what samplers put together
CLASSES, EACH = 3, 3  # of an evaluation


def rehearse(
    config: Config,
    fold: int | None,
    device: torch.device | None,
    make_dataset: MakeDataset | None = None,
) -> tuple[str, str]:
    """Read images, evaluate, train a step or two, save and load; all is forgotten.

    With a few images each time, and everything else as the config says.

    Args:
        make_dataset: see `build_trial`.

    Returns:
        how large a checkpoint is, in words, and what `idle` says.

    Raises:
        ConfigError: something does not work, or a part is not used; says what.
    """
    with TemporaryDirectory(prefix="check-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with naming(folder), naming_database(folder / "records" / DATABASE):
            trial = build_trial(
                config, config.seeds[0], fold, folder, device, make_dataset
            )
            with closed(trial):
                for part in trial.trainer, trial.tester:
                    workers = part.dataloader_num_workers
                    if type(workers) is not int or workers < 0:
                        raise ConfigError(
                            f"dataloader_num_workers must be an integer >= 0, got "
                            f"{workers!r}"
                        )
                    part.dataloader_num_workers = 0
                with _as("transforms and data"):
                    check_images(trial.splits)
                _evaluate(trial)
                _train(trial)
                return _save_and_load(trial, folder / "models"), idle(trial)


def _evaluate(trial: Trial) -> None:
    """Before training, when all numbers are finite still."""
    tester, calculator = trial.tester, trial.tester.accuracy_calculator
    before = tester.pca, calculator.k
    few = {}
    for query, references in trial.splits.to_evaluate:
        few.update(_few(trial, query, references))
    least = min(map(len, few.values())) - 1
    if tester.pca:
        tester.pca = min(tester.pca, least)
    if isinstance(calculator.k, int):
        calculator.k = min(calculator.k, least)
    trial.trainer.epoch = 0
    with _as("evaluation"):
        small = replace(trial.splits, evaluation=few)
        trial.hooks.evaluate(replace(trial, splits=small))
    tester.pca, calculator.k = before


def _few(trial: Trial, query: str, references: list[str]) -> dict[str, Any]:
    """Some images of classes that the query and its references have."""
    names = dict.fromkeys([query, *references])
    of_class: dict[str, dict[int, list[int]]] = {}
    for name in names:
        of_class[name] = defaultdict(list)
        for index, label in enumerate(trial.splits.evaluation[name].labels):
            of_class[name][label].append(index)
    itself = query in references
    able = [
        label
        for label, own in of_class[query].items()
        if any(len(of_class[name][label]) > itself for name in references) and own
    ]
    return {
        name: Subset(
            trial.splits.evaluation[name],
            [i for label in able[:CLASSES] for i in of_class[name][label][:EACH]],
        )
        for name in names
    }


def _train(trial: Trial) -> None:
    """A step, and another, of one image if the last batch of an epoch has but one."""
    trainer = trial.trainer
    trainer.epoch, trainer.iteration = 1, 0
    with _as("training"), _uses(trial):
        first, last = _batches(trial)
        _step(trial, first)
        for name, loss in trainer.losses.items():
            if not torch.isfinite(torch.as_tensor(loss)).all():
                raise ConfigError(f"loss_funcs.{name}: the loss of a batch is {loss}")
        trial.hooks.end_of_iteration_hook(trainer)
        trainer.step_lr_schedulers(end_of_epoch=False)
    with _as(
        "training with the last batch of an epoch, of one image (another batch_size, "
        "or drop_last: true, avoids it),"
        if len(last) == 1
        else "the second step of training"
    ):
        _step(trial, last)
    trainer.step_lr_schedulers(end_of_epoch=True)
    trainer.step_lr_plateau_schedulers(0.5)


def _step(trial: Trial, indices: list[int]) -> None:
    trainer = trial.trainer
    collate = trainer.collate_fn or default_collate
    batch = collate([trainer.dataset[index] for index in indices])
    trainer.dataloader = [batch]
    trainer.dataloader_iter = iter(trainer.dataloader)
    trainer.set_to_train()
    trainer.forward_and_backward()


def _batches(trial: Trial) -> tuple[list[int], list[int]]:
    """Indices of images for both steps."""
    trainer, labels = trial.trainer, trial.splits.train.labels
    size, sampler = int(trainer.batch_size), trainer.sampler
    if isinstance(sampler, BatchSampler):
        chosen = list(next(iter(sampler)))[:IMAGES]
        return chosen, chosen
    if sampler is not None:
        drawn = iter(sampler)
        chosen = [index for index, _ in zip(drawn, range(min(IMAGES, size)))]
    else:
        of_class = defaultdict(list)
        for index, label in enumerate(labels):
            of_class[label].append(index)
        ends = dict.fromkeys([0, max(of_class)])  # the numbers that labels may have
        chosen = [index for label in ends for index in of_class[label][:2]][:size]
    left = len(sampler if sampler is not None else labels) % size
    drops = getattr(trainer, "drop_last", True)
    return chosen, chosen if drops or left == 0 else chosen[:left]


@contextmanager
def _uses(trial: Trial) -> Iterator[None]:
    """Raises ConfigError where a part of the trainer was not asked for anything."""
    trainer = trial.trainer
    weights = trainer.loss_weights
    parts: dict[str, Any] = {
        f"{where}.{key}": part
        for where in ("models", "loss_funcs", "mining_funcs")
        for key, part in getattr(trainer, where).items()
        if weights.get(key.replace("classifier", "classifier_loss"), 1) > 0
        and weights.get(key, 1) > 0
        and isinstance(part, torch.nn.Module)
    }
    used: set[str] = set()
    handles = [
        part.register_forward_hook(lambda *_, name=name: used.add(name))
        for name, part in parts.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    unused = [name for name in parts if name not in used]
    if unused:
        raise ConfigError(
            f"{' and '.join(unused)}: not used by {type(trainer).__name__} with these "
            "losses and models; leave it out, or add what uses it"
        )


def _save_and_load(trial: Trial, folder: Path) -> str:
    """The size of a checkpoint, in words."""
    folder.mkdir()
    losses = trial.loss_funcs.values()
    empty = without_memory(losses)  # which may be large
    with _as("saving a checkpoint"), empty, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is no memory in it
        trial.hooks.save_models(trial.trainer, str(folder), 1)
        trial.hooks.load_latest_saved_models(trial.trainer, str(folder))
    with _as("making room for MemVir's memory"):
        found = memvirs(losses)
        sizes = _memory_sizes(found, int(trial.trainer.batch_size))
    size = sum(path.stat().st_size for path in folder.iterdir())
    memory = sum(one for one, memvir in zip(sizes, found) if memvir.save_memory)
    if not size:
        return "no checkpoints are kept"
    more = f", and up to {_mb(memory)} more with MemVir's memory" if memory else ""
    return f"the best checkpoint of a trial takes {_mb(size)}, its latest as much{more}"


def _memory_sizes(found: Sequence[MemVir], batch_size: int) -> list[int]:
    """In bytes. On a GPU there is room for them, which is given back."""
    here, total = 0, psutil.virtual_memory().total
    try:
        for module in found:
            on_cpu = all(weights.is_cpu for weights in module.parameters())
            if on_cpu:  # which would be filled, and might end the process
                module.to("meta")
            module.allocate_memory(batch_size)
            here += module.memory_nbytes if on_cpu else 0
        if here > total:
            raise MemoryError(f"it needs {_mb(here)}, and there are {_mb(total)}")
        return [module.memory_nbytes for module in found]
    finally:
        for module in found:
            module.reset_memory()


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


@contextmanager
def _as(what: str) -> Iterator[None]:
    """Errors say what was tried."""
    try:
        yield
    except (ConfigError, DatasetError):
        raise
    except OSError as error:
        if error.errno not in FULL:
            raise _failure(what, error) from error
        raise
    except FAILURES as error:
        raise _failure(what, error) from error


def _failure(what: str, error: Exception) -> ConfigError:
    return ConfigError(f"{what} fails: {type(error).__name__}: {in_words(error)}")

"""What happens after an iteration and after an epoch of a trial."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from pml_memvir.hook_container import SafeHookContainer as _SafeHookContainer

from .best import keep_best
from .finite import NotFiniteError, are_finite
from .watcher import Watcher

__all__ = ["HookContainer", "SafeHookContainer", "accuracies"]


class SafeHookContainer(_SafeHookContainer):
    """pml_memvir's SafeHookContainer with a history and a best checkpoint per metric.

    After each `save_interval` epochs and the last: evaluate, write the history, save
    the models, copy them where an accuracy is the best so far. In that order, so that
    a kill at any moment leaves a checkpoint whose epochs are all in the history.
    """

    def __init__(self, record_keeper: Any, **kwargs: Any) -> None:
        super().__init__(record_keeper, **kwargs)
        self.saveable_trainer_objects.append("scalers")
        self._losses: list[float] = []
        self._watched = Watcher()

    def end_of_iteration_hook(self, trainer: Any) -> None:
        loss = trainer.losses["total_loss"]
        self._losses.append(loss.detach() if hasattr(loss, "detach") else loss)
        if trainer.iteration % self.log_freq == 0:
            self._watched.look(trainer.loss_funcs)
        super().end_of_iteration_hook(trainer)

    def end_of_trial_epoch(
        self, trial: Any, report: Callable[[dict[str, Any]], None]
    ) -> Callable[[Any], bool]:
        """The trainer's end_of_epoch_hook; it returns whether to go on.

        Args:
            report: gets each new entry of the history.
        """
        history, config = trial.history, trial.config

        def hook(trainer: Any) -> bool:
            last = trainer.epoch == history.num_epochs
            if trainer.epoch % config.save_interval and not last:
                _start_pass(trainer)
                return True
            entry = self.evaluate(trial)
            history.epochs.append(entry)
            report(entry)
            best = history.best_epoch(self.primary_metric)
            history.stopped_early = not last and not self.patience_remaining(
                trainer.epoch, best, config.patience
            )
            history.finished = last or history.stopped_early
            self._keep(trial)
            if not history.finished:
                _start_pass(trainer)
            return not history.finished

        return hook

    def evaluate(self, trial: Any) -> dict[str, Any]:
        """Evaluate and record; the entry for the history."""
        trainer, splits = trial.trainer, trial.splits
        found = accuracies(trial, trainer.epoch)
        self.record_keeper.save_records()
        if self.record_keeper.tensorboard_writer is not None:
            self.record_keeper.tensorboard_writer.flush()
        losses, self._losses = [float(loss) for loss in self._losses], []
        loss = sum(losses) / len(losses) if losses else math.nan
        chosen = found[splits.validation or splits.test][self.primary_metric]
        if trainer.epoch > 0:
            trainer.step_lr_plateau_schedulers(chosen)
        return {
            "epoch": trainer.epoch,
            "step": trainer.epoch * (trainer.iterations_per_epoch or 0),
            "loss": loss if math.isfinite(loss) else None,
            "splits": found,
            "memvir": self._watched.means(),
        }

    def _keep(self, trial: Any) -> None:
        """Write history and models, so that a kill in between can be resumed."""
        models, history = trial.folder / "models", trial.history
        models.mkdir(exist_ok=True)
        epochs = [entry["epoch"] for entry in history.epochs if entry["epoch"] > 0]
        finished, history.finished = history.finished, False
        history.save(trial.folder)
        previous = epochs[-2] if len(epochs) > 1 else None
        self.save_models(trial.trainer, str(models), epochs[-1], previous)
        keep_best(trial)
        if finished:
            history.finished = True
            history.save(trial.folder)


def accuracies(of: Any, epoch: int) -> dict[str, dict[str, float]]:
    """By split and metric, of a Trial or an Evaluator.

    Of models that have become NaN or infinite, or whose embeddings have, all accuracies
    are 0: nearest neighbours cannot be told, and a training that diverges is a result,
    too.
    """
    tester, splits, models = of.tester, of.splits, of.models
    metrics = tester.accuracy_calculator.get_curr_metrics()
    diverged = {query: dict.fromkeys(metrics, 0.0) for query, _ in splits.to_evaluate}
    if not are_finite(models.values()):
        return diverged
    try:
        found = tester.test(
            splits.evaluation,
            epoch,
            models["trunk"],
            models["embedder"],
            splits.to_evaluate_copy(),
        )
    except NotFiniteError:
        return diverged
    for _ in range(splits.left_out):
        # As it would be, a random number is drawn.
        iter(DataLoader(TensorDataset(torch.zeros(1))))
    return {
        split: {m: float(values[tester.accuracies_keyname(m)]) for m in metrics}
        for split, values in found.items()
    }


def _start_pass(trainer: Any) -> None:
    """Begin the next epoch with a new pass over the data, as a resumed training does.

    PML's trainers go on in the old one where `iterations_per_epoch` is not its length.
    """
    trainer.dataloader_iter = iter(trainer.dataloader)


# The name that powerful-benchmarker's configs have.
HookContainer = SafeHookContainer

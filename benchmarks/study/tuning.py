"""Tuning trials, and what is picked of them.

A setting is picked by the primary metric on held-out classes of the training set, at
the epoch that is best there. Test accuracies are not read here.
"""

from __future__ import annotations

from pathlib import Path

from ..protocol.history import History
from .jobs import Job
from .settings import MEMORIES, RATES, TUNING_EPOCHS, Memory, Rates

SEED = 100


def held_out(job: Job, results: Path) -> float:
    """The best primary metric on held-out classes.

    Raises:
        FileNotFoundError: the run is not finished.
    """
    history = History.load(job.trial(results))
    if history is None or not history.finished:
        raise FileNotFoundError(f"{job.trial(results)} is not finished; tune first")
    metric, split = history.primary_metric, history.validation
    return max(e["splits"][split][metric] for e in history.epochs)


def tuning_rates(dataset: str, loss: str) -> dict[Rates, Job]:
    """The plain arm's trials."""
    name, epochs = f"{dataset}/{loss}", f"num_epochs_train={TUNING_EPOCHS[dataset]}"
    return {
        rates: Job(
            "tuning",
            f"{name}+{rates.name}",
            name,
            (*rates.overrides, epochs),
            SEED,
        )
        for rates in RATES[dataset]
    }


def picked_rates(dataset: str, loss: str, results: Path) -> Rates:
    trials = tuning_rates(dataset, loss)
    return max(trials, key=lambda rates: held_out(trials[rates], results))


def tuning_memory(dataset: str, loss: str, results: Path) -> dict[Memory, Job]:
    """MemVir's trials, at the learning rates picked for the plain loss."""
    name, epochs = f"{dataset}/{loss}", f"num_epochs_train={TUNING_EPOCHS[dataset]}"
    rates = picked_rates(dataset, loss, results)
    return {
        memory: Job(
            "tuning",
            f"{name}_{memory.name}",
            f"{name}_memvir",
            (*rates.overrides, *memory.overrides, epochs),
            SEED,
            f"{name}+{rates.name}",
        )
        for memory in MEMORIES[dataset]
    }


def picked_memory(dataset: str, loss: str, results: Path) -> Memory:
    trials = tuning_memory(dataset, loss, results)
    return max(trials, key=lambda memory: held_out(trials[memory], results))

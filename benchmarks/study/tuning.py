"""Tuning trials, and what is picked of them.

A setting is picked by the primary metric on held-out classes of the training set, at
the epoch that is best there. Test accuracies are not read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from ..protocol.history import History
from .jobs import Job
from .settings import GRIDS, Memory, Rates

SEED = 100
Setting = TypeVar("Setting")
WithMemVir = tuple[Rates, Memory]


def held_out(job: Job, results: Path) -> float:
    """The best primary metric on held-out classes.

    Raises:
        FileNotFoundError: the run is not finished.
    """
    history = History.load(job.trial(results))
    if history is None or not history.finished:
        raise FileNotFoundError(f"{job.trial(results)} is not finished; tune first")
    metric, split = history.primary_metric, history.validation
    measured = [e["splits"][split][metric] for e in history.epochs if e["epoch"] > 0]
    return float(max(measured))


def best(trials: Mapping[Setting, Job], results: Path) -> Setting:
    """The setting whose trial is best; of equals the first."""
    return max(trials, key=lambda setting: held_out(trials[setting], results))


def plain_trials(
    dataset: str, loss: str, rates: Iterable[Rates] | None = None
) -> dict[Rates, Job]:
    """The plain arm's, by default all of them."""
    grid, name = GRIDS[dataset], f"{dataset}/{loss}"
    chosen = (*grid.rates, *grid.more_rates) if rates is None else rates
    epochs = f"num_epochs_train={grid.epochs}"
    return {
        one: Job("tuning", f"{name}+{one.name}", name, (*one.overrides, epochs), SEED)
        for one in chosen
    }


def first_memvir_trials(
    dataset: str, loss: str, results: Path
) -> dict[WithMemVir, Job]:
    """MemVir's over N and M, at the plain arm's best rates of the first round."""
    grid = GRIDS[dataset]
    rates = best(plain_trials(dataset, loss, grid.rates), results)
    return {
        (rates, memory): _memvir_trial(dataset, loss, rates, memory, memory.name)
        for memory in grid.memories
    }


def more_memvir_trials(dataset: str, loss: str, results: Path) -> dict[WithMemVir, Job]:
    """MemVir's of the second round: changes of the best of the first."""
    grid = GRIDS[dataset]
    rates, memory = best(first_memvir_trials(dataset, loss, results), results)
    (other,) = set(grid.class_weights) - {rates.class_weights}
    settings = [(Rates(rates.network, other), memory)]
    if grid.more_network is not None:
        class_weights = (rates.class_weights, other)[: 2 if grid.both else 1]
        settings += [(Rates(grid.more_network, one), memory) for one in class_weights]
    if grid.more_memory is not None:
        settings.append((rates, grid.more_memory))
    return {
        (r, m): _memvir_trial(dataset, loss, r, m, f"{m.name}+{r.name}")
        for r, m in settings
    }


def picked_rates(dataset: str, loss: str, results: Path) -> Rates:
    """The plain arm's setting."""
    return best(plain_trials(dataset, loss), results)


def memvir_trials(dataset: str, loss: str, results: Path) -> dict[WithMemVir, Job]:
    """MemVir's of both rounds."""
    return {
        **first_memvir_trials(dataset, loss, results),
        **more_memvir_trials(dataset, loss, results),
    }


def picked_memvir(dataset: str, loss: str, results: Path) -> WithMemVir:
    """The setting of the arm with MemVir."""
    return best(memvir_trials(dataset, loss, results), results)


def _memvir_trial(
    dataset: str, loss: str, rates: Rates, memory: Memory, name: str
) -> Job:
    """Compared with the plain arm's trial of the same rates."""
    plain = f"{dataset}/{loss}"
    return Job(
        "tuning",
        f"{plain}_{name}",
        f"{plain}_memvir",
        (
            *rates.overrides,
            *memory.overrides,
            f"num_epochs_train={GRIDS[dataset].epochs}",
        ),
        SEED,
        f"{plain}+{rates.name}",
    )

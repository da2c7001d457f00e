"""Photographs: the plain losses' rates by held-out classes, and MemVir at these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from . import tuning
from .jobs import Job
from .settings import Memory, Rates

DATASETS = ("cars196_half", "cub200_2010")
LOSSES = ("proxy_anchor", "norm_softmax")
MORE_LOSSES = ("softmax", "proxy_nca")  # as far as the budget goes
SEEDS = (0, 1, 2)
RATES = (Rates(1e-4, 1e-2), Rates(1e-4, 1e-1), Rates(3e-4, 1e-2), Rates(3e-5, 1e-2))
TRIAL = "num_epochs_train=3"
WIDE = Memory(5, 499, class_weights_every=500)
MEMORIES = (WIDE, Memory(5, 99))  # the latter's span is about the paper's


def plain_trials(dataset: str, loss: str) -> dict[Rates, Job]:
    name, folder = f"{dataset}/{loss}", "photographs_tuning"
    return {
        one: Job(
            folder, f"{name}+{one.name}", name, (*one.overrides, TRIAL), tuning.SEED
        )
        for one in RATES
    }


def tune(losses: Sequence[str]) -> Iterator[Job]:
    for loss in losses:
        for dataset in DATASETS:
            yield from plain_trials(dataset, loss).values()


def compare(
    losses: Sequence[str], results: Path, memories: Sequence[Memory] = MEMORIES
) -> Iterator[Job]:
    """All arms at the plain loss's rates; seed by seed, so that pairs are complete."""
    for seed in SEEDS:
        for loss in losses:
            for dataset in DATASETS:
                name = f"{dataset}/{loss}"
                rates = tuning.best(plain_trials(dataset, loss), results).overrides
                yield Job("photographs", name, name, rates, seed)
                for memory in memories:
                    arm, preset = f"{name}_{memory.name}", f"{name}_memvir"
                    settings = (*rates, *memory.overrides)
                    yield Job("photographs", arm, preset, settings, seed, name)

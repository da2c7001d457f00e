"""What the study runs, in its order. Stages may depend on results of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .jobs import Job
from .settings import OPTIMIZED, REFERENCE, Memory, Rates
from .tuning import picked_memory, picked_rates, tuning_memory, tuning_rates

SEEDS = (0, 1, 2, 3, 4)
FACTOR_SEEDS = (0, 1, 2)
LOSSES = (
    "softmax",
    "norm_softmax",
    "cosface",
    "arcface",
    "proxy_nca",
    "proxy_anchor",
)
EMOJI_LOSSES = ("norm_softmax", "proxy_nca")


def tune_rates(dataset: str, losses: tuple[str, ...]) -> Iterator[Job]:
    for loss in losses:
        yield from tuning_rates(dataset, loss).values()


def tune_memory(dataset: str, losses: tuple[str, ...], results: Path) -> Iterator[Job]:
    for loss in losses:
        yield from tuning_memory(dataset, loss, results).values()


def compare(dataset: str, losses: tuple[str, ...], results: Path) -> Iterator[Job]:
    """Both arms at the settings picked; seed by seed, so that pairs are complete."""
    for seed in SEEDS:
        for loss in losses:
            rates = picked_rates(dataset, loss, results)
            memory = picked_memory(dataset, loss, results)
            yield from pair("main", f"{dataset}/{loss}", rates, memory, seed)


def pair(
    folder: str,
    name: str,
    rates: Rates,
    memory: Memory,
    seed: int,
    change: str = "",
    others: tuple[str, ...] = (),
) -> Iterator[Job]:
    """The plain loss and MemVir, alike but for that."""
    settings = (*rates.overrides, *others)
    plain = f"{name}{change}"
    yield Job(folder, plain, name, settings, seed)
    yield Job(
        folder,
        f"{name}_memvir{change}",
        f"{name}_memvir",
        (*settings, *memory.overrides),
        seed,
        plain,
    )


def glyphs_factors(results: Path) -> Iterator[Job]:
    """Norm-softmax, one setting changed at a time of N = 5, M = 100."""
    name = "glyphs/norm_softmax"
    base = picked_rates("glyphs", "norm_softmax", results)
    spans = [Memory(5, step_gap) for step_gap in (2, 20, 500)]
    at_one_span = [Memory(1, 504), Memory(20, 24), Memory(45, 10)]
    eps = tuple(f"optimizers.{key}_optimizer.Adam.eps=0.01" for key in OPTIMIZED)
    for seed in FACTOR_SEEDS:
        for memory in (REFERENCE, *spans, *at_one_span):
            settings = (*base.overrides, *memory.overrides)
            arm = f"{name}_{memory.name}"
            yield Job("factors", arm, f"{name}_memvir", settings, seed, name)
        for factor in (0.1, 10):
            rates = Rates(base.network, base.class_weights * factor)
            yield from pair(
                "factors", name, rates, REFERENCE, seed, f"+class_lr_x{factor:g}"
            )
        yield from pair("factors", name, base, REFERENCE, seed, "+eps_0.01", eps)
        for count in (100, 300):
            classes = (f"dataset.Glyphs.num_train_classes={count}",)
            yield from pair(
                "factors", name, base, REFERENCE, seed, f"+{count}_classes", classes
            )


def emoji_factors(results: Path) -> Iterator[Job]:
    """Norm-softmax from random weights; all else as picked."""
    random = (
        "models.trunk.efficientnet_lite0.weights=null",
        "trainer.MetricLossOnly.freeze_trunk_batchnorm=false",
    )
    rates = picked_rates("emoji", "norm_softmax", results)
    memory = picked_memory("emoji", "norm_softmax", results)
    for seed in FACTOR_SEEDS:
        yield from pair(
            "factors", "emoji/norm_softmax", rates, memory, seed, "+random", random
        )


STAGES: dict[str, Callable[[Path], Iterator[Job]]] = {
    "glyphs-tune-rates": lambda results: tune_rates("glyphs", LOSSES),
    "glyphs-tune-memory": lambda results: tune_memory("glyphs", LOSSES, results),
    "glyphs-main": lambda results: compare("glyphs", LOSSES, results),
    "glyphs-factors": glyphs_factors,
    "emoji-tune-rates": lambda results: tune_rates("emoji", EMOJI_LOSSES),
    "emoji-tune-memory": lambda results: tune_memory("emoji", EMOJI_LOSSES, results),
    "emoji-main": lambda results: compare("emoji", EMOJI_LOSSES, results),
    "emoji-factors": emoji_factors,
}

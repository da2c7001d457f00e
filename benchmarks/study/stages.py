"""What the study runs, in its order. Stages may depend on results of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..report.names import LOSSES
from . import photographs
from .jobs import Job
from .settings import OPTIMIZED, REFERENCE, Memory, Rates
from .tuning import (
    first_memvir_trials,
    more_memvir_trials,
    picked_memvir,
    picked_rates,
    plain_trials,
)

SEEDS = (0, 1, 2, 3, 4)
FACTOR_SEEDS = (0, 1, 2)
FACTOR_EPOCHS = 10
NEW_SEEDS = (5, 6, 7, 8, 9)
NOT_PRETRAINED = "emoji/norm_softmax"
RANDOM, RANDOM_WEIGHTS = "+random", (
    "models.trunk.efficientnet_lite0.weights=null",
    "trainer.MetricLossOnly.freeze_trunk_batchnorm=false",
)
WIDE = Memory(5, 500)
GAP = 499  # dense, and what a wide gap's cheaper memories are compared at
CHEAPER = (
    Memory(5, GAP),
    *(Memory(5, GAP, every) for every in (10, 50, GAP + 1)),
    *(Memory(5, gap, gap + 1) for gap in (999, 1999)),
    *(Memory(num_steps, GAP, GAP + 1) for num_steps in (1, 10)),
)
CLASS_WEIGHTS_ONCE = tuple(Memory(5, GAP, every, GAP + 1) for every in (1, 10, 50))
CHEAPER_LOSSES = ("proxy_anchor", "softmax")
CHEAPER_SEEDS = (10, 11, 12, 13, 14)
COMPARED = {"glyphs": LOSSES, "emoji": ("norm_softmax", "proxy_nca")}


def tune_plain(dataset: str) -> Iterator[Job]:
    for loss in COMPARED[dataset]:
        yield from plain_trials(dataset, loss).values()


def tune_memvir(dataset: str, results: Path) -> Iterator[Job]:
    for loss in COMPARED[dataset]:
        yield from first_memvir_trials(dataset, loss, results).values()


def tune_more(dataset: str, results: Path) -> Iterator[Job]:
    for loss in COMPARED[dataset]:
        yield from more_memvir_trials(dataset, loss, results).values()


def compare(dataset: str, results: Path) -> Iterator[Job]:
    """Each arm at its own setting; seed by seed, so that pairs are complete."""
    for seed in SEEDS:
        for loss in COMPARED[dataset]:
            rates = picked_rates(dataset, loss, results)
            memvir = picked_memvir(dataset, loss, results)
            yield from pair("main", f"{dataset}/{loss}", rates, memvir, seed)


def controls(dataset: str, results: Path) -> Iterator[Job]:
    """The plain losses at the rates of the arm with MemVir, if these are others."""
    for seed in SEEDS:
        for name, _, (rates, _) in with_other_rates(dataset, results):
            control = f"{name}+{rates.name}"
            yield Job("controls", control, name, rates.overrides, seed, name)


def memvir_controls(dataset: str, results: Path) -> Iterator[Job]:
    """The arms with MemVir at the rates of the plain loss, if these are others."""
    for seed in FACTOR_SEEDS:
        for name, rates, (_, memory) in with_other_rates(dataset, results):
            control, preset = f"{name}_memvir+{rates.name}", f"{name}_memvir"
            settings = (*rates.overrides, *memory.overrides)
            yield Job("controls", control, preset, settings, seed, name)


def with_other_rates(
    dataset: str, results: Path
) -> Iterator[tuple[str, Rates, tuple[Rates, Memory]]]:
    """Losses whose arms have picked different rates: what each has picked."""
    for loss in COMPARED[dataset]:
        rates = picked_rates(dataset, loss, results)
        memvir = picked_memvir(dataset, loss, results)
        if rates != memvir[0]:
            yield f"{dataset}/{loss}", rates, memvir


def pair(
    folder: str,
    name: str,
    rates: Rates,
    memvir: tuple[Rates, Memory],
    seed: int,
    change: str = "",
    others: tuple[str, ...] = (),
) -> Iterator[Job]:
    """The plain loss at its rates, and with MemVir at that arm's."""
    plain, (memvir_rates, memory) = f"{name}{change}", memvir
    yield Job(folder, plain, name, (*rates.overrides, *others), seed)
    yield Job(
        folder,
        f"{name}_memvir{change}",
        f"{name}_memvir",
        (*memvir_rates.overrides, *others, *memory.overrides),
        seed,
        plain,
    )


def glyphs_factors(results: Path) -> Iterator[Job]:
    """Norm-softmax, one setting changed at a time of N = 5, M = 100."""
    name = "glyphs/norm_softmax"
    base = picked_rates("glyphs", "norm_softmax", results)
    spans = [Memory(5, step_gap) for step_gap in (2, 20, 500)]
    at_one_span = [Memory(1, 504), Memory(20, 24), Memory(45, 10)]
    changes: list[tuple[str, Rates, tuple[str, ...]]] = [
        ("+class_lr_x0.1", Rates(base.network, base.class_weights * 0.1), ()),
        ("+class_lr_x10", Rates(base.network, base.class_weights * 10), ()),
        (
            "+eps_0.01",
            base,
            tuple(f"optimizers.{key}_optimizer.Adam.eps=0.01" for key in OPTIMIZED),
        ),
        ("+100_classes", base, ("dataset.Glyphs.num_train_classes=100",)),
        ("+300_classes", base, ("dataset.Glyphs.num_train_classes=300",)),
    ]
    length = f"num_epochs_train={FACTOR_EPOCHS}"
    for seed in FACTOR_SEEDS:
        for memory in (REFERENCE, *spans, *at_one_span):
            settings = (*base.overrides, *memory.overrides, length)
            arm = f"{name}_{memory.name}"
            yield Job("factors", arm, f"{name}_memvir", settings, seed, name)
        for change, rates, others in changes:
            memvir = rates, REFERENCE
            more = (*others, length)
            yield from pair("factors", name, rates, memvir, seed, change, more)


def wide_gap(results: Path) -> Iterator[Job]:
    """All losses with N = 5, M = 500, each at the rates of the plain loss."""
    for seed in SEEDS:
        for loss in COMPARED["glyphs"]:
            name = f"glyphs/{loss}"
            rates = picked_rates("glyphs", loss, results)
            settings = (*rates.overrides, *WIDE.overrides)
            arm = f"{name}_{WIDE.name}"
            yield Job("follow_up", arm, f"{name}_memvir", settings, seed, name)


def cheaper_memories(
    results: Path, memories: tuple[Memory, ...] = CHEAPER
) -> Iterator[Job]:
    """A wide gap with less and less of the memory, at the rates of the plain loss."""
    length = f"num_epochs_train={FACTOR_EPOCHS}"
    for seed in CHEAPER_SEEDS:
        for loss in CHEAPER_LOSSES:
            name = f"glyphs/{loss}"
            settings = (*picked_rates("glyphs", loss, results).overrides, length)
            yield Job("wide_gaps", name, name, settings, seed)
            for memory in memories:
                arm, preset = f"{name}_{memory.name}", f"{name}_memvir"
                overrides = (*settings, *memory.overrides)
                yield Job("wide_gaps", arm, preset, overrides, seed, name)


def class_weights_once(results: Path) -> Iterator[Job]:
    yield from cheaper_memories(results, CLASS_WEIGHTS_ONCE)


def few_classes(results: Path) -> Iterator[Job]:
    """All losses of 100 training classes, both arms at the rates of the plain loss."""
    others = (
        "dataset.Glyphs.num_train_classes=100",
        f"num_epochs_train={FACTOR_EPOCHS}",
    )
    for seed in NEW_SEEDS:
        for loss in COMPARED["glyphs"]:
            rates = picked_rates("glyphs", loss, results)
            name, memvir = f"glyphs/{loss}", (rates, REFERENCE)
            yield from pair(
                "follow_up", name, rates, memvir, seed, "+100_classes", others
            )


def emoji_factors(results: Path) -> Iterator[Job]:
    """Norm-softmax from random weights; all else as picked."""
    rates = picked_rates("emoji", "norm_softmax", results)
    memvir = picked_memvir("emoji", "norm_softmax", results)
    for seed in FACTOR_SEEDS:
        yield from pair(
            "factors", NOT_PRETRAINED, rates, memvir, seed, RANDOM, RANDOM_WEIGHTS
        )


def emoji_factors_controls(results: Path) -> Iterator[Job]:
    """Its plain loss at the rates of the arm with MemVir, if these are others."""
    rates, _ = picked_memvir("emoji", "norm_softmax", results)
    if rates == picked_rates("emoji", "norm_softmax", results):
        return
    plain, settings = f"{NOT_PRETRAINED}{RANDOM}", (*rates.overrides, *RANDOM_WEIGHTS)
    control = f"{plain}_{rates.name}"
    for seed in FACTOR_SEEDS:
        yield Job("factors", control, NOT_PRETRAINED, settings, seed, plain)


STAGES: dict[str, Callable[[Path], Iterator[Job]]] = {
    "glyphs-tune-plain": lambda results: tune_plain("glyphs"),
    "glyphs-tune-memvir": lambda results: tune_memvir("glyphs", results),
    "glyphs-tune-more": lambda results: tune_more("glyphs", results),
    "glyphs-main": lambda results: compare("glyphs", results),
    "glyphs-controls": lambda results: controls("glyphs", results),
    "glyphs-factors": glyphs_factors,
    "glyphs-controls-memvir": lambda results: memvir_controls("glyphs", results),
    "glyphs-wide-gap": wide_gap,
    "emoji-tune-plain": lambda results: tune_plain("emoji"),
    "emoji-tune-memvir": lambda results: tune_memvir("emoji", results),
    "emoji-tune-more": lambda results: tune_more("emoji", results),
    "emoji-main": lambda results: compare("emoji", results),
    "emoji-controls": lambda results: controls("emoji", results),
    "glyphs-few-classes": few_classes,
    "emoji-factors": emoji_factors,
    "emoji-factors-controls": emoji_factors_controls,
    "glyphs-cheaper-memories": cheaper_memories,
    "glyphs-class-weights-once": class_weights_once,
    "photographs-tune-plain": lambda _: photographs.tune(photographs.LOSSES),
    "photographs-main": partial(photographs.compare, photographs.LOSSES),
    "photographs-tune-more": lambda _: photographs.tune(photographs.MORE_LOSSES),
    "photographs-more": partial(photographs.compare, photographs.MORE_LOSSES),
}


def finished(stage: str, results: Path) -> Iterator[Job]:
    """The stage's finished runs; none while it is not known what they are."""
    try:
        jobs = list(STAGES[stage](results))
    except FileNotFoundError:  # tuning is not over
        return
    yield from (job for job in jobs if job.finished(results))

"""What the study runs, in its order. A stage may depend on the results of earlier ones.

A setting is picked from its arm's tuning runs by the primary metric on held-out classes
of the training set, at the epoch that is best there. Test accuracies are not read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..protocol.history import History

HERE = Path(__file__).parent
TUNING_SEED = 100
EMOJI_LOSSES = ("norm_softmax", "proxy_nca")
SEEDS = (0, 1, 2, 3, 4)
FACTOR_SEEDS = (0, 1, 2)
OPTIMIZED = ("trunk", "embedder", "metric_loss")
LOSSES = (
    "softmax",
    "norm_softmax",
    "cosface",
    "arcface",
    "proxy_nca",
    "proxy_anchor",
)


@dataclass(frozen=True)
class Rates:
    """Learning rates: of the network and of the class weights."""

    network: float
    class_weights: float

    @property
    def name(self) -> str:
        return f"lr_{self.network:g}_{self.class_weights:g}"

    @property
    def overrides(self) -> tuple[str, ...]:
        rates = (self.network, self.network, self.class_weights)
        return tuple(
            f"optimizers.{name}_optimizer.Adam.lr={lr:g}"
            for name, lr in zip(OPTIMIZED, rates)
        )


@dataclass(frozen=True)
class Memory:
    """N and M of MemVir; its warm-up is the first epoch."""

    num_steps: int
    step_gap: int

    @property
    def name(self) -> str:
        return f"memvir_{self.num_steps}_{self.step_gap}"

    @property
    def overrides(self) -> tuple[str, ...]:
        memvir = "loss_funcs.metric_loss.MemVir"
        return (
            f"{memvir}.num_steps={self.num_steps}",
            f"{memvir}.step_gap={self.step_gap}",
            f"{memvir}.warmup_epochs=1",
        )


# The settings that each arm is tuned over; the first is the preset's.
RATES = {
    "glyphs": (Rates(2e-3, 1e-2), Rates(1e-3, 1e-2), Rates(2e-3, 1e-1)),
    "emoji": (Rates(3e-4, 1e-2), Rates(3e-4, 1e-1)),
}
MEMORIES = {
    "glyphs": (Memory(5, 20), Memory(5, 100), Memory(1, 100)),
    "emoji": (Memory(5, 20), Memory(5, 100)),
}
TUNING_EPOCHS = {"glyphs": 8, "emoji": 3}
REFERENCE = Memory(5, 100)  # what one factor at a time is changed of


@dataclass(frozen=True)
class Job:
    """One training run: a seed of an experiment.

    Attributes:
        folder: of the results, below the study's; the experiments of one folder are
            reported together.
        name: the experiment's.
        preset: what it is laid over.
        overrides: a.b=VALUE.
        baseline: the experiment that it is compared with.
    """

    folder: str
    name: str
    preset: str
    overrides: tuple[str, ...]
    seed: int
    baseline: str | None = None

    def arguments(self, results: Path) -> list[str]:
        """Of `python -m benchmarks`."""
        dataset = self.preset.partition("/")[0]
        return [
            "run",
            self.preset,
            f"--with={HERE / dataset}.yaml",
            f"--output={results / self.folder}",
            f"experiment_name={self.name}",
            f"baseline={self.baseline or 'null'}",
            f"seeds=[{self.seed}]",
            *self.overrides,
        ]

    def trial(self, results: Path) -> Path:
        return results / self.folder / self.name / f"seed{self.seed}" / "fold0"

    def finished(self, results: Path) -> bool:
        history = History.load(self.trial(results))
        return history is not None and history.finished


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
            TUNING_SEED,
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
            TUNING_SEED,
            f"{name}+{rates.name}",
        )
        for memory in MEMORIES[dataset]
    }


def picked_memory(dataset: str, loss: str, results: Path) -> Memory:
    trials = tuning_memory(dataset, loss, results)
    return max(trials, key=lambda memory: held_out(trials[memory], results))


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

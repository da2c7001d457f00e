"""The settings that the study compares: learning rates, N and M of MemVir."""

from __future__ import annotations

from dataclasses import dataclass

OPTIMIZED = ("trunk", "embedder", "metric_loss")


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
    """N and M of MemVir, and how much of it is kept; its warm-up is the first epoch."""

    num_steps: int
    step_gap: int
    snapshot_every: int = 1
    class_weights_every: int | None = None

    @property
    def label(self) -> str:
        return f"N = {self.num_steps}, M = {self.step_gap}"

    @property
    def name(self) -> str:
        name = f"memvir_{self.num_steps}_{self.step_gap}"
        if self.snapshot_every > 1:
            name += f"_every_{self.snapshot_every}"
        if self.class_weights_every is not None:
            name += f"_weights_{self.class_weights_every}"
        return name

    @property
    def overrides(self) -> tuple[str, ...]:
        settings = {"num_steps": self.num_steps, "step_gap": self.step_gap}
        settings["warmup_epochs"] = 1
        if self.snapshot_every > 1:
            settings["snapshot_every"] = self.snapshot_every
        if self.class_weights_every is not None:
            settings["class_weights_every"] = self.class_weights_every
        return tuple(
            f"loss_funcs.metric_loss.MemVir.{name}={value}"
            for name, value in settings.items()
        )


@dataclass(frozen=True)
class Grid:
    """What both arms of a data set are tuned over, in as many trials each.

    The plain arm tries all of `rates` and `more_rates`. MemVir tries `memories`, at the
    best of `rates`; then with the best of these the class weights' other rate of
    `class_weights`, and `more_network` and `more_memory`, one at a time.

    Attributes:
        epochs: of a trial.
        both: MemVir tries `more_network` with the class weights' other rate, too, and
            so all pairs of both.
    """

    epochs: int
    rates: tuple[Rates, ...]
    more_rates: tuple[Rates, ...]
    memories: tuple[Memory, ...]
    class_weights: tuple[float, float]
    more_network: float | None = None
    more_memory: Memory | None = None
    both: bool = False


GRIDS = {
    "glyphs": Grid(
        epochs=8,
        rates=(Rates(2e-3, 1e-2), Rates(1e-3, 1e-2), Rates(2e-3, 1e-1)),
        more_rates=(Rates(2e-3, 1.0), Rates(4e-3, 1e-2), Rates(4e-3, 1e-1)),
        memories=(Memory(5, 20), Memory(5, 100), Memory(1, 100)),
        class_weights=(1e-2, 1e-1),
        more_network=4e-3,
        more_memory=Memory(1, 400),
    ),
    "emoji": Grid(
        epochs=3,
        rates=(Rates(3e-4, 1e-2), Rates(3e-4, 1e-1)),
        more_rates=(Rates(1e-3, 1e-2), Rates(1e-3, 1e-1), Rates(1e-3, 1.0)),
        memories=(Memory(5, 100), Memory(1, 400)),
        class_weights=(1e-2, 1e-1),
        more_network=1e-3,
        both=True,
    ),
}
REFERENCE = Memory(5, 100)  # what one factor at a time is changed of

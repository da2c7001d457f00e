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


# The settings that each arm is tuned over.
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

"""How far a training is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .insight import Insight


@dataclass
class Progress:
    """What is counted, and what the last step saw.

    Attributes:
        calls: training calls so far.
        warmup_steps: U, steps before the first is remembered.
        num_virtual_steps: snapshots that the last training step met.
        num_non_finite: batches that were not remembered for NaN or infinity.
        num_emptied: times that the memory was emptied as it did not fit any more.
        insight: of the last step with virtual classes.
    """

    calls: int = 0
    warmup_steps: int = 0
    num_virtual_steps: int = 0
    num_non_finite: int = 0
    num_emptied: int = 0
    insight: Insight | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "insight": None}  # neither copied nor saved

"""Whose a state is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..core.form import Form
from ..core.ranks import rank_and_world_size
from ..core.schedule import Schedule


@dataclass(frozen=True)
class Owner:
    """The wrapper that a state is of, as it is now.

    Attributes:
        wrapper: it.
        plan: by which its loss is computed.
        gather: whether the memory is of all ranks.
    """

    wrapper: Any
    plan: Any
    gather: bool

    @property
    def rank_and_world_size(self) -> tuple[int, int]:
        """Those whose memory it is; a gathered one is of no rank."""
        return (0, 1) if self.gather else rank_and_world_size()

    def settings(self, schedule: Schedule) -> dict[str, Any]:
        """What its memory depends on."""
        form: Form = self.plan.form
        return {
            "loss": type(self.wrapper.loss).__name__,
            **asdict(schedule),
            "num_classes": form.num_classes,
            "centers_per_class": form.num_centers,
            "embedding_size": self.plan.embedding_size,
        }

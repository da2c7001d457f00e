"""What can be read of MemVir: settings, counters, numbers to watch, and its loss."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch

from .core.grid import estimate_nbytes
from .core.memory import SnapshotMemory
from .core.progress import Progress
from .core.snapshots import Snapshots
from .core.values import integer
from .pml import specs
from .pml.plan import Plan, Planner
from .training import calls
from .training.steps import Steps

OF_PAPER = ("num_steps", "step_gap", "warmup_steps")
SHOWN = (*OF_PAPER, "snapshot_every", "class_weights_every")
SETTINGS = (*OF_PAPER, "num_virtual_classes", "num_non_finite")
RECORDED = (
    "share_of_actual_classes",
    "share_of_own_copies",
    "share_of_other_copies",
    "actual_loss",
    "virtual_loss",
    "log_num_copies",
    "cosine_to_newest",
    "cosine_to_oldest",
)


def _fixed(path: str) -> Any:
    """A setting that can be read, and that some part was made for."""
    return property(operator.attrgetter(path), doc="A setting, as MemVir's argument.")


class Readings(torch.nn.Module):
    """All of it is read from the parts that MemVir has; nothing is kept here.

    Numbers to watch are computed when they are read, and record-keeper reads them when
    it logs. They are NaN where there is nothing to tell: before there are virtual
    classes, the shares for Proxy-Anchor, which has no softmax for an embedding, and all
    but the cosines for losses that go by concatenation. In docs/tuning.md is how to
    understand them.
    """

    loss: torch.nn.Module
    _memory: SnapshotMemory
    _planner: Planner
    _progress: Progress
    _steps: Steps

    estimate_nbytes = staticmethod(estimate_nbytes)
    supported_losses = staticmethod(specs.supported_losses)

    @classmethod
    def check_loss_support(cls, loss_name: str) -> None:
        """Raise ValueError unless a supported loss has this name."""
        if loss_name not in cls.supported_losses():
            raise specs.unsupported(loss_name)

    @property
    def step(self) -> int:
        """t, training steps so far."""
        return self._steps.step

    num_steps: int = _fixed("_memory.schedule.num_steps")
    """N. Fixed, as the memory is laid out for it."""
    step_gap: int = _fixed("_memory.schedule.step_gap")
    """M. Fixed, as all of these are."""
    accumulation_steps: int = _fixed("_memory.schedule.accumulation_steps")
    """Forward calls that make a step."""
    snapshot_every: int = _fixed("_memory.schedule.snapshot_every")
    """Steps of which one leaves a snapshot."""
    class_weights_every: int | None = _fixed("_memory.schedule.class_weights_every")
    """Steps that share class weights; None: each snapshot has its own."""
    algorithm: str = _fixed("_planner.wanted")
    """"auto" or "concatenation"."""
    chunk_steps: int | None = _fixed("_planner.chunk_steps")
    """Snapshots that are computed at a time; None: as many as fit."""
    memory_dtype: torch.dtype | None = _fixed("_memory.storage.dtype")
    """None: that of the class weights."""
    memory_device: str = _fixed("_memory.storage.device")
    """"same" or "cpu"."""
    gather: bool = _fixed("_gather")
    """Whether the batches of all processes are one."""
    on_non_finite: str = _fixed("_steps.bad.choice")
    """"skip" or "raise"."""

    @property
    def algorithm_used(self) -> str:
        """How the loss, as it is set up now, is computed.

        "row_softmax" or "proxy_anchor", which are fast, or "concatenation".
        """
        return self._plan.form.algorithm

    @property
    def num_virtual_steps(self) -> int:
        """Snapshots that the last training step met."""
        return self._progress.num_virtual_steps

    @property
    def num_virtual_classes(self) -> int:
        """Virtual classes that the last training step met."""
        return self.num_virtual_steps * self._plan.form.num_classes

    @property
    def num_non_finite(self) -> int:
        """Forward calls so far that had NaN or infinity and were not remembered.

        On a GPU the last one is not counted before it has been computed.
        """
        return self._progress.num_non_finite

    @property
    def num_emptied(self) -> int:
        """Times that the memory was emptied as it did not fit the loss any more."""
        return self._progress.num_emptied

    @property
    def num_renewed(self) -> int:
        """Tracks of the memory whose notes were made anew for another setting."""
        return self._memory.num_renewed

    @property
    def memory_nbytes(self) -> int:
        """Bytes that the memory occupies now."""
        return self._memory.storage.nbytes

    @property
    def share_of_actual_classes(self) -> float:
        """Mean probability of actual embeddings on the C actual classes."""
        return self._share(0)

    @property
    def share_of_own_copies(self) -> float:
        """The same on old copies of their own class."""
        return self._share(1)

    @property
    def share_of_other_copies(self) -> float:
        """The same on old copies of other classes."""
        return self._share(2)

    @property
    def actual_loss(self) -> float:
        """Mean loss of actual embeddings, before reducer and miner weights.

        Proxy-Anchor: the mean of the sum of its two terms over actual proxies, with
        a miner's weights in it.
        """
        insight = self._progress.insight
        return _mean(insight.actual_losses) if insight else math.nan

    @property
    def virtual_loss(self) -> float:
        """The same of virtual ones."""
        insight = self._progress.insight
        return _mean(insight.virtual_losses) if insight else math.nan

    @property
    def log_num_copies(self) -> float:
        """ln(n + 1), n being the snapshots met.

        The least loss of an embedding whose class cannot be told from its n copies.
        """
        copies = self.num_virtual_steps if self._progress.insight else math.nan
        return math.log(copies + 1)

    @property
    def warmup_steps(self) -> int:
        """U. Can be set at any time; the step counter goes on, and what is in the
        memory by then is still met until it is too old."""
        return self._progress.warmup_steps

    @warmup_steps.setter
    def warmup_steps(self, value: int) -> None:
        self._progress.warmup_steps = integer("warmup_steps", value, least=0)

    @property
    def cosine_to_newest(self) -> float:
        """Mean cosine of the class weights and those of the newest snapshot met next.

        1 less this is their drift in one step gap.
        """
        return self._cosine(slice(0, 1))

    @property
    def cosine_to_oldest(self) -> float:
        """The same of the oldest snapshot met next."""
        return self._cosine(slice(-1, None))

    def cosines_to_snapshots(self) -> list[float]:
        """Mean cosine of today's class weights and each snapshot's, newest first.

        The snapshots are those that the next training step will meet.
        """
        return self._memory.cosines(self._steps.slot, self._plan.class_weights)

    def _cosine(self, which: slice) -> float:
        now = self._plan.class_weights
        found = self._memory.cosines(self._steps.slot, now, which)
        return found[0] if found else math.nan

    @calls.in_turn
    def virtual_classes(self) -> Snapshots | None:
        """A copy of the snapshots that the next training step will meet, or None."""
        self._steps.settle()
        return self._memory.snapshots(self._steps.slot)

    @property
    def _plan(self) -> Plan:
        """How the loss is computed as it is now."""
        return self._planner(self.loss)

    def _share(self, index: int) -> float:
        insight = self._progress.insight
        return insight.shares()[index] if insight else math.nan

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in SHOWN)

    def __getattr__(self, name: str) -> Any:
        """Public attributes of the loss, but for `module`: with it, record-keeper and
        others would take the wrapper for DataParallel."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if _is_private(name):
                raise
        return getattr(self.loss, name)

    def __setattr__(self, name: str, value: Any) -> None:
        inner = self.__dict__.get("_modules", {}).get("loss")
        is_mine = name in self.__dict__ or hasattr(type(self), name)
        if inner is None or _is_private(name) or is_mine or not hasattr(inner, name):
            super().__setattr__(name, value)
        else:
            setattr(inner, name, value)


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else math.nan


def _is_private(name: str) -> bool:
    return name.startswith("_") or name in ("loss", "module")

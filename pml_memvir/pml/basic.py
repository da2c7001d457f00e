"""MemVir at its smallest: the method, and nothing that only long trainings need."""

from __future__ import annotations

import operator
import warnings
from typing import Any, Optional

import torch
from pytorch_metric_learning.losses.base_loss_wrapper import BaseLossWrapper
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords

from . import specs
from .virtual_classes import Notes, Snapshot, concatenation, row_softmax


class Memory:
    """Snapshots by the step that left them.

    No module, and no buffers: processes are not to have them from each other.
    """

    def __init__(self, settings: list[Any]) -> None:
        self.settings = settings  # of the loss, on which they depend
        self.snapshots: dict[int, Snapshot] = {}


class MemVir(BaseLossWrapper, ModuleWithRecords):
    """Memory-based virtual classes around a softmax or proxy loss.

    Every training step leaves a snapshot: its embeddings, its labels and the class
    weights it used. Snapshots taken at regular distances before the present one serve
    as additional, virtual classes, without gradient. Naive equivalent of step t:

        past = [snapshots[t - k * (step_gap + 1)] for k in 1..num_steps if it exists]
        W = cat([class weights, *(s.class_weights for s in past)])
        x = cat([embeddings, *(s.embeddings for s in past)])
        y = cat([labels, *(s.labels + k * C for k, s in enumerate(past, 1))])
        value = loss over (x, y) with class weights W

    A softmax over classes costs O(num_steps), not its square: what old embeddings make
    of old class weights was computed before, and is kept.

    A step is one forward call in training mode with gradients on. In evaluation mode,
    and where gradients are off, MemVir is its inner loss and remembers nothing.

    Args:
        loss: a loss with class weights, one of `supported_losses()`.
        num_steps: N, the most snapshots that a step meets; >= 1.
        step_gap: M, steps left out between two snapshots that meet; >= 0.
        warmup_steps: training steps before the first is remembered; >= 0.
        **kwargs: `collect_stats`.

    Raises:
        ValueError: the loss is not supported, a setting or a label is out of range.
        TypeError: a setting is no integer.

    Source: Ko, Gu and Kim, Learning with Memory-based Virtual Classes for Deep Metric
    Learning, ICCV 2021, arXiv 2103.16940.
    """

    def __init__(
        self,
        loss: torch.nn.Module,
        num_steps: int,
        step_gap: int,
        warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        # The wrapper's constructor checks a loss by its name, which subclasses change.
        super(BaseLossWrapper, self).__init__(**kwargs)
        specs.spec_of(loss)  # raises if it has no class weights
        self.loss = loss
        self.num_steps = _integer("num_steps", num_steps, least=1)
        self.step_gap = _integer("step_gap", step_gap, least=0)
        self.warmup_steps = _integer("warmup_steps", warmup_steps, least=0)
        self.step = 0
        self.num_virtual_steps = 0
        self._memory = Memory(self._settings())
        names = ["num_steps", "step_gap", "warmup_steps", "num_virtual_steps"]
        self.add_to_recordable_attributes(list_of_names=names)

    supported_losses = staticmethod(specs.supported_losses)

    @classmethod
    def check_loss_support(cls, loss_name: str) -> None:
        if loss_name not in cls.supported_losses():
            raise specs.unsupported(loss_name)

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: Optional[torch.Tensor] = None,
        indices_tuple: Any = None,
        ref_emb: Optional[torch.Tensor] = None,
        ref_labels: Optional[torch.Tensor] = None,
    ) -> Any:
        """The loss of embeddings (B, D) with labels (B,), as its reducer returns it."""
        self.reset_stats()
        is_step = self.training and torch.is_grad_enabled()
        if not is_step or labels is None or ref_emb is not None:
            return self.loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        c_f.check_shapes(embeddings, labels)
        labels = c_f.to_device(labels, embeddings)
        spec = specs.spec_of(self.loss)
        _check_labels(labels, spec.num_classes(self.loss))
        past = self._past()
        batch = embeddings, labels, indices_tuple
        if specs.has_logits(self.loss):
            value, notes, of_met = row_softmax(self.loss, spec, self.step, *batch, past)
        else:
            value, notes, of_met = self._concatenated(spec, past, *batch), Notes(), {}
        weights = spec.class_weights(self.loss).detach()
        is_finite = bool(embeddings.isfinite().all() and weights.isfinite().all())
        if self.step >= self.warmup_steps and is_finite:  # otherwise it leaves a hole
            for step, lse in of_met.items():
                past[step].notes.lse[self.step] = lse
            vectors = weights.clone(), embeddings.detach().clone()
            made = Snapshot(*vectors, labels.clone(), notes)
            self._memory.snapshots[self.step] = made
        self._memory.snapshots.pop(self.step - self.num_steps * self._distance, None)
        self.num_virtual_steps = len(past)
        self.step += 1
        return value

    def reset_memory(self) -> None:
        """Forget all snapshots; the step counter goes on."""
        self._memory = Memory(self._settings())

    @property
    def _distance(self) -> int:
        return self.step_gap + 1

    def _past(self) -> dict[int, Snapshot]:
        """The snapshots that this step meets, by their steps, the newest one first."""
        if self._memory.settings != self._settings():
            if self._memory.snapshots:
                warnings.warn("MemVir's memory is emptied: its loss has other settings")
            self.reset_memory()
        snapshots = self._memory.snapshots
        steps = (self.step - k * self._distance for k in range(1, self.num_steps + 1))
        return {step: snapshots[step] for step in steps if step in snapshots}

    def _concatenated(
        self,
        spec: specs.LossSpec,
        past: dict[int, Snapshot],
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: Any,
    ) -> Any:
        batch = embeddings, labels, indices_tuple
        if not past:
            return self.loss(*batch)
        num_classes, met = spec.num_classes(self.loss), past.values()
        shifted = [v.labels + k * num_classes for k, v in enumerate(met, 1)]
        return concatenation(
            self.loss,
            spec,
            *batch,
            torch.cat([v.class_weights for v in met]),
            torch.cat([v.embeddings for v in met]),
            torch.cat(shifted),
        )

    def _settings(self) -> list[Any]:
        """What snapshots depend on, as plain values."""
        loss: Any = self.loss
        known = [type(loss).__name__, list(specs.spec_of(loss).get(loss).shape)]
        for part in [loss, loss.distance] if specs.has_logits(loss) else []:
            for name, value in sorted(vars(part).items()):
                if isinstance(value, (int, float)) and name != "training":
                    known.append([name, float(value)])
        return known

    def get_extra_state(self) -> dict[str, Any]:
        """The memory, of tensors, numbers and strings only."""
        return {
            "num_steps": self.num_steps,
            "step_gap": self.step_gap,
            "step": self.step,
            "settings": self._memory.settings,
            "snapshots": {
                step: [s.class_weights, s.embeddings, s.labels, s.notes.targets]
                + [dict(s.notes.lse)]
                for step, s in self._memory.snapshots.items()
            },
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        for name in ("num_steps", "step_gap"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"the memory is of {name}={state[name]}, not {getattr(self, name)}"
                )
        self.step = state["step"]
        self._memory = Memory(state["settings"])
        for step, (w, x, y, targets, lse) in state["snapshots"].items():
            made = Snapshot(w, x, y, Notes(targets, dict(lse)))
            self._memory.snapshots[step] = made


def _check_labels(labels: torch.Tensor, num_classes: int) -> None:
    least, most = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if least < 0 or most >= num_classes:
        raise ValueError(
            f"labels must be 0 to {num_classes - 1}, got {least} to {most}"
        )


def _integer(name: str, value: Any, least: int) -> int:
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {number}")
    return number

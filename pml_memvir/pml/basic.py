"""MemVir at its smallest: the wrapper around a loss, and its memory."""

from __future__ import annotations

import operator
import warnings
from typing import Any, Optional, Tuple

import torch
from pytorch_metric_learning.losses.base_loss_wrapper import BaseLossWrapper
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords

from . import specs
from .virtual_classes import Notes, Snapshot, concatenation, row_softmax

# Embeddings, labels and indices_tuple.
Batch = Tuple[torch.Tensor, torch.Tensor, Any]


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
            if ref_emb is None and ref_labels is None:  # which not all losses take
                return self.loss(embeddings, labels, indices_tuple)
            return self.loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        c_f.check_shapes(embeddings, labels)
        spec = specs.spec_of(self.loss)
        _check_labels(labels, spec.num_classes(self.loss))
        labels = c_f.to_device(labels, embeddings).long()
        past = self._past(embeddings.device)
        notes: Notes = embeddings.new_empty(0), {}, 0
        of_met: dict[int, torch.Tensor] = {}
        batch = embeddings, labels, indices_tuple
        if specs.has_logits(self.loss):
            value, notes, of_met = row_softmax(self.loss, spec, self.step, *batch, past)
        else:
            value = self._concatenated(spec, past, batch)
        weights = spec.class_weights(self.loss).detach()
        kept = weights, embeddings, notes[0], *notes[1].values(), *of_met.values()
        are_finite = [x.isfinite().all().to(embeddings.device) for x in kept]
        is_finite = bool(torch.stack(are_finite).all())
        if self.step >= self.warmup_steps and is_finite:  # otherwise it leaves a hole
            for step, lse in of_met.items():
                past[step].lse[self.step] = lse
            self._memory.snapshots[self.step] = Snapshot(
                weights.clone(), embeddings.detach().clone(), labels.clone(), *notes
            )
        self._memory.snapshots.pop(self.step - self.num_steps * self._period, None)
        self.num_virtual_steps = len(past)
        self.step += 1
        return value

    def reset_memory(self) -> None:
        """Forget all snapshots; the step counter goes on."""
        self._memory = Memory(self._settings())

    @property
    def _period(self) -> int:
        return self.step_gap + 1

    def _past(self, device: torch.device) -> dict[int, Snapshot]:
        """The snapshots that this step meets, by their steps, the newest one first."""
        settings, snapshots = self._settings(), self._memory.snapshots
        if self._memory.settings != settings:
            if snapshots:
                warnings.warn("MemVir's memory is emptied: its settings have changed")
            self.reset_memory()
            return {}
        steps = (self.step - k * self._period for k in range(1, self.num_steps + 1))
        met = {step: snapshots[step].to(device) for step in steps if step in snapshots}
        snapshots.update(met)
        return met

    def _concatenated(
        self, spec: specs.LossSpec, past: dict[int, Snapshot], batch: Batch
    ) -> Any:
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
        """What the memory is laid out for, as plain values."""
        spec = specs.spec_of(self.loss)
        classes = spec.num_classes(self.loss), spec.num_centers(self.loss)
        of_mine = type(self.loss).__name__, self.num_steps, self.step_gap
        return [*of_mine, *classes, *spec.get(self.loss).shape]

    def get_extra_state(self) -> dict[str, Any]:
        """The memory, of tensors, numbers and strings only."""
        return {
            "step": self.step,
            "settings": self._memory.settings,
            "snapshots": {
                step: {**vars(snapshot), "lse": {**snapshot.lse}}
                for step, snapshot in self._memory.snapshots.items()
            },
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        mine, memory = self._settings(), Memory(state["settings"])
        if memory.settings != mine:
            raise ValueError(f"the memory is of {memory.settings}, this one of {mine}")
        for step, parts in state["snapshots"].items():
            memory.snapshots[step] = Snapshot(**{**parts, "lse": {**parts["lse"]}})
        self.step, self._memory = state["step"], memory


def _check_labels(labels: torch.Tensor, num_classes: int) -> None:
    if labels.is_floating_point() or not len(labels):
        raise ValueError(f"labels must be integers, at least one, got {labels}")
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= num_classes:
        raise ValueError(
            f"labels must be 0 to {num_classes - 1}, got {least} to {most}"
        )


def _integer(name: str, value: Any, least: int) -> int:
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {number}")
    return number

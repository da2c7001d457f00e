"""How a loss, as it is set up now, is computed with virtual classes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from ..core import notes
from ..core.exact import exact
from ..core.form import Form, unit
from ..core.kernel import Kernel
from ..core.memory import SnapshotMemory
from ..core.reduce import Reduce
from ..core.snapshots import Batch, Notes, Outcome
from ..core.values import integer
from . import reduction
from .inner import needs_own_forward, number_of
from .kernels import KERNELS
from .settings import Seen
from .specs import LossSpec, nearest, spec_of
from .virtual_classes import concatenation

CHOICES = ("auto", "concatenation")


@dataclass(frozen=True)
class Plan:
    """Computes a step's loss with what it meets, and what is to be remembered.

    Attributes:
        loss: the inner loss.
        spec: of its class.
        form: in what form it wants to meet snapshots.
        kernel: how it can be had at O(N); None: by concatenation.
        settings: a number for those that notes depend on.
        chunk_steps: see MemVir.
    """

    loss: Any
    spec: LossSpec
    form: Form
    kernel: Kernel | None
    settings: int
    chunk_steps: int | None

    @property
    def parameter(self) -> torch.nn.Parameter:
        """That of the class weights."""
        return self.spec.get(self.loss)

    @property
    def class_weights(self) -> torch.Tensor:
        """As (C K, D), detached; a view, not a copy."""
        return self.spec.class_weights(self.loss).detach()

    @property
    def embedding_size(self) -> int:
        return self.spec.embedding_size(self.loss)

    @property
    def shape(self) -> tuple[int, int]:
        """C and D."""
        return self.form.num_classes, self.embedding_size

    def fit(self, memory: SnapshotMemory, device: torch.device) -> str:
        """Have a memory follow the loss.

        Args:
            device: of the embeddings, to which the loss may yet bring its weights.

        Returns:
            why it cannot, and is to be emptied, or "".
        """
        weights = self.class_weights
        if memory.storage.was_written_to():
            return "its tensors have been changed in place, and are no snapshots"
        stored = memory.storage.contents.tensors.get("class_weights", weights)
        if weights.shape != stored.shape[-2:]:
            shape = tuple(self.parameter.shape)
            return f"the class weights now have shape {shape}"
        if reason := memory.storage.adapt(self.form):
            return reason
        memory.storage.follow(device, weights.dtype)
        return ""

    def spare_class_weights(self, embeddings: Any) -> Any:
        """Under CPU autocast, embeddings in the class weights' dtype.

        PML's losses bring their parameter to the embeddings' dtype, save under
        autocast; but they ask for CUDA's only, and would leave it in bfloat16 for good.
        """
        if not is_autocast("cpu") or not isinstance(embeddings, torch.Tensor):
            return embeddings
        if embeddings.device.type != "cpu" or not embeddings.is_floating_point():
            return embeddings
        return embeddings.to(self.parameter.dtype)

    def __call__(self, batch: Batch, memory: SnapshotMemory, slot: int) -> Outcome:
        if self.kernel is not None:
            return self._exact(self.kernel, batch, memory, slot)
        virtual = memory.snapshots(slot)
        if virtual is None:
            return self.plain(batch)
        rows = virtual.flat(self.form.num_classes)
        weights = virtual.class_weights.flatten(0, 1)
        value = concatenation(self.loss, self.spec, *batch.arguments, weights, *rows)
        return self._as_it_is(value, batch)

    def plain(self, batch: Batch) -> Outcome:
        """The inner loss itself."""
        return self._as_it_is(self.loss(*batch.arguments), batch)

    def _as_it_is(self, value: Any, batch: Batch) -> Outcome:
        return Outcome(value, self.class_weights, batch.embeddings.detach())

    def _exact(
        self, kernel: Kernel, batch: Batch, memory: SnapshotMemory, slot: int
    ) -> Outcome:
        loss, spec = self.loss, self.spec
        embeddings, labels, indices_tuple = batch.arguments
        parameter = spec.get(loss)
        is_alike = parameter.dtype == embeddings.dtype
        if not is_alike or parameter.device != embeddings.device:
            spec.before_loss(loss, embeddings)
        weights = spec.class_weights(loss)
        with _without_autocast(embeddings.device.type):
            embeddings = embeddings.to(weights.dtype)
            past = memory.past(slot, embeddings.device)
            if past.filled and past.settings != self.settings:
                renew = partial(notes.renew, kernel, dtype=weights.dtype)
                memory.renew(slot, self.settings, renew)
            x = unit(embeddings, kernel.embedding_norm)
            w = unit(weights, kernel.class_norm)
            mined: torch.Tensor | None = None
            penalty: torch.Tensor | None = None
            if indices_tuple is not None:
                mined = lmu.convert_to_weights(
                    indices_tuple, labels, embeddings.dtype, spec.weighs_anchors_only
                )
            reduce: Reduce
            if kernel.is_turned:
                reduce = reduction.OfProxies(loss, embeddings, labels, past)
                penalty = None if mined is None else mined - 1
            else:
                reduce = reduction.OfEmbeddings(loss, embeddings, labels, past, mined)
            value, step = exact(
                x, w, labels, kernel, past, reduce, penalty, self.chunk_steps
            )
            if loss.weight_regularizer or loss.embedding_regularizer:
                value = value + reduction.regularisation(
                    loss, weights, embeddings, labels
                )
        x, w = x.detach(), w.detach()

        def made() -> Notes:
            with torch.no_grad(), _without_autocast(x.device.type):
                return step.notes(x, w, self.settings)

        return Outcome(value, w, x, made, step.insight())


class Planner:
    """Plans for one loss, made anew when anything in it has changed.

    Args:
        wanted: "auto" or "concatenation".
        chunk_steps: see MemVir.
    """

    def __init__(self, wanted: str, chunk_steps: int | None) -> None:
        if chunk_steps is not None:
            chunk_steps = integer("chunk_steps", chunk_steps, least=1)
        self.wanted, self.chunk_steps = wanted, chunk_steps
        self._last: tuple[Seen, Plan] | None = None

    def __call__(self, loss: torch.nn.Module) -> Plan:
        """The fastest way for the loss as it is set up now, or the one wanted.

        Raises:
            ValueError: the loss is not supported.
        """
        last = self._last
        is_current = last is not None and last[1].spec is nearest(type(loss))
        if last is None or not is_current or not last[0].is_still(loss):
            made = self._make(loss)
            last = self._last = Seen(loss), made
        return last[1]

    def _make(self, loss: Any) -> Plan:
        spec = spec_of(loss)
        reduction.check(loss)
        size = spec.num_classes(loss), spec.num_centers(loss)
        if self.wanted == "auto" and (kernel := _kernel(loss, spec)):
            form = Form(kernel.name, *size, kernel.embedding_norm, kernel.class_norm)
            settings = number_of(loss)
            return Plan(loss, spec, form, kernel, settings, self.chunk_steps)
        return Plan(loss, spec, Form("concatenation", *size), None, 1, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}


def _kernel(loss: Any, spec: LossSpec) -> Kernel | None:
    """Of losses of exactly the class of their spec that do what it says."""
    if type(loss) not in KERNELS or needs_own_forward(loss, spec.get(loss)):
        return None
    kernel = KERNELS[type(loss)](loss)
    if kernel is None or not reduction.is_supported(kernel, loss.reducer):
        return None
    return kernel


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    if is_autocast(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def is_autocast(device_type: str) -> bool:
    try:
        return torch.is_autocast_enabled(device_type)
    except RuntimeError:  # a device that has none
        return False
    except TypeError:  # torch < 2.4
        if device_type == "cpu":
            return torch.is_autocast_cpu_enabled()
        return torch.is_autocast_enabled()

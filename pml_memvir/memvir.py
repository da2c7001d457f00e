"""MemVir: any loss with class weights, trained against its own recent past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_metric_learning.losses.base_loss_wrapper import BaseLossWrapper
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords

from .core.memory import SnapshotMemory
from .core.progress import Progress
from .core.ranks import rank_and_world_size
from .core.schedule import Schedule
from .core.values import checked_dtype, flag, integer, one_of
from .pml import refusals
from .pml.plan import CHOICES, Planner
from .pml.trial import try_once
from .readings import RECORDED, SETTINGS, Readings
from .state.checkpoints import Checkpoints
from .training import batch, calls
from .training.steps import Steps


class MemVir(Readings, BaseLossWrapper, ModuleWithRecords):
    """Memory-based virtual classes around a softmax or proxy loss.

    Every training step leaves a snapshot: its embeddings, its labels and the class
    weights it used. Snapshots taken at regular distances before the present one serve
    as additional, virtual classes, without gradient. Naive equivalent of step t:

        past = [snapshots[t - k * (step_gap + 1)] for k in 1..num_steps if it exists]
        W = cat([class weights, *(s.class_weights for s in past)])
        x = cat([embeddings, *(s.embeddings for s in past)])
        y = cat([labels, *(s.labels + k * C for k, s in enumerate(past, 1))])
        value = loss over (x, y) with class weights W

    A step is one forward call in training mode with gradients on. In evaluation mode,
    and where gradients are off, MemVir is its inner loss and remembers nothing.

    Args:
        loss: a loss with class weights, one of `supported_losses()`. It stays reachable
            as `.loss`; its public attributes can be read and set on the wrapper, too.
        num_steps: N, the most snapshots that a step meets; >= 1.
        step_gap: M, steps left out between two snapshots that meet; >= 0.
        warmup_steps: U, training steps before the first is remembered; >= 0. For
            epochs see `epochs_to_steps`.
        algorithm: "auto", the fastest exact one for the loss, or "concatenation".
        chunk_steps: snapshots that a fast algorithm computes at a time; by default as
            many as keep what it needs for them below 256 MB.
        memory_dtype: of embeddings and class weights in the memory: float64, float32,
            bfloat16 or float16; default that of the class weights.
        memory_device: where those lie: "same" as the class weights, or "cpu".
        snapshot_every: k; every k-th step leaves a snapshot, and step t meets what
            step k floor(t / k) meets: about k times less memory. Divides step_gap + 1.
        class_weights_every: j; of j steps the first one's class weights are kept, and
            the embeddings of all belong to those: (M+1)/j (N+1) copies of the class
            weights. Divides step_gap + 1, snapshot_every divides it. Default: each
            snapshot has its own.
        accumulation_steps: forward calls (micro-batches) that make one step; the j-th
            of a step meets the j-th of earlier steps. See `end_step`.
        gather: compute the loss of the batches of all processes, in the order of ranks;
            each gets the same value. For Proxy-Anchor, reducers other than the mean,
            miners, and batches of different size or with NaN.
        on_non_finite: of a batch with NaN or infinity in its embeddings or in the class
            weights, "skip" returns the loss and remembers nothing, "raise" raises.
        save_memory: whether `state_dict()` has the memory in it.
        **kwargs: `collect_stats`, of PML's ModuleWithRecords.

    Shapes:
        embeddings (B, D), labels (B,) of 0 to C-1. The memory holds
        N (M+1) (C K + B) D numbers, for K centres a class: see `estimate_nbytes`.

    Raises:
        ValueError: the loss is not supported or breaks a rule of `register_loss`, a
            setting is out of range, or a batch does not fit; it leaves no trace. Labels
            on a GPU are clamped, and a later call raises.
        TypeError: a setting, embeddings or labels are of a wrong type.
        MemoryError: there is no room for the memory; it says how much is needed.
        RuntimeError: it is called within activation checkpointing, torch.func,
            DataParallel or FullyShardedDataParallel; another rank has refused its
            batch; or a fast algorithm is asked for second derivatives.

    Source: Ko, Gu and Kim, Learning with Memory-based Virtual Classes for Deep Metric
    Learning, ICCV 2021, arXiv 2103.16940.
    """

    def __init__(
        self,
        loss: torch.nn.Module,
        num_steps: int,
        step_gap: int,
        warmup_steps: int = 0,
        *,
        algorithm: str = "auto",
        chunk_steps: int | None = None,
        memory_dtype: torch.dtype | None = None,
        memory_device: str = "same",
        snapshot_every: int = 1,
        class_weights_every: int | None = None,
        accumulation_steps: int = 1,
        gather: bool = False,
        on_non_finite: str = "skip",
        save_memory: bool = True,
        **kwargs: Any,
    ) -> None:
        # BaseLossWrapper would check the loss by its name, which subclasses change.
        super(BaseLossWrapper, self).__init__(**kwargs)
        self._planner = Planner(one_of("algorithm", algorithm, CHOICES), chunk_steps)
        self._planner(loss)  # raises if it is not supported
        schedule = Schedule(
            num_steps, step_gap, accumulation_steps, snapshot_every, class_weights_every
        )
        device = one_of("memory_device", memory_device, ("same", "cpu"))
        memory = SnapshotMemory(schedule, checked_dtype(memory_dtype), device)
        self._memory, self._progress, self._turn = memory, Progress(), calls.Turn()
        self._steps = Steps(memory, self._progress, on_non_finite)
        self._gather = flag("gather", gather)
        self._checkpoints = Checkpoints(memory, self._progress, gather)
        self.save_memory = flag("save_memory", save_memory)
        self.warmup_steps = warmup_steps
        try_once(loss)
        self.loss = loss  # last: from here on its attributes are the wrapper's, too
        self.add_to_recordable_attributes(list_of_names=[*SETTINGS, *RECORDED])

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor | None = None,
        indices_tuple: Any = None,
        ref_emb: torch.Tensor | None = None,
        ref_labels: torch.Tensor | None = None,
    ) -> Any:
        """The loss of embeddings (B, D) with labels (B,), as its reducer returns it."""
        forward = _outside_the_graph if calls.is_compiling() else MemVir._forward
        return forward(self, embeddings, labels, indices_tuple, ref_emb, ref_labels)

    @calls.in_turn  # as all that changes or copies what MemVir has
    def _forward(
        self, embeddings: Any, labels: Any, indices_tuple: Any, *ref: Any
    ) -> Any:
        is_step = self.training and torch.is_grad_enabled()
        calls.refuse(self, is_step)
        self.reset_stats()
        self._steps.begin()
        plan, slot = self._plan, self._steps.slot

        # Take the batch.
        given = plan.spare_class_weights(embeddings), labels, indices_tuple
        is_gathered = is_step and self._gather and rank_and_world_size()[1] > 1
        gather_on = plan.parameter.device if is_gathered else None
        now = batch.taken(given, ref[0], plan.shape, is_step, gather_on)
        if now is None:
            value = self.loss(*given, *(() if ref == (None, None) else ref))
            if is_step:  # and the loss itself has not complained
                raise ValueError(batch.NOT_APPLICABLE)
            return value
        if not is_step:
            self._steps.hints.in_evaluation(now.embeddings)
            return self.loss(*now.arguments)
        self._steps.look_at(now, plan.parameter)

        # Meet the past, if there is any, and compute the loss.
        if self._steps.is_in_warmup and not self._memory.num_met(slot):
            outcome = plan.plain(now)
        else:
            self._steps.empty_for(plan.fit(self._memory, now.embeddings.device))
            outcome = plan(now, self._memory, slot)

        # Remember.
        self._steps.end(outcome, now, plan.form)
        return outcome.value

    @calls.in_turn
    def end_step(self) -> None:
        """End the step that is under way, if there is one, as an epoch's last may be.

        What it lacks of `accumulation_steps` calls is never met. With `gather`, call it
        on all ranks.
        """
        self._steps.end_early()

    @calls.in_turn
    def reset_memory(self) -> None:
        """Empty the memory; the step counter goes on, so there is no second warm-up."""
        self._steps.reset()

    @calls.in_turn
    def allocate_memory(self, batch_size: int) -> None:
        """Lay the memory out before the first step, for batches of this size.

        For tools that load into tensors that are there already, as
        torch.distributed.checkpoint does. What the memory holds stays.

        Raises:
            ValueError, TypeError: batch_size is no integer >= 1.
            MemoryError: there is no room.
        """
        integer("batch_size", batch_size, least=1)
        plan = self._plan
        self._steps.empty_for(plan.fit(self._memory, plan.parameter.device))
        self._memory.storage.make_room(plan.form, plan.class_weights, batch_size)

    @calls.in_turn
    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As PyTorch's, but all or nothing. The memory can be resumed exactly.

        A checkpoint of the inner loss alone empties the memory, as does one without
        memory where `strict` is False or a parent module is loaded. So does what is no
        memory any more (an average or a cast of several), with a warning.

        Raises:
            CheckpointError: something is missing, damaged, or of another loss or other
                settings; nothing has been loaded.
        """
        self._checkpoints.is_strict = strict
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        finally:
            self._checkpoints.is_strict = None

    @calls.in_turn
    def _save_to_state_dict(self, destination: Any, prefix: str, *rest: Any) -> None:
        super()._save_to_state_dict(destination, prefix, *rest)
        self._steps.settle()
        state = self._checkpoints.save(self._plan, prefix, self.save_memory)
        destination.update(state)

    @calls.in_turn
    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local: Any, strict: bool, *found: Any
    ) -> None:
        if any(key.startswith(prefix) for key in state_dict):
            given = self._plan, state_dict, prefix, local
            self._checkpoints.load(self, *given, *found)
        super()._load_from_state_dict(state_dict, prefix, local, strict, *found)

    @calls.in_turn
    def __getstate__(self) -> dict[str, Any]:
        self._steps.settle()  # what is on its way can be neither copied nor saved
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)  # of `compile()`, bound to this one
        return state


_outside_the_graph = calls.disable_dynamo(MemVir._forward)
refusals.explain_refusal_of(MemVir)

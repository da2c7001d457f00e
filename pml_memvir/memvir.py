"""MemVir: any loss with class weights, trained against its own recent past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from pytorch_metric_learning.losses.base_loss_wrapper import BaseLossWrapper
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords

from .core.grid import estimate_nbytes
from .core.memory import SnapshotMemory
from .core.progress import Progress
from .core.schedule import Schedule
from .core.snapshots import Batch, Snapshots
from .core.values import checked_dtype, integer, one_of
from .core.warn import warn
from .pml import refusals, specs
from .pml.plan import CHOICES, Plan, Planner
from .pml.trial import try_once
from .readings import RECORDED, SETTINGS, Readings
from .state.checkpoints import Checkpoints
from .training import batch, calls
from .training.bad_batches import BadBatches
from .training.hints import Hints
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

    A step is one forward call in training mode with gradients on, or as many as
    `accumulation_steps` says (or fewer, and then `end_step()`). In evaluation mode, and
    where gradients are off, MemVir is its inner loss and remembers nothing.

    Args:
        loss: a loss with class weights: see `supported_losses()`. It stays reachable
            as `.loss`; its public attributes can be read and set on the wrapper too.
        num_steps: N, the most snapshots that a step meets; >= 1.
        step_gap: M, steps left out between two snapshots that meet; >= 0.
        warmup_steps: U, training steps before the first is remembered; >= 0. For
            epochs see `epochs_to_steps`.
        algorithm: "auto" takes the fastest exact one for the loss (`algorithm_used`
            says which); "concatenation" is the one that serves every loss.
        chunk_steps: snapshots that a fast algorithm computes at a time; by default as
            many as keep what it needs for them below 256 MB, but at least one.
        memory_dtype: of the embeddings and class weights in the memory: float64,
            float32, bfloat16 or float16; default that of the class weights.
        memory_device: where those lie: "same" as the class weights, or "cpu", from
            where a GPU gets each step's row while it computes the step before.
        snapshot_every: k; only every k-th step leaves a snapshot, and step t meets what
            step k floor(t / k) meets. Divides step_gap + 1. An approximation, whose
            memory is about k times smaller.
        class_weights_every: j; of j steps only the first one's class weights are kept,
            and the embeddings of all of them belong to those. Divides step_gap + 1,
            and snapshot_every divides it. The memory has (M+1)/j (N+1) copies of the
            class weights, the least at j = step_gap + 1. By default each snapshot has
            its own.
        accumulation_steps: forward calls (micro-batches) that make one step. The j-th
            of a step meets the j-th of earlier steps only; each takes as much memory as
            a step does. The mean of their losses is that of one batch, if they have one
            size, the reducer is a mean, and the loss is not Proxy-Anchor.
        gather: compute the loss of the batches of all processes, in the order of ranks;
            each process gets the same value. Needed under DistributedDataParallel where
            the mean over ranks is not that of the whole batch: Proxy-Anchor, reducers
            other than the mean, miners (PML's DistributedMinerWrapper), batches of
            different size or with NaN.
        on_non_finite: of a batch with NaN or infinity in its embeddings or in the class
            weights, "skip" returns the loss and remembers nothing, "raise" raises (and
            waits for the GPU in each step).
        save_memory: whether `state_dict()` has the memory in it.
        **kwargs: `collect_stats`, of PML's ModuleWithRecords.

    Shapes:
        embeddings (B, D), labels (B,) of 0 to C-1. The memory holds
        N (M+1) (C K + B) D numbers, for K centres a class: see `estimate_nbytes`.

    Raises:
        ValueError: the loss is not supported, a setting is out of range, or a batch
            does not fit the loss. A step that raises leaves no trace. Only labels that
            are on a GPU are checked later, unless `gather` is set: their step is done
            with clamped labels, counted and not remembered, and a later call raises.
            Or a loss of your own breaks a rule of `register_loss`: the constructor
            tries a copy of it.
        TypeError: a setting is no integer, or embeddings or labels are of a wrong type.
        MemoryError: there is no room for the memory; it says how much is needed.
        RuntimeError: the loss is inside activation checkpointing or a transform of
            torch.func; with `gather`, another rank has refused its batch; in backward,
            a fast algorithm is asked for second derivatives; or the loss is inside
            DataParallel or FullyShardedDataParallel.

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
        spec = specs.spec_of(loss)  # raises if it is not supported
        # BaseLossWrapper would check the loss by its name, which subclasses change.
        super(BaseLossWrapper, self).__init__(**kwargs)
        self._planner = Planner(one_of("algorithm", algorithm, CHOICES), chunk_steps)
        self._planner(loss)  # raises if its parts do not go together
        schedule = Schedule(
            num_steps, step_gap, accumulation_steps, snapshot_every, class_weights_every
        )
        device = one_of("memory_device", memory_device, ("same", "cpu"))
        memory = SnapshotMemory(schedule, checked_dtype(memory_dtype), device)
        self._memory, self._progress = memory, Progress()
        self._bad_batches = BadBatches(memory, self._progress, on_non_finite)
        self._steps = Steps(memory, self._progress, self._bad_batches)
        self._hints = Hints()
        self._checkpoints = Checkpoints(memory, self._progress)
        self._gather = bool(gather)
        self._turn = calls.Turn()
        self.save_memory = bool(save_memory)
        self.warmup_steps = warmup_steps
        try_once(loss, spec)
        self.loss = loss  # last: from here on its attributes are the wrapper's, too
        self.add_to_recordable_attributes(
            list_of_names=[*SETTINGS, *RECORDED], is_stat=False
        )

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor | None = None,
        indices_tuple: Any = None,
        ref_emb: torch.Tensor | None = None,
        ref_labels: torch.Tensor | None = None,
    ) -> Any:
        """The loss of embeddings (B, D) with labels (B,), as its reducer returns it."""
        arguments = (embeddings, labels, indices_tuple, ref_emb, ref_labels)
        if calls.is_compiling():
            return _outside_the_graph(self, *arguments)
        with self._turn:  # threads are served one after the other
            return self._forward(*arguments)

    def _forward(self, *arguments: Any) -> Any:
        is_step = self.training and torch.is_grad_enabled()
        calls.refuse(self, is_step)
        self.reset_stats()
        self._steps.begin()
        plan, slot = self._plan, self._steps.slot
        now = self._take(plan, is_step, *arguments)
        if not isinstance(now, Batch):
            return now  # what the inner loss makes of what is no batch
        if not is_step:
            return self.loss(*now.arguments)
        if self._steps.is_in_warmup and not self._memory.num_met(slot):
            outcome = plan.plain(now)
        else:
            self._fit_memory(plan, now.embeddings.device)
            outcome = plan(now, self._memory, slot)
        self._steps.end(outcome, now, plan.form)
        return outcome.value

    def _take(
        self,
        plan: Plan,
        is_step: bool,
        embeddings: torch.Tensor,
        labels: Any,
        indices_tuple: Any,
        *ref: Any,
    ) -> Any:
        """The batch of a call: checked, and of all ranks where that is asked for."""
        weight = plan.parameter
        given = plan.spare_class_weights(embeddings), labels, indices_tuple
        if self._gather and is_step:
            given = batch.gathered(*given, ref[0], plan.embedding_size, weight.device)
        elif labels is None or ref[0] is not None:
            value = self.loss(*given, *(() if ref == (None, None) else ref))
            if is_step:  # and the loss itself has not complained
                raise ValueError(batch.NOT_APPLICABLE)
            return value
        shape = plan.form.num_classes, plan.embedding_size
        # With `gather` the host waits anyway, and no rank may raise later than others.
        now = batch.taken(*given, shape, may_defer=is_step and not self._gather)
        if is_step:
            micro_batch = self._memory.schedule.lane(self._progress.calls)
            self._hints.before_call(weight, micro_batch, self.accumulation_steps)
            self._bad_batches.before_step(self.step, now.embeddings, weight)
        elif torch.is_grad_enabled():
            self._hints.in_evaluation(now.embeddings)
        return now

    def _fit_memory(self, plan: Plan, device: torch.device) -> None:
        """The memory follows the loss as it is now, or is emptied."""
        if reason := plan.fit(self._memory, device):
            warn(f"MemVir's memory is emptied: {reason}.")
            self.reset_memory()
            self._progress.num_emptied += 1

    estimate_nbytes = staticmethod(estimate_nbytes)
    supported_losses = staticmethod(specs.supported_losses)

    def end_step(self) -> None:
        """End the step that is under way: the next call is the first of another one.

        For the last step of the optimizer in an epoch, if fewer than
        `accumulation_steps` micro-batches are left for it: those that are missing are
        never met. Where no step is under way it does nothing, so that it can be called
        after each `optimizer.step()`. With `gather`, call it on all ranks.
        """
        self._steps.end_early()

    def reset_memory(self) -> None:
        """Empty the memory; the step counter goes on, so there is no second warm-up."""
        self._steps.reset()

    def virtual_classes(self) -> Snapshots | None:
        """A copy of the snapshots that the next training step will meet, or None."""
        self._steps.settle()
        return self._memory.snapshots(self._steps.slot)

    def allocate_memory(self, batch_size: int) -> None:
        """Lay the memory out before the first step, for batches of this size.

        Needed by tools that load into tensors that are there already, such as
        torch.distributed.checkpoint. What the memory holds stays.

        Raises:
            ValueError, TypeError: batch_size is no integer >= 1.
            MemoryError: there is no room.
        """
        integer("batch_size", batch_size, least=1)
        plan = self._plan
        self._fit_memory(plan, plan.parameter.device)
        self._memory.storage.make_room(plan.form, plan.class_weights, batch_size)

    @classmethod
    def check_loss_support(cls, loss_name: str) -> None:
        """Raise ValueError unless a supported loss has this name."""
        if loss_name not in cls.supported_losses():
            raise specs.unsupported(loss_name)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As PyTorch's, but all or nothing. The memory can be resumed exactly.

        Also takes a checkpoint of the inner loss, not wrapped: the memory is emptied
        then, and the step counter stays. With `strict=False` a checkpoint without
        memory, or with a part of it, does the same, and so it does within a parent
        module, where missing names are the parent's to complain of.

        What is no memory any more (an average or a cast of several) leaves an empty
        one, with a warning.

        Raises:
            CheckpointError: something is missing, damaged, or of another loss or other
                settings; nothing has been loaded.
        """
        with self._checkpoints.strictly(strict):
            return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _save_to_state_dict(
        self, destination: Any, prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        self._steps.settle()
        destination.update(
            self._checkpoints.save(
                prefix, self._settings(), self._gather, self.save_memory
            )
        )

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local: Any, strict: bool, *found: Any
    ) -> None:
        if any(key.startswith(prefix) for key in state_dict):
            read = self._checkpoints.load(self, state_dict, prefix, local, *found)
            if read.resets:
                self.reset_memory()
            self._checkpoints.take_over(read)
        # What is missing or unknown has been told.
        super()._load_from_state_dict(state_dict, prefix, local, False, *found)

    def _settings(self) -> dict[str, Any]:
        """What a checkpoint's memory depends on."""
        form = self._plan.form
        return {
            "loss": type(self.loss).__name__,
            **asdict(self._memory.schedule),
            "num_classes": form.num_classes,
            "centers_per_class": form.num_centers,
            "embedding_size": self._plan.embedding_size,
        }

    def __getstate__(self) -> dict[str, Any]:
        self._steps.settle()  # what is on its way can be neither copied nor saved
        return self.__dict__.copy()

    def extra_repr(self) -> str:
        names = ("num_steps", "step_gap", "warmup_steps")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


_outside_the_graph = calls.disable_dynamo(MemVir._forward)
refusals.explain_refusal_of(MemVir)

"""MemVir: any loss with class weights, trained against its own recent past."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_metric_learning.losses.base_loss_wrapper import BaseLossWrapper
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords

from . import algorithms, bad_batches, checks
from . import class_weights as c_w
from . import distributed
from .algorithms.outcome import Outcome
from .bad_batches import BadBatches
from .checkpoints import Checkpoints
from .form import Form
from .hints import Hints
from .inner_attributes import InnerLossAttributes
from .insight import Insight
from .memory import SnapshotMemory
from .snapshots import Notes, Snapshots
from .transforms import refuse_transforms
from .trial_call import try_once
from .warn import warn
from .watched import RECORDED, Watched


class MemVir(
    InnerLossAttributes,
    Watched,
    Checkpoints,
    BaseLossWrapper,
    ModuleWithRecords,
):
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
        layout = c_w.layout_of(loss)  # raises if there is none
        checks.check_reducer(loss)
        # BaseLossWrapper would check the loss by its name, which subclasses change.
        super(BaseLossWrapper, self).__init__(**kwargs)
        self.warmup_steps = warmup_steps
        self.save_memory = bool(save_memory)
        self._memory = SnapshotMemory(
            checks.schedule(
                num_steps,
                step_gap,
                accumulation_steps,
                snapshot_every,
                class_weights_every,
            ),
            checks.memory_dtype(memory_dtype),
            checks.one_of("memory_device", memory_device, ("same", "cpu")),
        )
        self._algorithm = checks.one_of("algorithm", algorithm, algorithms.NAMES)
        if chunk_steps is not None:
            chunk_steps = checks.integer("chunk_steps", chunk_steps, least=1)
        self._chunk_steps = chunk_steps
        self._gather = bool(gather)
        self._on_non_finite = bad_batches.on_non_finite(on_non_finite)
        self._bad_batches = BadBatches(self._memory)
        self._hints = Hints()
        self._calls = 0
        self._num_virtual_steps = 0
        self._num_emptied = 0
        self._insight: Insight | None = None  # of the last step with virtual classes
        self._unfinished: _Left | None = None  # of a step that was interrupted
        self._turn = threading.RLock()
        try_once(loss, layout)
        self.loss = loss  # last: from here on its attributes are the wrapper's, too
        self.add_to_recordable_attributes(
            list_of_names=[
                "num_steps",
                "step_gap",
                "warmup_steps",
                "num_virtual_classes",
                "num_non_finite",
                *RECORDED,
            ],
            is_stat=False,
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
        if _is_compiling():
            return _outside_the_graph(self, *arguments)
        with self._turn:  # threads are served one after the other
            return self._forward(*arguments)

    def _forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor | None,
        indices_tuple: Any,
        ref_emb: torch.Tensor | None,
        ref_labels: torch.Tensor | None,
    ) -> Any:
        distributed.refuse_sharing(self)
        refuse_transforms()
        self.reset_stats()
        is_step = self.training and torch.is_grad_enabled()
        if is_step and _is_in_backward():
            raise RuntimeError(
                "MemVir was called in a backward, which would count a step twice: "
                "leave it out of activation checkpointing (torch.utils.checkpoint)"
            )
        self._settle(self._calls - self._schedule.calls_until_met)
        if self._gather and is_step:
            embeddings, labels, indices_tuple = self._gathered(
                embeddings, labels, indices_tuple, ref_emb
            )
        elif labels is None or ref_emb is not None:
            return self._not_applicable(
                embeddings, labels, indices_tuple, ref_emb, ref_labels
            )
        size = self._layout.embedding_size(self.loss)
        checks.check_batch(embeddings, labels, size)
        # With `gather` the host waits anyway, and no rank may raise later than others.
        in_range = self._check_labels(labels, may_defer=is_step and not self._gather)
        labels = labels.to(embeddings.device, torch.long)
        if labels.device.type == "cuda":  # where one out of range would be fatal
            labels = labels.clamp(0, self._layout.num_classes(self.loss) - 1)
        embeddings = self._spare_class_weights(embeddings)
        if not is_step:
            if torch.is_grad_enabled():
                self._hints.in_evaluation(embeddings)
            return self.loss(embeddings, labels, indices_tuple)
        self._hints.before_call(
            self._layout.get(self.loss),
            self._schedule.lane(self._calls),
            self.accumulation_steps,
        )
        if self._on_non_finite == "raise":
            weights = self._layout.get(self.loss)
            bad_batches.refuse_non_finite(self.step, embeddings, weights)

        slot = self._schedule.slot(self._calls)
        columns_met = self._memory.columns_met(slot)
        form = None
        if self.step < self.warmup_steps and not columns_met:
            value = self.loss(embeddings, labels, indices_tuple)
            outcome = Outcome(value, self._layout.rows(self.loss), embeddings.detach())
        else:
            checks.check_reducer(self.loss)
            self._memory.to(embeddings.device, self._layout.get(self.loss).dtype)
            algorithm = self._choose_algorithm()
            columns_met = self._memory.columns_met(slot)  # fewer if it was emptied
            outcome = algorithm(embeddings, labels, indices_tuple, self._memory, slot)
            form = algorithm.memory_form
        self._leave(outcome, labels, in_range, form, len(columns_met))
        self._settle(self._calls - 1 - self._schedule.calls_until_met)
        self._memory.fetch_ahead(self._schedule.slot(self._calls))
        return outcome.value

    @property
    def num_virtual_steps(self) -> int:
        """Snapshots that the last training step met."""
        return self._num_virtual_steps

    @property
    def num_virtual_classes(self) -> int:
        """Virtual classes that the last training step met."""
        return self._num_virtual_steps * self._layout.num_classes(self.loss)

    @property
    def num_non_finite(self) -> int:
        """Forward calls so far that had NaN or infinity and were not remembered.

        On a GPU the last one is not counted before it has been computed.
        """
        return self._bad_batches.num_non_finite

    @property
    def num_emptied(self) -> int:
        """Times that the memory was emptied as it did not fit the loss any more."""
        return self._num_emptied

    @property
    def num_renewed(self) -> int:
        """Rows of the memory whose kept numbers were made anew for another setting."""
        return self._memory.num_renewed

    @property
    def algorithm_used(self) -> str:
        """How the loss, as it is set up now, is computed.

        "row_softmax" or "proxy_anchor", which are fast, or "concatenation".
        """
        return self._best_algorithm().name

    @property
    def memory_nbytes(self) -> int:
        """Bytes that the memory occupies now."""
        return self._memory.nbytes

    def end_step(self) -> None:
        """End the step that is under way: the next call is the first of another one.

        For the last step of the optimizer in an epoch, if fewer than
        `accumulation_steps` micro-batches are left for it: those that are missing are
        never met. Where no step is under way it does nothing, so that it can be called
        after each `optimizer.step()`. With `gather`, call it on all ranks.
        """
        self._settle()
        for call in self._schedule.rest_of_step(self._calls):
            if self._schedule.stores(call):
                self._memory.forget(self._schedule.slot(call))
            self._calls = call + 1
        self._memory.fetch_ahead(self._schedule.slot(self._calls))

    def reset_memory(self) -> None:
        """Empty the memory; the step counter goes on, so there is no second warm-up."""
        self._settle()
        self._memory.reset()
        self._bad_batches.reset()
        self._num_virtual_steps = 0
        self._insight = None

    def virtual_classes(self) -> Snapshots | None:
        """A copy of the snapshots that the next training step will meet, or None."""
        self._settle()
        return self._memory.snapshots(self._schedule.slot(self._calls))

    @staticmethod
    def supported_losses() -> list[str]:
        """Names of the losses that can be wrapped, those of `register_loss` included.

        Losses are recognised by class: subclasses of these are supported as well.
        """
        return c_w.supported_losses()

    @classmethod
    def check_loss_support(cls, loss_name: str) -> None:
        """Raise ValueError unless a supported loss has this name."""
        if loss_name not in cls.supported_losses():
            raise c_w.unsupported(loss_name)

    def extra_repr(self) -> str:
        names = ("num_steps", "step_gap", "warmup_steps")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    @property
    def _layout(self) -> c_w.ClassWeightLayout:
        return c_w.layout_of(self.loss)

    def _settings(self) -> dict[str, Any]:
        """What a checkpoint's memory depends on."""
        return {
            "loss": type(self.loss).__name__,
            "num_steps": self.num_steps,
            "step_gap": self.step_gap,
            "accumulation_steps": self.accumulation_steps,
            "snapshot_every": self.snapshot_every,
            "class_weights_every": self.class_weights_every,
            "num_classes": self._layout.num_classes(self.loss),
            "centers_per_class": self._layout.num_centers(self.loss),
            "embedding_size": self._layout.embedding_size(self.loss),
        }

    def _not_applicable(
        self, embeddings: torch.Tensor, labels: Any, indices_tuple: Any, *ref: Any
    ) -> Any:
        """What MemVir cannot serve: the inner loss says so in its own words."""
        given = () if all(x is None for x in ref) else ref
        value = self.loss(embeddings, labels, indices_tuple, *given)
        if self.training and torch.is_grad_enabled():
            raise ValueError(_NOT_APPLICABLE)
        return value

    def _gathered(
        self, embeddings: torch.Tensor, labels: Any, indices_tuple: Any, ref_emb: Any
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """The batches of all ranks. An error of one rank is an error of all."""
        error: Exception | None = None
        try:
            if labels is None or ref_emb is not None:
                raise ValueError(_NOT_APPLICABLE)
            size = self._layout.embedding_size(self.loss)
            checks.check_batch(embeddings, labels, size, may_be_empty=True)
            checks.check_indices(indices_tuple)
            embeddings = self._spare_class_weights(embeddings)
        except (TypeError, ValueError) as error_:
            error = error_
        batch = distributed.Batch(embeddings, labels, indices_tuple, error)
        return distributed.gather(batch, self._layout.get(self.loss).device)

    def _check_labels(self, labels: torch.Tensor, may_defer: bool) -> torch.Tensor:
        """Raise for labels out of range; where they lie on a GPU, a step later.

        A label of C or more would silently be one of a virtual class.
        """
        num_classes = self._layout.num_classes(self.loss)
        in_range = checks.labels_in_range(labels, num_classes)
        if (labels.device.type != "cuda" or not may_defer) and not in_range:
            raise checks.label_error(labels, num_classes)
        return in_range

    def _spare_class_weights(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Under CPU autocast, embeddings in the class weights' dtype.

        PML's losses bring their parameter to the embeddings' dtype, save under
        autocast; but they ask for CUDA's only, and would leave it in bfloat16 for good.
        """
        if embeddings.device.type == "cpu" and _cpu_autocast():
            return embeddings.to(self._layout.get(self.loss).dtype)
        return embeddings

    def _best_algorithm(self) -> algorithms.Algorithm:
        return algorithms.choose(
            self._algorithm, self.loss, self._layout, self._chunk_steps
        )

    def _choose_algorithm(self) -> algorithms.Algorithm:
        """The algorithm for the loss as it is now; the memory fits it or is emptied."""
        algorithm = self._best_algorithm()
        shape = tuple(self._layout.get(self.loss).shape)
        if self._memory.was_written_to():
            reason = "its tensors have been changed in place, and are no snapshots"
        elif not self._memory.holds(self._layout.rows(self.loss)):
            reason = f"the class weights now have shape {shape}"
        else:
            reason = self._memory.adapt(algorithm.memory_form)
        if reason:
            warn(f"MemVir's memory is emptied: {reason}.")
            self.reset_memory()
            self._num_emptied += 1
        return algorithm

    def _leave(
        self,
        outcome: Outcome,
        labels: torch.Tensor,
        in_range: torch.Tensor,
        form: Form | None,
        num_virtual_steps: int,
    ) -> None:
        """End this step: all that can fail first, then what it leaves behind."""
        class_weights, embeddings = outcome.class_weights, outcome.embeddings
        notes, remembers = None, False
        if self.step >= self.warmup_steps and self._schedule.stores(self._calls):
            assert form is not None
            remembers = True
            notes = outcome.notes() if outcome.notes else None
            self._memory.make_room(form, class_weights, len(labels))
        ask = self._bad_batches.questions(embeddings, class_weights, notes, in_range)
        left = _Left(
            self._calls, outcome, labels, notes, remembers, ask, num_virtual_steps
        )
        try:
            self._unfinished = left  # from here on the step has happened
            self._finish()
        except BaseException:
            self._finish()
            raise

    def _finish(self) -> None:
        """Do what is left to be done of a step; after an interrupt, once more."""
        left = self._unfinished
        if left is None:
            return
        if self._schedule.stores(left.call):
            slot, outcome = self._schedule.slot(left.call), left.outcome
            if left.remembers:
                self._memory.remember(
                    slot,
                    outcome.class_weights,
                    outcome.embeddings,
                    left.labels,
                    left.notes,
                )
            else:
                self._memory.forget(slot)
        self._bad_batches.ask(left.call, left.questions)
        self._num_virtual_steps = left.num_virtual_steps
        self._insight = left.outcome.insight if left.num_virtual_steps else None
        self._calls = left.call + 1
        self._unfinished = None

    def _settle(self, needed_up_to: int | None = None) -> None:
        """Make holes of bad snapshots of calls up to this one, by default of all."""
        self._finish()
        needed_up_to = self._calls if needed_up_to is None else needed_up_to
        self._bad_batches.settle(needed_up_to, self._layout.num_classes(self.loss))

    def __getstate__(self) -> dict[str, Any]:
        self._settle()  # what is on its way can be neither copied nor saved
        return {**self.__dict__, "_insight": None, "_turn": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        set_state: Any = super().__setstate__
        set_state({**state, "_turn": threading.RLock()})


@dataclass(frozen=True)
class _Left:
    """What a step leaves behind, until it is where it belongs."""

    call: int
    outcome: Outcome
    labels: torch.Tensor
    notes: Notes | None
    remembers: bool
    questions: torch.Tensor
    num_virtual_steps: int


_NOT_APPLICABLE = "MemVir needs labels and does not support ref_emb"

distributed.explain_refusal_of(MemVir)

# Compiled code calls the loss as it is: its steps differ in what they meet.
_is_compiling: Any = getattr(
    torch.compiler, "is_compiling", getattr(torch._utils, "is_compiling", None)
)  # the latter for torch < 2.3
_disable_dynamo: Any = getattr(torch, "_disable_dynamo")  # does not import it yet
_outside_the_graph = _disable_dynamo(MemVir._forward)


def _is_in_backward() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)


def _cpu_autocast() -> bool:
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # torch < 2.4
        return torch.is_autocast_cpu_enabled()

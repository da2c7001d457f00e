"""MemVir: any loss with class weights, trained against its own recent past."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from pytorch_metric_learning.losses.base_loss_wrapper import BaseLossWrapper
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords

from . import algorithms, checks
from . import class_weights as c_w
from .deferred import DeferredAnswers
from .inner_attributes import InnerLossAttributes
from .memory import SnapshotMemory, Snapshots

STATE_VERSION = 1


class MemVir(InnerLossAttributes, BaseLossWrapper, ModuleWithRecords):
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
        **kwargs: `collect_stats`, of PML's ModuleWithRecords.

    Shapes:
        embeddings (B, D), labels (B,) of 0 to C-1. The memory holds
        N (M+1) (C K + B) D numbers, for K centres a class.

    Raises:
        ValueError: the loss is not supported, a setting is out of range, or a batch
            does not fit the loss (a step that raises leaves no trace).
        TypeError: a setting is no integer, or embeddings or labels are of a wrong type.

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
        **kwargs: Any,
    ) -> None:
        c_w.layout_of(loss)  # raises if there is none
        checks.check_reducer(loss)
        # BaseLossWrapper would check the loss by its name, which subclasses change.
        super(BaseLossWrapper, self).__init__(**kwargs)
        self.warmup_steps = warmup_steps
        self.step = 0
        self._memory = SnapshotMemory(
            checks.integer("num_steps", num_steps, least=1),
            checks.integer("step_gap", step_gap, least=0),
            checks.memory_dtype(memory_dtype),
        )
        self._algorithm = checks.one_of("algorithm", algorithm, algorithms.NAMES)
        if chunk_steps is not None:
            chunk_steps = checks.integer("chunk_steps", chunk_steps, least=1)
        self._chunk_steps = chunk_steps
        self._stored_by: str | None = None  # the algorithm whose form the memory has
        self._answers = DeferredAnswers()
        self._num_virtual_steps = 0
        self._warned_non_finite = False
        self.loss = loss  # last: from here on its attributes are the wrapper's, too
        self.add_to_recordable_attributes(
            list_of_names=[
                "num_steps",
                "step_gap",
                "warmup_steps",
                "num_virtual_classes",
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
        self.reset_stats()
        if labels is None or ref_emb is not None:
            return self._not_applicable(
                embeddings, labels, indices_tuple, ref_emb, ref_labels
            )
        is_step = self.training and torch.is_grad_enabled()
        self._settle(self.step - self.step_gap - 1)
        in_range = self._check_batch(embeddings, labels, may_defer=is_step)
        labels = labels.to(embeddings.device, torch.long)
        embeddings = self._spare_class_weights(embeddings)
        if not is_step:
            return self.loss(embeddings, labels, indices_tuple)

        if self._is_warming_up():
            value = self.loss(embeddings, labels, indices_tuple)
            self._num_virtual_steps = 0
            self._memory.forget(self.step)
        else:
            checks.check_reducer(self.loss)
            self._memory.to(embeddings.device)
            algorithm = self._choose_algorithm()
            num_virtual_steps = len(self._memory.row(self.step).filled)
            outcome = algorithm(
                embeddings, labels, indices_tuple, self._memory, self.step
            )
            self._num_virtual_steps = num_virtual_steps
            self._remember(outcome, labels, in_range)
            self._stored_by = algorithm.name
            value = outcome.value
        self.step += 1
        return value

    @property
    def num_steps(self) -> int:
        """N. Fixed, as the memory is laid out for it."""
        return self._memory.num_steps

    @property
    def step_gap(self) -> int:
        """M. Fixed, as the memory is laid out for it."""
        return self._memory.step_gap

    @property
    def warmup_steps(self) -> int:
        """U. Can be set at any time; the step counter goes on, and what is in the
        memory by then is still met until it is too old."""
        return self._warmup_steps

    @warmup_steps.setter
    def warmup_steps(self, value: int) -> None:
        self._warmup_steps = checks.integer("warmup_steps", value, least=0)

    @property
    def num_virtual_steps(self) -> int:
        """Snapshots that the last training step met."""
        return self._num_virtual_steps

    @property
    def num_virtual_classes(self) -> int:
        """Virtual classes that the last training step met."""
        return self._num_virtual_steps * self._layout.num_classes(self.loss)

    @property
    def algorithm_used(self) -> str:
        """How the loss, as it is set up now, is computed: `algorithms` has one each."""
        return self._best_algorithm().name

    @property
    def memory_nbytes(self) -> int:
        """Bytes that the memory occupies now."""
        return self._memory.nbytes

    def reset_memory(self) -> None:
        """Empty the memory; the step counter goes on, so there is no second warm-up."""
        self._memory.reset()
        self._answers = DeferredAnswers()
        self._num_virtual_steps = 0

    def virtual_classes(self) -> Snapshots | None:
        """A copy of the snapshots that the next training step will meet, or None."""
        self._settle(self.step)
        return self._memory.snapshots(self.step)

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

    def get_extra_state(self) -> dict[str, Any]:
        """The memory and its counters: tensors, integers and strings in plain dicts.

        As in any `state_dict()`, the tensors are the live ones: copy them if training
        goes on before they are used.
        """
        self._settle(self.step)
        return {
            "version": STATE_VERSION,
            "settings": self._settings(),
            "step": self.step,
            "warmup_steps": self.warmup_steps,
            "num_virtual_steps": self._num_virtual_steps,
            "stored_by": self._stored_by,
            "memory": self._memory.state(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave.

        Raises:
            ValueError: the state is incomplete, or of another version or settings.
        """
        checks.check_state(state, self.get_extra_state())
        names = ("step", "warmup_steps", "num_virtual_steps")
        step, warmup, virtual = (
            checks.integer(n, state.get(n), least=0) for n in names
        )
        self._memory.load_state(state["memory"])
        self._answers = DeferredAnswers()
        self.step, self.warmup_steps, self._num_virtual_steps = step, warmup, virtual
        self._stored_by = state["stored_by"]

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
            raise ValueError("MemVir needs labels and does not support ref_emb")
        return value

    def _spare_class_weights(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Under CPU autocast, embeddings in the class weights' dtype.

        PML's losses bring their parameter to the embeddings' dtype, save under
        autocast; but they ask for CUDA's only, and would leave it in bfloat16 for good.
        """
        if embeddings.device.type == "cpu" and _cpu_autocast():
            return embeddings.to(self._layout.get(self.loss).dtype)
        return embeddings

    def _is_warming_up(self) -> bool:
        """Nothing is remembered yet and nothing is left to be met."""
        return self.step < self.warmup_steps and not self._memory.row(self.step).filled

    def _best_algorithm(self) -> algorithms.Algorithm:
        return algorithms.choose(
            self._algorithm, self.loss, self._layout, self._chunk_steps
        )

    def _choose_algorithm(self) -> algorithms.Algorithm:
        """The algorithm for the loss as it is now; the memory fits it or is emptied."""
        algorithm = self._best_algorithm()
        shape = tuple(self._layout.get(self.loss).shape)
        reason = ""
        if not self._memory.holds(self._layout.rows(self.loss)):
            reason = f"the class weights now have shape {shape}"
        elif self._memory.nbytes and self._stored_by != algorithm.name:
            reason = f"the loss now goes by {algorithm.name}, not {self._stored_by}"
        if reason:
            warnings.warn(f"MemVir's memory is emptied: {reason}.", stacklevel=4)
            self.reset_memory()
        return algorithm

    def _remember(
        self, outcome: algorithms.Outcome, labels: torch.Tensor, in_range: torch.Tensor
    ) -> None:
        """Leave this step's snapshot or, in warm-up and for bad data, a hole."""
        if self.step < self.warmup_steps:
            self._memory.forget(self.step)
            return
        class_weights, embeddings = outcome.class_weights, outcome.embeddings
        self._memory.remember(
            self.step, class_weights, embeddings, labels, outcome.notes
        )
        extremes = [*embeddings.aminmax(), *class_weights.aminmax()]  # NaN passes on
        finite = torch.stack(extremes).isfinite().all()
        self._answers.put(self.step, in_range.to(finite.device), finite)
        self._settle(self.step - self.step_gap - 1)

    def _settle(self, needed_up_to: int) -> None:
        """Turn snapshots of bad data into holes, once it is known that they are bad.

        On a CPU that is at once; on a GPU at a later step, before they would be met.
        """
        for step, (in_range, finite) in self._answers.take(needed_up_to):
            if in_range and finite:
                continue
            self._memory.forget(step)
            if not in_range:
                classes = self._layout.num_classes(self.loss)
                raise ValueError(f"labels of step {step} were not 0 to {classes - 1}")
            if not self._warned_non_finite:
                self._warned_non_finite = True
                warnings.warn(
                    f"Step {step} has NaN or infinity in its embeddings or class "
                    "weights: MemVir does not remember it. Said once.",
                    stacklevel=4,
                )

    def _check_batch(
        self, embeddings: torch.Tensor, labels: torch.Tensor, may_defer: bool
    ) -> torch.Tensor:
        """Raise for a bad batch; for labels that lie on a GPU, say so a step later.

        A label of C or more would silently be one of a virtual class.
        """
        checks.check_batch(embeddings, labels, self._layout.embedding_size(self.loss))
        num_classes = self._layout.num_classes(self.loss)
        in_range = checks.labels_in_range(labels, num_classes)
        if (labels.device.type != "cuda" or not may_defer) and not in_range:
            raise checks.label_error(labels, num_classes)
        return in_range

    def __getstate__(self) -> dict[str, Any]:
        self._settle(self.step)  # what is on its way can be neither copied nor saved
        return self.__dict__.copy()


def _cpu_autocast() -> bool:
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # torch < 2.4
        return torch.is_autocast_cpu_enabled()

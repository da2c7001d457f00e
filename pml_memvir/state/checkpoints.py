"""MemVir's part of a state dict: all of it is loaded or, on an error, nothing."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import torch

from ..core.form import Form
from ..core.memory import SnapshotMemory
from ..core.progress import Progress
from ..core.ranks import rank_and_world_size
from ..core.warn import warn
from . import tensors, version_1

PREFIX = "memory."


class CheckpointError(ValueError, RuntimeError):
    """A checkpoint that does not fit. (PyTorch's own loading errors are RuntimeErrors;
    KeyError and OSError would be swallowed by PML's loaders.)"""


class Checkpoints:
    """Reads and writes the memory and what is counted, beside an inner loss.

    A state dict holds tensors only: `loss.*`, as the loss names them, and `memory.*`.

    Args:
        gather: whether the memory is of all ranks.
    """

    def __init__(
        self, memory: SnapshotMemory, progress: Progress, gather: bool
    ) -> None:
        self._memory, self._progress, self._gather = memory, progress, gather
        # In a load_state_dict call of the wrapper itself, its `strict`; None within a
        # parent's call, where PyTorch collects what is missing.
        self.is_strict: bool | None = None

    def save(
        self, plan: Any, prefix: str, with_memory: bool
    ) -> dict[str, torch.Tensor]:
        """What goes into a state dict. As in any, large tensors are the live ones."""
        counters = {name: getattr(self._progress, name) for name in tensors.COUNTED}
        counters |= zip(("rank", "world_size"), self._rank_and_world_size())
        memory = self._memory if with_memory else None
        state = tensors.save(counters, self._settings(plan), memory)
        return {f"{prefix}{PREFIX}{name}": tensor for name, tensor in state.items()}

    def load(
        self,
        wrapper: Any,
        plan: Any,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take over the memory and what is counted, after all of it has been checked.

        Of `state_dict`, PyTorch's own copy, what is of the memory is taken out, and a
        checkpoint of the loss alone is moved to where a wrapper's has it: the loss's
        part comes next.

        Raises:
            CheckpointError: something is missing, damaged, or of other settings.
        """
        try:
            state = self._taken_out(state_dict, prefix, plan.form)
            is_plain = not state and self._move_plain(wrapper, state_dict, prefix)
            lacking = [] if is_plain else tensors.missing(state)
            unknown = tensors.unknown(state)
            loaded = None
            if state:
                settings, mine = self._settings(plan), self._rank_and_world_size()
                loaded = tensors.load(state, settings, mine, self._memory.schedule)
            names = [f"{PREFIX}{name}" for name in lacking]
            if len(names) == len(tensors.COUNTERS) + 1:
                names = [f"{PREFIX}*, the memory,"]
            problems = [f"{', '.join(names)} is missing"] if names else []
            problems += [f"{PREFIX}{name} is unknown" for name in unknown]
            if self.is_strict and problems:
                raise ValueError("; ".join(problems))
            self._check_others(wrapper, state_dict, prefix)
            has_weights = self._try_loss(
                wrapper.loss, state_dict, f"{prefix}loss.", local_metadata
            )
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            loss, said = type(wrapper.loss).__name__, " ".join(str(error).split())
            raise CheckpointError(
                f"the state does not fit MemVir({loss}): {said.rstrip('.')}. Nothing "
                "has been loaded"
            ) from error
        missing_keys += [f"{prefix}{PREFIX}{name}" for name in lacking]
        unexpected_keys += [f"{prefix}{PREFIX}{name}" for name in unknown]
        if loaded is not None and loaded.reason:  # first: it may be made an error
            warn(f"MemVir starts with an empty memory: {loaded.reason}.")
        if loaded is not None or has_weights:  # another memory, or other class weights
            wrapper.reset_memory()
        if loaded is None:
            return
        if loaded.contents is not None:
            self._memory.storage.take_over(loaded.contents)
        for name in loaded.counters.keys() & set(tensors.COUNTED):
            setattr(self._progress, name, loaded.counters[name])

    def _settings(self, plan: Any) -> dict[str, Any]:
        """What the memory depends on."""
        return {
            "loss": type(plan.loss).__name__,
            **asdict(self._memory.schedule),
            "num_classes": plan.form.num_classes,
            "centers_per_class": plan.form.num_centers,
            "embedding_size": plan.embedding_size,
        }

    def _rank_and_world_size(self) -> tuple[int, int]:
        """Those whose memory it is; a gathered one is of no rank."""
        return (0, 1) if self._gather else rank_and_world_size()

    def _taken_out(
        self, state_dict: dict[str, Any], prefix: str, form: Form
    ) -> dict[str, Any]:
        """What there is of MemVir's own, with the names of today."""
        begin, old = f"{prefix}{PREFIX}", f"{prefix}{version_1.NAME}"
        names = [key for key in state_dict if key.startswith(begin)]
        state = {key[len(begin) :]: state_dict.pop(key) for key in names}
        if old in state_dict:
            schedule = self._memory.schedule
            state |= version_1.convert(state_dict.pop(old), schedule, form)
        return tensors.completed(tensors.renamed(state))

    def _move_plain(
        self, wrapper: Any, state_dict: dict[str, Any], prefix: str
    ) -> bool:
        """Bring a checkpoint of the loss alone to where a wrapper's has it.

        Returns:
            whether it was one.
        """
        mine = f"{prefix}loss."
        names = [key[len(prefix) :] for key in state_dict if key.startswith(prefix)]
        if any(name.startswith("loss.") for name in names):
            return False
        part = {name: state_dict[prefix + name] for name in names}
        try:
            lacks = _copy(wrapper.loss).load_state_dict(part, strict=False)[0]
        except RuntimeError:  # it has all, of another shape or kind
            lacks = []
        if lacks:
            return False
        for name in names:
            state_dict[mine + name] = state_dict.pop(prefix + name)
        return True

    def _check_others(
        self, wrapper: Any, state_dict: dict[str, Any], prefix: str
    ) -> None:
        """Of what is neither the loss's nor the memory's, all must be there."""
        if not self.is_strict:
            return
        mine = {name for name in wrapper.state_dict() if not name.startswith(_OURS)}
        names = (key[len(prefix) :] for key in state_dict if key.startswith(prefix))
        given = {name for name in names if not name.startswith(_OURS)}
        problems = [f"{name} is missing" for name in sorted(mine - given)]
        problems += [f"{name} is unknown" for name in sorted(given - mine)]
        if problems:
            raise ValueError("; ".join(problems))

    def _try_loss(
        self, loss: Any, state_dict: dict[str, Any], begin: str, local_metadata: Any
    ) -> bool:
        """Load the loss's part into a copy of it: what that raises, raises first.

        Returns:
            whether there is anything of it.
        """
        names = [key for key in state_dict if key.startswith(begin)]
        part = {name[len(begin) :]: state_dict[name] for name in names}
        assign = bool(local_metadata.get("assign_to_params_buffers", False))
        for name, value in part.items():  # what PyTorch would not refuse
            if isinstance(value, torch.Tensor) and value.is_complex():
                raise ValueError(f"{name} must be real, got {value.dtype}")
            if assign and isinstance(value, torch.Tensor) and value.is_inference():
                raise ValueError(
                    f"{name} must be no tensor of torch.inference_mode to be assigned"
                )
        trial = _copy(loss)
        strict = bool(self.is_strict)
        missing = trial.load_state_dict(part, strict=strict, assign=assign)[0]
        return len(missing) < len(trial.state_dict())


_OURS = ("loss.", PREFIX)


def _copy(loss: torch.nn.Module) -> torch.nn.Module:
    """Of its parameters and buffers; what else the loss has is shared."""
    shared: dict[int, Any] = {}
    for module in loss.modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                shared[id(value)] = value
    return copy.deepcopy(loss, shared)

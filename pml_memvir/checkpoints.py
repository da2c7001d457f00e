"""MemVir's state in and out: all of it or, on an error, nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from . import algorithms, checks, loss_state, memory_state
from .bad_batches import BadBatches
from .distributed import rank_and_world_size
from .memory import SnapshotMemory

VERSION = 1


class CheckpointError(ValueError, RuntimeError):
    """A checkpoint that does not fit. (PyTorch's own loading errors are RuntimeErrors;
    KeyError and OSError would be swallowed by PML's loaders.)"""


@dataclass
class _Plan:
    """Checked contents of a checkpoint, to be taken over without any further error."""

    contents: memory_state.Contents | None
    numbers: dict[str, int]
    stored_by: str | None
    warning: str


class Checkpoints(torch.nn.Module):
    """The part of MemVir that reads and writes state dicts."""

    _is_strict = True

    loss: torch.nn.Module
    save_memory: bool
    warmup_steps: int
    _gather: bool
    _calls: int
    _num_virtual_steps: int
    _stored_by: str | None
    _memory: SnapshotMemory
    _bad_batches: BadBatches
    _settings: Callable[[], dict[str, Any]]
    _settle: Callable[[], None]
    reset_memory: Callable[[], None]

    def get_extra_state(self) -> dict[str, Any]:
        """The memory and its counters: tensors, integers and strings in plain dicts.

        As in any `state_dict()`, the tensors are the live ones: copy them if training
        goes on before they are used.
        """
        self._settle()
        rank, world_size = self._owner()
        return {
            "version": VERSION,
            "settings": self._settings(),
            "rank": rank,
            "world_size": world_size,
            "stored_by": self._stored_by,
            "memory": memory_state.save(self._memory) if self.save_memory else None,
            **self._numbers(),
        }

    def set_extra_state(self, state: Any) -> None:
        """Take over what `get_extra_state` gave.

        Raises:
            CheckpointError: the state is incomplete, damaged, or of another version or
                other settings; nothing has changed.
        """
        self._take_over(self._plan(state))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As PyTorch's, but all or nothing. The memory can be resumed exactly.

        Also takes a checkpoint of the inner loss, not wrapped: the memory is emptied
        then, and the step counter stays. With `strict=False` a checkpoint without
        memory does the same. (Within a parent module, MemVir is always strict, unless
        the checkpoint has nothing for it.)

        Raises:
            CheckpointError: something is missing, damaged, or of another loss or other
                settings; nothing has been loaded.
            RuntimeError: of PyTorch, by an inner loss that renames what it loads (its
                own `_load_from_state_dict`, or a hook); a part may have been loaded.
        """
        self._is_strict = strict
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        finally:
            self._is_strict = True

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Check all of MemVir's part, then load; the inner loss's weights come next.

        `state_dict` is PyTorch's own copy: what is moved in it, the inner loss finds.
        """
        if any(key.startswith(prefix) for key in state_dict):
            is_plain = loss_state.move_plain(state_dict, prefix, self.loss)
            key = f"{prefix}_extra_state"
            plan = self._plan(state_dict[key]) if key in state_dict else None
            assign = bool(local_metadata.get("assign_to_params_buffers", False))
            self._check_weights(state_dict, prefix, is_plain, assign)
            state_dict.pop(key, None)
            if plan is not None:
                self._take_over(plan)
            elif loss_state.has_weights(state_dict, prefix, self.loss):
                self.reset_memory()  # whose weights these are not
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            False,  # the extra state is not missing: it has been loaded
            missing_keys,
            unexpected_keys,
            error_msgs,
        )

    def _check_weights(
        self, state_dict: dict[str, Any], prefix: str, is_plain: bool, assign: bool
    ) -> None:
        """Raise CheckpointError for weights that are missing or cannot be loaded."""
        mine = self.state_dict()
        mine.pop("_extra_state", None)  # a hook may have taken it out
        problems = loss_state.misfits(mine, state_dict, prefix, assign)
        if self._is_strict:
            problems += loss_state.missing(mine, state_dict, prefix, self.loss)
            if f"{prefix}_extra_state" not in state_dict and not is_plain:
                problems.append("_extra_state, the memory, is missing")
            problems += loss_state.unknown(mine, state_dict, prefix, self.loss)
        if problems:
            loss = type(self.loss).__name__
            raise CheckpointError(
                f"the state does not fit MemVir({loss}): {'; '.join(problems)}. "
                "Nothing has been loaded"
            )

    def _plan(self, state: Any) -> _Plan:
        try:
            checks.check_state(state, VERSION, self._settings(), _KEYS)
            numbers = {
                name: checks.counter(name, state[name]) for name in self._numbers()
            }
            stored_by = state["stored_by"]
            if stored_by is not None:
                checks.one_of("stored_by", stored_by, algorithms.KINDS)
            saved = tuple(
                checks.integer(name, state[name], least=0)
                for name in ("rank", "world_size")
            )
            contents, warning = None, ""
            if state["memory"] is None:
                warning = "the checkpoint holds no memory"
            elif saved != self._owner():
                warning = (
                    "the checkpoint is of rank {} of {}, this process is rank {} of {}"
                ).format(*saved, *self._owner())
            else:
                classes = int(self._settings()["num_classes"])
                contents = memory_state.load(state["memory"], self._memory, classes)
                _check_units(contents, stored_by, classes)
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(str(error)) from error
        return _Plan(contents, numbers, stored_by, warning)

    def _take_over(self, plan: _Plan) -> None:
        if plan.warning:
            warnings.warn(
                f"MemVir starts with an empty memory: {plan.warning}.", stacklevel=7
            )
        self.reset_memory()
        if plan.contents is not None:
            plan.contents.give_to(self._memory)
            self._stored_by = plan.stored_by
        self._calls = plan.numbers["calls"]
        self.warmup_steps = plan.numbers["warmup_steps"]
        self._num_virtual_steps = plan.numbers["num_virtual_steps"]
        self._bad_batches.num_non_finite = plan.numbers["num_non_finite"]

    def _numbers(self) -> dict[str, int]:
        """The counters."""
        return {
            "calls": self._calls,
            "warmup_steps": self.warmup_steps,
            "num_virtual_steps": self._num_virtual_steps,
            "num_non_finite": self._bad_batches.num_non_finite,
        }

    def _owner(self) -> tuple[int, int]:
        """Whose memory it is, by rank and world size; a gathered one is of no rank."""
        return (0, 1) if self._gather else rank_and_world_size()


_KEYS = (
    "calls",
    "memory",
    "num_non_finite",
    "num_virtual_steps",
    "rank",
    "settings",
    "stored_by",
    "version",
    "warmup_steps",
    "world_size",
)


def _check_units(
    contents: memory_state.Contents, stored_by: str | None, num_classes: int
) -> None:
    """Raise ValueError unless the numbers kept are those of the algorithm."""
    if contents.grid is None:
        return
    size = contents.grid.size
    units = {"row_softmax": size.batch_size, "proxy_anchor": num_classes}
    if stored_by is None or size.units != units.get(stored_by, 0):
        raise ValueError(
            f"own and against, of {size.units} units, are not those of {stored_by}"
        )

"""MemVir's state in and out: all of it or, on an error, nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from . import algorithms, checks, loss_state, memory_state, version_1
from .bad_batches import BadBatches
from .distributed import rank_and_world_size
from .memory import SnapshotMemory
from .warn import warn

PREFIX = "memory."


class CheckpointError(ValueError, RuntimeError):
    """A checkpoint that does not fit. (PyTorch's own loading errors are RuntimeErrors;
    KeyError and OSError would be swallowed by PML's loaders.)"""


class Checkpoints(torch.nn.Module):
    """The part of MemVir that reads and writes state dicts.

    They hold tensors only: `loss.*`, as the loss names them, and `memory.*`.
    """

    # Of the load_state_dict call of this very module; None within a parent's, where
    # PyTorch collects what is missing and unknown.
    _is_strict: bool | None = None

    loss: torch.nn.Module
    save_memory: bool
    warmup_steps: int
    _gather: bool
    _calls: int
    _num_virtual_steps: int
    _memory: SnapshotMemory
    _bad_batches: BadBatches
    _schedule: Any
    _layout: Any
    _settings: Callable[[], dict[str, Any]]
    _settle: Callable[[], None]
    _best_algorithm: Callable[[], algorithms.Algorithm]
    _choose_algorithm: Callable[[], algorithms.Algorithm]
    reset_memory: Callable[[], None]

    def allocate_memory(self, batch_size: int) -> None:
        """Lay the memory out before the first step, for batches of this size.

        Needed by tools that load into tensors that are there already, such as
        torch.distributed.checkpoint. What the memory holds stays.

        Raises:
            ValueError, TypeError: batch_size is no integer >= 1.
            MemoryError: there is no room.
        """
        checks.integer("batch_size", batch_size, least=1)
        form = self._choose_algorithm().memory_form
        self._memory.make_room(form, self._layout.rows(self.loss), batch_size)

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
            RuntimeError: of PyTorch, by an inner loss that renames what it loads (its
                own `_load_from_state_dict`, or a hook); a part may have been loaded.
        """
        self._is_strict = strict
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        finally:
            self._is_strict = None

    def _save_to_state_dict(
        self, destination: Any, prefix: str, keep_vars: bool
    ) -> None:
        """As in any state dict, large tensors are the live ones: copy them if training
        goes on before they are used."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        self._settle()
        rank, world_size = self._owner()
        counters = {
            "version": memory_state.VERSION,
            "calls": self._calls,
            "warmup_steps": self.warmup_steps,
            "num_virtual_steps": self._num_virtual_steps,
            "num_non_finite": self._bad_batches.num_non_finite,
            "rank": rank,
            "world_size": world_size,
        }
        slot = self._schedule.slot(max(0, self._calls - 1))
        state = memory_state.save(
            counters,
            self._settings(),
            self._memory if self.save_memory else None,
            self._schedule.cell(slot)[0],
        )
        for name, tensor in state.items():
            destination[f"{prefix}{PREFIX}{name}"] = tensor

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
            state = self._own_part(state_dict, prefix)
            lacking = memory_state.missing(state) if state or not is_plain else []
            loaded = self._read(state) if state and not lacking else None
            assign = bool(local_metadata.get("assign_to_params_buffers", False))
            unknown = self._check_weights(state_dict, prefix, lacking, assign)
            if self._is_strict is None:
                missing_keys += [f"{prefix}{PREFIX}{name}" for name in lacking]
                unexpected_keys += unknown
            if loaded is not None:
                self._take_over(loaded)
            elif loss_state.has_weights(state_dict, prefix, self.loss):
                self.reset_memory()  # whose weights these are not
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            False,  # what is missing or unknown has been told
            missing_keys,
            unexpected_keys,
            error_msgs,
        )

    def _own_part(self, state_dict: dict[str, Any], prefix: str) -> dict[str, Any]:
        """Take the memory out of a state dict: tensors by name."""
        begin, old = f"{prefix}{PREFIX}", f"{prefix}{version_1.NAME}"
        names = [key for key in state_dict if key.startswith(begin)]
        state = {key[len(begin) :]: state_dict.pop(key) for key in names}
        if old in state_dict:
            try:
                form = self._best_algorithm().memory_form
                state |= version_1.convert(state_dict.pop(old), self._memory, form)
            except (TypeError, ValueError, OverflowError) as error:
                raise CheckpointError(str(error)) from error
        return state

    def _read(self, state: dict[str, Any]) -> memory_state.Loaded:
        try:
            return memory_state.load(
                state, self._settings(), self._owner(), self._memory
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(str(error)) from error

    def _check_weights(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        lacking: list[str],
        assign: bool,
    ) -> list[str]:
        """Raise CheckpointError for weights that are missing or cannot be loaded.

        Returns:
            names that are not known.
        """
        mine = {k: v for k, v in self.state_dict().items() if not k.startswith(PREFIX)}
        problems = loss_state.misfits(mine, state_dict, prefix, assign)
        unknown = loss_state.unknown(mine, state_dict, prefix, self.loss)
        if self._is_strict:
            problems += [
                f"{name} is missing"
                for name in loss_state.missing(mine, state_dict, prefix, self.loss)
            ]
            if len(lacking) == len(memory_state.COUNTERS) + 1:
                problems.append(f"{PREFIX}*, the memory, is missing")
            else:
                problems += [f"{PREFIX}{name} is missing" for name in lacking]
            problems += [f"{name} is unknown" for name in unknown]
        if problems:
            loss = type(self.loss).__name__
            raise CheckpointError(
                f"the state does not fit MemVir({loss}): {'; '.join(problems)}. "
                "Nothing has been loaded"
            )
        return [prefix + name for name in unknown if not name.startswith("loss.")]

    def _take_over(self, loaded: memory_state.Loaded) -> None:
        if loaded.reason:
            warn(f"MemVir starts with an empty memory: {loaded.reason}.")
        self.reset_memory()
        if loaded.contents is not None:
            self._memory.contents = loaded.contents
        counters = loaded.counters
        self._calls = counters.get("calls", self._calls)
        self.warmup_steps = counters.get("warmup_steps", self.warmup_steps)
        self._num_virtual_steps = counters.get("num_virtual_steps", 0)
        self._bad_batches.num_non_finite = counters.get("num_non_finite", 0)

    def _owner(self) -> tuple[int, int]:
        """Whose memory it is, by rank and world size; a gathered one is of no rank."""
        return (0, 1) if self._gather else rank_and_world_size()
